"""Norwegian VAT returns (``mvaMeldingDto``) to filings, and what the tax office answers to them, which is none.

Source: Skatteetaten, skattemelding for merverdiavgift v1.0. Amounts are NOK; tax to pay is positive, input tax
negative, in every line and in the total. Output tax − input tax is the sum of the lines; ``payable`` is the total
that the return itself states.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from taxledger.ledger.builtin import newest
from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status, parse_subject
from taxledger.ledger.schemas import Schema
from taxledger.nodes.sources.cells import parse_year
from taxledger.nodes.sources.formats import Format, Look, SourceOptions
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow
from taxledger.nodes.sources.xmlreader import Element, ElementError, read_xml

__all__ = ["FORMAT", "NoMvaSource"]

_RETURN = "no:skatteetaten:fastsetting:avgift:mva:skattemeldingformerverdiavgift:v1.0"
_NAMESPACES = "no:skatteetaten:fastsetting:avgift:mva:"
_NO_RETURNS = {
    "betalingsinformasjon": ("payment details of a return", "申报表的缴款信息"),
    "valideringsresultat": ("the tax office's validation of a return", "税务机关对申报表的校验结果"),
    "mvaMeldingInnsending": ("the envelope of a return", "申报表的信封"),
}
"""Root elements of what surrounds a return: what each is."""

_NAMES = (
    "januar", "februar", "mars", "april", "mai", "juni",
    "juli", "august", "september", "oktober", "november", "desember",
)  # fmt: skip
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_INPUT = frozenset({"1", "11", "12", "13", "14", "15"})
"""Codes of deductions; their lines reduce, or when positive give back, input tax."""
_TURNOVER = frozenset({"3", "31", "32", "33", "5", "6", "51", "52"})
"""Codes of turnover: at the four rates, zero-rated, exempt, domestic reverse charge, exports."""
_OWN_USE = "uttak"


class NoMvaSource:
    """The ``no-mva`` source.

    Attributes:
        schema: ``tax_filing``.
    """

    def __init__(self, options: SourceOptions) -> None:
        self.schema: Schema = newest(KINDS["tax_filing"])
        self._subject = options.subject

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """The one return of the file. Raises FormatError when it is no such file."""
        root = read_xml(path, {"": _RETURN})
        if root.name in _NO_RETURNS:
            what, what_zh = _NO_RETURNS[root.name]
            yield root.error(
                "not_a_return", f"a VAT return, not {what}", f"增值税申报表，而非{what_zh}", root.name
            ).bad_row()
            return
        if root.namespace != _RETURN or root.name != "mvaMeldingDto":
            raise FormatError(f"{path}: expected a Norwegian VAT return, got the root {root.name!r:.80}")
        try:
            yield self._row(root)
        except ElementError as error:
            yield error.bad_row()

    def _row(self, root: Element) -> SourceRow:
        body = root.one("skattegrunnlagOgBeregnetSkatt")
        period, months = _period(body.one("skattleggingsperiode"))
        output, input_, sales = _sums(body)
        category = root.text("meldingskategori")
        values = self.schema.row(
            {
                "tax": "vat" if category == "alminnelig" else f"vat {category}",
                "period": period,
                "months": months,
                "number": root.text("innsending/regnskapssystemsreferanse"),
                "currency": "NOK",
                "sales": sales,
                "output_tax": output,
                "input_tax": input_,
                "payable": body.amount("fastsattMerverdiavgift", "NOK"),
            }
        )
        return SourceRow(root.line, self._owner(root), int(Status.VALID), values)

    def _owner(self, root: Element) -> str:
        subject = root.read("skattepliktig/organisasjonsnummer", _organisation)
        if self._subject is not None and subject != self._subject:
            raise root.error(
                "subject_differs",
                f"the subject asked, {self._subject}",
                f"指定的主体 {self._subject}",
                subject,
            )
        return subject


def _organisation(text: str) -> str:
    try:
        return parse_subject(f"no-org:{text}")
    except FormatError:
        raise CellError("subject_malformed", "an organisation number of 9 digits", "9 位组织机构号") from None


def _period(element: Element) -> tuple[str, int]:
    """(last month as ``YYYY-MM``, months that it covers)."""
    year = element.read("aar", parse_year)
    periods = element.one("periode").children
    if len(periods) != 1:
        raise element.error("period_missing", "one period", "一个所属期", f"{len(periods)} periods")
    period = periods[0]
    names = period.value.split("-")
    numbers = [_MONTHS.get(name, 0) for name in names]
    first, last = numbers[0], numbers[-1]
    if period.name == "skattleggingsperiodeAar":
        return f"{year}-12", 12
    if (
        period.name == "skattleggingsperiodeToMaaneder"
        and len(numbers) == 2
        and last == first + 1
        and first % 2
    ):
        return f"{year}-{last:02}", 2
    if period.name == "skattleggingsperiodeMaaned" and len(numbers) == 1 and last:
        return f"{year}-{last:02}", 1
    raise period.error("period_unknown", "a month, two months or a year", "一个月、两个月或一年")


def _sums(body: Element) -> tuple[int, int, int]:
    """(output tax, input tax, sales) of all lines, in øre."""
    output = input_ = sales = 0
    for line in body.find_all("mvaSpesifikasjonslinje"):
        code, tax = line.text("mvaKode"), line.amount("merverdiavgift", "NOK")
        base = line.amount_or_none("grunnlag", "NOK") or 0
        # Imports and reverse charge stand twice: the tax that is due, and a deduction of it.
        if code in _INPUT or (code not in _TURNOVER and tax < 0):
            input_ -= tax
        else:
            output += tax
        if code in _TURNOVER and line.text_or_none("spesifikasjon") != _OWN_USE:
            sales += base
    return output, input_, sales


def _looks(look: Look) -> bool:
    root = look.root
    if root is None:
        return False
    if root.name == "mvaMeldingInnsending":
        return True
    known = root.name == "mvaMeldingDto" or root.name in _NO_RETURNS
    return known and root.namespace.startswith(_NAMESPACES)


FORMAT = Format(
    name="no-mva",
    title="Norwegian VAT returns",
    schema=newest(KINDS["tax_filing"]),
    looks=_looks,
    open=NoMvaSource,
)
