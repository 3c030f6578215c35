"""UK customs messages: chains of a declaration in any order of files, and what becomes of them on the ledger."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from custodykit import Custody, counts, named_values, use_stored_keys
from custodykit import codes as rejected
from registerkit import (
    amended_item,
    amendment,
    codes,
    declaration,
    fields,
    named,
    notification,
    read,
    taxes,
    write,
)

from taxledger.ledger.builtin import newest
from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import KINDS
from taxledger.nodes.sources.documents import DocumentSource, sort_files
from taxledger.nodes.sources.formats import SourceOptions

SCHEMA = newest(KINDS["customs_declaration"])
DATA = Path(os.environ.get("TAXLEDGER_DATA", "../shared/data"))
VALID, VOIDED = 1, 2


@pytest.fixture
def custody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Custody]:
    use_stored_keys(monkeypatch)
    made = Custody(tmp_path)
    yield made
    made.vault.close()


def attest(custody: Custody, *paths: Path, **options: str) -> tuple[int, ...]:
    """One upload as ``taxledger attest --source auto`` makes it."""
    ((schema, formats),) = sort_files(paths).groups
    source = DocumentSource(schema, formats, SourceOptions(**options))
    outcome = custody.upload(*source.formats, source=source)
    custody.verify()
    return counts(outcome)


def records(custody: Custody) -> dict[str, tuple[int, int, dict[str, object]]]:
    """(status, version, fields) of every record by number."""
    found = {}
    for key, value in custody.ledger.records().items():
        opened = custody.vault.record(key, value.version)
        assert opened is not None
        each = named_values(opened.values, SCHEMA)
        found[str(each["number"])] = (int(value.status), value.version, each)
    return found


def test_a_declaration(tmp_path: Path) -> None:
    items = ((1, "Tea", "10", "100"), (2, "Milk", "2.5", "0.5"))
    (row,) = read(write(tmp_path / "d.xml", declaration(items=items)))
    assert row.subject == "eori:GB417869120000"  # type: ignore[union-attr]
    assert named(row, "customs_declaration") == {
        "direction": "export",
        "number": "LRN1",
        "declared": "2024-01-25",
        "state": "declared",
        "procedure": "EXD 1040",
        "country": "PK",
        "counterparty": "PK Ltd",
        "goods": "Tea (10 kg); Milk (2.5 kg)",
        "currency": "GBP",
        "value": 10_050,
    }
    (imported,) = read(write(tmp_path / "i.xml", declaration(type_code="IMA", trader="GB1")))
    assert named(imported, "customs_declaration")["direction"] == "import"
    assert named(imported, "customs_declaration")["country"] == "GB"


def test_an_amendment_amends_and_a_cancellation_voids(custody: Custody, tmp_path: Path) -> None:
    declared = write(tmp_path / "3.xml", declaration())
    lighter = write(tmp_path / "1.xml", amendment(body=amended_item(1, mass="12")))
    assert attest(custody, lighter, declared) == (2, 1, 1, 0, 0)
    status, version, each = records(custody)["LRN1"]
    assert (status, version, each["goods"], each["value"]) == (VALID, 2, "Tea (12 kg)", 10_000)
    assert each["procedure"] == "EXD 1040, amended 1"
    cancelled = write(tmp_path / "2.xml", amendment(type_code="INV"))
    assert attest(custody, cancelled, lighter, declared) == (3, 0, 1, 2, 0)
    assert records(custody)["LRN1"][:2] == (VOIDED, 3)
    assert attest(custody, cancelled, lighter, declared) == (3, 0, 0, 3, 0)
    assert attest(custody, declared) == (1, 0, 0, 1, 0)
    assert records(custody)["LRN1"][:2] == (VOIDED, 3)


def test_a_cancellation_without_its_declaration(custody: Custody, tmp_path: Path) -> None:
    attest(custody, write(tmp_path / "d.xml", declaration()))
    cancelled = write(tmp_path / "c.xml", amendment(type_code="INV"))
    assert codes(read(cancelled)) == ["declaration_missing"]
    assert attest(custody, cancelled, subject="eori:GB417869120000") == (1, 0, 1, 0, 0)
    assert records(custody)["LRN1"][:2] == (VOIDED, 2)
    sent = amendment(type_code="INV", body="<Submitter><ID>GB417869120000</ID></Submitter>")
    assert attest(custody, write(tmp_path / "s.xml", sent)) == (1, 0, 0, 1, 0)
    assert attest(custody, cancelled, subject="eori:GB1") == (1, 0, 0, 0, 1)


def test_the_order_of_files_does_not_matter(tmp_path: Path) -> None:
    texts = (
        declaration(),
        amendment(body=amended_item(1, price="90")),
        amendment(body=amended_item(1, mass="7")),
        notification("09", issued="20240201"),
        notification("13", body=taxes(("A00", "5.5"), ("B00", "2"))),
    )
    paths = [write(tmp_path / f"{number}.xml", text) for number, text in enumerate(texts)]
    seen = set()
    for order in itertools.permutations(paths):
        rows = read(*order)
        assert codes(rows) == ["SourceRow"] + ["RowChange"] * 4
        seen.add(str(sorted(str(row) for row in rows)))
    assert len(seen) == 1
    changes = [fields(row) for row in read(*paths)[1:]]
    assert changes[0] == changes[1]
    # Only what was amended: another field may have been corrected by hand since.
    assert changes[0].keys() == {"value", "goods", "procedure"}
    assert changes[0]["value"] == 9_000
    assert changes[0]["goods"] == "Tea (7 kg)"
    assert changes[2] == changes[3] == {
        "state": "cleared", "cleared": "2024-02-01", "currency": "GBP", "duty": 550, "tax": 200,
    }  # fmt: skip


def test_an_amendment_is_read_before_the_cancellation(custody: Custody, tmp_path: Path) -> None:
    cancelled = write(tmp_path / "1.xml", amendment(type_code="INV"))
    lighter = write(tmp_path / "2.xml", amendment(body=amended_item(1, mass="12")))
    declared = write(tmp_path / "3.xml", declaration())
    assert attest(custody, cancelled, lighter, declared) == (3, 1, 2, 0, 0)
    status, version, each = records(custody)["LRN1"]
    assert (status, version, each["goods"]) == (VOIDED, 2, "Tea (12 kg)")
    told = write(tmp_path / "4.xml", notification("10"))
    assert attest(custody, told, declared) == (2, 0, 0, 2, 0)


def test_messages_are_joined_by_the_number_of_customs(tmp_path: Path) -> None:
    declared = write(tmp_path / "d.xml", declaration(accepted=None))
    accepted = write(tmp_path / "a.xml", notification("01", accepted="20240131"))
    other = write(tmp_path / "o.xml", amendment(reference="OWN-REFERENCE", body=amended_item(1, price="80")))
    assert codes(read(declared, other)) == ["date_missing", "declaration_missing"]
    rows = read(other, accepted, declared)
    assert named(rows[0], "customs_declaration")["declared"] == "2024-01-31"
    assert [fields(row).get("value") for row in rows[1:]] == [8_000, None]


def test_a_day_that_no_file_names(tmp_path: Path) -> None:
    declared = write(tmp_path / "d.xml", declaration(accepted=None))
    assert codes(read(declared)) == ["date_missing"]
    (row,) = read(declared, dated="2024-06-01")
    assert named(row, "customs_declaration")["declared"] == "2024-06-01"
    (own,) = read(write(tmp_path / "own.xml", declaration()), dated="2024-06-01")
    assert named(own, "customs_declaration")["declared"] == "2024-01-25"


def test_items_of_an_amendment_alone_are_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml", amendment(body=amended_item(1, price="80")))
    assert codes(read(path, subject="eori:GB417869120000")) == ["declaration_missing"]
    invoiced = "<InvoiceAmount currencyID='EUR'>7.5</InvoiceAmount>"
    (row,) = read(write(tmp_path / "b.xml", amendment(body=invoiced)), subject="eori:GB417869120000")
    assert fields(row) == {"currency": "EUR", "value": 750}


def test_two_traders_with_one_reference(tmp_path: Path) -> None:
    first = write(tmp_path / "1.xml", declaration())
    second = write(tmp_path / "2.xml", declaration(trader="GB2"))
    cancelled = write(tmp_path / "3.xml", amendment(type_code="INV"))
    assert codes(read(first, second, cancelled)) == ["SourceRow", "SourceRow", "declaration_ambiguous"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (notification("02"), "not_a_declaration"),
        (notification("01", reference="OTHER"), "declaration_missing"),
        (declaration(accepted="${Date}"), "date_malformed"),
        (declaration(accepted="20240231000000Z"), "date_malformed"),
        (declaration(type_code="TRA"), "type_unknown"),
        (declaration().replace(">9<", ">5<"), "type_unknown"),
        (declaration(items=((1, "Tea", "10", "0.001"),)), "money_inexact"),
        (declaration(items=((1, "Tea", "10", "1e3"),)), "money_malformed"),
        (declaration(items=((1, "a", "1", "1"), (1, "b", "1", "1"))), "element_repeated"),
        (declaration().replace("'GBP'", "'XYZ'"), "currency_unknown"),
        ('<a:x xmlns:a="http://gov.uk/customs/inventoryLinking/v1"/>', "not_a_declaration"),
    ],
)
def test_refused(text: str, code: str, tmp_path: Path) -> None:
    assert codes(read(write(tmp_path / "x.xml", text))) == [code]


def test_items_of_two_currencies(tmp_path: Path) -> None:
    text = declaration(items=((1, "a", "1", "1"), (2, "b", "1", "1"))).replace("'GBP'", "'EUR'", 1)
    assert codes(read(write(tmp_path / "x.xml", text))) == ["currency_differs"]


def test_tax_of_another_currency_is_left_out(tmp_path: Path) -> None:
    paths = (
        write(tmp_path / "d.xml", declaration()),
        write(tmp_path / "t.xml", notification("13", body=taxes(("A00", "5"), currency="EUR"))),
    )
    assert fields(read(*paths)[1]) == {}


real = pytest.mark.skipif(not (DATA / "customs_hmrc").is_dir(), reason="needs real data in TAXLEDGER_DATA")


@real
def test_real_chains(custody: Custody) -> None:
    folder = DATA / "customs_hmrc"
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    before = attest(custody, *files)
    assert before[0] == 96  # the one that is not well-formed has no row
    found = records(custody)
    assert found["7867523Y8OFA"][:2] == (VALID, 2)
    status, version, each = found["U.78475764QX0M"]
    assert (status, version, each["value"], each["counterparty"]) == (
        VALID,
        2,
        99_900,
        "Detroit Cocoa Company",
    )
    status, version, each = found["U.7849431R66ZB"]
    assert (status, version, each["state"], each["value"]) == (VALID, 2, "cleared", 11_566)
    assert "7849431M0ZUP" not in found  # no file says when it was declared
    after = attest(custody, *files)
    assert after == (before[0], 0, 0, before[0] - before[4], before[4])
    dated = attest(custody, *files, dated="2024-06-01")
    assert dated[1] >= 18
    found = records(custody)
    assert found["7849431M0ZUP"][:2] == (VOIDED, 2)
    assert found["7849431M0ZUP"][2]["goods"] == "Mens' Trousers (62 kg)"
    print(before, after, dated)


@real
def test_the_broken_file_is_refused_wherever_it_lies(custody: Custody, tmp_path: Path) -> None:
    data = (DATA / "customs_hmrc" / "TT_EX002a" / "TT_EX002a.xml").read_bytes()
    path = tmp_path / "elsewhere" / "renamed.txt"
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(FormatError, match="not well-formed"):
        read(path)
    outcome = custody.upload(path, source=DocumentSource(SCHEMA, {path: "hmrc-customs"}, SourceOptions()))
    assert rejected(outcome) == []
    assert outcome.files[0].error
    assert not custody.ledger.records()
