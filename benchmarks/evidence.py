"""Evidence of 1, 100 and 2,600 records: how large it is, what of it is proof, and how long a bank verifies it.

Made by the issuer's own node of a running network over all that the other measurements attested before. The range
is the whole year, so that one prefix shows all of an enterprise's invoices.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.figures import Figure, median_us
from benchmarks.network import YEAR, BenchNetwork, write_portfolio
from taxledger.ledger import limits
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.verify import verify_evidence

__all__ = ["SIZES", "measure_evidence"]

SIZES = (1, 100, 2_600)
_FIRST = 9_000
_INVOICE = 5


def measure_evidence(net: BenchNetwork, folder: Path) -> list[Figure]:
    """Attests one enterprise for each size, then asks for it at the issuer."""
    for number, size in enumerate(SIZES):
        net.upload(
            write_portfolio(folder / str(size), enterprises=1, rows=size, first=_FIRST + number, seed=7)
        )
    net.settle()
    return [figure for number, size in enumerate(SIZES) for figure in _measure(net, _FIRST + number, size)]


def _measure(net: BenchNetwork, enterprise: int, size: int) -> list[Figure]:
    query = Query(
        subject=f"cumcm:E{enterprise}",
        issuer=net.member,
        kinds=(_INVOICE,),
        from_period=f"{YEAR}-01",
        to_period=f"{YEAR}-12",
    )
    policy = decode_policy(net.issuer.policy())
    with net.client() as client:
        data = client.dossier(query)
        made_us = median_us(lambda: client.dossier(query), calls=1, rounds=5)
    now_ms = time.time_ns() // 1_000_000

    def verify() -> object:
        return verify_evidence(data, policy, query, now_ms=now_ms, age_ms_max=limits.answer_age_ms_default)

    answer = verify_evidence(data, policy, query, now_ms=now_ms, age_ms_max=limits.answer_age_ms_default)
    if len(answer.records) != size:
        raise SystemExit(f"expected evidence of {size} records, got {len(answer.records)}")
    calls = max(1, 200 // size)
    verify_us = median_us(verify, calls=calls, rounds=7)
    cpu_us = median_us(verify, calls=calls, rounds=7, clock=time.thread_time)
    name, share = f"evidence.{size}", answer.proof_bytes / answer.record_bytes * 100
    return [
        Figure(name=f"{name}.file", value=len(data), unit="B", n=1),
        Figure(name=f"{name}.proof", value=answer.proof_bytes, unit="B", n=1),
        Figure(name=f"{name}.records", value=answer.record_bytes, unit="B", n=size),
        Figure(
            name=f"{name}.proof_share", value=share, unit="%", n=1, aim="≤ 1" if size == SIZES[-1] else None
        ),
        Figure(name=f"{name}.proof_of_file", value=answer.proof_bytes / len(data) * 100, unit="%", n=1),
        Figure(name=f"{name}.fetch", value=made_us / 1e3, unit="ms", n=5),
        Figure(name=f"{name}.verify", value=verify_us / 1e3, unit="ms", n=7 * calls),
        Figure(name=f"{name}.verify_cpu", value=cpu_us / 1e3, unit="ms", n=7 * calls),
    ]
