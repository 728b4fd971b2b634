"""What every room checks: names, arrays, files."""
