"""Which versions of records a block replaces: kept so that a record's history can be read back from the log."""

from __future__ import annotations

from collections.abc import Iterator

from taxledger.ledger import canonical
from taxledger.ledger.errors import FormatError
from taxledger.ledger.execute import Executed
from taxledger.ledger.operations import Amend, Revoke, decode_operation
from taxledger.ledger.statemap import MapView
from taxledger.ledger.transaction import decode_transaction

__all__ = ["replaced_versions"]

_NAMED_WITHIN_BYTES = 192
"""A transaction names its operation within so many bytes from its beginning."""


def replaced_versions(executed: Executed, view: MapView) -> Iterator[tuple[bytes, int]]:
    """(record key, height of the version before) for each record that this block changed."""
    for leaf in executed.leaves:
        begin = leaf[:_NAMED_WITHIN_BYTES]
        if b"\xa5amend" not in begin and b"\xa6revoke" not in begin:
            continue  # by far the most; the next lines look closely
        payload = decode_transaction(leaf).payload
        if not payload[2:9].startswith((b"\xa5amend", b"\xa6revoke")):
            continue
        try:
            operation = decode_operation(payload)
        except FormatError:
            continue
        if not isinstance(operation, Amend | Revoke):
            continue
        for change in operation.changes:
            if change.key in executed.layer.writes:
                before = view.get(change.key)
                if before is not None:
                    yield change.key, canonical.decode(before)[5]
