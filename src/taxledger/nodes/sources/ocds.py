"""Procurement awards from the Open Contracting Data Standard: releases, records, and packages of both (JSON).

Every element of ``awards`` is an award, also where the same one stands in several releases: what is equal is a
duplicate, what differs a conflict, unless the release says itself that it states what an earlier one changed to: by
a tag like ``awardAmendment``, or because it is compiled. What a record's other releases say otherwise than its
compiled one is rejected as superseded. What was paid is the sum of the transactions of
the award's contracts. Source: OCDS 1.1; the older ``amount`` of a transaction is read too.

``line`` of a row is the award's place among all of the file, from 1; ``column`` its path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.ledger.schemas import Value
from taxledger.nodes.sources import cells
from taxledger.nodes.sources.awards import (
    NO_AWARD,
    PENDING,
    SCHEMA,
    UNSUCCESSFUL,
    Winner,
    award_rows,
    tidy_text,
    winner_of,
)
from taxledger.nodes.sources.formats import Format, Look
from taxledger.nodes.sources.jsonnode import JsonError, Node
from taxledger.nodes.sources.jsonreader import read_json
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow

__all__ = ["FORMAT", "OcdsSource"]

_OCID = re.compile(r"ocds-([a-z0-9]{4,12})-.+", re.IGNORECASE)
_ORG_ID = re.compile(r"([A-Z]{2})-[A-Z0-9]{2,}-(.+)")
_SUPERSEDED = CellError(
    "award_superseded",
    "the award as the compiled release of its record has it",
    "与所属记录的汇总发布（compiledRelease）一致的中标结果",
)
_UPDATES = (
    "awardUpdate", "awardAmendment", "contractUpdate", "contractAmendment", "implementationUpdate", "compiled",
)  # fmt: skip
_NATIONAL = {
    "MX-RFC": "MX",
    "REGISTRO FEDERAL DE CONTRIBUYENTES DE MÉXICO": "MX",
    "NO-BRC": "NO",
    "CN-USCC": "CN",
}
"""Country of the identifiers of a list that ``records.py`` has a scheme for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """The present state of a record: the rows of its compiled release by the award's number."""

    rows: dict[str, list[SourceRow]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A release: ``compiled`` of its record, or another one of it, or of none."""

    release: Node
    record: _Record | None = None
    compiled: bool = False


class OcdsSource:
    """The ``ocds`` source.

    Attributes:
        schema: ``procurement_award``.
    """

    def __init__(self, subject: str | None = None) -> None:
        """With a ``subject``, awards of any other supplier are rejected."""
        self.schema = SCHEMA
        self._subject = subject

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """Every award of every document of the file. Raises FormatError when it is no such file."""
        documents = read_json(path)
        places: list[_Place] = []
        for at, document in enumerate(documents):
            try:
                places += _places(Node(document, f"[{at}]" if len(documents) > 1 else ""))
            except JsonError as error:
                raise FormatError(
                    f"{path}: {error.place}: expected {error.expected}, got {error.found!r}"
                ) from None
        line = 0
        for place in places:
            try:
                awards = place.release.items("awards")
            except JsonError as error:
                line += 1
                yield error.bad_row(line)
                continue
            for award in awards:
                line += 1
                yield from self._award(line, place, award)
        if not line:
            yield NO_AWARD.row(1, "awards", f"{len(places)} releases")

    def _award(self, line: int, place: _Place, award: Node) -> Iterator[SourceRow | BadRow]:
        try:
            named, winners = _fields(place.release, award), _winners(place.release, award)
        except JsonError as error:
            yield error.bad_row(line)
            return
        except CellError as error:
            yield error.row(line, award.path, "")
            return
        number = str(named["number"])
        replaces = place.compiled or _is_update(place.release)
        for row in award_rows(line, award.path, winners, named, self._subject, replaces=replaces):
            if place.record is None or isinstance(row, BadRow):
                yield row
            elif place.compiled:
                place.record.rows.setdefault(number, []).append(row)
                yield row
            elif any(each[1:4] == row[1:4] for each in place.record.rows.get(number, [])):
                yield row
            else:
                yield _SUPERSEDED.row(line, award.path, number)


# --- documents ------------------------------------------------------------------------------


def _places(document: Node) -> Iterator[_Place]:
    """Every release of a document; of a record its compiled one first. Raises JsonError."""
    if isinstance(document.value, list):
        for at, each in enumerate(document.value):
            yield from _places(Node(each, f"{document.path}[{at}]"))
        return
    records = document.items("records")
    for each in records:
        yield from _record(each)
    if records:
        return
    if document.get("compiledRelease") is not None:
        yield from _record(document)
        return
    releases = document.items("releases")
    yield from (_Place(release=each) for each in releases)
    if not releases and document.get("ocid") is not None:
        yield _Place(release=document)


def _record(record: Node) -> Iterator[_Place]:
    compiled = record.get("compiledRelease")
    present = _Record(rows={}) if compiled is not None else None
    if compiled is not None:
        yield _Place(release=compiled, record=present, compiled=True)
    for each in record.items("releases"):
        # A release that stands elsewhere is named by its address alone.
        if each.get("url") is None or each.get("ocid") is not None:
            yield _Place(release=each, record=present)


def _is_update(release: Node) -> bool:
    """Whether a release is tagged as a change to an award or contract that an earlier one stated."""
    tags = release.get("tag")
    stated = tags.value if tags is not None and isinstance(tags.value, list) else ()
    return any(isinstance(each, str) and each in _UPDATES for each in stated)


# --- an award -------------------------------------------------------------------------------


def _fields(release: Node, award: Node) -> dict[str, Value]:
    """The fields of an award without its winners. Raises JsonError and CellError."""
    status = award.read_or_none(cells.parse_text, "status") or "active"
    if status == "pending":
        raise JsonError(PENDING, f"{award.path}.status", status)
    if status == "unsuccessful":
        raise JsonError(UNSUCCESSFUL, f"{award.path}.status", status)
    if status not in ("active", "cancelled"):
        allowed = "active, cancelled, pending or unsuccessful"
        raise JsonError(CellError("status_unknown", allowed, allowed), f"{award.path}.status", status)
    ocid = release.read(cells.parse_text, "ocid")
    match = _OCID.fullmatch(ocid)
    if match is None:
        named = CellError("ocid_malformed", "an ocid like ocds-213czf-1", "形如 ocds-213czf-1 的 ocid")
        raise JsonError(named, f"{release.path}.ocid".lstrip("."), ocid)
    key = award.read(cells.parse_text, "id")
    contracts = [
        each for each in release.items("contracts") if each.read_or_none(cells.parse_text, "awardID") == key
    ]
    currency, amount = _amount(award, contracts)
    buyer = release.get("buyer") or release.get("tender", "procuringEntity") or Node({})
    return {
        "register": f"ocds:{match[1].lower()}",
        "number": f"{ocid}/{key}",
        "contract": contracts[0].read_or_none(cells.parse_text, "id") if len(contracts) == 1 else None,
        "lot": _lot(award),
        "buyer": buyer.read_or_none(tidy_text, "name"),
        "buyer_id": _identifier(release, buyer)[1],
        "buyer_public": True,
        "title": award.read_or_none(tidy_text, "title") or release.read_or_none(tidy_text, "tender", "title"),
        "awarded": _awarded(release, award, contracts),
        "completes": _completes(award, contracts),
        "state": _state(status, contracts),
        "currency": currency,
        "amount": amount,
        "paid": _paid(contracts, currency),
    }


def _lot(award: Node) -> str | None:
    lots = [each.read(cells.parse_text) for each in award.items("relatedLots")]
    return tidy_text(" ".join(lots)) if lots else None


def _awarded(release: Node, award: Node, contracts: Sequence[Node]) -> str:
    """The day of the award, else the first on which a contract of it was signed, else that of the release."""
    found = award.read_or_none(cells.parse_iso_date, "date")
    if found is None:
        signed = [each.read_or_none(cells.parse_iso_date, "dateSigned") for each in contracts]
        found = min((each for each in signed if each is not None), default=None)
    return found if found is not None else release.read(cells.parse_iso_date, "date")


def _completes(award: Node, contracts: Sequence[Node]) -> str | None:
    """The last day of its contracts, else that of the award."""
    ends = [each.read_or_none(cells.parse_iso_date, "period", "endDate") for each in contracts]
    stated = [each for each in ends if each is not None]
    return max(stated) if stated else award.read_or_none(cells.parse_iso_date, "contractPeriod", "endDate")


def _state(status: str, contracts: Sequence[Node]) -> str:
    states = {each.read_or_none(cells.parse_text, "status") for each in contracts}
    if status == "cancelled" or states == {"cancelled"}:
        return "cancelled"
    return "completed" if contracts and states <= {"terminated", "cancelled"} else "active"


def _money(node: Node | None) -> tuple[str | None, int | None]:
    """(currency, minor units) of a value; both None where it has no amount."""
    if node is None or node.get("amount") is None:
        return None, None
    currency = node.read(cells.parse_currency, "currency")
    return currency, node.read(lambda text: cells.parse_amount(text, currency), "amount")


def _amount(award: Node, contracts: Sequence[Node]) -> tuple[str | None, int | None]:
    """The award's value; where none is published, that of its only contract."""
    found = _money(award.get("value"))
    return found if found[1] is not None or len(contracts) != 1 else _money(contracts[0].get("value"))


def _paid(contracts: Sequence[Node], currency: str | None) -> int | None:
    """What the transactions add up to; None where there are none, or one is in another currency."""
    amounts = []
    for contract in contracts:
        implementation = contract.get("implementation")
        for each in implementation.items("transactions") if implementation is not None else []:
            stated, amount = _money(each.get("value") or each.get("amount"))
            if amount is None or stated != currency:
                return None
            amounts.append(amount)
    return sum(amounts) if amounts else None


# --- parties --------------------------------------------------------------------------------


def _winners(release: Node, award: Node) -> list[Winner]:
    found = [_winner(release, each) for each in award.items("suppliers")]
    if not found:
        raise JsonError(
            CellError("winner_missing", "a supplier", "供应商"), f"{award.path}.suppliers", "none"
        )
    return found


def _winner(release: Node, supplier: Node) -> Winner:
    country, identifier = _identifier(release, supplier)
    name = supplier.read_or_none(tidy_text, "name")
    ocid = _OCID.fullmatch(release.read(cells.parse_text, "ocid"))
    publisher = f"ocds-{ocid[1].lower()}" if ocid is not None else "ocds"
    try:
        return winner_of(
            scheme="ocds", publisher=publisher, name=name, country=country, identifier=identifier
        )
    except CellError as error:
        raise JsonError(error, supplier.path, name or "") from None


def _identifier(release: Node, reference: Node) -> tuple[str, str | None]:
    """(country, identifier) of a party, by itself or through ``parties``.

    An identifier with a list of org-id.guide stands as ``GB-COH-00507062``, with its country where that list is
    one that has a scheme of its own; one without a list says only who it is for this publisher. The ``id`` of a
    party is a name inside one release, unless it has the form of an organisation identifier.
    """
    key = reference.read_or_none(cells.parse_text, "id")
    same = [each for each in release.items("parties") if each.read_or_none(cells.parse_text, "id") == key]
    for node in [reference, *(same[:1] if key is not None else [])]:
        stated = node.get("identifier") or node.get("identifiers")
        if stated is None or not isinstance(stated.value, dict):
            continue
        identifier = stated.read_or_none(cells.parse_text, "id")
        if identifier is None:
            continue
        scheme = (stated.read_or_none(cells.parse_text, "scheme") or "").upper()
        return _of_list(scheme, identifier, release)
    match = _ORG_ID.fullmatch(key) if key is not None else None
    if key is None or match is None:
        return "", None
    return _of_list(key[: -len(match[2]) - 1], match[2], release)


def _of_list(scheme: str, identifier: str, release: Node) -> tuple[str, str | None]:
    if scheme in _NATIONAL:
        return _NATIONAL[scheme], identifier
    if re.fullmatch(r"[A-Z]{2}-[A-Z0-9-]+", scheme):
        return "", f"{scheme}-{identifier}"
    ocid = _OCID.fullmatch(release.read(cells.parse_text, "ocid"))
    return "", f"{ocid[1].lower()}:{identifier}" if ocid is not None else None


def _looks(look: Look) -> bool:
    keys = look.keys
    packed = bool(keys & {"records", "releases"}) and bool(keys & {"uri", "version", "publisher", "ocid"})
    return packed or "compiledRelease" in keys or {"ocid", "tag"} <= keys


FORMAT = Format(
    name="ocds",
    title="OCDS releases, records and packages (JSON)",
    schema=SCHEMA,
    looks=_looks,
    open=lambda options: OcdsSource(options.subject),
)
