"""Evidence changed everywhere: every byte, cut, record and range; then larger worlds, changed at random.

The one rule: a changed file is refused with a VerificationError, never with another exception; and where two
different files may say the same (another range that also holds nothing), the answer must be the true one.
"""

from __future__ import annotations

import random
from datetime import date
from functools import lru_cache
from itertools import combinations, permutations
from typing import Any

import pytest
from cheating import (
    ENDS,
    ENTRIES,
    FAULTS,
    FIELDS,
    PREFIX,
    PROOF,
    QUERY,
    RECORDS,
    SCHEMAS,
    SECRETS,
    TAGS,
    VALUES,
    columns,
    drop,
    insert,
    taken,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import (
    FILING,
    INVOICE,
    OTHER_SUBJECT,
    RATING,
    SUBJECT,
    Spec,
    World,
    ask,
    filing,
    invoice,
    rating,
)

from taxledger.ledger import canonical, checkpoint, verify
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.query import Query
from taxledger.ledger.records import Status
from taxledger.ledger.verify import Answer

CODES = frozenset(fault.code for fault in FAULTS)


@pytest.fixture(autouse=True)
def _remembered_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signature is verified once: it is a pure function, and here most of the time would go into it."""
    for module, name in ((checkpoint, "verify_signature"), (verify, "verify_tag_signature")):
        monkeypatch.setattr(module, name, lru_cache(maxsize=256)(getattr(module, name)))


TINY = World(
    specs=(
        invoice(1, "2024-01-31", 5_000, goods="钢材"),
        invoice(2, "2024-01-31", -7, direction="purchase"),
        invoice(3, "2024-02-01", status=Status.ERASED, version=2),
        invoice(4, "2024-03-01"),
        invoice(5, "2024-01-05", subject=OTHER_SUBJECT),
        rating(2024),
    ),
    tag_years=(2024,),
    through={INVOICE: "2024-02-29"},
    height=2,
)
TINY_QUERY = ask((RATING, INVOICE), "2023-12", "2024-02")
TINY_EVIDENCE = TINY.evidence(TINY_QUERY)


def refusal(world: World, data: bytes, query: Query) -> str | None:
    """The code with which a file is refused; None when it is accepted. Any other exception fails the test."""
    try:
        world.verify(data, query)
    except VerificationError as error:
        code = error.code
    else:
        return None
    assert code in CODES
    return code


def refused(world: World, items: list[Any], query: Query) -> str:
    code = refusal(world, canonical.encode(items), query)
    assert code is not None, "accepted"
    return code


# --- bytes ----------------------------------------------------------------------------------


def test_every_single_byte_changed_is_refused() -> None:
    assert refusal(TINY, TINY_EVIDENCE, TINY_QUERY) is None
    rng = random.Random(7)
    seen: dict[str, int] = {}
    for at, byte in enumerate(TINY_EVIDENCE):
        for other in {byte ^ 1, byte ^ 0x80, (byte + rng.randrange(1, 256)) % 256}:
            changed = TINY_EVIDENCE[:at] + bytes([other]) + TINY_EVIDENCE[at + 1 :]
            code = refusal(TINY, changed, TINY_QUERY)
            assert code is not None, f"byte {at} changed from {byte:#x} to {other:#x} is accepted"
            seen[code] = seen.get(code, 0) + 1
    # Whatever a byte belongs to, a check is there for it. These take more than one byte, see test_verify.
    assert CODES - set(seen) == {
        "checkpoint_stale",
        "quorum_missing",
        "record_repeated",
        "signer_repeated",
    }


HEADERS = (
    *range(0xC0, 0xE1),
    0x00,
    0x01,
    0x20,
    0x7F,
    0x80,
    0x81,
    0x8F,
    0x90,
    0x91,
    0x9F,
    0xA0,
    0xA1,
    0xBF,
    0xFF,
)


def test_every_header_in_every_place_outside_long_strings_is_refused() -> None:
    """Where the file's structure is, every kind of msgpack header: what decoders trip over."""
    long = [item for item in _byte_strings(canonical.decode(TINY_EVIDENCE)) if len(item) > 24]
    hidden = bytearray(len(TINY_EVIDENCE))
    for item in long:
        begin = TINY_EVIDENCE.index(item)
        hidden[begin : begin + len(item)] = b"\x01" * len(item)
    places = [at for at, each in enumerate(hidden) if not each]
    assert 200 < len(places) < 1_000
    for at in places:
        for other in HEADERS:
            if other != TINY_EVIDENCE[at]:
                changed = TINY_EVIDENCE[:at] + bytes([other]) + TINY_EVIDENCE[at + 1 :]
                assert refusal(TINY, changed, TINY_QUERY) is not None, (at, other)


def _byte_strings(value: Any) -> list[bytes]:
    if isinstance(value, bytes):
        return [value]
    return [each for item in value for each in _byte_strings(item)] if isinstance(value, list) else []


def test_every_cut_and_every_missing_or_doubled_byte_is_refused() -> None:
    for at in range(len(TINY_EVIDENCE)):
        assert refusal(TINY, TINY_EVIDENCE[:at], TINY_QUERY) is not None
        assert refusal(TINY, TINY_EVIDENCE[:at] + TINY_EVIDENCE[at + 1 :], TINY_QUERY) is not None, at
        doubled = TINY_EVIDENCE[: at + 1] + TINY_EVIDENCE[at:]
        assert refusal(TINY, doubled, TINY_QUERY) is not None, at


def test_every_bit_of_the_proof_counts() -> None:
    items = canonical.decode(TINY_EVIDENCE)
    proof = items[PROOF]
    for bit in range(8 * len(proof)):
        changed = bytearray(proof)
        changed[bit // 8] ^= 0x80 >> bit % 8
        items[PROOF] = bytes(changed)
        assert refused(TINY, items, TINY_QUERY) in ("prefix_incomplete", "map_proof_invalid")
    for at in range(len(proof)):
        items[PROOF] = proof[:at]
        assert refused(TINY, items, TINY_QUERY) in ("prefix_incomplete", "map_proof_invalid")


# --- records --------------------------------------------------------------------------------

MANY = World(
    specs=(
        *(invoice(n, f"2024-{n % 6 + 1:02}-{n % 28 + 1:02}", 100 + n) for n in range(18)),
        *(filing(f"2024-{n:02}") for n in range(1, 7)),
        *(invoice(90 + n, "2024-03-03", subject=OTHER_SUBJECT) for n in range(3)),
    )
)
MANY_QUERIES = (ask((FILING, INVOICE)), ask((FILING, INVOICE), "2024-02", "2024-05"))


def _places(items: list[Any]) -> list[tuple[int, int]]:
    return [(g, at) for g, group in enumerate(items[RECORDS]) for at in range(len(group[FIELDS]))]


@pytest.mark.parametrize("query", MANY_QUERIES, ids=("year", "months"))
def test_every_record_dropped_or_repeated(query: Query) -> None:
    data = MANY.evidence(query)
    places = _places(canonical.decode(data))
    assert len(places) >= 16
    for group, at in places:
        items = canonical.decode(data)
        drop(items, group, at)
        assert refused(MANY, items, query) == "prefix_incomplete"
        for to in range(len(canonical.decode(data)[RECORDS][group][FIELDS]) + 1):
            items = canonical.decode(data)
            insert(items, group, to, taken(items, group, at))
            assert refused(MANY, items, query) == "record_repeated"


@pytest.mark.parametrize("query", MANY_QUERIES, ids=("year", "months"))
def test_every_two_records_swapped(query: Query) -> None:
    data = MANY.evidence(query)
    for (g, a), (h, b) in combinations(_places(canonical.decode(data)), 2):
        for column in (VALUES, SECRETS, FIELDS):
            items = canonical.decode(data)
            _swap(items, (g, a), (h, b), (column,))
            code = refused(MANY, items, query)
            assert code in ("record_mismatch", "not_canonical"), column
        items = canonical.decode(data)
        if g == h:
            _swap(items, (g, a), (h, b), (ENDS, VALUES, SECRETS, FIELDS))
            assert refused(MANY, items, query) == "prefix_incomplete"  # no longer ascending


def _swap(items: list[Any], one: tuple[int, int], two: tuple[int, int], which: tuple[int, ...]) -> None:
    cut = [dict(zip((ENDS, VALUES, SECRETS), columns(group), strict=True)) for group in items[RECORDS]]
    for group, parts in zip(items[RECORDS], cut, strict=True):
        parts[FIELDS] = group[FIELDS]
    for column in which:
        left, right = cut[one[0]][column], cut[two[0]][column]
        left[one[1]], right[two[1]] = right[two[1]], left[one[1]]
    for group, parts in zip(items[RECORDS], cut, strict=True):
        for column in (ENDS, VALUES, SECRETS):
            group[column] = b"".join(parts[column])


@pytest.mark.parametrize("query", MANY_QUERIES, ids=("year", "months"))
def test_records_of_others_do_not_fit_in(query: Query) -> None:
    data = MANY.evidence(query)
    theirs = canonical.decode(MANY.evidence(ask((INVOICE,), subject=OTHER_SUBJECT)))
    for group in theirs[RECORDS]:
        for at in range(len(group[FIELDS])):
            items = canonical.decode(data)
            items[RECORDS] = sorted([*items[RECORDS], group], key=lambda each: each[PREFIX])
            assert refused(MANY, items, query) == "prefix_incomplete"
            record = taken(theirs, 0, at)
            for own in range(len(canonical.decode(data)[RECORDS])):
                items = canonical.decode(data)
                width = 37 - len(items[RECORDS][own][PREFIX])
                insert(items, own, 0, (record[0][-width:], *record[1:]))
                assert refused(MANY, items, query) in ("record_mismatch", "prefix_incomplete")


@pytest.mark.parametrize("part", [ENTRIES, SCHEMAS, TAGS, RECORDS])
def test_every_other_part_dropped_repeated_or_moved(part: int) -> None:
    query = MANY_QUERIES[1]
    data = MANY.evidence(query)
    n = len(canonical.decode(data)[part])
    for at in range(n):
        items = canonical.decode(data)
        del items[part][at]
        refused(MANY, items, query)
        items = canonical.decode(data)
        items[part].insert(at, items[part][at])
        assert refused(MANY, items, query) == "malformed"
    for one, two in combinations(range(n), 2):
        items = canonical.decode(data)
        items[part][one], items[part][two] = items[part][two], items[part][one]
        assert refused(MANY, items, query) in ("malformed", "record_mismatch")


# --- ranges ---------------------------------------------------------------------------------

RANGED = World(
    specs=(
        rating(2023),
        invoice(1, "2023-12-05"),
        invoice(2, "2024-02-05"),
        invoice(3, "2024-02-06"),
        invoice(4, "2024-05-06"),
        filing("2024-02"),
    ),
)


def _outcome(answer: Answer) -> Any:
    return [(each.key, each.version, each.values) for each in answer.records], answer.through


def test_no_range_can_be_sold_as_another() -> None:
    """Evidence of any range, with the query in it rewritten to any other: refused, or the truth."""
    periods = ["2023-11", "2023-12", "2024-01", "2024-02", "2024-05", "2025-01"]
    queries = [
        ask(kinds, first, last)
        for first, last in [*combinations(periods, 2), *((each, each) for each in periods)]
        for kinds in ((RATING,), (INVOICE,), (FILING, RATING, INVOICE))
    ]
    evidence = {query: RANGED.evidence(query) for query in queries}
    truth = {query: _outcome(RANGED.verify(data, query)) for query, data in evidence.items()}
    refusals = 0
    for one, other in permutations(queries, 2):
        items = canonical.decode(evidence[one])
        items[QUERY] = other.as_list()
        code = refusal(RANGED, canonical.encode(items), other)
        if code is None:
            assert _outcome(RANGED.verify(canonical.encode(items), other)) == truth[other]
        else:
            assert code in ("tag_invalid", "prefix_incomplete", "map_proof_invalid")
            refusals += 1
    assert refusals > 0.9 * len(queries) * (len(queries) - 1)


def test_a_range_emptied_is_refused() -> None:
    """Nothing listed, with the proof of a world in which there is nothing, or with the true one."""
    query = ask((FILING, RATING, INVOICE), "2023-01", "2024-12")
    true = canonical.decode(RANGED.evidence(query))
    empty = canonical.decode(World(specs=()).evidence(query))
    for records, entries, schemas, proof in (
        (empty, empty, empty, true),
        (empty, true, true, true),
        (empty, empty, empty, empty),
        (empty, true, true, empty),
    ):
        items = canonical.decode(RANGED.evidence(query))
        items[RECORDS], items[ENTRIES] = records[RECORDS], entries[ENTRIES]
        items[SCHEMAS], items[PROOF] = schemas[SCHEMAS], proof[PROOF]
        assert refused(RANGED, items, query) in ("prefix_incomplete", "map_proof_invalid")


# --- at random ------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, Query]:
    dates = st.dates(min_value=date(2022, 1, 1), max_value=date(2024, 12, 31))
    specs: list[Spec] = []
    for n in range(draw(st.integers(0, 40))):
        day = draw(dates).isoformat()
        subject = draw(st.sampled_from((SUBJECT, SUBJECT, OTHER_SUBJECT)))
        version = draw(st.integers(1, 3))
        status = Status(draw(st.integers(1, 5)))
        if draw(st.booleans()):
            specs.append(invoice(n, day, subject=subject, version=version, status=status))
        else:
            specs.append(filing(day[:7], tax=f"t{n}", subject=subject, version=version, status=status))
    world = World(specs=specs, tag_years=(2022, 2023, 2024), through={INVOICE: "2024-06-30"})
    months = sorted(f"{draw(st.integers(2021, 2025))}-{draw(st.integers(1, 12)):02}" for _ in range(2))
    kinds = draw(st.sampled_from(((INVOICE,), (FILING,), (FILING, RATING, INVOICE))))
    subject = draw(st.sampled_from((SUBJECT, OTHER_SUBJECT)))
    return world, ask(kinds, months[0], months[1], subject=subject)


def _mutated(value: Any, rng: random.Random) -> Any:
    """One place of a structure changed: a value, an element more, less or elsewhere."""
    if isinstance(value, list) and value:
        action = rng.randrange(6)
        at = rng.randrange(len(value))
        copy = list(value)
        if action == 0:
            del copy[at]
        elif action == 1:
            copy.insert(at, rng.choice(value))
        elif action == 2:
            to = rng.randrange(len(value))
            copy[at], copy[to] = copy[to], copy[at]
        else:
            copy[at] = _mutated(value[at], rng)
        return copy
    if isinstance(value, bytes) and value:
        at = rng.randrange(len(value))
        return rng.choice(
            (
                value[:at] + bytes([value[at] ^ (1 << rng.randrange(8))]) + value[at + 1 :],
                value[:at],
                value + value[-1:],
                value[at:] + value[:at],
            )
        )
    if isinstance(value, int):
        return value + rng.choice((-1, 1, 256))
    return rng.choice((None, 0, 1, True, "", "x", b"", b"\x00", [], {}, {"a": 1}, [[]]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(), st.integers(0, 2**32))
def test_larger_worlds_give_the_truth_or_nothing(drawn: tuple[World, Query], seed: int) -> None:
    world, query = drawn
    data = world.evidence(query)
    answer = world.verify(data, query)
    expected = world.expected(query)
    got = dict.fromkeys(expected, 0)
    for record in answer.records:
        got[record.kind, record.status.name] += 1
    assert got == {key: len(rows) for key, rows in expected.items()}
    rng = random.Random(seed)
    for _ in range(40):
        items = _mutated(canonical.decode(data), rng)
        changed = canonical.encode(items)
        if changed == data:
            continue
        if refusal(world, changed, query) is None:
            assert _outcome(world.verify(changed, query)) == _outcome(answer)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    assert refusal(TINY, noise, TINY_QUERY) in ("malformed", "not_canonical")
