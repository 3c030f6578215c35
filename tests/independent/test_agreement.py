"""Two verifiers, one of them written from docs/protocol.md alone: they must agree on every file.

Good evidence gets the same answer from both, bad evidence the same refusal. ``EITHER`` has the codes that may
differ, and why.
"""

from __future__ import annotations

import ast
import json
import random
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from cheating import ASKED, EVIDENCE, FAULTS, OTHER_CHAIN, Fault
from cheating import WORLD as CHEATED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_verify_exhaustive import TINY, TINY_EVIDENCE, TINY_QUERY, worlds
from world import (
    AGE_MS_MAX,
    FILING,
    INVOICE,
    NOW_MS,
    OTHER_SUBJECT,
    RATING,
    SMALL,
    Spec,
    World,
    ask,
    filing,
    invoice,
    rating,
    seeded,
)

from taxledger.ledger import canonical, checkpoint, limits, merkle, schemas, verify
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import (
    EncodingError,
    FormatError,
    LimitError,
    TaxledgerError,
    VerificationError,
)
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.header import decode_header, encode_header
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.records import Status
from taxledger.ledger.statemap import MapView
from taxledger.ledger.statemap.proof import verify_prefixes
from taxledger.ledger.store import MemoryStore
from taxledger.ledger.verify import Answer

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
import verifier  # noqa: E402

EITHER = (
    # A file can be wrong in two ways at once. §10 has both in one step, in which a reader may go as it likes.
    {"malformed", "not_canonical"},
)
"""Sets of codes that count as the same one."""


@pytest.fixture(autouse=True)
def _remembered_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signature is verified once: it is a pure function, and here most of the time would go into it."""
    for module, name in (
        (checkpoint, "verify_signature"),
        (verify, "verify_tag_signature"),
        (verifier, "tag_holds"),
    ):
        monkeypatch.setattr(module, name, lru_cache(maxsize=256)(getattr(module, name)))


def normal(answer: Answer) -> dict[str, Any]:
    """An answer of ours in the form that the other verifier gives."""
    found = [
        {
            "kind": each.kind,
            "year": each.year,
            "month": each.month,
            "status": int(each.status),
            "version": each.version,
            "fields": each.fields,
        }
        for each in answer.records
        if each.status is not Status.ERASED
    ]
    return {
        "records": sorted(found, key=repr),
        "erased": len(answer.records) - len(found),
        "through": dict(answer.through),
        "complete": {kind: answer.complete(kind) for kind in answer.through},
        "age_ms": answer.age_ms,
        "size": answer.size,
        "height": answer.height,
    }


def both(
    data: bytes, policy: bytes, query: Query, now_ms: int = NOW_MS, age_ms_max: int = AGE_MS_MAX
) -> dict[str, Any] | str:
    """The answer or code on which both verifiers agree; fails where they don't."""
    outcomes: list[dict[str, Any] | str] = []
    try:
        ours = verify.verify_evidence(
            data, decode_policy(policy), query, now_ms=now_ms, age_ms_max=age_ms_max
        )
        outcomes.append(normal(ours))
    except VerificationError as error:
        outcomes.append(error.code)
    asked = (query.subject, query.issuer, query.kinds, query.from_period, query.to_period)
    try:
        theirs = verifier.verify(data, policy, asked, now_ms, age_ms_max)
        outcomes.append({**theirs, "records": sorted(theirs["records"], key=repr)})
    except verifier.Refused as error:
        outcomes.append(error.code)
    one, other = outcomes
    assert one == other or (isinstance(one, str) and isinstance(other, str) and {one, other} in EITHER)
    return one


# --- the other verifier is another one --------------------------------------------------------


def test_it_imports_nothing_of_ours_and_is_short() -> None:
    source = (FOLDER / "verifier.py").read_text(encoding="utf-8")
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [n.name for n in node.names]
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}
    assert len(source.splitlines()) <= 400


@pytest.mark.parametrize("name", ["evidence.json", "example.json"])
def test_it_takes_the_vectors_as_they_say(name: str) -> None:
    vectors = json.loads((FOLDER.parent / "vectors" / name).read_text(encoding="utf-8"))
    policy, now_ms = vectors["policy"].encode(), vectors["now_ms"]
    for case in vectors.get("accepted", [vectors]):
        answer = verifier.verify(bytes.fromhex(case["evidence"]), policy, case["query"], now_ms, 600_000)
        if name == "evidence.json":
            told = [[kind, *rest] for _, kind, _, _, *rest in case["answer"]["records"]]
            assert len(answer["records"]) + answer["erased"] == len(told)
            assert [list(pair) for pair in answer["through"].items()] == case["answer"]["through"]
    good = bytes.fromhex(vectors["accepted"][0]["evidence"]) if name == "evidence.json" else b""
    for case in vectors.get("refused", ()):
        if "engine" in case:
            continue
        data = good[: case["at"]] + bytes.fromhex(case["insert"]) + good[case["at"] + case["drop"] :]
        with pytest.raises(verifier.Refused) as caught:
            verifier.verify(
                data,
                case.get("policy", vectors["policy"]).encode(),
                vectors["accepted"][0]["query"],
                case.get("now_ms", now_ms),
                vectors["age_ms_max"],
            )
        assert caught.value.code == case["code"], case["why"]


# --- good evidence ----------------------------------------------------------------------------


@lru_cache
def wide() -> World:
    """Five years, four kinds, one of them by quarter; voided, reversed, revoked and erased records."""
    quarterly = schemas.Schema(
        kind=99,
        number=1,
        name="quarterly",
        fields=(schemas.Field(name="day", type="date"), schemas.Field(name="sum", type="money")),
        unique=(),
        fingerprint=None,
        period=("quarter", "day"),
    )
    known = {**{(each.kind, each.number): each for each in BUILTIN}, (99, 1): quarterly}
    statuses = list(Status)
    specs = [
        *SMALL,
        *(
            invoice(100 + n, f"{2020 + n % 5}-{n * 5 % 12 + 1:02}-{n % 28 + 1:02}", n * 10**n - 5)
            for n in range(17)
        ),
        *(invoice(200 + n, "2022-06-30", status=statuses[n % 5], version=1 + n % 5) for n in range(9)),
        *(filing(f"{2020 + n // 6}-{n % 12 + 1:02}") for n in range(20)),
        *(rating(2020 + n, status=statuses[n % 5]) for n in range(3)),
        *(Spec(kind=99, fields={"day": f"2022-{n + 1:02}-15", "sum": -n}) for n in range(12)),
        Spec(kind=99, fields={"day": "2021-12-31", "sum": -(2**63) + 1}),
    ]
    return World(specs=specs, tag_years=range(2020, 2025), schemas=known)


RANGES = [
    ("2022-01", "2022-12"),
    ("2020-01", "2024-12"),
    ("1999-05", "2028-04"),
    ("2021-12", "2022-01"),
    ("2022-03", "2022-04"),
    ("2022-06", "2022-06"),
    ("2022-02", "2024-11"),
    ("2015-01", "2019-12"),
    ("2190-07", "2200-12"),
]


@pytest.mark.parametrize(
    "kinds", [(INVOICE,), (99,), (FILING, RATING, INVOICE, 99), (7,), tuple(range(1, 17))]
)
@pytest.mark.parametrize("span", RANGES, ids="–".join)
def test_the_same_answer(kinds: tuple[int, ...], span: tuple[str, str]) -> None:
    world = wide()
    for subject in (world.specs[0].subject, OTHER_SUBJECT, "name:钢铁 有限公司"):
        query = ask(kinds, *span, subject=subject)
        answer = both(world.evidence(query), world.policy_bytes, query)
        assert isinstance(answer, dict), answer


@pytest.mark.parametrize("n", [1, 2, 4, 7, 10])
@pytest.mark.parametrize("height", [1, 2, 3, 8, 21])
def test_the_same_answer_at_every_size(n: int, height: int) -> None:
    world = World(specs=SMALL[:3], height=height, validators=[f"v{at}" for at in range(n)])
    query = ask(issuer=1)
    answer = both(world.evidence(query), world.policy_bytes, query)
    assert isinstance(answer, dict), answer
    assert answer["size"] == 1 + 2 * height
    assert len(answer["records"]) == 2
    for issuer in (2, 65_535):
        query = ask(issuer=issuer)
        answer = both(world.evidence(query), world.policy_bytes, query)
        assert isinstance(answer, dict), answer
        assert not answer["records"]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_the_same_answer_in_worlds_at_random(drawn: tuple[World, Query]) -> None:
    world, query = drawn
    assert isinstance(both(world.evidence(query), world.policy_bytes, query), dict)


# --- bad evidence -----------------------------------------------------------------------------


# Which engine a chain must have is a wish of our verifier's callers, not part of the protocol.
SHARED = [fault for fault in FAULTS if "engine" not in dict(fault.arguments)]


@pytest.mark.parametrize("fault", SHARED, ids=str)
def test_the_same_refusal_of_each_way_of_cheating(fault: Fault) -> None:
    arguments = dict(fault.arguments)
    policy = OTHER_CHAIN if arguments.pop("policy", None) else CHEATED.policy_bytes
    assert both(fault.forge(), policy, fault.query, **arguments) == fault.code


def test_every_single_byte() -> None:
    """One of several changes of each: our own verifier meets more of them in test_verify_exhaustive."""
    rng = random.Random(11)
    for at, byte in enumerate(TINY_EVIDENCE):
        other = rng.choice((byte ^ 1, byte ^ 0x80, (byte + 1) % 256, (byte + rng.randrange(1, 256)) % 256))
        data = TINY_EVIDENCE[:at] + bytes([other]) + TINY_EVIDENCE[at + 1 :]
        assert isinstance(both(data, TINY.policy_bytes, TINY_QUERY), str), (at, other)


def test_every_truncation() -> None:
    for at in range(len(TINY_EVIDENCE)):
        assert isinstance(both(TINY_EVIDENCE[:at], TINY.policy_bytes, TINY_QUERY), str)


@settings(max_examples=1_500, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(EVIDENCE)), st.integers(0, 3), st.binary(max_size=4)), min_size=1)
)
def test_bytes_at_random(edits: list[tuple[int, int, bytes]]) -> None:
    data = EVIDENCE
    for at, drop, insert in edits:
        data = data[:at] + insert + data[at + drop :]
    outcome = both(data, CHEATED.policy_bytes, ASKED)
    assert isinstance(outcome, str) or data == EVIDENCE


ODD: list[Any] = [
    None, True, False, 0, 1, -1, 5, 16, 17, 255, 256, 65_535, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63),
    "", "x", "2024-13", "2024-02-30", "é", "e\u0301", "\u2028", "\x00", b"", b"\x00", bytes(16), bytes(32),
    bytes(384), b"\x06\x00\x01", [], {}, {"a": 1}, [[]], [[[[[[[[[[[[[[[1]]]]]]]]]]]]]]],
]  # fmt: skip


def binary(value: Any) -> bool:
    return isinstance(value, bytes)


def changed(value: Any, rng: random.Random) -> Any:
    """One place changed: in a list, in bytes, or in what bytes hold (an item, a note, several map values)."""
    if isinstance(value, list) and value and rng.random() < 0.9:
        action, at, copy = rng.randrange(8), rng.randrange(len(value)), list(value)
        if action == 0:
            del copy[at]
        elif action == 1:
            copy.insert(at, rng.choice(value))
        elif action == 2:
            to = rng.randrange(len(value))
            copy[at], copy[to] = copy[to], copy[at]
        else:
            copy[at] = changed(value[at], rng)
        return copy
    if isinstance(value, bytes) and value and rng.random() < 0.9:
        if rng.random() < 0.6:
            try:
                parts = list(canonical.decode_stream(value))
            except EncodingError:
                parts = []
            if len(parts) > 0 and all(isinstance(part, list) for part in parts):
                parts = changed(parts, rng)
                joined = [encoded(part) or b"" for part in (parts if isinstance(parts, list) else [parts])]
                return b"".join(joined)
            if value.count(b"\n") > 4:
                lines = changed(value.split(b"\n"), rng)
                return b"\n".join(each for each in lines if binary(each)) if isinstance(lines, list) else b""
        at = rng.randrange(len(value))
        width = rng.choice((1, 2, 16, 32, 33))
        return rng.choice(
            (
                value[:at] + bytes([value[at] ^ (1 << rng.randrange(8))]) + value[at + 1 :],
                value[:at],
                value[:at] + value[at + width :],
                value[:at] + value[at : at + width] + value[at:],
                value + value[-1:],
                value[at:] + value[:at],
            )
        )
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        return max(-(2**63), min(2**64 - 1, value + rng.choice((-1, 1, 256))))
    if isinstance(value, str) and value and rng.random() < 0.5:
        at = rng.randrange(len(value))
        return value[:at] + rng.choice("019-:é \n") + value[at + 1 :]
    return rng.choice(ODD)


def encoded(items: Any) -> bytes | None:
    try:
        return canonical.encode(items)
    except EncodingError:  # too deep
        return None


@pytest.mark.parametrize("seed", range(20))
def test_structures_at_random(seed: int) -> None:
    rng = random.Random(seed)
    cases = [(EVIDENCE, CHEATED, ASKED), (TINY_EVIDENCE, TINY, TINY_QUERY)]
    seen = set()
    for _ in range(400):
        data, world, query = rng.choice(cases)
        items = canonical.decode(data)
        for _ in range(rng.choice((1, 1, 1, 2))):
            at = rng.randrange(len(items)) if isinstance(items, list) and items else 0
            if isinstance(items, list) and items and rng.random() < 0.9:
                items[at] = changed(items[at], rng)
            else:
                items = changed(items, rng)
        forged = encoded(items)
        if forged is None or forged == data:
            continue
        outcome = both(forged, world.policy_bytes, query)
        assert isinstance(outcome, str) or outcome == both(data, world.policy_bytes, query)
        seen.add(outcome if isinstance(outcome, str) else "accepted")
    assert len(seen) > 5


@pytest.mark.parametrize("seed", range(10))
def test_structures_at_random_that_validators_signed(seed: int) -> None:
    """The map's content itself is changed before anything is signed, so that nothing but meaning is wrong."""
    rng = random.Random(seed)
    for _ in range(20):
        world = World(specs=SMALL[:6], tag_years=(2023, 2024))
        content = dict(world.content)
        key = rng.choice(sorted(content))
        content[key] = encoded(changed(canonical.decode(content[key]), rng)) or b"\x90"
        if rng.random() < 0.3:
            at = rng.randrange(len(key))
            content[key[:at] + bytes([key[at] ^ 1 << rng.randrange(8)]) + key[at + 1 :]] = content.pop(key)

        class Changed(World):
            kept = content

            def _content(self) -> dict[bytes, bytes]:
                super()._content()
                return self.kept

        other = Changed(specs=SMALL[:6], tag_years=(2023, 2024))
        query = ask((FILING, RATING, INVOICE), "2023-11", "2024-02")
        try:
            data = other.evidence(query)
        except TaxledgerError:  # our own side does not make evidence of such a map
            continue
        both(data, other.policy_bytes, query)


@pytest.mark.parametrize("field", range(14))
def test_headers_that_validators_signed(field: int) -> None:
    """A header changed in one place, certified as it is."""
    world = World()
    header = canonical.decode(encode_header(world.header))
    for value in (*ODD, *header, seeded("x")):
        items = canonical.decode(EVIDENCE)
        changed_header = canonical.encode([*header[:field], value, *header[field + 1 :]])
        leaves = [*world.leaves[:-1], changed_header]
        frontier, _ = merkle.EMPTY.extended([log_leaf(leaf) for leaf in leaves])
        signed = checkpoint.Checkpoint(origin=world.origin, size=frontier.size, root=frontier.root)
        items[3], items[4] = world.note(checkpoint=signed), changed_header
        outcome = both(canonical.encode(items), world.policy_bytes, ASKED)
        assert isinstance(outcome, str) or decode_header(changed_header)


# --- the proof alone --------------------------------------------------------------------------


def walked(proof: bytes, entries: dict[bytes, list[tuple[bytes, bytes]]]) -> bytes | str:
    """The root on which both walks agree, whatever the root should be; or the code."""
    try:
        listed = {prefix: pairs for prefix, pairs in entries.items() if pairs}
        outcome: bytes | str = verifier.proof_root(proof, sorted(entries), listed)
    except verifier.Refused as error:
        outcome = error.code
    if isinstance(outcome, bytes):
        verify_prefixes(outcome, entries, proof)
        return outcome
    with pytest.raises(VerificationError) as caught:
        verify_prefixes(bytes(32), entries, proof)
    assert "another root" not in str(caught.value)
    assert caught.value.code == outcome
    return outcome


@pytest.mark.parametrize("seed", range(20))
def test_proofs_under_whatever_root(seed: int) -> None:
    """A changed proof leads to another root; but would both verifiers take it under that one?"""
    rng = random.Random(seed)
    taken = 0
    for _ in range(30):
        keys = sorted(
            {bytes(rng.choice((0, 1, 2, 0x80, 255)) for _ in range(4)) for _ in range(rng.randrange(30))}
        )
        empty = MapView.open(MemoryStore())
        view = empty.over(empty.apply(dict.fromkeys(keys, b"\xc0"))) if keys else empty
        prefixes: list[bytes] = []
        for _ in range(rng.randrange(1, 6)):
            prefix = bytes(rng.choice((0, 1, 2, 0x80, 255)) for _ in range(rng.randrange(1, 5)))
            if not any(prefix.startswith(p) or p.startswith(prefix) for p in prefixes):
                prefixes.append(prefix)
        proven = view.prove(sorted(prefixes))
        entries = {prefix: list(pairs) for prefix, pairs in proven.entries.items()}
        assert walked(proven.proof, entries) == view.root
        for _ in range(60):
            proof = bytearray(proven.proof)
            at = rng.randrange(len(proof))
            action = rng.randrange(4)
            if action == 0:
                proof[at] = rng.randrange(7)
            elif action == 1:
                proof[at] ^= 1 << rng.randrange(8)
            elif action == 2:
                del proof[at : at + rng.choice((1, 33, 34, 3))]
            else:
                proof[at:at] = proof[at : at + rng.choice((1, 33, 34, 3))]
            other = dict(entries)
            if rng.random() < 0.3:
                prefix = rng.choice(prefixes)
                other[prefix] = other[prefix][1:] if rng.random() < 0.5 else []
            taken += isinstance(walked(bytes(proof), other), bytes)
    assert taken


# --- policies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_same_policies(seed: int) -> None:
    rng = random.Random(seed)
    good = CHEATED.policy_bytes
    for _ in range(300):
        lines: list[bytes] = changed(good.split(b"\n"), rng) if rng.random() < 0.7 else good.split(b"\n")
        lines = [line for line in lines if binary(line)] if isinstance(lines, list) else []
        if lines and rng.random() < 0.7:
            at = rng.randrange(len(lines))
            words = changed(lines[at].split(b" "), rng)
            if isinstance(words, list):
                lines[at] = b" ".join(word for word in words if binary(word))
        policy = b"\n".join(lines)
        try:
            decode_policy(policy)
        except (FormatError, LimitError):
            with pytest.raises((ValueError, IndexError, StopIteration)):
                verifier.read_policy(policy)
        else:
            verifier.read_policy(policy)
            both(EVIDENCE, policy, ASKED)


def test_limits_are_the_protocols() -> None:
    """What the other verifier has as numbers."""
    assert (limits.evidence_years_max, limits.evidence_kinds_max) == (30, 16)
    assert (limits.evidence_records_max, limits.evidence_bytes_max) == (200_000, 64 << 20)
    assert limits.checkpoint_bytes_max == 16_384
    assert replace(ASKED, from_period="1995-01", to_period="2024-12").years == range(1995, 2025)
