"""UK VAT returns and obligations as the HMRC API "VAT (MTD)" states them (JSON) to filings.

A file holds one answer or request of the API, or a list of examples ``{path, method, kind, value}`` as the API's
specification has them. Neither says everything: an obligation has the dates of a period, a return its amounts; the
period key joins them, in whatever order they come. The VAT number stands in the path, or ``--subject`` says it.

A return alone names no month (a period key can't be read as one): ``--dated`` says the last day of its period.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from taxledger.ledger.builtin import newest
from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status, parse_subject
from taxledger.ledger.schemas import Row, Schema, Value
from taxledger.nodes.sources.cells import parse_amount, parse_iso_date, parse_text
from taxledger.nodes.sources.formats import Format, Look, SourceOptions
from taxledger.nodes.sources.jsonreader import read_json
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow, open_binary

__all__ = ["FORMAT", "HmrcVatSource"]

_PATH = re.compile(r"/organisations/vat/([^/]+)/(.+)")
_PERIOD_KEY = re.compile(r"[0-9A-Z#]{4}")
_VRN = re.compile(r"[0-9]{9}(?:[0-9]{3})?")
_VRN_LIST = re.compile(r"[0-9]{9}(?:[0-9]{3})?(?:,[0-9]{9}(?:[0-9]{3})?)+")
_RETURN_KEYS = frozenset({"periodKey", "totalVatDue", "netVatDue"})
_OTHERS = {
    "code": ("error_answer", "an obligation or return, not an error answer", "义务或申报表，而非错误应答"),
    "liabilities": ("not_a_filing", "an obligation or return, not liabilities", "义务或申报表，而非应缴款项"),
    "payments": ("not_a_filing", "an obligation or return, not payments", "义务或申报表，而非缴款记录"),
    "totalisations": (
        "not_a_filing",
        "an obligation or return, not penalties or charges",
        "义务或申报表，而非罚款或费用",
    ),
    "customerDetails": (
        "not_a_filing",
        "an obligation or return, not customer details",
        "义务或申报表，而非纳税人信息",
    ),
}
"""By a key that tells them: answers that are no filing."""
_BOXES = {
    "output_tax": "totalVatDue",
    "input_tax": "vatReclaimedCurrPeriod",
    "sales": "totalValueSalesExVAT",
}
_DIGITS_MAX = 24


@dataclass(frozen=True, slots=True)
class _Part:
    """One obligation or return of a file.

    Attributes:
        number: of the example or answer in the file, from 1: its place.
        vrn: in its path, or None.
        body: as the API states it.
    """

    number: int
    vrn: str | None
    body: Mapping[str, Any]

    @property
    def is_return(self) -> bool:
        return bool(_RETURN_KEYS & self.body.keys() - {"periodKey"})


class HmrcVatSource:
    """The ``hmrc-vat`` source. A row is an obligation, a return, or an answer that is neither.

    Attributes:
        schema: ``tax_filing``.
    """

    def __init__(self, options: SourceOptions) -> None:
        self.schema: Schema = newest(KINDS["tax_filing"])
        self._subject = options.subject
        self._dated = options.dated

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """Every obligation and return of the file. Raises FormatError when it is no such file."""
        if _is_vrn_list(path):
            yield CellError(
                "not_a_filing",
                "an obligation or return, not a list of VAT numbers",
                "义务或申报表，而非增值税号列表",
            ).row(1, "", "a list of VAT numbers")
            return
        parts = list(_parts(path))
        periods = {
            (part.vrn, part.body.get("periodKey")): part.body
            for part in parts
            if isinstance(part, _Part) and not part.is_return and isinstance(part.body.get("periodKey"), str)
        }
        for part in parts:
            if isinstance(part, BadRow):
                yield part
                continue
            obligation = part.body
            if part.is_return:
                obligation = periods.get((part.vrn, part.body.get("periodKey")), {})
            try:
                yield self._row(part, obligation)
            except _FieldError as error:
                yield error.error.row(part.number, error.name, error.found)

    def _row(self, part: _Part, obligation: Mapping[str, Any]) -> SourceRow:
        named: dict[str, Value] = {"tax": "vat", "currency": "GBP"}
        named["number"] = _read(part.body, "periodKey", _period_key)
        named |= self._period(obligation)
        if part.is_return:
            named |= _amounts(part.body)
        values = self.schema.row(named)
        return SourceRow(
            part.number, self._owner(part.vrn), int(Status.VALID), values, partial(_fill, values)
        )

    def _period(self, obligation: Mapping[str, Any]) -> dict[str, Value]:
        if not obligation:
            if self._dated is None:
                error = CellError(
                    "period_missing",
                    "the obligation with its period key in the same file, or --dated with the period's last day",
                    "同一文件中含有该期间代码的义务，或用 --dated 指明期间的最后一天",
                )
                raise _FieldError(error, "periodKey", "no period")
            return {"period": self._dated[:7]}
        start, end = (_read(obligation, name, parse_iso_date) for name in ("start", "end"))
        months = (int(end[:4]) - int(start[:4])) * 12 + int(end[5:7]) - int(start[5:7]) + 1
        if months < 1:
            error = CellError(
                "period_malformed", "a period that ends after it starts", "结束日不早于开始日的期间"
            )
            raise _FieldError(error, "end", end)
        status = obligation.get("status")
        filed = _read(obligation, "received", parse_iso_date) if "received" in obligation else None
        if status not in ("F", "O") or (status == "O" and filed is not None):
            error = CellError("status_unknown", "F with a day of receipt, or O", "F（附收到日）或 O")
            raise _FieldError(error, "status", str(status))
        return {
            "period": end[:7],
            "months": months,
            "filed": filed,
            "due": _read(obligation, "due", parse_iso_date),
        }

    def _owner(self, vrn: str | None) -> str:
        if vrn is None:
            if self._subject is not None and self._subject.startswith("gb-vrn:"):
                return self._subject
            error = CellError(
                "subject_missing", "a VAT number in the path, or --subject gb-vrn:…",
                "路径中的增值税号，或用 --subject gb-vrn:… 指明",
            )  # fmt: skip
            raise _FieldError(error, "vrn", "")
        try:
            subject = parse_subject(f"gb-vrn:{vrn}")
        except FormatError:
            error = CellError("subject_malformed", "a VAT number of 9 or 12 digits", "9 或 12 位增值税号")
            raise _FieldError(error, "vrn", vrn) from None
        if self._subject is not None and subject != self._subject:
            error = CellError(
                "subject_differs", f"the subject asked, {self._subject}", f"指定的主体 {self._subject}"
            )
            raise _FieldError(error, "vrn", vrn)
        return subject


class _FieldError(Exception):
    """A field does not hold what it should; always caught by the source."""

    def __init__(self, error: CellError, name: str, found: str) -> None:
        super().__init__(error.expected)
        self.error = error
        self.name = name
        self.found = found


def _fill(values: Row, stored: Row) -> Row | None:
    """An obligation and its return are one record: each fills in what the other left open, and contradicts nothing."""
    if any(
        old is not None and new is not None and old != new for old, new in zip(stored, values, strict=True)
    ):
        return None
    return tuple(old if new is None else new for old, new in zip(stored, values, strict=True))


def _parts(path: Path) -> Iterator[_Part | BadRow]:
    documents = read_json(path)
    examples = documents[0] if len(documents) == 1 and isinstance(documents[0], list) else documents
    for number, example in enumerate(examples, 1):
        if not isinstance(example, dict):
            raise FormatError(f"{path}: expected objects of the VAT API, got {type(example).__name__}")
        match = _PATH.fullmatch(str(example.get("path", "")))
        body = example.get("value") if match else example
        vrn = match[1] if match and not match[1].startswith("{") else None
        if not isinstance(body, dict):
            yield _no_filing(number, "", "nothing")
        elif isinstance(body.get("obligations"), list):
            yield from _obligations(number, vrn, body["obligations"])
        elif body.keys() & _RETURN_KEYS:
            yield _Part(number, vrn, body)
        else:
            resource = match[2] if match else ""
            yield _no_filing(number, next((key for key in _OTHERS if key in body), ""), resource)


def _obligations(number: int, vrn: str | None, obligations: list[Any]) -> Iterator[_Part | BadRow]:
    for each in obligations:
        yield _Part(number, vrn, each) if isinstance(each, dict) else _no_filing(number, "", "obligations")
    if not obligations:
        yield _no_filing(number, "", "obligations")


def _no_filing(number: int, key: str, resource: str) -> BadRow:
    code, expected, expected_zh = _OTHERS.get(
        key, ("not_a_filing", "an obligation or return", "义务或申报表")
    )
    return CellError(code, expected, expected_zh).row(number, key, resource)


def _amounts(body: Mapping[str, Any]) -> dict[str, Value]:
    """The boxes of a return in pence."""
    if body.get("finalised", True) is not True:
        error = CellError("not_finalised", "a return that is declared final", "已声明为最终的申报表")
        raise _FieldError(error, "finalised", str(body["finalised"]))
    named: dict[str, Value] = {name: _money(body, box) for name, box in _BOXES.items()}
    due, acquired = _money(body, "vatDueSales"), _money(body, "vatDueAcquisitions")
    total, reclaimed, net = (
        _money(body, "totalVatDue"),
        _money(body, "vatReclaimedCurrPeriod"),
        _money(body, "netVatDue"),
    )
    if due + acquired != total or abs(total - reclaimed) != net:
        error = CellError(
            "total_differs", "box 1 + 2 = box 3, and the difference of box 3 and 4 in box 5",
            "第 1、2 栏之和等于第 3 栏，第 5 栏为第 3、4 栏之差",
        )  # fmt: skip
        raise _FieldError(error, "netVatDue", f"{body['netVatDue']}")
    # Box 5 has no sign: whether it is to pay or to be repaid follows from boxes 3 and 4.
    named["payable"] = total - reclaimed
    return named


def _money(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        fits = type(exponent) is int and -_DIGITS_MAX <= exponent <= _DIGITS_MAX
        text = format(value, "f") if fits else str(value)
    elif type(value) is int and abs(value) < 10**_DIGITS_MAX:
        text = str(value)
    else:
        error = CellError("money_malformed", "an amount like 1234.56", "金额，例如 1234.56")
        raise _FieldError(error, name, f"{type(value).__name__}" if value is not None else "")
    try:
        return parse_amount(text, "GBP")
    except CellError as error:
        raise _FieldError(error, name, text) from None


def _read(body: Mapping[str, Any], name: str, parse: Any) -> str:
    value = body.get(name)
    try:
        if not isinstance(value, str):
            raise CellError("value_missing", "a text", "非空文本")
        return str(parse(value))
    except CellError as error:
        raise _FieldError(error, name, str(value) if value is not None else "") from None


def _period_key(text: str) -> str:
    if not _PERIOD_KEY.fullmatch(text):
        raise CellError("number_malformed", "a period key of 4 characters", "4 位期间代码")
    return parse_text(text)


def _is_vrn_list(path: Path) -> bool:
    try:
        with open_binary(path) as file:
            head = file.read(4096)
    except (OSError, EOFError) as error:
        raise FormatError(f"{path}: can't be read to its end: {error}") from error
    text = head.decode("latin-1").strip()
    return _VRN_LIST.fullmatch(text.rpartition(",")[0] if len(head) == 4096 else text) is not None


def _looks(look: Look) -> bool:
    if look.shape == "table":
        return bool(look.lines) and len(look.lines[0]) > 1 and all(map(_VRN.fullmatch, look.lines[0]))
    if look.shape != "json":
        return False
    if {"path", "value"} <= look.keys:
        return True
    return look.keys == {"obligations"} or len(_RETURN_KEYS & look.keys) > 1


FORMAT = Format(
    name="hmrc-vat",
    title="VAT obligations and returns of the HMRC API (JSON)",
    schema=newest(KINDS["tax_filing"]),
    looks=_looks,
    open=HmrcVatSource,
)
