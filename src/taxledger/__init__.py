"""taxledger: a permissioned ledger of attested facts about enterprises, checked by proof.

Four layers, importing downwards only: ``cli`` → ``nodes``/``api`` → ``ledger``.
"""

__version__ = "0.1.0"
