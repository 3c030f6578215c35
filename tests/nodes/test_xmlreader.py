"""The hardened XML reader: hostile documents cost nothing, values are exact, errors know their place."""

from __future__ import annotations

import contextlib
import gc
import gzip
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources import cells
from taxledger.nodes.sources.currencies import MINOR_DIGITS
from taxledger.nodes.sources.rows import CellError
from taxledger.nodes.sources.xmlreader import LIMITS, ElementError, Limits, Root, read_root, read_xml

LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">%s]><lolz>&z9;</lolz>""" % b"".join(
    b'<!ENTITY z%d "%s">' % (n, b"&z%d;" % (n - 1) * 10 if n else b"&a;" * 10) for n in range(10)
)
QUADRATIC = b'<!DOCTYPE r [<!ENTITY a "%s">]><r>%s</r>' % (b"a" * 100_000, b"&a;" * 100_000)
SMALL = Limits(elements_max=100, depth_max=8, attributes_max=4, attribute_bytes_max=64, name_bytes_max=32)

HOSTILE = {
    "billion laughs": (LAUGHS, "DOCTYPE"),
    "quadratic blowup": (QUADRATIC, "DOCTYPE"),
    "doctype alone": (b"<!DOCTYPE r><r/>", "DOCTYPE"),
    "external entity": (b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>', "DOCTYPE"),
    "external dtd": (b'<!DOCTYPE r SYSTEM "http://127.0.0.1:9/x.dtd"><r/>', "DOCTYPE"),
    "parameter entity": (b'<!DOCTYPE r [<!ENTITY % x SYSTEM "http://127.0.0.1:9/">%x;]><r/>', "DOCTYPE"),
    "unknown entity": (b"<r>&nbsp;</r>", "not well-formed"),
    "deep nesting": (b"<a>" * 9 + b"</a>" * 9, "8 levels"),
    "many elements": (b"<r>" + b"<a/>" * 100 + b"</r>", "100 elements"),
    "many attributes": (b"<r a='' b='' c='' d='' e=''/>", "4 attributes"),
    "huge attribute": (b"<r a='%s'/>" % (b"x" * 65), "64 characters"),
    "long name": (b"<%s/>" % (b"n" * 33), "32 bytes of a name"),
    "long namespace": (b"<r xmlns='%s'/>" % (b"n" * 33), "32 bytes of a name"),
    "other encoding": (b"<?xml version='1.0' encoding='utf-7'?><r/>", "utf-7"),
    "encodings contradict": (b"\xef\xbb\xbf<?xml version='1.0' encoding='iso-8859-1'?><r/>", "first bytes"),
    "utf-16 undeclared": ("<r/>".encode("utf-16-le"), "not well-formed"),
    "wrong bytes": (b"<r>\xff</r>", "text in utf-8"),
    "cut": (b"<r><a></a>", "not well-formed"),
    "two roots": (b"<r/><r/>", "not well-formed"),
    "nothing": (b"", "not well-formed"),
    "no xml": (b"%PDF-1.7", "not well-formed"),
    "nul": (b"<r>\x00</r>", "not well-formed"),
    "prefix unbound": (b"<x:r/>", "not well-formed"),
    "attribute twice": (b"<r a='1' a='2'/>", "not well-formed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_refused(name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(FormatError, match=reason):
        read_xml(data, limits=SMALL)


def test_default_limits_hold() -> None:
    for data, reason in (
        (b"<a>" * 1_000_000, "levels"),
        (b"<r %s/>" % b" ".join(b"a%d=''" % n for n in range(10_000)), "attributes"),
        (b"<r>" + b"<a/>" * 1_000_000 + b"</r>", "elements"),
        (b"<r a='%s'/>" % (b"x" * 1_000_000), "attribute"),
        (b" " * (LIMITS.bytes_max + 1), "bytes of XML"),
    ):
        with pytest.raises(FormatError, match=reason):
            read_xml(data)


def test_long_names_and_paths_are_kept_once() -> None:
    """Sixty levels of long names over many elements: in memory each is one string, and a path in a message is short."""
    name = "n" * 300
    data = f"<{name}>" * 60 + "<a x=''/>" * 5_000 + f"</{name}>" * 60
    tracemalloc.start()
    try:
        root = read_xml(data.encode())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000 * 2_000, f"{peak:,} bytes"
    *_, last = root.walk()
    assert last.path == "…/a[5000]"


def test_nothing_waits_for_a_garbage_collection() -> None:
    gc.collect()
    gc.disable()
    try:
        for data in (b"<r><a/></r>", b"<r><a/>", b"<!DOCTYPE r><r/>", b"<a>" * 100, b"<r>&x;</r>"):
            for read in (read_xml, read_root):
                with contextlib.suppress(FormatError):
                    read(data)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_packed_bomb_is_cut_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.xml"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(5):
            file.write(b" " * (LIMITS.bytes_max // 4))
    with pytest.raises(FormatError, match=r"bomb\.xml: expected at most .* bytes of XML"):
        read_xml(path)


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "UTF-16"),
        ("gb18030", "GB2312"),
        ("gb18030", "gbk"),
    ],
)
def test_encodings(codec: str, name: str) -> None:
    text = f"<?xml version='1.0' encoding='{name}'?>\n<r>发票</r>"
    assert read_xml(text.encode(codec)).text() == "发票"


def test_paths_and_places() -> None:
    root = read_xml(
        b"<i:I xmlns:i='u:i' xmlns='u:c'>\n<L><A c='EUR'> 1.10 </A></L>\n<L><A c='EUR'>x</A></L>\n"
        b"<D>2024-02-30</D><E/><i:X>&lt;<![CDATA[&]]></i:X><!-- <D/> --><?pi x?></i:I>",
        {"c": "u:c", "i": "u:i", "": "u:c"},
    )
    assert (root.namespace, root.name) == read_root(b"<i:I xmlns:i='u:i'><") == Root("u:i", "I")
    lines = root.find_all("L")
    assert [each.path for each in lines] == ["I/L", "I/L[2]"]
    assert lines[0].amount("c:A", "EUR") == 110
    assert lines[0].text("A/@c") == "EUR"
    assert root.text("i:X") == root.text("*:X") == "<&"
    assert root.text_or_none("E") is None
    assert root.text_or_none("E/@none") is None
    assert [each.name for each in root.walk()] == ["I", "L", "A", "L", "A", "D", "E", "X"]
    wrong = [
        (lambda: lines[1].amount("A", "EUR"), "money_malformed", "I/L[2]/A", "x", 3),
        (lambda: root.one("L"), "element_repeated", "I/L[2]", "2 times", 3),
        (lambda: root.text("L/A"), "element_repeated", "I/L[2]/A", "2 times", 3),
        (lambda: root.date("D"), "date_malformed", "I/D", "2024-02-30", 4),
        (lambda: root.text("E"), "value_missing", "I/E", "", 1),
        (lambda: root.text("X"), "value_missing", "I/X", "", 1),
        (lambda: lines[0].text("A/@no"), "value_missing", "I/L/A/@no", "", 2),
    ]
    for read, code, place, found, line in wrong:
        with pytest.raises(ElementError) as caught:
            read()
        bad = caught.value.bad_row()
        assert (bad.code, bad.column, bad.found, bad.line) == (code, place, found, line)
        assert bad.expected
        assert bad.expected_zh


AMOUNTS = [
    ("10", "EUR", 1000), ("10.5", "EUR", 1050), ("-943.4", "CNY", -94340), ("+1.10", "EUR", 110), (".5", "EUR", 50),
    ("5.", "EUR", 500), ("5.000", "JPY", 5), ("5.5", "JPY", "money_inexact"), ("1.234", "KWD", 1234),
    ("1.2340000", "KWD", 1234), ("1.001", "EUR", "money_inexact"),
    ("1.230000000000000000000001", "EUR", "money_inexact"),
    ("123456789012.000000000000000000000001", "EUR", "money_inexact"), ("1,5", "EUR", "money_malformed"),
    ("1E2", "EUR", "money_malformed"), ("NaN", "EUR", "money_malformed"), ("١", "EUR", "money_malformed"),
    ("1_0", "EUR", "money_malformed"), ("", "EUR", "money_malformed"), (".", "EUR", "money_malformed"),
    ("1 000", "EUR", "money_malformed"), ("92233720368547758.07", "EUR", 2**63 - 1),
    ("92233720368547758.08", "EUR", "number_too_large"),
    ("1", "XXX", "currency_unknown"), ("1", "eur", "currency_unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "currency", "expected"), AMOUNTS)
def test_amounts(text: str, currency: str, expected: int | str) -> None:
    if isinstance(expected, int):
        assert cells.parse_amount(text, currency) == expected
    else:
        with pytest.raises(CellError) as caught:
            cells.parse_amount(text, currency)
        assert caught.value.code == expected


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4), st.sampled_from(sorted(MINOR_DIGITS)))
def test_amounts_are_exact_or_refused(value: Decimal, currency: str) -> None:
    text = f"{value:f}"
    scaled = value * 10 ** MINOR_DIGITS[currency]
    if scaled == int(scaled) and abs(scaled) < 2**63 and len(text) < 24:
        assert cells.parse_amount(text, currency) == scaled
    else:
        with pytest.raises(CellError):
            cells.parse_amount(text, currency)


DATES = {
    "2024-02-29": "2024-02-29", "2024-02-29Z": "2024-02-29", "2017-11-13+01:00": "2017-11-13",
    "2024-01-31T23:59:59.123-05:00": "2024-01-31", "2024-01-31T00:00:00": "2024-01-31", "2023-02-29": None,
    "2024-1-1": None, "2024-01-01T24:00:00": None, "20240101": None, "2024-01-01 ": None, "2024-01-01+25:00": None,
    "0000-01-01": None, "٢024-01-01": None,
}  # fmt: skip


@pytest.mark.parametrize("text", DATES)
def test_iso_dates(text: str) -> None:
    if DATES[text] is not None:
        assert cells.parse_iso_date(text) == DATES[text]
    else:
        with pytest.raises(CellError):
            cells.parse_iso_date(text)
