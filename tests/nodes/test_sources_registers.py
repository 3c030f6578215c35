"""The Mexican list, the Korean table, and Green Button meters; and every register's files broken at random."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from custodykit import Custody, counts, use_stored_keys
from registerkit import (
    HEADER_69B,
    KR_HEADER,
    TITLE_69B,
    amended_item,
    amendment,
    broken,
    codes,
    declaration,
    feed,
    mva_return,
    named,
    notification,
    read,
    taxes,
    write,
)

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources.documents import DocumentSource, detect, sort_files
from taxledger.nodes.sources.espitime import Zone, parse_rule
from taxledger.nodes.sources.formats import SourceOptions
from taxledger.nodes.sources.kr_customs import parse_price
from taxledger.nodes.sources.rows import BadRow, CellError, RowChange, SourceRow

DATA = Path(os.environ.get("TAXLEDGER_DATA", "../shared/data"))
ARREARS, USAGE = "tax_arrears", "utility_usage"

# --- Mexico ---------------------------------------------------------------------------------


def list_69b(path: Path, *lines: str, day: tuple[str, str, str] = ("30", "noviembre", "2022")) -> Path:
    return write(
        path, TITLE_69B.format(*day) + HEADER_69B + "".join(f"{line}\n" for line in lines), "iso-8859-1"
    )


def test_situations_of_taxpayers(tmp_path: Path) -> None:
    path = list_69b(
        tmp_path / "list.csv",
        "AAA080808HL8,Presunto,01/06/2018,25/06/2018,,,,,,",
        "ÑA&080808HL8,Desvirtuado,1/6/2018,44029,13/10/2017,02/11/2017,,,,",
        "CCC080808HL8,Definitivo,01/06/2018,,,,25/05/2022 - 26/04/2021,,,",
        "DDD080808HL8,Sentencia Favorable,01/06/2018,,,,14-08-19 // 20/09/2018,,27/06/2022 - 09/09/2019,x",
        "EEE080808HL8,Sentencia Favorable,01/06/2018,,,,,,,31/03/2022",
    )
    assert detect(path) == "mx-69b"
    rows = read(path)
    assert [row.subject for row in rows][1] == "mx-rfc:ÑA&080808HL8"  # type: ignore[union-attr]
    first, *others = (named(row, ARREARS) for row in rows)
    assert first == {
        "category": "audit", "number": "69-B 2018-06-01", "opened": "2018-06-01",
        "authority": "SAT art. 69-B CFF, list of 2022-11-30: Presunto",
    }  # fmt: skip
    assert [each.get("closed") for each in others] == ["2017-10-13", None, "2022-06-27", "2022-03-31"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("AAA,Presunto,01/06/2018,,,,,,,", "subject_malformed"),
        ("AAA080808HL8,Culpable,01/06/2018,,,,,,,", "value_unknown"),
        ("AAA080808HL8,Presunto,31/06/2018,,,,,,,", "date_malformed"),
        ("AAA080808HL8,Presunto,,,,,,,,", "value_missing"),
        ("AAA080808HL8,Desvirtuado,01/06/2018,,,,,,,", "value_missing"),
        ("AAA080808HL8,Presunto,01/06/2018", "columns_differ"),
    ],
)
def test_mexican_rows_refused(line: str, code: str, tmp_path: Path) -> None:
    assert codes(read(list_69b(tmp_path / "list.csv", line))) == [code]


def test_a_list_without_its_day_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", HEADER_69B + "AAA080808HL8,Presunto,01/06/2018,,,,,,,\n", "iso-8859-1")
    with pytest.raises(FormatError, match="Información actualizada al"):
        read(path)


def test_a_newer_list_amends_and_an_older_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stored_keys(monkeypatch)
    custody = Custody(tmp_path)
    presumed, definite = (f"AAA080808HL8,{each},01/06/2018,,,,,,," for each in ("Presunto", "Definitivo"))
    cleared = "AAA080808HL8,Sentencia Favorable,01/06/2018,,,,,,05/03/2019,"
    uploads = (
        ("2018", presumed, (1, 1, 0, 0, 0)),
        ("2019", cleared, (1, 0, 1, 0, 0)),
        ("2018", presumed, (1, 0, 0, 1, 0)),
        ("2017", definite, (1, 0, 0, 0, 1)),
        ("2019", definite, (1, 0, 0, 0, 1)),
        ("2019", cleared.replace("05/03", "06/03"), (1, 0, 0, 0, 1)),
        ("2020", cleared, (1, 0, 1, 0, 0)),
    )
    for number, (year, line, expected) in enumerate(uploads):
        path = list_69b(tmp_path / f"{number}.csv", line, day=("1", "Diciembre", year))
        ((schema, formats),) = sort_files([path]).groups
        outcome = custody.upload(path, source=DocumentSource(schema, formats, SourceOptions()))
        assert counts(outcome) == expected, number
        assert {each.code for each in outcome.files[0].rejections} <= {"content_outdated"}
        custody.verify()
    custody.vault.close()


def test_nothing_is_attested_past_the_day_of_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stored_keys(monkeypatch)
    custody = Custody(tmp_path)
    path = list_69b(tmp_path / "l.csv", "AAA080808HL8,Presunto,01/06/2018,,,,,,,")
    ((schema, formats),) = sort_files([path]).groups
    for through, moved in (("2022-12-01", None), ("2022-11-30", "2022-11-30")):
        source = DocumentSource(schema, formats, SourceOptions())
        outcome = custody.upload(path, source=source, through=through)
        assert outcome.through == moved
        assert bool(outcome.notes) == (moved is None)
        assert custody.vault.attested_through(schema.kind) == moved
    custody.vault.close()


@pytest.mark.parametrize("day", ["31", "0", "99"])
def test_a_list_of_no_day_of_the_calendar(day: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="day of the list"):
        read(list_69b(tmp_path / "l.csv", day=(day, "noviembre", "2022")))


# --- Korea ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("415092.72", 41_509_272), ("3.0", 300), ("86125.20000000001", 8_612_520), ("0.7", 70),
        ("4897.0999999999985", 489_710), ("31824000.0", 3_182_400_000),
    ],
)  # fmt: skip
def test_prices(text: str, value: int) -> None:
    assert parse_price(text) == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("0.0", "price_not_positive"), ("-3.0", "price_not_positive"), ("0.00000000001", "money_inexact"),
        ("1.005", "money_inexact"), ("1.0051234567", "money_inexact"), ("1e3", "money_malformed"),
        ("", "money_malformed"), ("NaN", "money_malformed"), ("1,000.0", "money_malformed"),
        ("0.70000000000009", "money_inexact"),
    ],
)  # fmt: skip
def test_prices_refused(text: str, code: str) -> None:
    with pytest.raises(CellError) as caught:
        parse_price(text)
    assert caught.value.code == code


def test_a_korean_declaration(tmp_path: Path) -> None:
    path = write(
        tmp_path / "k",
        KR_HEADER + "56839011,2021-01-01,40,11,SHHZGSL,,760711,CN,10.5,0\n1,2021-02-30,1,1,A,,1,CN,1,0\n",
    )
    assert detect(path) == "kr-customs"
    good, bad = read(path)
    assert good.subject == "name:kr-customs:SHHZGSL"  # type: ignore[union-attr]
    assert named(good, "customs_declaration") == {
        "direction": "import", "number": "56839011", "declared": "2021-01-01", "state": "declared", "procedure": "11",
        "country": "CN", "goods": "760711", "value": 1_050,
    }  # fmt: skip
    assert codes([bad]) == ["date_malformed"]


# --- meters ---------------------------------------------------------------------------------

HOUR = 3_600
NEW_YORK = (
    "<dstEndRule>B40E2000</dstEndRule><dstOffset>3600</dstOffset><dstStartRule>360E2000</dstStartRule>"
    "<tzOffset>-18000</tzOffset>"
)


def second(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())  # type: ignore[arg-type]


def test_months_are_local_in_summer_and_winter() -> None:
    zone = Zone(offset=-18_000, summer=HOUR, begins=parse_rule("360E2000"), ends=parse_rule("B40E2000"))
    there = ZoneInfo("America/New_York")
    random_ = random.Random(7)
    for _ in range(3_000):
        at = random_.randrange(second(2008, 1, 1), second(2040, 1, 1))
        assert zone.month(at) == datetime.fromtimestamp(at, there).strftime("%Y-%m"), at
    for month, year in ((month, year) for month in range(1, 13) for year in (2011, 2012)):
        begin, end = (
            datetime(year, month, 1, tzinfo=there),
            datetime(year + month // 12, month % 12 + 1, 1, tzinfo=there),
        )
        assert zone.month_seconds(f"{year}-{month:02}") == int(end.timestamp() - begin.timestamp())


def test_summer_time_that_ends_with_a_month() -> None:
    """At half past midnight of 1 November, summer time: half past eleven of 31 October."""
    zone = Zone(offset=0, summer=HOUR, begins=parse_rule("30100000"), ends=parse_rule("B0100708"))
    assert zone.month(second(2012, 10, 31, 23, 15)) == "2012-11"
    assert zone.month(second(2012, 10, 31, 23, 45)) == "2012-10"
    south = Zone(offset=0, summer=HOUR, begins=parse_rule("A0100000"), ends=parse_rule("40100708"))
    assert [south.month(second(2012, month, 1) - 900) for month in (2, 7)] == ["2012-02", "2012-06"]


def test_readings_of_files_that_go_together_are_one_sum(tmp_path: Path) -> None:
    start = second(2012, 3, 1, 5)
    one = write(
        tmp_path / "1.xml", feed((start, HOUR, 300, 100_000), (start + HOUR, HOUR, 5, 49_499), zone=NEW_YORK)
    )
    later = (start + HOUR, HOUR, 6, 50_500), (second(2012, 4, 1, 4), HOUR, 9, 0)
    two = write(tmp_path / "2.xml", feed(*later, zone=NEW_YORK, part=2))
    assert detect(one) == "greenbutton"
    rows = read(one, two)
    march = {
        "utility": "electricity", "meter": "P1/01", "month": "2012-03", "usage_wh": 306, "currency": "USD",
        "amount": 151, "tariff": "partial: 2012-03-01T05:00:00Z/2012-03-01T07:00:00Z, 7200 s",
    }  # fmt: skip
    assert [named(row, USAGE) for row in rows[:2]] == [march, march]
    assert named(rows[2], USAGE)["month"] == "2012-04"
    assert {row.subject for row in rows} == {"name:greenbutton:C1"}  # type: ignore[union-attr]
    assert {row.subject for row in read(one, subject="eori:GB1")} == {"eori:GB1"}  # type: ignore[union-attr]


def test_a_whole_month_is_not_partial(tmp_path: Path) -> None:
    readings = [(second(2013, 2, day), 86_400, 1, None) for day in range(1, 29)]
    (row,) = read(write(tmp_path / "m.xml", feed(*readings, multiplier=3)))
    assert named(row, USAGE) == {
        "utility": "electricity", "meter": "P1/01", "month": "2013-02", "usage_wh": 28_000,
    }  # fmt: skip


def test_more_of_a_month_replaces_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stored_keys(monkeypatch)
    custody = Custody(tmp_path)
    days = [
        write(tmp_path / f"{day}.xml", feed((second(2013, 2, day), 86_400, day, None), part=day))
        for day in range(1, 29)
    ]
    other = write(tmp_path / "o.xml", feed((second(2013, 2, 1), 86_400, 77, None)))
    uploads = (
        (days[:2], (2, 1, 0, 1, 0)), (days[:5], (5, 0, 1, 4, 0)), (days[:2], (2, 0, 0, 2, 0)),
        (days[2:4], (2, 0, 0, 0, 2)), ([*days[1:5], other], (5, 0, 0, 0, 5)), (days, (28, 0, 1, 27, 0)),
        (days[:9], (9, 0, 0, 0, 9)),
    )  # fmt: skip
    for number, (paths, expected) in enumerate(uploads):
        ((schema, formats),) = sort_files(paths).groups
        outcome = custody.upload(*paths, source=DocumentSource(schema, formats, SourceOptions()))
        assert counts(outcome) == expected, number
        custody.verify()
    custody.vault.close()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (feed((0, 60, 1, None), flow="19"), "reading_not_consumption"),
        (feed((0, 60, 1, None), behaviour="3"), "reading_not_consumption"),
        (feed((0, 60, 1, None), kind="9"), "utility_unknown"),
        (feed((0, 60, 1, None), kind="2", uom="42"), "unit_unknown"),
        (feed((0, 60, 1, 5), currency="999"), "currency_unknown"),
        (feed((-1, 60, 1, None)), "interval_malformed"),
        (feed((0, 0, 1, None)), "interval_malformed"),
        (feed((10**13, 60, 1, None)), "number_malformed"),
        (feed((0, 60, 10**17, None)), "number_malformed"),
        (feed((0, 60, 1, None), multiplier=12), "number_malformed"),
        (feed((0, 60, 1, None), zone="<tzOffset>99999</tzOffset>"), "offset_malformed"),
        (feed((0, 60, 1, None), zone="<dstStartRule>F60E2000</dstStartRule>"), "rule_malformed"),
        (feed(), "reading_missing"),
        (feed((0, 60, 1, None), reading="\u00e9"), "meter_missing"),
        (feed((0, 60, 1, None)).replace('related" href="/R', 'related" href="/X'), "reading_type_missing"),
        ('<feed xmlns="http://www.w3.org/2005/Atom"/>', "reading_missing"),
    ],
)  # fmt: skip
def test_meters_refused(text: str, code: str, tmp_path: Path) -> None:
    assert codes(read(write(tmp_path / "m.xml", text))) == [code]


def test_customers_by_their_links(tmp_path: Path) -> None:
    text = feed((0, 60, 1, None))
    path = write(
        tmp_path / "s.xml",
        text.replace("/espi/1_1/resource/RetailCustomer/C1/", "https://x.org/Subscription/5/"),
    )
    (row,) = read(path)
    assert row.subject == "name:greenbutton:5"  # type: ignore[union-attr]
    nobody = write(tmp_path / "n.xml", text.replace("/espi/1_1/resource/RetailCustomer/C1/", ""))
    assert codes(read(nobody)) == ["subject_missing"]
    assert codes(read(nobody, subject="eori:GB1")) == ["SourceRow"]


def test_the_longer_list(tmp_path: Path) -> None:
    """With the names and numbers that the whole list has."""
    header = HEADER_69B.replace("RFC,", "No,RFC,Nombre del Contribuyente,")
    path = write(tmp_path / "l.csv", TITLE_69B.format("1", "mayo", "2023") + header
                 + '1,AAA080808HL8,"UNO, S.A.",Presunto,01/06/2018,,,,,,,\n', "iso-8859-1")  # fmt: skip
    assert detect(path) == "mx-69b"
    assert codes(read(path)) == ["SourceRow"]


def test_water_by_its_cost(tmp_path: Path) -> None:
    (row,) = read(write(tmp_path / "w.xml", feed((0, 60, 7, 250_000), kind="2", uom="42", currency="978")))
    each = named(row, USAGE)
    assert (each["utility"], each.get("usage_wh"), each["currency"], each["amount"]) == (
        "water",
        None,
        "EUR",
        250,
    )


# --- broken files ---------------------------------------------------------------------------

_START = second(2012, 3, 1, 5)
_MADE = {
    "no-mva": mva_return(("3", 20_000, 5_000), ("1", None, -2_500)),
    "mx-69b": TITLE_69B.format("30", "noviembre", "2022") + HEADER_69B
    + "AAA080808HL8,Definitivo,01/06/2018,,,,25/05/2022 - 26/04/2021,,,\n" * 3,
    "kr-customs": KR_HEADER + "56839011,2021-01-01,40,11,SHHZGSL,,760711,CN,4897.0999999999985,0\n" * 3,
    "greenbutton": feed(*((_START + each * HOUR, HOUR, 300, 7) for each in range(9)), zone=NEW_YORK),
    "hmrc-customs": declaration(),
    "hmrc-customs/amendment": amendment(body=amended_item(1, mass="2", price="3.5")),
    "hmrc-customs/tax": notification("13", body=taxes(("A00", "5"), ("B00", "7"))),
    "cumcm-grades": "企业代号,企业名称,信誉评级,是否违约\nE3,甲,C,否\nE4,乙,D,是\n",
    "hmrc-vat": '[{"path":"/organisations/vat/123456789/returns","value":{"periodKey":"18A1","vatDueSales":1.5,'
    '"vatDueAcquisitions":0,"totalVatDue":1.5,"vatReclaimedCurrPeriod":1,"netVatDue":0.5,"totalValueSalesExVAT":3}},'
    '{"path":"/organisations/vat/123456789/obligations","value":{"obligations":[{"start":"2017-01-01","end":'
    '"2017-03-31","due":"2017-05-07","status":"F","periodKey":"18A1","received":"2017-05-06"}]}}]',
}  # fmt: skip


@pytest.mark.parametrize("name", list(_MADE))
def test_broken_files_are_refused_and_never_crash(name: str, tmp_path: Path) -> None:
    seed = 20_240_601
    print("seed", seed)
    encoding = "iso-8859-1" if name == "mx-69b" else "utf-8"
    documents = [_MADE[name].encode(encoding)]
    folder = DATA / {"no-mva": "tax_no_mva", "hmrc-customs": "customs_hmrc", "hmrc-vat": "tax_uk_hmrc"}.get(
        name, "-"
    )
    documents += [each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()][:40]
    random_ = random.Random(seed)
    seen: set[str] = set()
    for document in documents:
        for data in broken(document, random_, 150 if len(documents) == 1 else 9):
            path = tmp_path / "file"
            path.write_bytes(data)
            seen |= _outcomes(path, name.partition("/")[0])
    assert "FormatError" in seen or "BadRow" in seen


def _outcomes(path: Path, source: str) -> set[str]:
    """What became of a file: a FormatError, or rows that are good or say why not, in two languages."""
    try:
        ((schema, formats),) = sort_files([path], source).groups
        rows = list(DocumentSource(schema, formats, SourceOptions(dated="2024-01-31")).rows(path))
    except FormatError:
        return {"FormatError"}
    for row in rows:
        if isinstance(row, BadRow):
            assert row.code
            assert row.expected
            assert row.expected_zh
        elif isinstance(row, RowChange):
            schema.row({**row.identity, **row.fields})
        else:
            assert isinstance(row, SourceRow)
            schema.check_fields(row.values)
    return {type(row).__name__ for row in rows}
