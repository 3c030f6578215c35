"""The same numbers whatever the order of the records and the hash seed of the process."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from random_facts import draw

from taxledger.lending import features
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features import FEATURES, Basis

SEED_LISTS = 40
_DATED = re.compile(r"[0-9]{4}-[0-9]{2}(-[0-9]{2})?")


def numbers(facts: Facts, basis: Basis) -> list[tuple[str, int | None]]:
    found = [(name, each.compute(facts, basis)) for name, each in FEATURES.items()]
    assert all(value is None or type(value) is int for _name, value in found)
    return found


def digest() -> str:
    """Of the numbers of many seeds: what another process must find too."""
    hashed = hashlib.sha256()
    for seed in range(SEED_LISTS):
        hashed.update(repr(numbers(*draw(seed))).encode())
    return hashed.hexdigest()


def test_hash_seeds() -> None:
    program = "from test_feature_machines import digest; print(digest())"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    for hash_seed in ("0", "1", "4242"):
        found = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        assert found == digest(), f"PYTHONHASHSEED={hash_seed}"


@pytest.mark.parametrize("seed", range(30))
def test_order_of_records(seed: int) -> None:
    facts, basis = draw(seed)
    random = Random(seed)
    kinds = list(facts.records)
    random.shuffle(kinds)
    shuffled = Facts(
        subject=facts.subject,
        records={kind: tuple(random.sample(facts.of(kind), len(facts.of(kind)))) for kind in kinds},
    )
    security = tuple(random.sample(basis.security, len(basis.security)))
    pledged = dict(random.sample(list(basis.pledged_ppm.items()), len(basis.pledged_ppm)))
    again = replace(basis, security=(*security, *security[:1]), pledged_ppm=pledged)
    assert numbers(shuffled, again) == numbers(facts, basis), f"seed {seed}"


@pytest.mark.parametrize("seed", range(30))
def test_order_of_features_and_bases(seed: int) -> None:
    """What one feature, or one as-of date, leaves behind in ``Facts.derived`` changes no other."""
    facts, basis = draw(seed)
    expected = numbers(facts, basis)
    other = replace(basis, as_of=basis.as_of.replace(year=2018, day=1), currency="USD")
    found = Facts(subject=facts.subject, records=facts.records)
    for each in FEATURES.values():
        each.compute(found, other)
    names = Random(seed).sample(sorted(FEATURES), len(FEATURES))
    values = {name: FEATURES[name].compute(found, basis) for name in names}
    assert [(name, values[name]) for name, _value in expected] == expected, f"seed {seed}"


def _moved(record: Fact, year: int) -> Fact | None:
    """The record in another year, under other numbers; None where its time is not known."""
    fields = {
        name: year
        if name == "year"
        else f"{year}{value[4:]}"
        if isinstance(value, str) and _DATED.fullmatch(value)
        else value
        for name, value in record.fields.items()
    }
    fields |= {
        name: f"M{value}" for name, value in fields.items() if name in ("number", "original", "corrects")
    }
    if not record.period or any(value == f"{year}-02-29" for value in fields.values()):
        return None
    key = record.key[:4] + bytes(255 - each for each in record.key[4:])
    return replace(record, fields=fields, period=f"{year}{record.period[4:]}", key=key)


@pytest.mark.parametrize("seed", range(40))
def test_windows_are_closed(seed: int) -> None:
    """Records of after the as-of date, and of before a feature's window, change nothing."""
    facts, basis = draw(seed)
    year = basis.as_of.year
    earlier, later = draw(seed + 10_000)[0], draw(seed + 20_000)[0]

    def added(kind: int, from_: Facts, to: int) -> list[Fact]:
        # Another issuer would be another question: whether two of them mean one thing.
        issuers = {each.issuer for each in facts.of(kind)} or {1}
        moved = [_moved(each, to) for each in from_.of(kind) if each.issuer in issuers]
        return [each for each in moved if each is not None]

    def with_(*more: tuple[Facts, int]) -> Facts:
        records = {
            kind: (*facts.of(kind), *(each for from_, to in more for each in added(kind, from_, to)))
            for kind in facts.records
        }
        return Facts(subject=facts.subject, records=records)

    assert numbers(with_((later, year + 5)), basis) == numbers(facts, basis), f"seed {seed}"
    more = dict(numbers(with_((earlier, year - 30), (later, year + 5)), basis))
    for name, value in numbers(facts, basis):
        if re.search(r"_\d+m(_|$)", name):
            assert more[name] == value, f"seed {seed}: {name}"


@pytest.mark.parametrize(
    "path", sorted(Path(features.__file__).parent.glob("*.py")), ids=lambda path: path.stem
)
def test_no_floats(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), f"{where}: a float"
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)), f"{where}: true division"
        assert not (isinstance(node, ast.Name) and node.id in ("float", "hash", "round")), (
            f"{where}: {node.id}"
        )
