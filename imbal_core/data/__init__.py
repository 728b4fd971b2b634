"""Images, class counts and splits."""
