"""What the features of a trained network say about its classes."""
