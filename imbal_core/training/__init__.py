"""How a network is trained and read."""
