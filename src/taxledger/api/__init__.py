"""The query API over a reader object, and the verifying client. Imports ``ledger`` only, never ``nodes``."""
