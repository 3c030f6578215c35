"""The command line: the composition root, which alone may import every layer."""
