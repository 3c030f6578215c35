"""Procurement awards: what each form means, row by row. The real files are in test_sources_procurement_files.py."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources.awards import SCHEMA, party_code, tidy_text, winner_of
from taxledger.nodes.sources.countries import country_code
from taxledger.nodes.sources.documents import FORMATS, detect
from taxledger.nodes.sources.formats import SourceOptions
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow
from taxledger.nodes.sources.toronto import parse_toronto_amount

AMOUNTS: dict[str, int | str] = {
    "439620.00": 43_962_000,
    "3414610.10": 341_461_010,
    "0": 0,
    "398,192": 39_819_200,
    "13,423,845": 1_342_384_500,
    "721,085.00": 72_108_500,
    "3,615,600.00": 361_560_000,
    "16,928,693.00": 1_692_869_300,
    "$399,801.00": 39_980_100,
    "$1,101,610.00": 110_161_000,
    "$13,476,484": 1_347_648_400,
    "$ 957,477.45": 95_747_745,
    "$ 63,714,674.49": 6_371_467_449,
    "$330,000 CAD": 33_000_000,
    "$7,826,304.31 CAD": 782_630_431,
    "$31.95000": 3_195,
    "31.65/MT": "unit_price",
    "$12.50 per hour": "unit_price",
    "$31.955": "money_inexact",
    "1,00,000.00": "money_malformed",
    "1.000,50": "money_malformed",
    "$1000 USD": "money_malformed",
    "-5.00": "money_malformed",
    "1e3": "money_malformed",
    "$": "money_malformed",
    "": "money_malformed",
    "12 34": "money_malformed",
    "٣.٠٠": "money_malformed",
    "99999999999999999999": "number_too_large",
}


@pytest.mark.parametrize("text", AMOUNTS)
def test_amounts_are_exact_or_refused(text: str) -> None:
    expected = AMOUNTS[text]
    if isinstance(expected, int):
        assert parse_toronto_amount(text) == expected
        return
    with pytest.raises(CellError) as caught:
        parse_toronto_amount(text)
    assert caught.value.code == expected
    assert caught.value.expected_zh


def read(path: Path, subject: str | None = None) -> list[SourceRow | BadRow]:
    return list(FORMATS[detect(path)].open(SourceOptions(subject=subject)).rows(path))


def named(row: SourceRow | BadRow) -> dict[str, Any]:
    assert isinstance(row, SourceRow), row
    SCHEMA.check_fields(row.values)
    return SCHEMA.named(row.values)


def codes(rows: Sequence[SourceRow | BadRow]) -> list[str]:
    return [each.code if isinstance(each, BadRow) else "ok" for each in rows]


# --- winners --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("country", "identifier", "subject"),
    [
        ("NO", "974 760 673", "no-org:974760673"),
        ("NO", "NO974760673MVA", "no-org:974760673"),
        ("RO", "RO13991630", "eu-vat:RO13991630"),
        ("GR", "EL094019245", "eu-vat:EL094019245"),
        ("FRA", "326 912 557", "ted:FR-326912557"),
        ("HU", "10773381-2-44", "hu-tax:10773381"),
        ("MEX", "GAB0709244G5", "mx-rfc:GAB0709244G5"),
        ("CN", "91110108MA01A1B2X0", "ted:CN-91110108MA01A1B2X0"),
        ("", "00507062", "ted:00507062"),
        ("GBR", "not available", "name:ted:A Ltd"),
        ("GR", "ΑΒΓ 123", "name:ted:A Ltd"),
    ],
)
def test_winner_is_known_by_the_best_that_is_published(country: str, identifier: str, subject: str) -> None:
    found = winner_of(scheme="ted", publisher="ted", name=" A  Ltd", country=country, identifier=identifier)
    assert (found.subject, found.name) == (subject, "A Ltd")


@pytest.mark.parametrize("name", ["", "N/A", "None", " - ", None])
def test_nobody_is_no_winner(name: str | None) -> None:
    with pytest.raises(CellError, match="winner"):
        winner_of(scheme="ted", publisher="ted", name=name, identifier="n/a")


def test_names_that_are_too_long_are_no_subject() -> None:
    with pytest.raises(CellError) as caught:
        winner_of(scheme="ted", publisher="ted", name="A" * 300)
    assert caught.value.code == "subject_malformed"


def test_countries_and_texts() -> None:
    assert [country_code(each) for each in ("GBR", "uk", "EL", "FR", "", "ZZZ")] == [
        "GB", "GB", "GR", "FR", "", "ZZZ",
    ]  # fmt: skip
    assert party_code("ES", "A/81638108") == "ES-A/81638108"
    assert tidy_text(" a\n\tb  c ") == "a b c"
    assert tidy_text(" \n") is None
    long = tidy_text("é" * 2_000)
    assert long is not None
    assert long.endswith("é…")
    assert 1_020 <= len(long.encode()) <= 1_024


# --- TED ------------------------------------------------------------------------------------

_TED = "http://publications.europa.eu/resource/schema/ted/R2.0.9/publication"
_AWARDED = """<AWARD_CONTRACT ITEM="{item}"><LOT_NO>{item}</LOT_NO><AWARDED_CONTRACT>
<DATE_CONCLUSION_CONTRACT>{day}</DATE_CONCLUSION_CONTRACT><CONTRACTORS>{winners}</CONTRACTORS>
<VALUES>{value}</VALUES></AWARDED_CONTRACT></AWARD_CONTRACT>"""
_NOBODY = """<AWARD_CONTRACT ITEM="9"><NO_AWARDED_CONTRACT><PROCUREMENT_DISCONTINUED/></NO_AWARDED_CONTRACT>
</AWARD_CONTRACT>"""


def ted_winner(name: str, country: str = "FR", identifier: str = "") -> str:
    number = f"<NATIONALID>{identifier}</NATIONALID>" if identifier else ""
    return (
        f"<CONTRACTOR><ADDRESS_CONTRACTOR><OFFICIALNAME>{name}</OFFICIALNAME>{number}"
        f'<COUNTRY VALUE="{country}"/></ADDRESS_CONTRACTOR></CONTRACTOR>'
    )


def ted_award(
    item: int,
    *winners: str,
    day: str = "2021-03-01",
    value: str = '<VAL_TOTAL CURRENCY="EUR">10.5</VAL_TOTAL>',
) -> str:
    return _AWARDED.format(item=item, day=day, winners="".join(winners), value=value)


def write_ted(path: Path, *forms: str, form: str = "F03_2014") -> Path:
    body = "<CONTRACTING_BODY><ADDRESS_CONTRACTING_BODY><OFFICIALNAME>Ville</OFFICIALNAME></ADDRESS_CONTRACTING_BODY>"
    title = "<OBJECT_CONTRACT><TITLE><P>Travaux</P></TITLE></OBJECT_CONTRACT>"
    parts = "".join(
        f'<{form} CATEGORY="ORIGINAL" FORM="F03" LG="FR">{body}</CONTRACTING_BODY>{title}{awards}</{form}>'
        for awards in forms
    )
    translated = f'<{form} CATEGORY="TRANSLATION" LG="DE">{ted_award(1, ted_winner("X"))}</{form}>'
    path.write_text(
        f'<TED_EXPORT xmlns="{_TED}" DOC_ID="1-2021"><FORM_SECTION>{translated}{parts}</FORM_SECTION></TED_EXPORT>',
        "utf-8",
    )
    return path


def test_ted_notice(tmp_path: Path) -> None:
    both = ted_award(2, ted_winner("A"), ted_winner("B", "NO", "974760673"), ted_winner("A"))
    path = write_ted(tmp_path / "a", ted_award(1, ted_winner("A")) + both + _NOBODY)
    rows = read(path)
    assert codes(rows) == ["ok", "ok", "ok", "award_unsuccessful"]
    first, second, third = (named(each) for each in rows[:3])
    assert first == {
        "register": "ted", "number": "1-2021/1", "lot": "1", "buyer": "Ville", "buyer_public": True,
        "supplier": "A", "title": "Travaux", "awarded": "2021-03-01", "state": "active", "winners": 1,
        "currency": "EUR", "amount": 1_050,
    }  # fmt: skip
    assert [(each["number"], each["winners"]) for each in (second, third)] == [
        ("1-2021/2/1", 2),
        ("1-2021/2/2", 2),
    ]
    assert [each.subject for each in rows if isinstance(each, SourceRow)] == [
        "name:ted:A", "name:ted:A", "no-org:974760673",
    ]  # fmt: skip
    assert codes(read(path, "no-org:974760673")) == [
        "subject_differs", "subject_differs", "ok", "award_unsuccessful",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("award", "code"),
    [
        (ted_award(1, ted_winner("A"), day="2021-02-30"), "date_malformed"),
        (ted_award(1, ted_winner("A"), day=""), "value_missing"),
        (ted_award(1, ted_winner("N/A")), "winner_missing"),
        (ted_award(1), "winner_missing"),
        (
            ted_award(1, ted_winner("A"), value='<VAL_TOTAL CURRENCY="EUR">1.001</VAL_TOTAL>'),
            "money_inexact",
        ),
        (
            ted_award(1, ted_winner("A"), value='<VAL_TOTAL CURRENCY="EURO">1</VAL_TOTAL>'),
            "currency_unknown",
        ),
        (ted_award(1, ted_winner("A"), value="<VAL_TOTAL>1</VAL_TOTAL>"), "value_missing"),
        ("", "award_none"),
    ],
)
def test_ted_award_that_is_refused(award: str, code: str, tmp_path: Path) -> None:
    assert codes(read(write_ted(tmp_path / "a", award))) == [code]


def test_ted_range_is_no_amount(tmp_path: Path) -> None:
    value = '<VAL_RANGE_TOTAL CURRENCY="EUR"><LOW>1</LOW><HIGH>9</HIGH></VAL_RANGE_TOTAL>'
    (row,) = read(write_ted(tmp_path / "a", ted_award(1, ted_winner("A"), value=value)))
    assert not {"amount", "currency"} & set(named(row))


def test_ted_second_language_is_said_already(tmp_path: Path) -> None:
    path = write_ted(tmp_path / "a", ted_award(1, ted_winner("A")), ted_award(1, ted_winner("Á")))
    assert codes(read(path)) == ["ok", "award_repeated"]


def test_ted_other_form_is_no_award_notice(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="F03_2014"):
        read(write_ted(tmp_path / "a", "", form="F02_2014"))


# --- Toronto --------------------------------------------------------------------------------


def test_toronto_rows(tmp_path: Path) -> None:
    header = [
        "unique_id", "Document Number", "RFx (Solicitation) Type", "Successful Supplier", "Awarded Amount",
        "Award Date", "Division", "Solicitation Document Description",
    ]  # fmt: skip
    rows = [
        ["u1", "D1", "RFQ", " A Inc ", "$ 1,060.50", "2023-05-08", "Parks", "Mow\nthe lawn"],
        ["u2", "D1", "RFQ", "N/A", "1.00", "2023-05-08", "Parks", ""],
        ["u3", "D1", "RFQ", "A Inc", "1.00", "", "Parks", ""],
        ["u4", "D1"],
    ]
    with (tmp_path / "a").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    found = read(tmp_path / "a")
    assert codes(found) == ["ok", "winner_missing", "date_malformed", "columns_differ"]
    assert isinstance(found[0], SourceRow)
    assert found[0].subject == "name:ca-toronto:A Inc"
    assert named(found[0]) == {
        "register": "ca-toronto", "number": "u1", "contract": "D1", "buyer": "City of Toronto, Parks",
        "buyer_public": True, "supplier": "A Inc", "title": "Mow the lawn", "awarded": "2023-05-08",
        "state": "active", "winners": 1, "currency": "CAD", "amount": 106_050,
    }  # fmt: skip
