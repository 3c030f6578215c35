"""Two verifiers of disclosures, one written from docs/protocol.md alone: they agree on good, bad and changed files."""

from __future__ import annotations

import ast
import random
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from disclosurecheats import FAULTS, OTHER_CHAIN, Fault
from disclosureforge import (
    ACCEPTED,
    FRAME,
    GOOD,
    INVOICES,
    PARTS,
    POLICY_BYTES,
    PROOF,
    QUERY,
    SPECS,
    Case,
    body,
    forge,
    one_detail,
    with_details,
)
from test_agreement import changed, encoded, normal
from world import AGE_MS_MAX, NOW_MS, filing

from taxledger.ledger import canonical, checkpoint, signedbody, verify
from taxledger.ledger.disclosure import verify_disclosure
from taxledger.ledger.errors import EncodingError, VerificationError
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
import disclosures  # noqa: E402
import verifier  # noqa: E402

EITHER = {"malformed", "not_canonical"}
SMALL_FILE = forge(
    specs=[filing("2024-01"), SPECS[0]], artefact=with_details(one_detail(("date", "net"))), query=INVOICES
)


@pytest.fixture(autouse=True)
def _remembered_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (checkpoint, "verify_signature"),
        (signedbody, "verify_signature"),
        (verify, "verify_tag_signature"),
        (disclosures, "tag_holds"),
    ):
        monkeypatch.setattr(module, name, lru_cache(maxsize=256)(getattr(module, name)))


def both(
    data: bytes,
    query: Query = QUERY,
    *,
    policy: bytes = POLICY_BYTES,
    recipient: int = 2,
    now_ms: int = NOW_MS,
) -> dict[str, Any] | str:
    """The answer or code on which both agree; fails where they don't."""
    outcomes: list[dict[str, Any] | str] = []
    try:
        said = verify_disclosure(
            data, decode_policy(policy), query, recipient=recipient, now_ms=now_ms, age_ms_max=AGE_MS_MAX
        )
        use = said.use_value
        told = {"use": [int(use.state), use.planned_digest, use.planned_count], "consent": said.consent}
        outcomes.append({**normal(said.answer), **told})
    except VerificationError as error:
        outcomes.append(error.code)
    asked = [query.subject, query.issuer, list(query.kinds), query.from_period, query.to_period]
    try:
        theirs = disclosures.verify(data, policy, asked, recipient, now_ms, AGE_MS_MAX)
        outcomes.append({**theirs, "records": sorted(theirs["records"], key=repr)})
    except verifier.Refused as error:
        outcomes.append(error.code)
    one, other = outcomes
    assert one == other or (isinstance(one, str) and isinstance(other, str) and {one, other} == EITHER)
    return one


def test_it_imports_nothing_of_ours_and_is_short() -> None:
    source = (FOLDER / "disclosures.py").read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [getattr(node, "module", None) for node in imports] == ["verifier"]
    assert len(source.splitlines()) <= 300


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_the_same_answer(case: Case) -> None:
    answer = both(case.make(), case.query)
    assert isinstance(answer, dict), answer


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_same_refusal_of_each_way_of_cheating(fault: Fault) -> None:
    arguments = dict(fault.arguments)
    if "policy" in arguments:
        arguments["policy"] = OTHER_CHAIN
    outcome = both(fault.make(), fault.query, **arguments)
    assert outcome == fault.code


def test_every_byte_and_every_cut() -> None:
    rng = random.Random(13)
    for at, byte in enumerate(SMALL_FILE):
        other = rng.choice((byte ^ 1, byte ^ 0x80, (byte + rng.randrange(1, 256)) % 256))
        assert isinstance(both(SMALL_FILE[:at] + bytes([other]) + SMALL_FILE[at + 1 :], INVOICES), str)
        if at % 5 == 0:
            assert isinstance(both(SMALL_FILE[:at], INVOICES), str)


def deeper(items: list[Any], rng: random.Random) -> list[Any]:
    """The file with one place of its artefact, frame, a part or the use proof changed."""
    at = rng.choice((FRAME, FRAME, PARTS, PARTS, PROOF, PROOF, 2, 3, 4, 5))
    copy = list(items)
    if at == FRAME or (at == PARTS and copy[PARTS] and rng.random() < 0.8):
        number = rng.randrange(len(copy[PARTS])) if at == PARTS else 0
        inner = canonical.decode(copy[PARTS][number] if at == PARTS else copy[FRAME])
        place = rng.randrange(len(inner))
        inner[place] = changed(inner[place], rng)
        raw = encoded(inner) or b""
        if at == FRAME:
            copy[FRAME] = raw
        else:
            copy[PARTS] = [*copy[PARTS][:number], raw, *copy[PARTS][number + 1 :]]
        return copy
    copy[at] = changed(copy[at], rng)
    return copy


@pytest.mark.parametrize("seed", range(8))
def test_files_changed_at_random(seed: int) -> None:
    rng, seen, good = random.Random(seed), set(), both(GOOD)
    for _ in range(80):
        data = encoded(deeper(canonical.decode(GOOD), rng))
        if data is not None and data != GOOD:
            outcome = both(data)
            assert isinstance(outcome, str) or outcome == good, "only a note's lines may change places"
            seen.add(outcome if isinstance(outcome, str) else "accepted")
    assert len(seen) > 3


@pytest.mark.parametrize("seed", range(8))
def test_pieces_changed_at_random_and_planned(seed: int) -> None:
    """The ledger's digest is of the changed bytes, so that each check of the evidence has its turn."""
    rng, seen = random.Random(seed), set()

    def plan(frame: bytes, parts: list[bytes]) -> tuple[bytes, list[bytes]]:
        items = [None] * FRAME + [frame, parts, None]
        while True:
            made = deeper(items, rng)
            if made[FRAME : PARTS + 1] != items[FRAME : PARTS + 1] and isinstance(made[FRAME], bytes):
                pieces = made[PARTS] if isinstance(made[PARTS], list) else []
                return made[FRAME], [each for each in pieces if isinstance(each, bytes)]

    for _ in range(60):
        try:
            data = forge(planned=plan)
        except (EncodingError, TypeError):
            continue
        outcome = both(data)
        seen.add(outcome if isinstance(outcome, str) else "accepted")
    assert len(seen) > 3


@pytest.mark.parametrize("seed", range(8))
def test_terms_changed_at_random_and_signed(seed: int) -> None:
    """Artefacts of every shape, signed as they are: the same are refused for their form, and which."""
    rng, seen = random.Random(seed), set()

    def edit(inner: list[Any]) -> None:
        at = rng.randrange(len(inner))
        inner[at] = changed(inner[at], rng)

    for _ in range(80):
        items = canonical.decode(GOOD)
        try:
            body(edit)(items)
        except EncodingError:
            continue
        outcome = both(canonical.encode(items))
        seen.add(outcome if isinstance(outcome, str) else "accepted")
    assert "malformed" in seen
    assert "map_proof_invalid" in seen


@pytest.mark.parametrize("seed", range(8))
def test_values_on_the_ledger_changed_at_random(seed: int) -> None:
    """What the validators certified is anything at all."""
    rng, seen = random.Random(seed), set()

    def edit(value: list[Any]) -> None:
        at = rng.randrange(len(value) + 1)
        if at == len(value):
            value.append(rng.choice((None, 0, b"")))
        else:
            value[at] = changed(value[at], rng)

    for _ in range(40):
        which = rng.choice(("consent", "use", "use", "holder"))
        try:
            data = forge(**{which: edit})
        except EncodingError:
            continue
        outcome = both(data)
        seen.add(outcome if isinstance(outcome, str) else "accepted")
    assert {"malformed", "accepted"} <= seen
