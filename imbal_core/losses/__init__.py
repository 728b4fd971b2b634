"""Losses: pure functions, and modules by name."""
