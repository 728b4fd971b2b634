"""The faults that may happen to a store, a grid and a file from elsewhere, made on purpose and counted.

``make faults`` runs all of it; ``python -m benchmarks.faults --help`` says what can be chosen.
"""
