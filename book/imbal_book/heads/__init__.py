"""Linear heads on fixed features: every remedy trained with one protocol, and what its scores say."""
