"""Sharing under consent between real nodes: what is granted is shown, what is not is not, and the ledger says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from custodykit import row, use_stored_keys, write_cumcm
from sharingkit import INVOICES, Nodes, Subject, running

from taxledger.ledger.consent import Detail
from taxledger.ledger.disclosure import Disclosed
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.query import Query


@pytest.fixture(autouse=True)
def _stored_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    use_stored_keys(monkeypatch)


def ask(subject: str = "cumcm:E1", **changes: Any) -> Query:
    arguments = {"from_period": "2025-01", "to_period": "2025-12", "kinds": (INVOICES,), **changes}
    return Query(subject=subject, issuer=1, **arguments)


def invoices(path: Path, count: int, *, enterprise: str = "E1") -> Path:
    rows = [row(n, date=f"2025/{1 + n % 12}/3", enterprise=enterprise) for n in range(1, count + 1)]
    return write_cumcm(path, rows)


async def prepared(nodes: Nodes, tmp_path: Path, count: int = 30) -> Subject:
    """An enterprise with registered key and invoices on the ledger."""
    await nodes.attest(invoices(tmp_path / "e1.csv", count))
    subject = Subject("cumcm:E1")
    await nodes.register(subject)
    return subject


async def uses(nodes: Nodes, subject: Subject) -> list[tuple[int, str, int, int]]:
    """(sequence, state, planned, count) of every use of the subject's consents."""
    entries = await nodes.desk.consents(subject.name)
    return [(use.sequence, use.state, use.planned, use.count) for each in entries for use in each.uses_list]


async def settled(nodes: Nodes, subject: Subject) -> list[tuple[int, str, int, int]]:
    """``uses`` once none is open."""
    while any(state == "open" for _, state, _, _ in await uses(nodes, subject)):
        await nodes.nodes["tax"].replica.news(0.1)
    return await uses(nodes, subject)


async def test_a_bank_reads_under_a_consent_and_verifies(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = await prepared(nodes, tmp_path, 2_500)
        with pytest.raises(RefusedError, match="expected another recipient than the custodian"):
            await nodes.grant(subject.artefact(nodes.chain_id, 1))
        artefact = subject.artefact(nodes.chain_id, 2)
        receipt = await nodes.grant(artefact)
        assert receipt.status == "active"
        assert (await nodes.grant(artefact)).transaction == receipt.transaction
        request = os.urandom(16)
        data, progress = await nodes.ask("bank1", ask(), artefact, request)
        said = nodes.verify("bank1", data, ask())
        assert len(said.answer.records) == 2_500
        assert sum(each.fields["net"] for each in said.answer.records if each.fields) == 2_500 * 10_000
        assert [(each.pieces_done, each.records_done) for each in progress] == [
            (1, 0), (2, 1_000), (3, 2_000), (4, 2_500),
        ]  # fmt: skip
        assert await settled(nodes, subject) == [(1, "complete", 2_500, 2_500)]
        again, _ = await nodes.ask("bank1", ask(), artefact, request)
        assert again[:100] == data[:100]
        assert await settled(nodes, subject) == [(1, "complete", 2_500, 2_500)]


async def test_only_fields_in_scope_are_opened(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = await prepared(nodes, tmp_path)
        detail = Detail(kind=INVOICES, from_period="2025-01", to_period="2025-06", fields=("date", "net"))
        artefact = subject.artefact(nodes.chain_id, 3, details=(detail,))
        await nodes.grant(artefact)
        query = ask(to_period="2025-06")
        data, _ = await nodes.ask("bank2", query, artefact)
        said = nodes.verify("bank2", data, query)
        assert said.answer.records
        for record in said.answer.records:
            assert set(record.fields or ()) == {"date", "net"}
        with pytest.raises(RefusedError, match="consent_period_exceeded"):
            await nodes.ask("bank2", ask(), artefact)


@pytest.mark.parametrize("by", ["custodian", "preimage"])
async def test_a_revocation_is_effective_at_once(tmp_path: Path, by: str) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = await prepared(nodes, tmp_path)
        artefact = subject.artefact(nodes.chain_id, 2)
        await nodes.grant(artefact)
        await nodes.ask("bank1", ask(), artefact)
        if by == "custodian":
            await nodes.desk.instruct(subject.order(artefact, "revoke"))
        else:
            await nodes.nodes["bank3"].sharing.recipient.revoke(artefact.id(1), subject.preimage(artefact))
        with pytest.raises(RefusedError, match="consent_revoked"):
            await nodes.ask("bank1", ask(), artefact)
        assert await settled(nodes, subject) == [(1, "complete", 30, 30)]


async def test_revoked_while_streaming_the_rest_is_withheld(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = await prepared(nodes, tmp_path, 3_000)
        artefact = subject.artefact(nodes.chain_id, 2)
        await nodes.grant(artefact)
        came = []

        async def read() -> None:
            recipient = nodes.nodes["bank1"].sharing.recipient
            async for each in recipient.dossier(ask(), artefact.raw, os.urandom(16)):
                came.append(each)
                if len(came) == 2:
                    await nodes.desk.instruct(subject.order(artefact, "revoke"))

        with pytest.raises(RefusedError, match="disclosure_withheld: after 1000 records"):
            await read()
        assert await settled(nodes, subject) == [(1, "partial", 3_000, 1_000)]


def _fields(said: Disclosed) -> list[dict[str, Any]]:
    return [dict(each.fields) for each in said.answer.records if each.fields]


async def test_erasure_reaches_the_bank_and_the_ledger(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = await prepared(nodes, tmp_path)
        artefact = subject.artefact(nodes.chain_id, 2, mode="store", retention_days=30)
        await nodes.grant(artefact)
        before, _ = await nodes.ask("bank1", ask(), artefact)
        recipient = nodes.nodes["bank1"].sharing.recipient
        assert len(await recipient.stored()) == 1
        receipt = await nodes.desk.erase(ask(), reason="the enterprise asked for it")
        assert receipt.records == 30
        assert [(each.member, each.confirmed) for each in receipt.notices] == [(2, True)]
        assert await recipient.stored() == ()
        data, _ = await nodes.ask("bank1", ask(), artefact)
        after = nodes.verify("bank1", data, ask())
        assert [each.status.name for each in after.answer.records] == ["ERASED"] * 30
        assert not _fields(after)
        # What was lawfully kept elsewhere still verifies, as of its time.
        assert len(_fields(nodes.verify("bank1", before, ask()))) == 30
