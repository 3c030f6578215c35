"""Who holds how much of the engine's mempool: no member can fill it alone. On the event loop."""

from __future__ import annotations

from collections import Counter

from taxledger.ledger.errors import RefusedError

__all__ = ["Shares"]

_TRANSACTIONS_MAX = 1_024
_COSIGNS_MAX = 32


class Shares:
    """Counts, by member, what CheckTx admitted and no block has taken yet."""

    def __init__(self) -> None:
        self._owners: dict[bytes, tuple[int, bool]] = {}
        self._counts: Counter[tuple[int, bool]] = Counter()

    def admit(self, key: bytes, member: int, *, is_cosign: bool) -> None:
        """Count what has the leaf hash ``key``, once. Raises RefusedError: the member's share is full."""
        if key in self._owners:
            return
        owner = (member, is_cosign)
        if self._counts[owner] >= (_COSIGNS_MAX if is_cosign else _TRANSACTIONS_MAX):
            raise RefusedError("mempool_share", f"too many transactions of member {member} wait")
        self._owners[key] = owner
        self._counts[owner] += 1

    def release(self, key: bytes) -> None:
        """It left the mempool, if it was there."""
        owner = self._owners.pop(key, None)
        if owner is not None:
            self._counts[owner] -= 1

    def clear(self) -> None:
        """The mempool is gone."""
        self._owners.clear()
        self._counts.clear()
