"""Linear heads on fixed features: every remedy trained with one protocol, and what its scores say."""

#: Learning rates of Adam, and steps after which a head is kept: each objective chooses among all pairs.
RATES = (1.0, 6.0, 36.0)
LENGTHS = (6, 20, 60)
