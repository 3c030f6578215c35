"""What the sources of procurement awards share: who won, how a record is put together, what is no award.

One row stands for one award and winner. A lot that nobody won, an award that is not decided yet or withheld, and a
notice without any award are rows too: rejected, with a code that says so. So nothing that a file says is lost
without a trace, and accepted + amended + duplicates + rejected = rows read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from taxledger.ledger import limits
from taxledger.ledger.builtin import newest
from taxledger.ledger.errors import FormatError
from taxledger.ledger.records import Status, parse_subject
from taxledger.ledger.schemas import KINDS, Row, Value
from taxledger.nodes.sources import cells
from taxledger.nodes.sources.countries import country_code
from taxledger.nodes.sources.parties import vat_subject
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow

__all__ = [
    "NO_AWARD",
    "PENDING",
    "SCHEMA",
    "UNSUCCESSFUL",
    "WITHHELD",
    "Winner",
    "award_rows",
    "party_code",
    "tidy_text",
    "winner_of",
]

SCHEMA = newest(KINDS["procurement_award"])

UNSUCCESSFUL = CellError("award_unsuccessful", "an award; nobody won this lot", "中标结果；该标段无人中标")
PENDING = CellError("award_pending", "a decided award; this one is pending", "已定标的结果；该项尚未定标")
WITHHELD = CellError("winner_withheld", "a winner that is published", "已公布的中标人；该中标人未公开")
NO_AWARD = CellError(
    "award_none", "at least one award; this document has none", "至少一项中标结果；该文件没有中标结果"
)

_NO_NAMES = ("", "n/a", "na", "none", "null", "-", "--", "tbd", "not available", "not applicable", "various")
_DIGIT = re.compile(r"[0-9]")
_PRINTABLE = re.compile(r"[!-~]+")
_NATIONAL = {"CN": "uscc", "HU": "hu-tax", "MX": "mx-rfc", "NO": "no-org"}
"""Scheme of the register that a country's enterprises are known by, where ``records.py`` has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """Who won an award.

    Attributes:
        subject: in its one form.
        name: as published, or None.
    """

    subject: str
    name: str | None


def tidy_text(text: str) -> str | None:
    """A text with single blanks for line ends and runs of blanks; None where nothing is left.

    One that is longer than a record may hold is cut between characters and ends in ``…``: it is for people only.
    """
    tidy = cells.strip_cell(" ".join(text.split()))
    if len(tidy.encode("utf-8", "surrogatepass")) > limits.field_text_bytes_max:
        room = limits.field_text_bytes_max - len("…".encode())
        tidy = tidy.encode("utf-8", "surrogatepass")[:room].decode("utf-8", "ignore").rstrip() + "…"
    return cells.parse_text(tidy) if tidy else None


def party_code(country: str, identifier: str) -> str | None:
    """``FR-30540504500017``: a national identifier with its country; None where this is none.

    Blanks are left out, letters are capital, and a country's letters that stand in front already (as in a VAT
    number) are not said twice. What has no digit (``not available``) or is not ASCII identifies nobody.
    """
    code = "".join(identifier.split()).upper()
    if not _DIGIT.search(code) or not _PRINTABLE.fullmatch(code):
        return None
    prefix = country_code(country)
    if _is_vat_number(prefix, code):
        code = code[len(prefix) :]
    return f"{prefix}-{code}" if prefix else code


def _is_vat_number(prefix: str, code: str) -> bool:
    """Whether a country's letters stand in front of digits."""
    return bool(prefix) and code.startswith(prefix) and code[len(prefix) :][:1].isdigit()


def _national(country: str, identifier: str) -> str | None:
    """The subject of an identifier whose register has a scheme of its own."""
    prefix, code = country_code(country), "".join(identifier.split()).upper()
    letters = "EL" if prefix == "GR" else prefix
    found = vat_subject(code) if _is_vat_number(letters, code) or _is_vat_number(prefix, code) else None
    scheme = _NATIONAL.get(prefix)
    if found is not None or scheme is None:
        return found
    try:
        return parse_subject(f"{scheme}:{identifier}")
    except FormatError:
        return None


def winner_of(
    *, scheme: str, publisher: str, name: str | None, country: str = "", identifier: str | None = None
) -> Winner:
    """A winner by the best that is published: a known register, an identifier of its country, else its name.

    Args:
        scheme: of ``SUBJECT_SCHEMES``, for identifiers of no register that has one of its own.
        publisher: whose list of names this is: ``name:<publisher>:<name>``.

    Raises:
        CellError: there is neither an identifier nor a name.
    """
    shown = tidy_text(name or "")
    if shown is not None and shown.lower() in _NO_NAMES:
        shown = None
    code = party_code(country, identifier) if identifier else None
    if code is None and shown is None:
        raise CellError("winner_missing", "a winner's identifier or name", "中标人的标识或名称")
    try:
        found = _national(country, identifier or "") if code else None
        found = found or parse_subject(f"{scheme}:{code}" if code else f"name:{publisher}:{shown}")
    except FormatError as error:
        raise CellError("subject_malformed", str(error), "有效的主体标识") from None
    return Winner(subject=found, name=shown)


def award_rows(
    line: int,
    place: str,
    winners: Sequence[Winner],
    named: Mapping[str, Value],
    wanted: str | None,
    *,
    replaces: bool = False,
) -> Iterator[SourceRow | BadRow]:
    """One row for each winner of one award; of several, each number has the winner's place behind it.

    Args:
        line: where the file states it.
        place: the same, in the file's own words, for messages.
        winners: at least one; one that stands twice won once.
        named: the fields without ``supplier`` and ``winners``.
        wanted: the subject asked for, or None.
        replaces: whether the document says of itself that it states what an earlier one has changed to.
    """
    different = list({each.subject: each for each in winners}.values())
    for at, winner in enumerate(different, start=1):
        number = named["number"] if len(different) == 1 else f"{named['number']}/{at}"
        fields = {**named, "number": number, "supplier": winner.name, "winners": len(different)}
        values = SCHEMA.row(fields)
        try:
            SCHEMA.check_fields(values)
        except FormatError as error:
            yield CellError("fields_malformed", str(error), "符合记录格式的字段").row(line, place, "")
            continue
        if wanted is not None and winner.subject != wanted:
            differs = CellError("subject_differs", f"the subject asked, {wanted}", f"指定的主体 {wanted}")
            yield differs.row(line, place, winner.subject)
            continue
        corrects = partial(_replacing, values) if replaces else None
        yield SourceRow(line, winner.subject, int(Status.VALID), values, corrects)


def _replacing(values: Row, standing: Row) -> Row | None:
    """The new state of an award on the day that it was awarded first: its month is part of what it is."""
    day = SCHEMA.position["awarded"]
    return tuple(standing[day] if at == day else value for at, value in enumerate(values))
