"""The operations about pledges: what a payload can say of them, typed (docs/protocol.md §3). Shapes only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError
from taxledger.ledger.permit import Permit, decode_permit, encode_permit
from taxledger.ledger.shapes import fixed_bytes, integer

__all__ = [
    "READERS",
    "PledgeConfirm",
    "PledgeOperation",
    "PledgePlace",
    "PledgeRelease",
    "PledgeTransfer",
    "as_items",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PledgePlace:
    """The signer takes a share of a record as security.

    Attributes:
        permit: names the record and the signer.
        ppm: share of the record's value, in millionths.
        not_after: milliseconds since 1970: a reservation, which counts in blocks before this instant; None: a
            pledge without end.
        nonce: 16 bytes of the signer's choice. The pledge's id follows from it (``pledgestate.pledge_id``), so
            the same place submitted again, in whatever transaction, never places twice.
    """

    permit: Permit
    ppm: int
    not_after: int | None
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PledgeConfirm:
    """A reservation becomes a pledge without end; ``pledge`` is its id (16 bytes), as in all of these."""

    pledge: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PledgeRelease:
    """A pledge ends, by whom it belongs to."""

    pledge: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PledgeTransfer:
    """A pledge passes to the lender that ``permit`` names: a permit is only given to a lender that asked for it."""

    pledge: bytes
    permit: Permit


PledgeOperation = PledgePlace | PledgeConfirm | PledgeRelease | PledgeTransfer


def _permit(value: Any) -> Permit:
    if type(value) is not bytes:
        raise FormatError(f"expected a permit as bytes, got {type(value).__name__}")
    return decode_permit(value)


def _pledge(value: Any) -> bytes:
    return fixed_bytes(value, 16, "a pledge")


def _place(permit: Any, ppm: Any, not_after: Any, nonce: Any) -> PledgePlace:
    return PledgePlace(
        permit=_permit(permit),
        ppm=integer(ppm, 1, limits.pledged_ppm_max, "ppm"),
        not_after=None if not_after is None else integer(not_after, 0, limits.integer_max, "not_after"),
        nonce=fixed_bytes(nonce, 16, "a nonce"),
    )


READERS: dict[str, tuple[int, Callable[..., PledgeOperation]]] = {
    "pledge.place": (6, _place),
    "pledge.confirm": (3, lambda pledge: PledgeConfirm(pledge=_pledge(pledge))),
    "pledge.release": (3, lambda pledge: PledgeRelease(pledge=_pledge(pledge))),
    "pledge.transfer": (
        4,
        lambda pledge, permit: PledgeTransfer(pledge=_pledge(pledge), permit=_permit(permit)),
    ),
}
"""Name of each operation → (elements of its payload, reader of those after the name)."""


def as_items(operation: PledgeOperation) -> list[Any]:
    """``[name, …]`` of a payload."""
    match operation:
        case PledgePlace():
            permit = encode_permit(operation.permit)
            return ["pledge.place", permit, operation.ppm, operation.not_after, operation.nonce]
        case PledgeConfirm():
            return ["pledge.confirm", operation.pledge]
        case PledgeRelease():
            return ["pledge.release", operation.pledge]
        case PledgeTransfer():
            return ["pledge.transfer", operation.pledge, encode_permit(operation.permit)]
