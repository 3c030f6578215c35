"""The reference lending engine: the bank's side, a user of the verifying client and nothing more."""
