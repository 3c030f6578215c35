"""Facts made by hand, as verified answers would give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from taxledger.ledger.builtin import newest
from taxledger.ledger.fields import Value
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact, Facts

SUBJECT = "uscc:91110000000000000A"


def fact(
    kind: str,
    fields: Mapping[str, Value],
    *,
    number: int,
    status: Status = Status.VALID,
    issuer: int = 1,
    closed: tuple[str, ...] = (),
    period: str = "",
    schema: int | None = None,
) -> Fact:
    """A record whose key is made of issuer, kind and ``number``; fields that are None or closed are left out."""
    named = f"{issuer}/{kind}/{number}".encode()
    key = b"\x01" + issuer.to_bytes(2, "big") + bytes([KINDS[kind]]) + sha256(named).digest() + b"\0"
    shown = {name: value for name, value in fields.items() if value is not None and name not in closed}
    return Fact(
        kind=KINDS[kind],
        issuer=issuer,
        key=key,
        version=1,
        status=status,
        fingerprint=sha256(b"fingerprint" + named).digest()[:16],
        schema=schema or newest(KINDS[kind]).number,
        fields={} if status is Status.ERASED else shown,
        closed=closed,
        period=period,
    )


def facts(records: Iterable[Fact], *, asked: Iterable[str] = ()) -> Facts:
    """Facts of these records; ``asked``: kinds that were asked and may have none."""
    kinds: dict[int, list[Fact]] = {KINDS[kind]: [] for kind in asked}
    for each in records:
        kinds.setdefault(each.kind, []).append(each)
    return Facts(
        subject=SUBJECT,
        records={
            kind: tuple(sorted(found, key=lambda each: each.key)) for kind, found in sorted(kinds.items())
        },
    )


def invoice(date: str | None, net: int | None, *, number: int, **more: object) -> Fact:
    """A sales invoice; ``more``: other fields by name, or arguments of ``fact``."""
    options = {name: more.pop(name) for name in ("status", "issuer", "closed", "period") if name in more}
    fields: dict[str, Value] = {
        "direction": "sale",
        "number": f"{number:020}",
        "date": date,
        "counterparty": "B1",
        "currency": "CNY",
        "net": net,
        "tax": 0,
        "gross": net,
        **more,  # type: ignore[dict-item]
    }
    return fact("vat_invoice", fields, number=number, **options)  # type: ignore[arg-type]
