"""Two verifiers of fork evidence and policy links, one from docs/protocol.md alone: they agree on everything."""

from __future__ import annotations

import ast
import json
import os
import random
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from forkcheats import (
    AGE_MS_MAX,
    TRUST_MS,
    Fault,
    cosigned_faults,
    fork_policy,
    good_forks,
    good_links,
    link_faults,
    links_now_ms,
    links_policy,
    vote_faults,
)
from test_agreement import changed, encoded

from taxledger.ledger import canonical, checkpoint, fork
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.policychain import follow_links
from taxledger.ledger.policydate import read_verified

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
import forks  # noqa: E402
import policies  # noqa: E402
import verifier  # noqa: E402

ROUNDS = int(os.environ.get("TAXLEDGER_TEST_ROUNDS", "300"))
EITHER = {"malformed", "not_canonical"}
Outcome = Any


@pytest.fixture(autouse=True)
def _remembered_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a corrupted file's signatures are those of the good one: each is verified once."""
    for module in (checkpoint, fork):
        monkeypatch.setattr(module, "verify_signature", lru_cache(maxsize=512)(module.verify_signature))


def agreed(ours: Any, theirs: Any) -> Outcome:
    """What both say; fails where they differ, but for the two codes of one step."""
    outcomes: list[Outcome] = []
    for said, refusal in ((ours, VerificationError), (theirs, verifier.Refused)):
        try:
            outcomes.append(said())
        except refusal as error:
            outcomes.append(error.code)
    one, other = outcomes
    assert one == other or (isinstance(one, str) and isinstance(other, str) and {one, other} == EITHER)
    return one


def convicted(data: bytes, policy: bytes | None = None) -> Outcome:
    policy = fork_policy() if policy is None else policy
    return agreed(
        lambda: list(fork.verify_fork(data, decode_policy(policy))), lambda: forks.verify_forks(data, policy)
    )


def followed(
    data: bytes,
    policy: bytes | None = None,
    now_ms: int | None = None,
    trust_ms: int = TRUST_MS,
    age_ms_max: int = AGE_MS_MAX,
) -> Outcome:
    policy = links_policy() if policy is None else policy
    now_ms = links_now_ms() if now_ms is None else now_ms

    def ours() -> dict[str, Any]:
        times = {"now_ms": now_ms, "trust_ms": trust_ms, "age_ms_max": age_ms_max}
        said = follow_links(decode_policy(policy), read_verified(policy), data, **times)
        again = decode_policy(said.data)
        assert read_verified(said.data) == said.verified
        return {
            "origin": again.origin,
            "logs": sorted(key.public_key for key in again.log_keys),
            "witnesses": {name: key.public_key for name, key in again.witnesses.items()},
            "time_s": said.verified.time_s,
            "size": said.verified.size,
        }

    def theirs() -> dict[str, Any]:
        said = policies.verify_links(data, policy, now_ms, trust_ms, age_ms_max)
        return {**said, "logs": sorted(said["logs"])}

    return agreed(ours, theirs)


@pytest.mark.parametrize(
    ("name", "wanted"), [("forks", ["disclosures"]), ("policies", ["datetime", "forks"])]
)
def test_they_import_nothing_of_ours_and_are_short(name: str, wanted: list[str]) -> None:
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [getattr(node, "module", None) for node in imports] == wanted
    assert len(source.splitlines()) <= 200


def test_the_same_convictions() -> None:
    assert {why: convicted(data) for why, data in good_forks().items()} == {
        "one size": ["v3"],
        "another beginning": ["v2", "v3"],
        "two leaves": ["v3"],
        "two engines": ["v3"],
        "votes": ["v3"],
    }


def test_the_same_policy_is_reached() -> None:
    said = followed(good_links())
    assert isinstance(said, dict), said
    assert said["origin"].endswith("/cometbft")
    assert len(said["witnesses"]) == len(said["logs"]) == 6


@pytest.mark.parametrize("fault", [*cosigned_faults(), *vote_faults()], ids=str)
def test_the_same_refusal_of_each_lie_in_fork_evidence(fault: Fault) -> None:
    assert convicted(fault.data, fault.policy) == fault.code


@pytest.mark.parametrize("fault", link_faults(), ids=str)
def test_the_same_refusal_of_each_lie_in_policy_links(fault: Fault) -> None:
    assert followed(fault.data, fault.policy, fault.now_ms) == fault.code


def corrupted(data: bytes, rng: random.Random) -> bytes:
    """One or two bytes changed, left out or doubled; or one place of the structure changed."""
    if rng.random() < 0.5:
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(data))
            data = (
                data[:at]
                + rng.choice((bytes([data[at] ^ 1 << rng.randrange(8)]), b"", data[at : at + 1] * 2))
                + data[at + 1 :]
            )
        return data
    items = canonical.decode(data)
    at = rng.randrange(len(items))
    items[at] = changed(items[at], rng)
    return encoded(items) or data[:-1]


@pytest.mark.parametrize("name", ["forks", "links"])
def test_bytes_and_structures_changed_at_random(name: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    rng, seen = random.Random(seed), {}
    told = convicted if name == "forks" else followed
    goods = {data: told(data) for data in (good_forks().values() if name == "forks" else [good_links()])}
    for _ in range(ROUNDS):
        data = rng.choice(list(goods))
        other, good = corrupted(data, rng), goods[data]
        if other == data:
            continue
        outcome = told(other)
        # A note's lines may change places, and a row be left out: nobody else is convicted, no other policy reached.
        assert isinstance(outcome, str) or outcome == good or (name == "forks" and {*outcome} < {*good})
        code = outcome if isinstance(outcome, str) else "accepted"
        seen[code] = seen.get(code, 0) + 1
    print(seen)
    assert len(seen) > 5


# --- the vectors ----------------------------------------------------------------------------------

VECTORS: dict[str, Any] = {
    name: json.loads((FOLDER.parent / "vectors" / f"{name}.json").read_text("utf-8"))
    for name in ("fork", "links")
}


def patched(name: str, case: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The accepted case that a refused one is made of, and the refused one's file."""
    [base] = [each for each in VECTORS[name]["accepted"] if each["why"] == case["base"]]
    data = bytes.fromhex(base["evidence" if name == "fork" else "links"])
    if "at" in case:
        data = data[: case["at"]] + bytes.fromhex(case["insert"]) + data[case["at"] + case["drop"] :]
    return base, data


def test_vectors_that_are_accepted() -> None:
    policy = VECTORS["fork"]["policy"].encode()
    for case in VECTORS["fork"]["accepted"]:
        assert convicted(bytes.fromhex(case["evidence"]), policy) == case["convicted"], case["why"]
    times = [VECTORS["links"][name] for name in ("now_ms", "trust_ms", "age_ms_max")]
    for case in VECTORS["links"]["accepted"]:
        data = bytes.fromhex(case["links"]) if "links" in case else patched("links", case)[1]
        said, wanted = followed(data, case["policy"].encode(), *times), case["reached"]
        origin, _, logs, witnesses, _, _ = verifier.read_policy(wanted.encode())
        assert said == {
            "origin": origin,
            "logs": sorted(logs.values()),
            "witnesses": {name.partition("/")[2]: key for (name, _), key in witnesses.items()},
            "time_s": policies.verified_line(wanted.encode())[0],
            "size": policies.verified_line(wanted.encode())[1],
        }, case["why"]


def test_vectors_that_are_refused() -> None:
    for case in VECTORS["fork"]["refused"]:
        _, data = patched("fork", case)
        assert convicted(data, VECTORS["fork"]["policy"].encode()) == case["code"], case["why"]
    links = VECTORS["links"]
    for case in links["refused"]:
        base, data = patched("links", case)
        policy, now_ms = case.get("policy", base["policy"]).encode(), case.get("now_ms", links["now_ms"])
        assert followed(data, policy, now_ms, links["trust_ms"], links["age_ms_max"]) == case["code"], case[
            "why"
        ]


def test_vectors_have_every_reason() -> None:
    """Of the codes that protocol.md has for each; binding and head are certified in the same words."""
    certified = {
        *(
            "malformed",
            "not_canonical",
            "policy_mismatch",
            "header_mismatch",
            "signer_unknown",
            "signer_repeated",
        ),
        *("quorum_missing", "signature_invalid", "inclusion_invalid", "map_proof_invalid"),
    }
    forked = {"policy_outdated", "contradiction_invalid", "binding_missing", "key_mismatch"}
    linked = {"policy_expired", "links_broken", "checkpoint_stale", "prefix_incomplete"}
    for name, own in (("fork", forked), ("links", linked)):
        assert {case["code"] for case in VECTORS[name]["refused"]} == certified | own
    assert sum((FOLDER.parent / "vectors" / f"{name}.json").stat().st_size for name in VECTORS) < 60 * 1024
