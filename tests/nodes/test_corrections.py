"""Rows that say that they replace what stands: another version, in the order of the files, and never twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chainkit
import pytest
from custodykit import Custody, codes, counts, named_values, use_stored_keys

from taxledger.ledger.builtin import newest
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.operations import Amend, decode_operation
from taxledger.ledger.transaction import decode_transaction
from taxledger.nodes.custodian.amend import Amender
from taxledger.nodes.sources.rows import CellError, Item, RowChange, SourceRow

SCHEMA = newest(KINDS["customs_declaration"])
INVOICE = newest(KINDS["vat_invoice"])
SUBJECT = "eori:GB123456789000"
VALID, VOIDED, REVERSED = 1, 2, 3


class Rows:
    """A source whose files are lists of items."""

    def __init__(self, files: dict[str, list[Item]], schema: Any = SCHEMA) -> None:
        self.schema = schema
        self._files = files

    def rows(self, path: Path) -> Iterator[Item]:
        yield from self._files[path.name]


@pytest.fixture
def custody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Custody]:
    use_stored_keys(monkeypatch)
    made = Custody(tmp_path)
    yield made
    made.vault.close()


def declaration(number: str = "L1", *, status: int = VALID, corrects: Any = None, **fields: Any) -> SourceRow:
    named = {
        "direction": "export",
        "number": number,
        "declared": "2024-01-25",
        "state": "declared",
        "value": 100,
    }
    return SourceRow(1, SUBJECT, status, SCHEMA.row({**named, "currency": "GBP", **fields}), corrects)


def change(number: str = "L1", *, status: int | None = None, **fields: Any) -> RowChange:
    return RowChange(line=3, subject=SUBJECT, identity={"number": number}, fields=fields, status=status)


def always(values: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda stored: SCHEMA.row({**SCHEMA.named(stored), **values})


def upload(custody: Custody, *items: Item, schema: Any = SCHEMA, **options: Any) -> Any:
    """One upload of one file."""
    return custody.upload(Path("file"), source=Rows({"file": list(items)}, schema), **options)


def present(custody: Custody, number: str = "L1") -> tuple[int, int, dict[str, Any]]:
    """(status, version, fields) of the record of a number, as the ledger and the vault have it."""
    custody.verify()
    for key, value in custody.ledger.records().items():
        opened = custody.vault.record(key, value.version)
        assert opened is not None
        named = named_values(opened.values, SCHEMA)
        if named["number"] == number:
            return int(value.status), value.version, named
    raise AssertionError(f"no record {number}")


def reasons(custody: Custody) -> list[int]:
    """Of all amendments on the ledger, in log order."""
    payloads = [decode_transaction(raw).payload for raw in custody.ledger.submitted]
    operations = [decode_operation(payload) for payload in payloads]
    return [
        each.reason for operation in operations if isinstance(operation, Amend) for each in operation.changes
    ]


def test_other_content_is_a_conflict_unless_the_row_says_so(custody: Custody) -> None:
    assert counts(upload(custody, declaration())) == (1, 1, 0, 0, 0)
    refused = upload(custody, declaration(value=200))
    assert codes(refused) == [(1, "conflict")]
    never = upload(custody, declaration(value=200, corrects=lambda _stored: None))
    assert codes(never) == [(1, "conflict")]
    assert present(custody)[:2] == (VALID, 1)
    corrected = declaration(value=200, corrects=always({"value": 200}))
    assert counts(upload(custody, corrected)) == (1, 0, 1, 0, 0)
    status, version, named = present(custody)
    assert (status, version, named["value"]) == (VALID, 2, 200)


def test_a_row_may_say_why_it_does_not_replace(custody: Custody) -> None:
    def older(_stored: Any) -> Any:
        raise CellError("content_outdated", "a newer list", "更新的名单")

    upload(custody, declaration())
    assert codes(upload(custody, declaration(value=7, corrects=older))) == [(1, "content_outdated")]
    assert present(custody)[2]["value"] == 100


@pytest.mark.parametrize("together", [True, False], ids=["one upload", "an upload each"])
def test_a_chain_of_amendments_and_a_cancellation(custody: Custody, together: bool) -> None:
    chain = (declaration(), change(value=150), change(goods="tea"), change(status=VOIDED))
    if together:
        assert counts(upload(custody, *chain)) == (4, 1, 3, 0, 0)
        # Steps of one batch are one version: nobody saw those between.
        assert present(custody)[:2] == (VOIDED, 2)
    else:
        for number, each in enumerate(chain):
            assert counts(upload(custody, each)) == ((1, 1, 0, 0, 0) if number == 0 else (1, 0, 1, 0, 0))
        assert present(custody)[:2] == (VOIDED, 4)
        assert reasons(custody) == [1, 1, 2]
    named = present(custody)[2]
    assert (named["value"], named["goods"]) == (150, "tea")
    version = present(custody)[1]
    again = upload(custody, *chain)
    assert again.sum("accepted") == again.sum("amended") == 0
    assert present(custody)[:2] == (VOIDED, version)


def test_correction_over_a_flush_is_found_in_the_vault(custody: Custody) -> None:
    items = [declaration(f"L{number}") for number in range(6)]
    source = Rows({"one": [*items], "two": [change(f"L{number}", value=number + 1) for number in range(6)]})
    outcome = custody.upload(Path("one"), Path("two"), source=source, batch_records=2)
    assert counts(outcome) == (12, 6, 6, 0, 0)
    assert [present(custody, f"L{number}")[2]["value"] for number in range(6)] == [1, 2, 3, 4, 5, 6]


def test_what_stood_once_is_a_duplicate(custody: Custody) -> None:
    upload(custody, declaration())
    upload(custody, change(value=150))
    for item in (declaration(), change(value=150), change(value=100), change()):
        assert counts(upload(custody, item)) == (1, 0, 0, 1, 0), item
    assert present(custody)[:2] == (VALID, 2)


def test_no_way_back_from_voided(custody: Custody) -> None:
    upload(custody, declaration(), change(status=VOIDED))
    assert codes(upload(custody, change(status=VALID, value=5))) == [(3, "status_backwards")]
    assert codes(upload(custody, change(value=5))) == [(3, "status_backwards")]
    assert counts(upload(custody, change(status=VOIDED))) == (1, 0, 0, 1, 0)


def test_changes_of_what_is_not_there(custody: Custody) -> None:
    assert codes(upload(custody, change(value=5))) == [(3, "record_unknown")]
    upload(custody, declaration())
    assert codes(upload(custody, change("L2", value=5))) == [(3, "record_unknown")]
    other = RowChange(line=3, subject="eori:GB999", identity={"number": "L1"}, fields={"value": 5})
    assert codes(upload(custody, other)) == [(3, "record_unknown")]
    assert present(custody)[:2] == (VALID, 1)


@pytest.mark.parametrize("fields", [{"declared": "2024-02-25"}, {"declared": "2025-01-25"}, {"number": "L9"}])
def test_a_record_never_moves_to_another_key(custody: Custody, fields: dict[str, Any]) -> None:
    upload(custody, declaration())
    moved = RowChange(line=3, subject=SUBJECT, identity={"number": "L1"}, fields=fields)
    assert codes(upload(custody, moved)) == [(3, "identity_moved")]
    assert present(custody)[:2] == (VALID, 1)


def test_fields_that_do_not_fit(custody: Custody) -> None:
    upload(custody, declaration())
    assert codes(upload(custody, change(value="much"))) == [(3, "fields_malformed")]
    assert codes(upload(custody, change(declared=None))) == [(3, "fields_malformed")]


def test_records_of_another_year_and_month_are_found(custody: Custody) -> None:
    upload(custody, declaration("A", declared="2022-12-31"), declaration("B", declared="2023-03-01"))
    custody.reopen()
    assert counts(upload(custody, change("A", value=1), change("B", value=2))) == (2, 0, 2, 0, 0)
    assert (present(custody, "A")[2]["value"], present(custody, "B")[2]["value"]) == (1, 2)


def test_a_reversed_record_stays_reversed_when_it_is_corrected(custody: Custody) -> None:
    upload(custody, declaration(status=REVERSED))
    assert counts(upload(custody, change(status=VALID, value=9))) == (1, 0, 1, 0, 0)
    status, version, named = present(custody)
    assert (status, version, named["value"]) == (REVERSED, 2, 9)


def test_a_corrected_invoice_has_the_fingerprint_of_its_new_content(custody: Custody) -> None:
    def invoice(net: int, corrects: Any = None) -> SourceRow:
        named = {
            "direction": "sale",
            "code": "1" * 10,
            "number": "7",
            "date": "2024-03-01",
            "currency": "CNY",
        }
        return SourceRow(
            1, "cumcm:E1", 1, INVOICE.row({**named, "net": net, "tax": 0, "gross": net}), corrects
        )

    upload(custody, invoice(100), schema=INVOICE)
    (first,) = custody.ledger.records().values()
    upload(custody, invoice(200, lambda _stored: invoice(200).values), schema=INVOICE)
    (second,) = custody.ledger.records().values()
    assert second.version == 2
    assert second.fingerprint == first.fingerprint
    assert reasons(custody) == [1]
    custody.verify()


def test_a_change_is_of_the_record_that_took_a_revoked_ones_place(custody: Custody) -> None:
    upload(custody, declaration())
    amender = Amender(
        custody.vault, chainkit.signer(chainkit.ISSUER), custody.ledger, clock=custody.ledger.clock
    )
    (revoked,) = custody.ledger.records()
    amender.revoke(revoked, reason="wrong file")
    assert codes(upload(custody, change(value=5))) == [(3, "status_backwards")]
    assert counts(upload(custody, declaration(value=300), change(goods="tea"))) == (2, 1, 1, 0, 0)
    found = {key: (int(value.status), value.version) for key, value in custody.ledger.records().items()}
    assert found.pop(revoked) == (4, 1)
    assert list(found.values()) == [(VALID, 2)]


def test_a_dry_run_changes_nothing(custody: Custody) -> None:
    upload(custody, declaration())
    assert counts(upload(custody, change(value=5), dry_run=True)) == (1, 0, 1, 0, 0)
    assert present(custody)[:2] == (VALID, 1)
