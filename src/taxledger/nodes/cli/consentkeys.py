"""How commands name members and consents: names or numbers, and the first digits of an id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.ledger.errors import InputError

if TYPE_CHECKING:
    from taxledger.api.client import Client
    from taxledger.ledger.members import Member
    from taxledger.nodes.enterprise.wallet import KeptConsent, Wallet

__all__ = ["ConsentOption", "consent_id_of", "find_consent", "member_number", "members_of"]

ConsentOption = Annotated[
    str,
    typer.Option(
        "--consent", metavar="ID", help="32 hex digits, or the first 6 and more.", show_default=False
    ),
]
_PREFIX_DIGITS_MIN = 6


def members_of(client: Client) -> dict[int, Member]:
    """All members by number, from the verified state."""
    from taxledger.ledger.members import decode_member

    pairs = client.state(b"\x06").entries[b"\x06"]
    numbers = [(int.from_bytes(key[1:], "big"), value) for key, value in pairs]
    return {number: decode_member(number, value) for number, value in numbers}


def member_number(names: Mapping[int, str], text: str) -> int:
    """The number of a member given by name or number. Raises InputError."""
    for number, name in names.items():
        if text in (name, str(number)):
            return number
    raise InputError(f"expected a member, one of {', '.join(names.values())} or a number, got {text!r:.40}")


def find_consent(wallet: Wallet, text: str) -> tuple[bytes, KeptConsent]:
    """A consent of the wallet by its id or the first digits of it. Raises InputError."""
    if not re.fullmatch(rf"[0-9a-f]{{{_PREFIX_DIGITS_MIN},32}}", text):
        raise InputError(f"expected --consent as {_PREFIX_DIGITS_MIN} to 32 hex digits, got {text!r:.40}")
    found = [
        (consent, kept)
        for kept in wallet.consents
        for consent in kept.ids()
        if consent.hex().startswith(text)
    ]
    if len(found) != 1:
        raise InputError(f"expected one consent of the wallet that begins with {text}, got {len(found)}")
    return found[0]


def consent_id_of(text: str) -> bytes:
    """A whole id. Raises InputError."""
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise InputError(f"expected --consent as 32 hex digits, got {text!r:.40}")
    return bytes.fromhex(text)
