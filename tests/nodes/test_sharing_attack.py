"""Sharing under attack: another subject's consent, a clock that is set back, instructions that overtake each other."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from custodykit import use_stored_keys
from sharingkit import INVOICES, Subject, running
from test_sharing import ask, prepared

from taxledger.ledger.consent import Detail
from taxledger.ledger.errors import FormatError, RefusedError, UnavailableError
from taxledger.ledger.records import check_subject


@pytest.fixture(autouse=True)
def _stored_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    use_stored_keys(monkeypatch)


async def test_a_copied_holder_ends_no_consent_of_another_subject(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        victim, thief = Subject("cumcm:E1"), Subject("cumcm:E2")
        await nodes.register(victim)
        await nodes.register(thief)
        theirs = victim.artefact(nodes.chain_id, 2)
        await nodes.grant(theirs)
        # Holder and consent stand on the ledger for every member to see.
        forged = thief.artefact(nodes.chain_id, 2, former=theirs.id(1), holder=theirs.terms.holder)
        with pytest.raises(RefusedError, match="consent_terms_invalid"):
            await nodes.grant(forged)
        elsewhere = victim.artefact(nodes.chain_id, 3, former=theirs.id(1), holder=theirs.terms.holder)
        with pytest.raises(RefusedError, match="consent_terms_invalid"):
            await nodes.grant(elsewhere)
        with pytest.raises(RefusedError, match="consent_unknown"):
            await nodes.grant(victim.artefact(nodes.chain_id, 2, former=bytes(16)))
        assert [each.status for each in await nodes.desk.consents(victim.name)] == ["active"]
        await nodes.grant(victim.artefact(nodes.chain_id, 2, former=theirs.id(1)))
        said = await nodes.desk.consents(victim.name)
        assert sorted(each.status for each in said) == ["active", "superseded"]


async def test_a_copied_holder_is_refused_where_its_owner_is_known(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        victim, thief = Subject("cumcm:E1"), Subject("cumcm:E2")
        await nodes.register(victim)
        await nodes.register(thief)
        theirs = victim.artefact(nodes.chain_id, 2)
        await nodes.grant(theirs)
        with pytest.raises(RefusedError, match="another subject's"):
            await nodes.grant(thief.artefact(nodes.chain_id, 2, holder=theirs.terms.holder))
        assert not await nodes.desk.consents(thief.name)
        await nodes.grant(victim.artefact(nodes.chain_id, 2))
        await nodes.grant(thief.artefact(nodes.chain_id, 2))


async def test_who_copied_a_holder_from_another_custodian_keeps_its_owner_not_out(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        victim, thief = Subject("cumcm:E1"), Subject("cumcm:E2")
        await nodes.register(victim)
        await nodes.register(thief)
        theirs = victim.artefact(nodes.chain_id, 2)
        await nodes.grant(theirs)
        book = nodes.desk._book
        known = book.subject_hash
        # As if that first consent were another custodian's: on the ledger, and in no book here.
        book.subject_hash = lambda consent: None if consent == theirs.id(1) else known(consent)
        await nodes.grant(thief.artefact(nodes.chain_id, 2, holder=theirs.terms.holder))
        await nodes.grant(victim.artefact(nodes.chain_id, 2))


async def test_a_clock_set_back_hands_out_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = await prepared(nodes, tmp_path)
        artefact = subject.artefact(nodes.chain_id, 2)
        await nodes.grant(artefact)
        gate: Any = nodes.nodes["tax"].sharing.custody.discloser._gate  # type: ignore[union-attr]
        gate._now_ms = lambda: time.time_ns() // 1_000_000 - 3_600_000
        with pytest.raises(UnavailableError, match="behind the certified state"):
            gate.fresh_state()
        gate._now_ms = lambda: time.time_ns() // 1_000_000
        data, _ = await nodes.ask("bank1", ask(), artefact)
        assert nodes.verify("bank1", data, ask()).answer.records


async def test_a_clock_set_back_keeps_nothing_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = Subject("cumcm:E1")
        await nodes.register(subject)
        await nodes.grant(subject.artefact(nodes.chain_id, 2))  # so that there is a block
        node = nodes.nodes["bank1"]
        sharing: Any = node.sharing
        async with asyncio.timeout(30):
            while not (certified := node.replica.certified.cosigned_time_ms):
                await node.replica.news(1)
        with monkeypatch.context() as patched:
            patched.setattr(time, "time_ns", lambda: 0)
            assert sharing._sweeper._now_ms() >= certified
            assert sharing.recipient._now_ms() >= certified


async def test_the_last_instruction_is_the_last_on_the_ledger(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = Subject("cumcm:E1")
        await nodes.register(subject)
        artefact = subject.artefact(nodes.chain_id, 2)
        await nodes.grant(artefact)
        await nodes.desk.instruct(subject.order(artefact, "pause"))
        own: Any = nodes.desk._book.transactions._own
        deliver, entered, gate = own.deliver, asyncio.Event(), asyncio.Event()
        first: list[bytes] = []

        async def slow(signed: Any, **options: Any) -> Any:
            """The first one is held up until another was delivered, or it is brought again."""
            if not first:
                first.append(signed.id)
                entered.set()
                await gate.wait()
            elif signed.id == first[0]:
                gate.set()
            said = await deliver(signed, **options)
            gate.set()
            return said

        own.deliver = slow
        resume = asyncio.ensure_future(nodes.desk.instruct(subject.order(artefact, "resume")))
        await entered.wait()
        assert (await nodes.desk.instruct(subject.order(artefact, "pause"))).status == "paused"
        await resume
        assert [each.status for each in await nodes.desk.consents(subject.name)] == ["paused"]


async def test_a_long_list_of_fields_reads_each_schema_once(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = await prepared(nodes, tmp_path)
        months = [f"2025-{month:02}" for month in range(1, 13)]
        details = tuple(
            Detail(kind=INVOICES, from_period=month, to_period="2025-12", fields=("date", "net"))
            for month in months
        )
        read: list[int] = []
        fields = nodes.desk._fields
        nodes.desk._fields = lambda state, kind: read.append(kind) or fields(state, kind)
        await nodes.grant(subject.artefact(nodes.chain_id, 2, details=details))
        assert read == [INVOICES]


async def test_each_instruction_of_a_second_counts(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = Subject("cumcm:E1")
        await nodes.register(subject)
        artefact = subject.artefact(nodes.chain_id, 2)
        await nodes.grant(artefact)
        own: Any = nodes.desk._book.transactions._own
        now_s = time.time()
        own._clock = lambda: now_s
        for action in ("pause", "resume", "pause"):
            await nodes.desk.instruct(subject.order(artefact, action))
        assert [each.status for each in await nodes.desk.consents(subject.name)] == ["paused"]


@pytest.mark.parametrize("subject", ["secret enterprise", "uscc:secret\n", "uscc:secret\ud800"])
def test_a_refused_subject_stays_out_of_the_message(subject: str) -> None:
    with pytest.raises(FormatError) as caught:
        check_subject(subject)
    assert "secret" not in str(caught.value)
