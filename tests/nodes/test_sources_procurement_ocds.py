"""Procurement awards of the Open Contracting Data Standard, form by form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources.awards import SCHEMA
from taxledger.nodes.sources.documents import FORMATS, detect
from taxledger.nodes.sources.formats import SourceOptions
from taxledger.nodes.sources.rows import BadRow, SourceRow


def read(path: Path) -> list[SourceRow | BadRow]:
    return list(FORMATS[detect(path)].open(SourceOptions()).rows(path))


def named(row: SourceRow | BadRow) -> dict[str, Any]:
    assert isinstance(row, SourceRow), row
    SCHEMA.check_fields(row.values)
    return SCHEMA.named(row.values)


def codes(rows: Sequence[SourceRow | BadRow]) -> list[str]:
    return [each.code if isinstance(each, BadRow) else "ok" for each in rows]


def release(*awards: Any, contracts: Any = (), **more: Any) -> dict[str, Any]:
    return {
        "ocid": "ocds-213czf-1", "id": "1", "date": "2020-05-01T10:00:00Z", "tag": ["award"],
        "buyer": {"name": "Town"}, "awards": list(awards), "contracts": list(contracts), **more,
    }  # fmt: skip


def award(**more: Any) -> dict[str, Any]:
    return {
        "id": "a1", "date": "2020-04-30T23:00:00-06:00", "value": {"amount": 10.5, "currency": "GBP"},
        "suppliers": [{"name": "A Ltd", "identifier": {"scheme": "GB-COH", "id": "00507062"}}], **more,
    }  # fmt: skip


def write_json(path: Path, *documents: Any) -> Path:
    path.write_text("\n".join(json.dumps(each) for each in documents), "utf-8")
    return path


def package(*releases: Any) -> dict[str, Any]:
    return {"uri": "u", "version": "1.1", "releases": list(releases)}


def record(compiled: Any, *releases: Any) -> dict[str, Any]:
    return {
        "uri": "u",
        "records": [{"ocid": "ocds-213czf-1", "compiledRelease": compiled, "releases": list(releases)}],
    }


def test_ocds_award_with_its_contract(tmp_path: Path) -> None:
    paid = [{"value": {"amount": 4, "currency": "GBP"}}, {"amount": {"amount": "1.25", "currency": "GBP"}}]
    contract = {
        "id": "c1", "awardID": "a1", "status": "terminated", "period": {"endDate": "2021-01-31T00:00:00Z"},
        "implementation": {"transactions": paid},
    }  # fmt: skip
    (row,) = read(write_json(tmp_path / "a", package(release(award(), contracts=[contract]))))
    assert isinstance(row, SourceRow)
    assert row.subject == "ocds:GB-COH-00507062"
    assert named(row) == {
        "register": "ocds:213czf", "number": "ocds-213czf-1/a1", "contract": "c1", "buyer": "Town",
        "buyer_public": True, "supplier": "A Ltd", "awarded": "2020-04-30", "completes": "2021-01-31",
        "state": "completed", "winners": 1, "currency": "GBP", "amount": 1_050, "paid": 525,
    }  # fmt: skip


@pytest.mark.parametrize(
    "transaction", [{"value": {"amount": 4, "currency": "USD"}}, {"value": {}}, {}, {"amount": None}]
)
def test_ocds_payments_that_do_not_add_up_are_not_known(transaction: Any, tmp_path: Path) -> None:
    paid = [{"value": {"amount": 4, "currency": "GBP"}}, transaction]
    contract = {"id": "c1", "awardID": "a1", "implementation": {"transactions": paid}}
    (row,) = read(write_json(tmp_path / "a", package(release(award(), contracts=[contract]))))
    assert "paid" not in named(row)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"status": "pending"}, "award_pending"),
        ({"status": "unsuccessful"}, "award_unsuccessful"),
        ({"status": "lost"}, "status_unknown"),
        ({"date": "2016-01-12T00:00:00.-06:00"}, "date_malformed"),
        ({"date": 7}, "date_malformed"),
        ({"suppliers": []}, "winner_missing"),
        ({"suppliers": [{"id": "1"}]}, "winner_missing"),
        ({"suppliers": "A"}, "value_malformed"),
        ({"suppliers": ["A"]}, "value_malformed"),
        ({"value": {"amount": 1.001, "currency": "GBP"}}, "money_inexact"),
        ({"value": {"amount": "1,000", "currency": "GBP"}}, "money_malformed"),
        ({"value": {"amount": True, "currency": "GBP"}}, "value_malformed"),
        ({"value": {"amount": 1}}, "value_missing"),
        ({"value": 1}, "value_malformed"),
        ({"id": None}, "value_missing"),
        ({"title": "a\u0000b"}, "text_malformed"),
    ],
)
def test_ocds_award_that_is_refused(changed: dict[str, Any], code: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "a", package(release(award(**changed), award(id="a2"))))
    rows = read(path)
    assert codes(rows) == [code, "ok"]
    assert isinstance(rows[0], BadRow)
    assert rows[0].column.startswith("releases[0]")
    assert rows[0].expected_zh


def test_ocds_numbers_are_exact(tmp_path: Path) -> None:
    text = json.dumps(package(release(award())))
    path = tmp_path / "a"
    for number, expected in (
        ("1E+3", 100_000),
        ("0.10000000000000000000", 10),
        ("92233720368547758.07", 2**63 - 1),
    ):
        path.write_text(text.replace("10.5", number))
        assert named(read(path)[0])["amount"] == expected
    for number in ("1E+999999999", "0.1000000000000000000000000001", "9" * 30, "1E-999999999"):
        path.write_text(text.replace("10.5", number))
        assert codes(read(path))[0] in ("value_malformed", "money_inexact", "money_malformed"), number
    for number in ("NaN", "Infinity", "-Infinity", "01", ".5"):
        path.write_text(text.replace("10.5", number))
        with pytest.raises(FormatError, match="not JSON"):
            read(path)


def test_ocds_key_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('{"uri": "u", "releases": [{"awards": [], "awards": []}]}')
    with pytest.raises(FormatError, match="twice"):
        read(path)


def test_ocds_compiled_release_is_the_present_state(tmp_path: Path) -> None:
    now, before = award(value={"amount": 12, "currency": "GBP"}), award()
    rows = read(write_json(tmp_path / "a", record(release(now), release(before), release(now), {"url": "u"})))
    assert codes(rows) == ["ok", "award_superseded", "ok"]
    assert named(rows[0])["amount"] == 1_200
    # Without a compiled release nothing says which one holds: both are rows, and the custodian finds a conflict.
    rows = read(write_json(tmp_path / "b", package(release(before), release(now))))
    assert codes(rows) == ["ok", "ok"]
    assert [named(each)["amount"] for each in rows] == [1_050, 1_200]


def test_ocds_release_that_says_it_is_an_update_corrects(tmp_path: Path) -> None:
    later = award(value={"amount": 12, "currency": "GBP"}, date="2020-06-30")
    first, changed, _compiled = rows = [
        row
        for tag in ("award", "awardAmendment", "compiled")
        for row in read(write_json(tmp_path / tag, package(release(later, tag=[tag]))))
    ]
    assert [isinstance(row, SourceRow) and row.corrects is not None for row in rows] == [False, True, True]
    assert isinstance(first, SourceRow)
    assert isinstance(changed, SourceRow)
    assert changed.corrects is not None
    standing = SCHEMA.row({**named(first), "awarded": "2020-04-30", "amount": 1_050})
    corrected = changed.corrects(standing)
    assert corrected is not None
    # The month of the award is part of the record's place: a correction keeps the day.
    assert SCHEMA.named(corrected) == {**named(changed), "awarded": "2020-04-30"}


def test_ocds_several_documents_and_suppliers(tmp_path: Path) -> None:
    two = award(suppliers=[{"name": "A"}, {"name": "B", "id": "7"}])
    rows = read(write_json(tmp_path / "a", package(release(two)), release(award(), ocid="ocds-213czf-2")))
    assert codes(rows) == ["ok", "ok", "ok"]
    assert [named(each)["number"] for each in rows] == [
        "ocds-213czf-1/a1/1", "ocds-213czf-1/a1/2", "ocds-213czf-2/a1",
    ]  # fmt: skip
    assert [each.line for each in rows] == [1, 1, 2]
    assert [each.subject for each in rows if isinstance(each, SourceRow)][:2] == [
        "name:ocds-213czf:A", "name:ocds-213czf:B",
    ]  # fmt: skip


def test_ocds_dates_that_stand_elsewhere(tmp_path: Path) -> None:
    bare = {key: value for key, value in award().items() if key != "date"}
    signed = [{"id": "c", "awardID": "a1", "dateSigned": "2020-03-02T00:00:00Z"}]
    rows = [
        *read(write_json(tmp_path / "a", package(release(bare, contracts=signed)))),
        *read(write_json(tmp_path / "b", package(release(bare)))),
    ]
    assert [named(each)["awarded"] for each in rows] == ["2020-03-02", "2020-05-01"]


def test_ocds_parties_and_ocids(tmp_path: Path) -> None:
    party = {"id": "x", "name": "A", "identifier": {"scheme": "MX-RFC", "id": "GAB0709244G5"}}
    path = write_json(
        tmp_path / "a", package(release(award(suppliers=[{"id": "x", "name": "A"}]), parties=[party]))
    )
    assert [each.subject for each in read(path) if isinstance(each, SourceRow)] == ["mx-rfc:GAB0709244G5"]
    assert codes(read(write_json(tmp_path / "b", package(release(award(), ocid="prefix-1"))))) == [
        "ocid_malformed"
    ]
    assert codes(read(write_json(tmp_path / "c", package(release())))) == ["award_none"]
