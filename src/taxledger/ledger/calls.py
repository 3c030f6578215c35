"""One transaction in execution: everything that a rule and an effect may look at, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from taxledger.ledger import statekeys
from taxledger.ledger.members import Member, StateReader
from taxledger.ledger.operations import ENTRY_BYTES, Attest
from taxledger.ledger.records import RecordValue, decode_record_value

__all__ = ["Call", "Refusal", "RuleState"]


class Refusal(NamedTuple):
    """A rule failed: number of the first entry it refuses, None where it is not about an entry."""

    entry: int | None = None


class RuleState(StateReader, Protocol):
    """The state map as the transactions before this one have left it."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...


@dataclass(slots=True, kw_only=True)
class Call:
    """One transaction in execution, with everything a rule may look at.

    Attributes:
        chain_id: 16 bytes.
        height: of the block; ``time_ms`` its time.
        transaction_id: 32 bytes.
        signer: its active member.
        validators: numbers of those that co-sign this block.
        state: the state map before the transaction.
        operation: the decoded payload.
    """

    chain_id: bytes
    height: int
    time_ms: int
    transaction_id: bytes
    signer: Member
    validators: tuple[int, ...]
    state: RuleState
    operation: Any
    _keys: list[bytes] | None = field(default=None, init=False)
    _values: list[bytes | None] | None = field(default=None, init=False)
    _records: list[RecordValue] | None = field(default=None, init=False)

    def keys(self) -> list[bytes]:
        """Record keys of all entries or changes, in their order."""
        if self._keys is None:
            if isinstance(self.operation, Attest):
                self._keys = _attest_keys(self.signer.number, self.operation)
            else:
                self._keys = [change.key for change in self.operation.changes]
        return self._keys

    def values(self) -> list[bytes | None]:
        """What the map holds under ``keys()``."""
        if self._values is None:
            self._values = self.state.get_many(self.keys())
        return self._values

    def records(self) -> list[RecordValue]:
        """``values()`` decoded; asked only where rule 9 has found all of them."""
        if self._records is None:
            self._records = [decode_record_value(value) for value in self.values() if value is not None]
        return self._records


def _attest_keys(issuer: int, attest: Attest) -> list[bytes]:
    keys = []
    for group in attest.groups:
        prefix = statekeys.month_prefix(issuer, attest.kind, group.tag, group.month)
        entries = group.entries
        keys += [prefix + entries[at : at + 16] for at in range(0, len(entries), ENTRY_BYTES)]
    return keys
