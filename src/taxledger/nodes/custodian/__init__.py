"""The custodian: keeps the plain records and their secrets, and puts their commitments on the ledger."""
