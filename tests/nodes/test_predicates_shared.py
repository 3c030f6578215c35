"""Proof-only mode between real nodes: a bank gets an answer and no field; a change of an input supersedes it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from custodykit import row, use_stored_keys, write_cumcm
from sharingkit import Nodes, Subject, running

from taxledger.ledger.consent import Artefact, PredicateTerms
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.ledger.query import Query
from taxledger.ledger.records import Status
from taxledger.nodes.custodian.predicatekeeper import as_of_date

PREDICATES = 12


@pytest.fixture(autouse=True)
def _stored_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    use_stored_keys(monkeypatch)


def ask(month: str = "2025-12") -> Query:
    return Query(subject="cumcm:E1", issuer=1, kinds=(PREDICATES,), from_period=month, to_period=month)


def proof_only(subject: Subject, nodes: Nodes, *predicates: PredicateTerms) -> Artefact:
    return subject.artefact(nodes.chain_id, 2, mode="proof_only", details=(), predicates=predicates)


async def answers(nodes: Nodes, artefact: Artefact) -> list[tuple[Status, object, object]]:
    """(status, amount, result) of every predicate that bank1 is shown and verifies."""
    data, _ = await nodes.ask("bank1", ask(), artefact)
    records = nodes.verify("bank1", data, ask()).answer.records
    named = [(each.status, each.fields or {}) for each in records]
    return sorted((status, fields["amount"], fields["result"]) for status, fields in named)  # type: ignore[type-var]


async def superseded(nodes: Nodes) -> None:
    """Waits until the ledger has a superseded record."""
    replica = nodes.nodes["tax"].replica
    while not any(
        value[1] == Status.SUPERSEDED for _, value in replica.certified.view.scan(b"\x01\x00\x01\x0c")
    ):
        await replica.news(20)


@pytest.mark.parametrize(
    ("to_period", "as_of"), [("2025-12", "2025-12-31"), ("2024-02", "2024-02-29"), ("2025-02", "2025-02-28")]
)
def test_the_as_of_date_is_the_last_day_asked(to_period: str, as_of: str) -> None:
    query = Query(
        subject="cumcm:E1", issuer=1, kinds=(PREDICATES,), from_period="2024-01", to_period=to_period
    )
    assert as_of_date(query) == as_of


async def test_a_bank_gets_answers_that_follow_the_records(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        rows = [row(number, date=f"2025/{number}/3") for number in range(1, 13)]
        await nodes.attest(write_cumcm(tmp_path / "a.csv", rows), through="2025-12-31")
        subject = Subject("cumcm:E1")
        await nodes.register(subject)
        for name, argument, code in (
            ("profit_at_least", 1, "predicate_unknown"),
            ("net_sales_at_least", "1", "predicate_argument_invalid"),
        ):
            unknown = proof_only(subject, nodes, PredicateTerms(name=name, argument=argument))
            with pytest.raises(RefusedError) as refused:
                await nodes.grant(unknown)
            assert refused.value.code == code
        enough, more = (PredicateTerms(name="net_sales_at_least", argument=fen) for fen in (120_000, 120_001))
        artefact = proof_only(subject, nodes, enough, more)
        await nodes.grant(artefact)
        first = [(Status.VALID, 120_000, True), (Status.VALID, 120_001, False)]
        assert await answers(nodes, artefact) == first
        with pytest.raises(RefusedError) as refused:
            await nodes.ask("bank1", ask("2026-01"), artefact)
        assert refused.value.code == "inputs_incomplete"
        # The watch is on every certified block: nobody asks for this.
        await nodes.attest(write_cumcm(tmp_path / "b.csv", [row(5, date="2025/5/3", status="作废发票")]))
        await superseded(nodes)
        assert await answers(nodes, artefact) == [
            (Status.VALID, 120_000, False),
            (Status.VALID, 120_001, False),
            (Status.SUPERSEDED, 120_000, True),
            (Status.SUPERSEDED, 120_001, False),
        ]


async def test_an_answer_of_an_earlier_date_is_not_handed_out_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has looked at the change yet when the bank asks for both months."""
    async with running(tmp_path / "net") as nodes:
        rows = [row(1, date="2025/3/3"), row(2, date="2024/12/3")]
        await nodes.attest(write_cumcm(tmp_path / "a.csv", rows), through="2025-12-31")
        subject = Subject("cumcm:E1")
        await nodes.register(subject)
        artefact = proof_only(subject, nodes, PredicateTerms(name="net_sales_at_least", argument=1))
        await nodes.grant(artefact)
        await nodes.ask("bank1", ask("2025-11"), artefact)
        custody = nodes.nodes["tax"].sharing.custody
        assert custody is not None
        monkeypatch.setattr(custody.predicates, "_watch", lambda _blocks, _height: 0.0)
        await nodes.attest(write_cumcm(tmp_path / "b.csv", [row(1, date="2025/3/3", status="作废发票")]))
        both = replace(ask(), from_period="2025-11")
        async with asyncio.timeout(30):
            while True:
                try:
                    data, _ = await nodes.ask("bank1", both, artefact)
                    break
                except UnavailableError:
                    await nodes.nodes["tax"].replica.news(1)
        shown = [(each.period, each.status) for each in nodes.verify("bank1", data, both).answer.records]
        assert shown == [("2025-11", Status.SUPERSEDED), ("2025-12", Status.VALID)]


async def test_a_node_that_was_down_supersedes_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is certified while nobody watches."""
    async with running(tmp_path / "net") as nodes:
        await nodes.attest(write_cumcm(tmp_path / "a.csv", [row(1, date="2025/3/3")]), through="2025-12-31")
        subject = Subject("cumcm:E1")
        await nodes.register(subject)
        artefact = proof_only(subject, nodes, PredicateTerms(name="net_sales_at_least", argument=1))
        await nodes.grant(artefact)
        assert await answers(nodes, artefact) == [(Status.VALID, 1, True)]
        custody = nodes.nodes["tax"].sharing.custody
        assert custody is not None
        monkeypatch.setattr(custody.predicates, "_watch", lambda _blocks, _height: 0.0)
        await nodes.attest(write_cumcm(tmp_path / "b.csv", [row(1, date="2025/3/3", status="作废发票")]))
        await nodes.stop("tax")
        nodes.start("tax")
        await nodes.ready()
        await superseded(nodes)
