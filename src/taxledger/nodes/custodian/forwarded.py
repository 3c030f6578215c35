"""Grants that come from the recipient: peer verb ``grant``, at the custodian.

The recipient holds the artefact anyway, and can gain nothing by handing it in: the desk checks it as it checks one that
the subject brings. No other member may: it has no business with it.
"""

from __future__ import annotations

from typing import Any, Protocol

from taxledger.api.custody import ConsentReceipt
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.errors import FormatError, RefusedError
from taxledger.ledger.shapes import items
from taxledger.nodes.peering.transport import Handler

__all__ = ["grant_handler"]


class Granting(Protocol):
    """The custodian's desk."""

    async def grant(self, artefact: bytes) -> ConsentReceipt: ...


def grant_handler(desk: Granting) -> Handler:
    """``[1, "grant", artefact]`` → ``[1, "grant", consent16, status, transaction32, height, index, time_ms]``."""

    async def on_grant(member: int, message: Any) -> list[Any]:
        version, what, raw = items(message, 3, "a grant message")
        if type(version) is not int or [version, what] != [1, "grant"] or type(raw) is not bytes:
            raise FormatError("expected a grant message of version 1")
        if decode_artefact(raw).terms.recipient != member:
            raise RefusedError("consent_recipient_mismatch", "the consent is for another recipient")
        made = await desk.grant(raw)
        return [
            1, "grant", made.consent, made.status, made.transaction, made.height, made.index, made.time_ms,
        ]  # fmt: skip

    return on_grant
