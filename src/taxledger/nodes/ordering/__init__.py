"""Ordering engines: each drives the same application object; the genesis names the one that a network uses."""
