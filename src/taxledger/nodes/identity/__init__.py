"""Who a node and its member are to others: keys, certificates, authorities, and how they change.

certificates.py   the node's certificate, renewed in time      pki.py   authorities and certificates as bytes
trust.py          whose authority counts, as the ledger says   upkeep.py   keeps all of it current while a node runs
membership.py     members and proposals in words               memberkeys.py   the transaction key that is in force
signingkeys.py    vote, log and co-signing keys                birthtokens.py   a key that has signed nothing yet
"""
