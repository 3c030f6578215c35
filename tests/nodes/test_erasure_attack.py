"""A dictionary attack on what is left: the ledger's bytes and the vault, before an erasure and after it.

The attacker guesses everything that a grade, a month's total, an invoice or a subject can be, and tests each guess
against what it holds. Three of them, each stronger than the one before:

    files       the ledger, and the files of the vault as bytes
    row keys    also the data keys of the vault's rows and lookups: it reads every sealed row but the year keys
    year keys   also those

Before the erasure, who has the row keys succeeds: so the attack works. Afterwards only what is inherent in
pseudonyms that an issuer can make again is left, and only to who has the year keys: a subject by its tag, and an
invoice by its fingerprint, where one is on the ledger.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chainkit
import pytest
from custodykit import Custody, row, use_stored_keys, write_cumcm
from erasekit import Recipients, evidence, make_eraser, query_of, vault_bytes

from taxledger.ledger import canonical
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import TaxledgerError
from taxledger.ledger.hashing import keyed_hash
from taxledger.ledger.operations import Attest, decode_operation
from taxledger.ledger.records import (
    commit,
    fingerprint,
    identity,
    record_id,
    record_period,
    rid_key,
    tag_message,
    tag_of,
)
from taxledger.ledger.schemas import Row, Schema
from taxledger.ledger.statekeys import month_prefix, split_record_key
from taxledger.ledger.transaction import decode_transaction
from taxledger.ledger.verify import verify_evidence
from taxledger.nodes.custodian.vault import YearKeys
from taxledger.nodes.sources.mapping import decode_mapping
from taxledger.nodes.sources.tabular import TableSource

SUBJECT = "cumcm:E1"
SUBJECTS = [f"cumcm:E{number}" for number in range(1, 60)]
GRADES = "ABCDM"
INVOICE = next(each for each in BUILTIN if each.name == "vat_invoice")
GRADE = next(each for each in BUILTIN if each.kind == 3)
NUMBERS = range(10_000_000, 10_000_060)
NETS = range(9_000, 11_000, 100)
"""Minor units: what an invoice's net may be."""
YEAR = 2019
RAW = ("rid_seeds", "batch_parts")
"""Tables whose sealed cells are bytes as they are, no canonical value."""


@dataclass
class Loot:
    """What an attacker holds.

    Attributes:
        commitments: (key, version) -> commitment, of every version that ever stood on the ledger.
        fingerprints: of the ledger.
        data: every byte that can be read: files, and rows that could be opened.
        secrets: every 32 bytes that stand somewhere in ``data``: record secrets, seeds, year secrets.
        years: year keys.
    """

    commitments: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    fingerprints: set[bytes] = field(default_factory=set)
    data: bytes = b""
    secrets: set[bytes] = field(default_factory=set)
    years: list[YearKeys] = field(default_factory=list)


def loot(custody: Custody, level: str) -> Loot:
    """What is there now, at one of the three levels."""
    found = Loot(data=vault_bytes(custody.folder))
    for block in custody.ledger.chain.blocks:
        for leaf in block.executed.leaves:
            found.data += leaf
            operation = decode_operation(decode_transaction(leaf).payload)
            if isinstance(operation, Attest):
                _note(found, operation)
    if level != "files":
        opened = list(_opened(custody, years=level == "year keys"))
        found.data += b"".join(canonical.encode(each) for each in opened)
        found.secrets = {each for value in opened for each in _secrets(value)}
    if level == "year keys":
        found.years = [
            keys for year in custody.vault.years() if (keys := custody.vault.year(year)) is not None
        ]
    return found


def _note(found: Loot, operation: Attest) -> None:
    for group in operation.groups:
        prefix = month_prefix(chainkit.ISSUER, operation.kind, group.tag, group.month)
        for at in range(0, len(group.entries), 64):
            entry = group.entries[at : at + 64]
            found.commitments[prefix + entry[:16], 1] = entry[16:48]
            found.fingerprints.add(entry[48:])


def _opened(custody: Custody, *, years: bool) -> Iterator[Any]:
    """Every sealed cell of the vault, opened; whatever does not open is passed over."""
    store = custody.vault.store
    for column in store.layout.columns:
        if column.purpose != "rows" and not years:
            continue
        rows = custody.vault.database.all(
            f"SELECT {column.key}, {column.version or '1'}, {column.column} FROM {column.table}"
        )
        for key, version, sealed in rows:
            place = key.to_bytes(column.key_bytes, "big") if isinstance(key, int) else key
            try:
                content = store.open((column.about or column.table).encode(), place, version, sealed)
            except TaxledgerError:
                continue
            yield content if column.table in RAW else canonical.decode(content)


def _secrets(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes) and len(value) == 32:
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _secrets(each)


# --- the attacks: each says what it found out -------------------------------------------------


def by_commitment(found: Loot, schema: Schema, rows: list[Row], chain_id: bytes) -> set[Row]:
    """Rows whose commitment stands on the ledger, under any 32 bytes that were found."""
    hits = set()
    for (key, version), expected in found.commitments.items():
        if split_record_key(key)[1] != schema.kind:
            continue
        month = split_record_key(key)[3]
        for guess, secret in itertools.product(rows, found.secrets):
            if record_period(schema, guess)[1] != month:
                continue
            if commit(schema, chain_id, key, version, secret, guess) == expected:
                hits.add(guess)
    return hits


def by_record_id(found: Loot, schema: Schema, rows: list[Row]) -> set[Row]:
    """Rows whose record id stands on the ledger: the year secret, alone or with any seed that was found."""
    hits = set()
    for keys in found.years:
        candidates = {keys.secret} | {rid_key(keys.secret, each) for each in found.secrets}
        for (key, _version), guess in itertools.product(found.commitments, rows):
            _issuer, kind, tag, month, rid = split_record_key(key)
            if kind == schema.kind and record_period(schema, guess)[1] == month:
                named = identity(schema, guess)
                if any(record_id(each, kind, tag, named) == rid for each in candidates):
                    hits.add(guess)
    return hits


def by_fingerprint(found: Loot, schema: Schema, rows: list[Row]) -> set[Row]:
    return {
        guess
        for keys in found.years
        for guess in rows
        if fingerprint(keys.secret, schema, guess, identity(schema, guess)) in found.fingerprints
    }


def by_tag(found: Loot, chain_id: bytes) -> set[str]:
    """Subjects whose pseudonym stands on the ledger: it takes the issuer's private key to make it."""
    tags = {(split_record_key(key)[1], split_record_key(key)[2]) for key, _version in found.commitments}
    return {
        subject
        for keys in found.years
        for subject in SUBJECTS
        for kind in (GRADE.kind, INVOICE.kind)
        if (kind, tag_of(keys.signer.sign(tag_message(chain_id, subject, kind, keys.year)))) in tags
    }


def by_lookup(custody: Custody, found: Loot) -> set[str]:
    """Subjects by the keyed hashes under which the vault finds its rows, to who has the lookup key."""
    return {
        subject
        for subject in SUBJECTS
        for kind in (GRADE.kind, INVOICE.kind)
        if custody.vault.store.lookup(canonical.encode([subject, kind, YEAR])) in found.data
    }


def by_reading(found: Loot) -> set[str]:
    """What simply stands there: subjects and invoice numbers as text."""
    texts = [*SUBJECTS, *map(str, NUMBERS)]
    return {each for each in texts if canonical.encode(each) in found.data}


def by_hash(found: Loot, rows: list[Row]) -> set[Row]:
    """Rows, numbers and amounts by a hash without a secret, or keyed with anything 32 bytes long."""
    hits = set()
    for guess in rows:
        packed = canonical.encode(
            [INVOICE.kind, [[each.name, guess[at]] for at, each in enumerate(INVOICE.fields)]]
        )
        for secret, what in itertools.product(found.secrets | {bytes(32)}, ("rid", "fingerprint", "salt")):
            if keyed_hash(secret, what, packed)[:16] in found.data:
                hits.add(guess)
    return hits


def total_by_month(rows: set[Row]) -> int | None:
    """The month's total, to who knows all its invoices."""
    at = INVOICE.position["net"]
    amounts = [value for each in rows if isinstance(value := each[at], int)]
    return sum(amounts) if len(rows) == 2 else None


# --- the scene ------------------------------------------------------------------------------


def invoice(number: int, net: int) -> Row:
    """An invoice as the attacker imagines it: everything but number and amount is known to it."""
    values: dict[str, Any] = dict.fromkeys(INVOICE.position)
    known = _real_values()
    values.update(known, number=str(number), net=net, tax=net * 13 // 100, gross=net + net * 13 // 100)
    return tuple(values[each.name] for each in INVOICE.fields)


_seen: dict[str, Any] = {}


def _real_values() -> dict[str, Any]:
    return _seen


def guesses() -> list[Row]:
    return [invoice(number, net) for number in (NUMBERS[3], NUMBERS[7], NUMBERS[9]) for net in NETS]


def grades() -> list[Row]:
    at = GRADE.position
    made = []
    for grade in GRADES:
        values: list[Any] = [None] * len(at)
        values[at["year"]], values[at["grade"]] = YEAR, grade
        made.append(tuple(values))
    return made


@pytest.fixture
def custody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Custody:
    """Two invoices of one month, and a grade, of one enterprise; one invoice of another."""
    use_stored_keys(monkeypatch)
    made = Custody(tmp_path)
    rows = [
        row(NUMBERS[3], net="98.00", tax="12.74", gross="110.74"),
        row(NUMBERS[7], net="102.00", tax="13.26", gross="115.26"),
        row(NUMBERS[9], net="95.00", tax="12.35", gross="107.35", enterprise="E2"),
    ]
    made.upload(write_cumcm(tmp_path / "invoices.csv", rows))
    mapping = decode_mapping(
        b'kind = "tax_credit_rating"\n[subject]\ncolumn = "who"\n[columns]\nyear = "year"\ngrade = "grade"\n'
    )
    grades_file = tmp_path / "grades.csv"
    grades_file.write_text(f"who,year,grade\n{SUBJECT},{YEAR},B\n")
    made.upload(grades_file, source=TableSource(mapping))
    for path in tmp_path.glob("*.csv"):
        path.unlink()
    record = next(
        opened
        for key, value in made.ledger.records().items()
        if key[3] == INVOICE.kind and (opened := made.vault.record(key, value.version)) is not None
    )
    _seen.clear()
    _seen.update(dict(zip(INVOICE.position, record.values, strict=True)))
    return made


def attack(custody: Custody, level: str) -> dict[str, Any]:
    found, chain_id = loot(custody, level), custody.ledger.chain.chain_id
    shown = by_commitment(found, INVOICE, guesses(), chain_id)
    mine = {each for each in shown if each[INVOICE.position["number"]] != str(NUMBERS[9])}
    at = GRADE.position["grade"]
    return {
        "grade": {each[at] for each in by_commitment(found, GRADE, grades(), chain_id)},
        "total": total_by_month(mine),
        "numbers": {each[INVOICE.position["number"]] for each in mine},
        "record ids": {each[INVOICE.position["number"]] for each in by_record_id(found, INVOICE, guesses())},
        "fingerprints": {
            each[INVOICE.position["number"]] for each in by_fingerprint(found, INVOICE, guesses())
        },
        "hashes": by_hash(found, guesses()),
        "read": by_reading(found),
        "lookups": by_lookup(custody, found) if level != "files" else set(),
        "subjects": by_tag(found, chain_id),
    }


OTHERS_NUMBER = str(NUMBERS[9])
OWN_NUMBERS = {str(NUMBERS[3]), str(NUMBERS[7])}


def erase(custody: Custody) -> None:
    query = query_of(SUBJECT, f"{YEAR}-01", f"{YEAR}-12", (GRADE.kind, INVOICE.kind))
    eraser = make_eraser(custody.vault, custody.ledger, Recipients([]))
    assert asyncio.run(eraser.erase(query, reason="asked for")).records == 3


def test_before_an_erasure_the_attack_works(custody: Custody) -> None:
    said = attack(custody, "row keys")
    assert said["grade"] == {"B"}
    assert said["total"] == 9_800 + 10_200
    assert said["numbers"] == OWN_NUMBERS
    assert {SUBJECT, *OWN_NUMBERS} <= said["read"]
    assert said["lookups"] == {SUBJECT, "cumcm:E2"}
    assert said["subjects"] == set()
    said = attack(custody, "year keys")
    assert said["record ids"] == {*OWN_NUMBERS, OTHERS_NUMBER}
    assert said["fingerprints"] == {*OWN_NUMBERS, OTHERS_NUMBER}
    assert said["subjects"] == {SUBJECT, "cumcm:E2"}


def test_files_alone_tell_nothing_before_either(custody: Custody) -> None:
    _nothing(attack(custody, "files"))


@pytest.mark.parametrize("level", ["files", "row keys"])
def test_after_it_nothing_can_be_tested(custody: Custody, level: str) -> None:
    erase(custody)
    said = attack(custody, level)
    if level == "row keys":
        # The other enterprise is still there, as it must be: the attack goes on working on it.
        assert said.pop("read") == {"cumcm:E2", OTHERS_NUMBER}
        assert said.pop("lookups") == {"cumcm:E2"}
    _nothing(said)


def _nothing(said: dict[str, Any]) -> None:
    assert said["total"] is None
    assert not {name: each for name, each in said.items() if each}


def test_year_keys_tell_what_docs_say_they_tell(custody: Custody) -> None:
    """docs/threat-model.md: a subject by its tag, an invoice by its fingerprint; no grade, amount or record id."""
    erase(custody)
    said = attack(custody, "year keys")
    assert (said["grade"], said["total"], said["numbers"]) == (set(), None, set())
    assert said["record ids"] == {OTHERS_NUMBER}
    assert not {SUBJECT, *OWN_NUMBERS} & said["read"]
    assert said["subjects"] == {SUBJECT, "cumcm:E2"}
    assert said["fingerprints"] == {*OWN_NUMBERS, OTHERS_NUMBER}


def test_a_fingerprint_tells_a_whole_row_only(custody: Custody) -> None:
    """What it is of (docs/protocol.md §5): a guess must have the number, the date and so on, all of them right."""
    erase(custody)
    found = loot(custody, "year keys")
    other_date = [
        tuple(
            "2019-03-06" if name == "date" else value
            for name, value in zip(INVOICE.position, each, strict=True)
        )
        for each in guesses()
    ]
    assert by_fingerprint(found, INVOICE, other_date) == set()


def test_old_evidence_verifies_as_of_its_time(custody: Custody) -> None:
    query = query_of(SUBJECT, f"{YEAR}-01", f"{YEAR}-12", (GRADE.kind, INVOICE.kind))
    old, then_ms = evidence(custody, query), custody.ledger.chain.time_ms
    erase(custody)
    policy = custody.ledger.chain.policy()
    answer = verify_evidence(old, policy, query, now_ms=then_ms + 1_000, age_ms_max=60_000)
    assert [each.fields["grade"] for each in answer.records if each.kind == GRADE.kind and each.fields] == [
        "B"
    ]
    assert answer.erased == 0
    now = verify_evidence(
        evidence(custody, query), policy, query, now_ms=custody.ledger.chain.time_ms, age_ms_max=60_000
    )
    assert now.erased == len(now.records) == 3
    assert now.as_dict()["erased"] == 3
    assert {each.fields for each in now.records} == {None}


def test_backups_are_what_an_erasure_does_not_reach(custody: Custody, tmp_path: Path) -> None:
    """docs/operating.md says so: a copy of the vault from before still opens."""
    copy = tmp_path / "copy"
    copy.mkdir()
    custody.vault.database.copy_to(copy / "vault.sqlite")
    erase(custody)
    connection = sqlite3.connect(copy / "vault.sqlite")
    assert connection.execute("SELECT count(*) FROM records").fetchone() == (4,)
    connection.close()
