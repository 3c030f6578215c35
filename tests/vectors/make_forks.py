"""Vectors of fork evidence and policy links (docs/protocol.md §17, §18), of the lies in tests/ledger/forkcheats.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

import forkcheats as cheats

from taxledger.ledger.fork import verify_fork
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.policychain import follow_links
from taxledger.ledger.policydate import read_verified

Json = dict[str, Any]
BYTES_MAX = 480
"""A lie that takes a longer insertion stays out where another one has the same code: the files are to be small."""


def patch(good: bytes, bad: bytes) -> Json:
    """How a file differs from the good one that it was made of."""
    if good == bad:
        return {}
    shorter = min(len(good), len(bad))
    at = next((n for n in range(shorter) if good[n] != bad[n]), shorter)
    end = next((n for n in range(shorter - at) if good[-1 - n] != bad[-1 - n]), shorter - at)
    return {"at": at, "drop": len(good) - end - at, "insert": bad[at : len(bad) - end].hex()}


def refused(fault: cheats.Fault, good: bytes) -> Json:
    case: Json = {"why": fault.why, "code": fault.code, "base": fault.base, **patch(good, fault.data)}
    if fault.policy is not None:
        case["policy"] = fault.policy.decode()
    if fault.now_ms is not None:
        case["now_ms"] = fault.now_ms
    return case


def small(cases: list[Json]) -> list[Json]:
    """Those with a short insertion, and of each code that has none the shortest."""
    size = lambda case: len(case.get("insert", "")) // 2  # noqa: E731
    least = {case["code"]: case for case in sorted(cases, key=size, reverse=True)}
    return [case for case in cases if size(case) <= BYTES_MAX or case is least[case["code"]]]


def fork_vectors() -> Json:
    goods, policy = cheats.good_forks(), decode_policy(cheats.fork_policy())
    faults = [*cheats.cosigned_faults(), *cheats.vote_faults()]
    return {
        "policy": cheats.fork_policy().decode(),
        "accepted": [
            {"why": why, "evidence": data.hex(), "convicted": list(verify_fork(data, policy))}
            for why, data in goods.items()
        ],
        "refused": small([refused(fault, goods[fault.base]) for fault in faults]),
    }


def followed(why: str, data: bytes, policy: bytes) -> Json:
    said = follow_links(
        decode_policy(policy),
        read_verified(policy),
        data,
        now_ms=cheats.links_now_ms(),
        trust_ms=cheats.TRUST_MS,
        age_ms_max=cheats.AGE_MS_MAX,
    )
    good = cheats.good_links()
    file = {"links": data.hex()} if data == good else {"base": "handover", **patch(good, data)}
    return {"why": why, "policy": policy.decode(), **file, "reached": said.data.decode()}


def link_vectors() -> Json:
    good = cheats.good_links()
    return {
        "now_ms": cheats.links_now_ms(),
        "trust_ms": cheats.TRUST_MS,
        "age_ms_max": cheats.AGE_MS_MAX,
        "accepted": [
            followed("handover", good, cheats.links_policy()),
            followed("nothing changed", cheats.head_alone(), cheats.newest_policy()),
        ],
        "refused": small([refused(fault, good) for fault in cheats.link_faults()]),
    }


VECTORS = {"fork.json": fork_vectors, "links.json": link_vectors}
