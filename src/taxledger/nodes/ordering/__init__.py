"""Ordering engines: each drives the same application; the genesis names the one a network uses."""
