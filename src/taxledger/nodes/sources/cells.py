"""The text of a cell to a value: money, numbers, dates, texts. Nothing else in ``sources/`` parses one.

Money and numbers are read digit by digit and must be exact: ``0.001`` yuan is no amount, and is refused, not
rounded. ``int`` accepts more than a cell may hold (``1_0``, ``١``), so a pattern is matched first.
"""

from __future__ import annotations

import re
from functools import lru_cache

from taxledger.ledger import limits
from taxledger.ledger.schemas import is_date
from taxledger.nodes.sources.currencies import MINOR_DIGITS
from taxledger.nodes.sources.rows import CellError

__all__ = [
    "DATE_FORMS",
    "drop_leading_zeros",
    "parse_amount",
    "parse_boolean",
    "parse_currency",
    "parse_date",
    "parse_iso_date",
    "parse_money",
    "parse_month",
    "parse_scaled",
    "parse_text",
    "parse_year",
    "plain_number",
    "strip_cell",
]

_BLANKS = " \t\r\n\f\v\u00a0\u2002\u2003\u2009\u200b\u3000\ufeff"
"""Blanks that spreadsheets leave behind, the ideographic space (full-width) and no-break space among them."""

_NUMBER = re.compile(r"[+-]?[0-9]{1,24}(?:\.[0-9]{1,24})?")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,24}(?:\.[0-9]{0,24})?|\.[0-9]{1,24})")
_ISO_DATE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:T(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,12})?)?"
    r"(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?"
)
_DIGITS = re.compile(r"[0-9]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

DATE_FORMS = {
    "YYYY-M-D": re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?:[ T]00:00(?::00(?:\.0+)?)?)?"),
    "YYYY/M/D": re.compile(r"([0-9]{4})/([0-9]{1,2})/([0-9]{1,2})"),
    "YYYY.M.D": re.compile(r"([0-9]{4})\.([0-9]{1,2})\.([0-9]{1,2})"),
    "YYYYMMDD": re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})"),
    "YYYY年M月D日": re.compile(r"([0-9]{4})年([0-9]{1,2})月([0-9]{1,2})日"),
    "D/M/YYYY": re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})"),
    "D.M.YYYY": re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})"),
    "M/D/YYYY": re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})"),
    "D-M-YYYY": re.compile(r"([0-9]{1,2})-([0-9]{1,2})-([0-9]{4})"),
    "D/M/YY": re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{2})"),
    "D-M-YY": re.compile(r"([0-9]{1,2})-([0-9]{1,2})-([0-9]{2})"),
}
"""Every form of a date by its name in a mapping file. A year of two digits is of this century."""

_CHINESE_DATES = ("YYYY/M/D", "YYYY-M-D")


def strip_cell(text: str) -> str:
    """A cell without the blanks around it."""
    return text.strip(_BLANKS)


def _scaled(text: str, digits: int) -> int | None:
    """A plain decimal times ``10**digits``; None where that is not whole."""
    # Not with Decimal.scaleb: it rounds to 28 digits, and a tail beyond them would vanish.
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return int(f"{whole}{fraction.ljust(digits, '0')}") if len(fraction) <= digits else None


def parse_scaled(text: str, scale: int) -> int:
    """A plain decimal number times ``10**scale``, exactly: ``("1000.5", 2)`` is 100050.

    Raises:
        CellError: not a number, or not whole after scaling, or beyond 63 bits.
    """
    if not _NUMBER.fullmatch(text):
        raise CellError("number_malformed", "a number like -1234.56", "数字，例如 -1234.56")
    value = _scaled(text, scale)
    if value is None:
        raise CellError(
            "number_inexact",
            f"a number with at most {scale} decimal places",
            f"小数位数不超过 {scale} 位的数字",
        )
    if not -limits.integer_max <= value <= limits.integer_max:
        raise CellError("number_too_large", "a number of at most 63 bits", "不超过 63 位（二进制）的数字")
    return value


def parse_money(text: str, minor_digits: int = 2) -> int:
    """An amount in minor units: ``"-943.4"`` is -94340 fen.

    Raises:
        CellError: not an amount, or not a whole number of minor units.
    """
    try:
        return parse_scaled(text, minor_digits)
    except CellError as error:
        if error.code == "number_malformed":
            raise CellError("money_malformed", "an amount like -1234.56", "金额，例如 -1234.56") from None
        if error.code == "number_inexact":
            raise CellError(
                "money_inexact",
                f"an amount with at most {minor_digits} decimal places",
                f"小数位数不超过 {minor_digits} 位的金额",
            ) from None
        raise


def parse_currency(text: str) -> str:
    """An ISO 4217 code that ``currencies.py`` lists. Raises CellError."""
    if text not in MINOR_DIGITS:
        raise CellError("currency_unknown", "an ISO 4217 currency code", "ISO 4217 货币代码")
    return text


def parse_amount(text: str, currency: str) -> int:
    """A decimal of XML Schema as minor units of a currency: ``("1500.50", "EUR")`` is 150050, ``("5.0", "JPY")`` 5.

    More decimal places than the currency has are read only where they are zeros. No exponent, no group marks.

    Raises:
        CellError: not a decimal, not whole in minor units, beyond 63 bits, or an unknown currency.
    """
    digits = MINOR_DIGITS[parse_currency(currency)]
    if not _DECIMAL.fullmatch(text):
        raise CellError("money_malformed", "an amount like -1234.56", "金额，例如 -1234.56")
    value = _scaled(text, digits)
    if value is None:
        raise CellError(
            "money_inexact",
            f"an amount of {currency} with at most {digits} decimal places",
            f"小数位数不超过 {digits} 位的 {currency} 金额",
        )
    if not -limits.integer_max <= value <= limits.integer_max:
        raise CellError("number_too_large", "a number of at most 63 bits", "不超过 63 位（二进制）的数字")
    return value


def parse_iso_date(text: str) -> str:
    """The day of an ISO 8601 date or instant, with or without a zone, as its place wrote it: ``YYYY-MM-DD``.

    Raises:
        CellError: of another form, or no day of the calendar.
    """
    match = _ISO_DATE.fullmatch(text)
    if match is None or not is_date(match[1]):
        raise CellError(
            "date_malformed", "a day of the calendar as YYYY-MM-DD", "有效日期，格式为 YYYY-MM-DD"
        )
    return match[1]


def plain_number(text: str, *, decimal_point: str, thousands: str) -> str:
    """A number as people write it to the form that ``parse_scaled`` reads: ``1.234,56-`` to ``-1234.56``.

    A sign may stand before or behind, or the number in brackets (bookkeepers' minus).
    """
    body, sign = text, ""
    if len(body) > 2 and body[0] == "(" and body[-1] == ")":
        body, sign = body[1:-1], "-"
    elif body[:1] in "+-−" and body:
        body, sign = body[1:], "" if body[0] == "+" else "-"
    elif body[-1:] == "-":
        body, sign = body[:-1], "-"
    whole, point, fraction = strip_cell(body).partition(decimal_point)
    if thousands:
        groups = whole.split(thousands)
        if len(groups) > 1 and (not 1 <= len(groups[0]) <= 3 or any(len(each) != 3 for each in groups[1:])):
            return text
        whole = "".join(groups)
    return f"{sign}{whole}.{fraction}" if point else f"{sign}{whole}"


@lru_cache(maxsize=16_384)
def parse_date(text: str, forms: tuple[str, ...] = _CHINESE_DATES) -> str:
    """A date of one of the forms as ``YYYY-MM-DD``.

    Raises:
        CellError: of none of them, or no day of the calendar.
    """
    for form in forms:
        match = DATE_FORMS[form].fullmatch(text)
        if match is None:
            continue
        first, second, third = match.groups()
        if form.startswith("Y"):
            year, month, day = first, second, third
        else:
            year, month, day = (third, second, first) if form.startswith("D") else (third, first, second)
        found = f"{year if len(year) == 4 else '20' + year}-{month:0>2}-{day:0>2}"
        if is_date(found):
            return found
    named, named_zh = " or ".join(forms), " 或 ".join(forms)
    raise CellError("date_malformed", f"a day of the calendar as {named}", f"有效日期，格式为 {named_zh}")


def parse_year(text: str) -> int:
    """``YYYY`` or ``YYYY年``. Raises CellError."""
    year = text.removesuffix("年")
    if len(year) != 4 or not year.isascii() or not year.isdigit() or year == "0000":
        raise CellError("year_malformed", "a year YYYY", "四位年份")
    return int(year)


@lru_cache(maxsize=4_096)
def parse_month(text: str, forms: tuple[str, ...] = _CHINESE_DATES) -> str:
    """``YYYY-M``, ``YYYY/M``, ``YYYYMM``, ``YYYY年M月`` or a whole date as ``YYYY-MM``.

    Raises:
        CellError: none of these.
    """
    match = re.fullmatch(r"([0-9]{4})(?:[-/.年]([0-9]{1,2})月?|([0-9]{2}))", text)
    if match is not None:
        month = int(match[2] or match[3])
        if 1 <= month <= 12 and match[1] != "0000":
            return f"{match[1]}-{month:02}"
    try:
        return parse_date(text, forms)[:7]
    except CellError:
        raise CellError("month_malformed", "a month as YYYY-MM", "月份，格式为 YYYY-MM") from None


def parse_text(text: str) -> str:
    """A text: at most 1,024 bytes, no control characters, all of it in the file's encoding.

    Raises:
        CellError: empty, too long, or with bytes that are no characters.
    """
    if text.isascii() and text.isprintable() and 0 < len(text) <= limits.field_text_bytes_max:
        return text
    if not text:
        raise CellError("text_missing", "a text", "非空文本")
    if _CONTROL.search(text):
        raise CellError("text_malformed", "printable characters of the encoding", "该编码中的可打印字符")
    if len(text.encode()) > limits.field_text_bytes_max:
        limit = limits.field_text_bytes_max
        raise CellError("text_too_long", f"at most {limit} bytes", f"不超过 {limit} 字节")
    return text


def parse_boolean(text: str) -> bool:
    """``true/false``, ``yes/no``, ``1/0``, ``是/否``.

    Raises:
        CellError: none of these.
    """
    word = text.lower()
    if word in ("true", "yes", "1", "是"):
        return True
    if word in ("false", "no", "0", "否"):
        return False
    raise CellError("boolean_malformed", "true or false", "是或否")


def drop_leading_zeros(text: str) -> str:
    """An invoice number of digits without leading zeros, which one of two copies of the same file lost.

    Raises:
        CellError: not digits.
    """
    if not _DIGITS.fullmatch(text):
        raise CellError("number_malformed", "an invoice number of digits", "由数字组成的发票号码")
    return text.lstrip("0") or "0"
