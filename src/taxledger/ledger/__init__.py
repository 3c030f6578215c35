"""The deterministic core: bytes in, values or errors out. No clock, randomness, environment or sockets."""
