"""Moving a network of one machine to another ordering engine."""
