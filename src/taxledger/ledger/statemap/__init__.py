"""The authenticated state map: a crit-bit Merkle trie over raw keys (docs/protocol.md §6).

``MapView`` reads, applies and proves over a Reader; ``verify_prefixes`` and ``subtree_root`` need no storage.
"""

from taxledger.ledger.statemap.pages import PageCache
from taxledger.ledger.statemap.proof import verify_prefixes
from taxledger.ledger.statemap.trie import subtree_root
from taxledger.ledger.statemap.view import MapLayer, MapProof, MapView

__all__ = ["MapLayer", "MapProof", "MapView", "PageCache", "subtree_root", "verify_prefixes"]
