"""``taxledger lend``: the lender's commands, from its settings to the archive of a loan."""
