"""Moving money: the port to the lender's core banking system, and files that one can take."""
