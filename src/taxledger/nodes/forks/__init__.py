"""Contradictions: whom they convict, where the evidence lies, and when a node stops itself."""
