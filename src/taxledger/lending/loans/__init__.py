"""The life of a loan: contract, interest, what is stored, and the engine that drives it from step to step."""
