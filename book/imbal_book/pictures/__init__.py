"""Frames in, drawings out."""
