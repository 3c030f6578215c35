"""Benchmarks: ``make bench`` runs them all, beside the machine's own primitives of the same run."""
