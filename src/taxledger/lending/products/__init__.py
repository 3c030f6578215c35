"""Products: what a credit officer edits. A file says what is asked, and holds no code (docs/products.md)."""
