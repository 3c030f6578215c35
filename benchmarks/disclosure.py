"""A dossier of 2,600 records under a consent, end to end at the bank's client: the request to the verified answer.

The custodian makes and seals the pieces, has the use certified by the network, and hands them out; the bank's node
verifies, and the client verifies again. The grant is not counted: it comes once, before. Bytes that prove the records
(those of the evidence) and bytes that prove consent and use are told apart: the latter are the same for any number of
records.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.network import YEAR, BenchNetwork, write_portfolio
from taxledger.api.custody import DossierProgress
from taxledger.ledger import limits
from taxledger.ledger.consent import Detail
from taxledger.ledger.disclosure import Disclosed, verify_disclosure
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.nodes.enterprise.terms import Wish, make_terms
from taxledger.nodes.enterprise.wallet import create_wallet

__all__ = ["measure_disclosure"]

SIZE = 2_600
ROUNDS = 7
_ENTERPRISE = 9_100
_INVOICE = 5
_RECIPIENT = 2
_SPANS = ("use_certified", "pieces", "node", "verify")
"""Request to first piece; to the last; to the file at the client, with the node's verification; its own."""


def measure_disclosure(net: BenchNetwork, folder: Path) -> list[Figure]:
    """Attests one enterprise, has it consent, and asks as bank1, again and again, each time a use of its own."""
    net.upload(write_portfolio(folder, enterprises=1, rows=SIZE, first=_ENTERPRISE, seed=7))
    query = Query(
        subject=f"cumcm:E{_ENTERPRISE}",
        issuer=net.member,
        kinds=(_INVOICE,),
        from_period=f"{YEAR}-01",
        to_period=f"{YEAR}-12",
    )
    artefact = _consent(net, query, folder)
    net.settle()
    _ask(net, query, artefact)  # connections, and the year's key in the custodian
    asked = [_ask(net, query, artefact) for _ in range(ROUNDS)]
    return _figures(asked)


def _consent(net: BenchNetwork, query: Query, folder: Path) -> bytes:
    """The artefact of a consent that is on the ledger."""
    wallet = create_wallet(folder / "wallet", query.subject)
    detail = Detail(kind=_INVOICE, from_period=query.from_period, to_period=query.to_period, fields=None)
    terms, notice = make_terms(
        Wish(recipient=_RECIPIENT, custodians={net.member: None}, details=[detail], max_uses=100),
        subject=wallet.subject,
        subject_secret=wallet.subject_secret,
        chain_id=net.chain_id,
        nonce=os.urandom(32),
        now_ms=time.time_ns() // 1_000_000,
        names={},
    )
    artefact = wallet.sign(terms, notice).raw
    with net.client() as client:
        client.register_subject(wallet.subject, wallet.public_key, authentication="benchmark")
        client.grant_consent(artefact)
    return artefact


def _ask(net: BenchNetwork, query: Query, artefact: bytes) -> tuple[list[float], Disclosed]:
    """Milliseconds of the spans, and the verified answer."""
    policy = decode_policy(net.issuer.policy())
    pieces: list[float] = []

    def on_progress(_progress: DossierProgress) -> None:
        pieces.append(time.perf_counter())

    with net.client("bank1") as client:
        client.status()  # the connection is there
        begin = time.perf_counter()
        data = client.disclosure(query, artefact, on_progress=on_progress)
        got = time.perf_counter()
        disclosed = verify_disclosure(
            data,
            policy,
            query,
            recipient=_RECIPIENT,
            now_ms=time.time_ns() // 1_000_000,
            age_ms_max=limits.answer_age_ms_default,
        )
        marks = [begin, pieces[0], pieces[-1], got, time.perf_counter()]
    if len(disclosed.answer.records) != SIZE:
        raise SystemExit(f"expected a disclosure of {SIZE} records, got {len(disclosed.answer.records)}")
    return [(to - since) * 1e3 for since, to in itertools.pairwise(marks)], disclosed


def _figures(asked: Sequence[tuple[list[float], Disclosed]]) -> list[Figure]:
    name = f"disclosure.{SIZE}"
    answer = asked[-1][1].answer
    share = answer.proof_bytes / answer.record_bytes * 100
    spans = [statistics.median(times) for times in zip(*(spans for spans, _ in asked), strict=True)]
    totals = [sum(each) for each, _ in asked]
    return [
        Figure(name=f"{name}.total", value=statistics.median(totals), unit="ms", n=len(asked), aim="≤ 1500"),
        Figure(name=f"{name}.slowest", value=max(totals), unit="ms", n=len(asked)),
        *(
            Figure(name=f"{name}.{span}", value=value, unit="ms", n=len(asked))
            for span, value in zip(_SPANS, spans, strict=True)
        ),
        Figure(name=f"{name}.evidence", value=answer.file_bytes, unit="B", n=1),
        Figure(name=f"{name}.proof", value=answer.proof_bytes, unit="B", n=1),
        Figure(name=f"{name}.proof_share", value=share, unit="%", n=1, aim="≤ 1"),
        Figure(name=f"{name}.consent", value=asked[-1][1].consent_bytes, unit="B", n=1),
    ]
