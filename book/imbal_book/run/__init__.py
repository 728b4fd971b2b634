"""One run: its configuration, its images, its trained network, its record."""
