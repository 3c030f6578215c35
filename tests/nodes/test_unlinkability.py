"""Can a bank that knows every pseudonym of one year name those of another, or of another kind? It guesses.

Each upload holds 100 enterprises with as many records, since counts are known to tell (docs/threat-model.md).
"""

from __future__ import annotations

import csv
import itertools
import os
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from custodykit import Custody, counts, row, use_stored_keys, write_cumcm
from guesskit import GUESSERS, Case, Run, Score, Sighting, payload, sightings

from taxledger.ledger.schemas import KINDS
from taxledger.nodes.custodian import submission as submission_module
from taxledger.nodes.custodian import upload as upload_module
from taxledger.nodes.custodian.matching import Matcher
from taxledger.nodes.sources.mapping import decode_mapping
from taxledger.nodes.sources.tabular import TableSource

ENTERPRISES = 100
YEARS = (2025, 2026)
INVOICE, FILING = KINDS["vat_invoice"], KINDS["tax_filing"]
KNOWN: Run = ("attest", INVOICE, 2025)
UNLIKELY = 1e-6
SEED = int(os.environ.get("TAXLEDGER_SEED", "1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is uploaded: what is guessed are enterprises, so more records of each tell hardly more.

    Attributes:
        records: of one enterprise and year, as many in each month.
        voided: of these, later in the same file.
        uploads: of one hundred enterprises each, from a seed of its own.
    """

    records: int
    voided: int
    uploads: int

    @property
    def seeds(self) -> range:
        return range(SEED, SEED + self.uploads)


FULL = pytest.param(Size(records=24, voided=3, uploads=2), marks=pytest.mark.slow, id="full")
SHORT = pytest.param(Size(records=12, voided=3, uploads=2), id="short")
CONTROL = pytest.param(Size(records=12, voided=3, uploads=1), id="short")

FILINGS = b"""kind = "tax_filing"
[subject]
column = "who"
scheme = "cumcm"
[columns]
period = "period"
number = "number"
payable = "payable"
[constants]
tax = "VAT"
currency = "CNY"
"""


def portfolio(folder: Path, chance: random.Random, size: Size) -> tuple[list[Path], list[Path], list[str]]:
    """(invoice files, filing files, subjects): a file for each enterprise, the same order for both kinds.

    An enterprise's invoices of the two years are the same but for the year.
    """
    numbers = chance.sample(range(10_000, 99_999), ENTERPRISES)
    invoices, filings = [], []
    for at, number in enumerate(numbers):
        name = f"E{number}"
        once = [
            (number * 100 + n, 1 + n % 12, chance.randint(1, 28), f"{chance.randint(10, 9_999)}.0")
            for n in range(size.records)
        ]
        rows = [
            row(n, date=f"{year}/{month}/{day}", net=net, tax="1.0", enterprise=name)
            for year in YEARS
            for n, month, day, net in once
        ]
        rows += [
            (*each[:-1], "作废发票")
            for first in range(0, len(rows), size.records)
            for each in rows[first : first + size.voided]
        ]
        invoices.append(write_cumcm(folder / f"{at}.csv", rows))
        filings.append(folder / f"filings{at}.csv")
        with filings[-1].open("w", newline="") as text:
            writer = csv.writer(text)
            writer.writerow(["who", "period", "number", "payable"])
            for year, month in itertools.product(YEARS, range(1, 13)):
                writer.writerow([name, f"{year}-{month:02}", f"{number}{month}", chance.randint(1, 99_999)])
    return invoices, filings, [f"cumcm:E{number}" for number in numbers]


@pytest.fixture(scope="module")
def stored_keys() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_stored_keys(patch)
        yield


class Guessed:
    """Some uploads of one hundred enterprises each, and how the guessers did on each run."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.size = size
        self.scores: dict[tuple[Run, str], Score] = defaultdict(Score)
        self.custodies: list[Custody] = []
        for seed in size.seeds:
            chance = random.Random(seed)
            place = folder / str(seed)
            place.mkdir()
            custody = Custody(place)
            invoices, filings, subjects = portfolio(place, chance, size)
            total = ENTERPRISES * len(YEARS) * size.records
            changes = ENTERPRISES * len(YEARS) * size.voided
            monthly = ENTERPRISES * len(YEARS) * 12
            # A batch is five files.
            outcome = custody.upload(*invoices, batch_records=(total + changes) // 20)
            assert counts(outcome)[1:] == (total, changes, 0, 0)
            source = TableSource(decode_mapping(FILINGS))
            outcome = custody.upload(*filings, source=source, batch_records=monthly // 20)
            assert counts(outcome)[1:] == (monthly, 0, 0, 0)
            self.custodies.append(custody)
            self.guess(custody, subjects, chance)

    def guess(self, custody: Custody, subjects: list[str], chance: random.Random) -> None:
        runs = sightings(blocks(custody))
        truth = {tag: owner for run in runs for tag, owner in owners_of(custody, run, subjects).items()}
        known = runs[KNOWN]
        self.runs = runs
        for run, wanted in runs.items():
            if run in (KNOWN, ("amend", *KNOWN[1:])):
                continue
            # Changes are guessed from changes: what stood where in the same part of the upload.
            before = known if run[0] == "attest" else runs["amend", *KNOWN[1:]]
            assert len(before) == len(wanted) == ENTERPRISES
            case = Case(known=before, wanted=wanted, owners=owned(before, truth), truth=truth, chance=chance)
            for name, guesser in GUESSERS.items():
                self.scores[run, name].add(case, guesser)


def owned(run: list[Sighting], truth: dict[bytes, str]) -> dict[bytes, str]:
    return {each.tag: truth[each.tag] for each in run}


def owners_of(custody: Custody, run: Run, subjects: list[str]) -> dict[bytes, str]:
    """Owner by tag, from the vault."""
    _operation, kind, year = run
    entries = [custody.vault.tag(subject, kind, year) for subject in subjects]
    return {each.tag: each.subject for each in entries if each is not None}


def blocks(custody: Custody) -> list[tuple[int, list[bytes]]]:
    return [
        (block.executed.header.height, list(block.executed.leaves)) for block in custody.ledger.chain.blocks
    ]


@pytest.fixture(scope="module", params=[SHORT, FULL])
def guessed(
    tmp_path_factory: pytest.TempPathFactory, stored_keys: None, request: pytest.FixtureRequest
) -> Guessed:
    return Guessed(tmp_path_factory.mktemp("uploads"), request.param)


@pytest.fixture(scope="module", params=[CONTROL, FULL])
def guessed_by_batch(
    tmp_path_factory: pytest.TempPathFactory, stored_keys: None, request: pytest.FixtureRequest
) -> Guessed:
    """The control: the same, but each batch is submitted when it is full, sorted in itself."""
    real = upload_module._Run._flush

    def flush(self: upload_module._Run, matcher: Matcher) -> None:
        real(self, matcher)
        self._submission.submit()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upload_module._Run, "_flush", flush)
        patch.setattr(submission_module, "_STEPS_UNDER_WAY", 1)  # the same heights in each run
        return Guessed(tmp_path_factory.mktemp("control"), request.param)


WANTED: tuple[Run, ...] = (
    ("attest", INVOICE, 2026), ("amend", INVOICE, 2026), ("attest", FILING, 2025), ("attest", FILING, 2026),
)  # fmt: skip


@pytest.mark.parametrize("run", WANTED)
def test_no_guess_is_better_than_chance(guessed: Guessed, run: Run) -> None:
    print("seeds", list(guessed.size.seeds))
    for name in GUESSERS:
        score = guessed.scores[run, name]
        print(run, name, score, f"{score.surprise():.2g}")
        assert score.guesses >= guessed.size.uploads * (ENTERPRISES - 1)
        assert score.surprise() > UNLIKELY, name


@pytest.mark.parametrize("run", WANTED)
def test_the_same_guesses_succeed_when_batches_are_submitted_one_by_one(
    guessed_by_batch: Guessed, run: Run
) -> None:
    """What has to do with where something stands; values of tags do not tell even then."""
    tells = {"by_order", "by_transaction", "by_height", "by_part", "by_height_and_order"}
    tells |= {"by_predecessor", "by_neighbourhood"}
    for name in sorted(GUESSERS):
        score = guessed_by_batch.scores[run, name]
        print(run, name, score, f"{score.surprise():.2g}")
        if name in tells:
            assert score.surprise() < UNLIKELY, name
        elif name in ("by_rank", "by_value"):
            assert score.surprise() > UNLIKELY, name


def test_guesses_by_value_succeed_when_tags_of_two_years_are_related() -> None:
    chance = random.Random(SEED)
    known = sorted(chance.randbytes(16) for _ in range(ENTERPRISES))
    wanted = [each[:15] + bytes([each[15] ^ 1]) for each in known]
    chance.shuffle(wanted)
    owners = {tag: f"E{at}" for at, tag in enumerate(known)}
    truth = {tag: owners[tag[:15] + bytes([tag[15] ^ 1])] for tag in wanted} | owners
    runs = [[Sighting(tag=tag, transaction=0, height=0, part=0) for tag in tags] for tags in (known, wanted)]
    case = Case(known=runs[0], wanted=runs[1], owners=owners, truth=truth, chance=chance)
    for name in ("by_rank", "by_value"):
        score = Score()
        score.add(case, GUESSERS[name])
        assert score.hits == ENTERPRISES
        assert score.surprise() < UNLIKELY


def test_nothing_on_the_ledger_is_shared(guessed: Guessed) -> None:
    """No transaction, state key, pseudonym, id, fingerprint, stretch of a commitment or RSA key."""
    for custody in guessed.custodies:
        class_of: dict[bytes, tuple[int, int]] = {}
        pieces: dict[bytes, set[tuple[int, int]]] = defaultdict(set)
        moduli = []
        for _height, leaves in blocks(custody):
            for operation, *rest in map(payload, leaves):
                if operation == "tag_key":
                    moduli.append(rest[1])
                elif operation == "attest":
                    kind, year, _through, groups = rest
                    for tag, _month, _schema, _status, packed in groups:
                        class_of[tag] = (kind, year)
                        pieces[tag].add((kind, year))
                        for at in range(0, len(packed), 64):
                            entry = packed[at : at + 64]
                            for begin in (0, *range(16, 33), 48):
                                pieces[entry[begin : begin + 16]].add((kind, year))
                elif operation == "amend":
                    kind, changes = rest
                    classes = {class_of[key[4:20]] for key, *_change in changes}
                    assert len(classes) == 1
                    assert kind == next(iter(classes))[0]
                    for (
                        _key,
                        _version,
                        _status,
                        _schema,
                        commitment,
                        fingerprint,
                        _reason,
                        _digest,
                    ) in changes:
                        for begin in range(17):
                            pieces[commitment[begin : begin + 16]] |= classes
                        if fingerprint is not None:
                            pieces[fingerprint] |= classes
        assert set(class_of.values()) == set(itertools.product((INVOICE, FILING), YEARS))
        assert len(moduli) == len(set(moduli)) == len(YEARS)
        # What is shared would be seen: filings have no fingerprint, and say so in the same way.
        assert pieces.pop(bytes(16)) == {(FILING, year) for year in YEARS}
        shared = [piece for piece, classes in pieces.items() if len(classes) > 1]
        assert shared == []
        keys = custody.ledger.records()
        assert {len(key) for key in keys} == {37}
        assert len({key[3:20] for key in keys}) == len(class_of)
        assert {(key[3], key[4:20]) for key in keys} == {(kind, tag) for tag, (kind, _y) in class_of.items()}
