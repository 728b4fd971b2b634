"""What records say of the claims of papers."""
