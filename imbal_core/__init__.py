"""Splits, remedies, records and verdicts behind the book on imbalanced image classification."""
