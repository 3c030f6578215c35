"""Permits and pledges between real nodes: only what was shown, to whom it was shown, once, and never twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from custodykit import row, use_stored_keys, write_cumcm
from sharingkit import INVOICES, Nodes, Subject, running

from taxledger.ledger.consent import Artefact
from taxledger.ledger.errors import InputError, RefusedError
from taxledger.ledger.operations import encode_pledge
from taxledger.ledger.permit import Permit, decode_permit, encode_permit
from taxledger.ledger.pledgeoperations import PledgePlace
from taxledger.ledger.pledgeproof import verify_pledges
from taxledger.ledger.pledgestate import pledge_id
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.records import decode_record_value
from taxledger.nodes.custodian.permitting import PERMIT_MS_MAX
from taxledger.nodes.recipient.pledging import Lender, _place_of

QUERY = Query(subject="cumcm:E1", issuer=1, kinds=(INVOICES,), from_period="2025-01", to_period="2025-12")
WHOLE = 1_000_000


@pytest.fixture(autouse=True)
def _stored_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    use_stored_keys(monkeypatch)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def soon() -> int:
    return now_ms() + 3_600_000


class Shown:
    """What a bank was shown under a consent, and what it may do with it."""

    def __init__(self, nodes: Nodes, bank: str, artefact: Artefact, keys: list[bytes], sequence: int) -> None:
        self.nodes, self.bank, self.artefact, self.keys, self.sequence = nodes, bank, artefact, keys, sequence

    @property
    def lender(self) -> Lender:
        return self.nodes.nodes[self.bank].sharing.lender

    async def permits(
        self, *keys: bytes, bank: str | None = None, sequence: int | None = None
    ) -> list[bytes]:
        lender = self.nodes.nodes[bank or self.bank].sharing.lender
        return list(
            await lender.permits(self.artefact.id(1), sequence or self.sequence, keys or self.keys, soon())
        )


async def show(nodes: Nodes, subject: Subject, bank: str, **changes: Any) -> Shown:
    number = nodes.homes[bank].config.number
    artefact = subject.artefact(nodes.chain_id, number, **{"may_pledge": True, **changes})
    await nodes.grant(artefact)
    data, progress = await nodes.ask(bank, QUERY, artefact)
    said = nodes.verify(bank, data, QUERY)
    return Shown(nodes, bank, artefact, [each.key for each in said.answer.records], progress[-1].sequence)


@asynccontextmanager
async def prepared(tmp_path: Path, count: int = 6) -> AsyncIterator[tuple[Nodes, Subject]]:
    async with running(tmp_path / "net") as nodes:
        rows = [row(n, date=f"2025/{1 + n % 12}/3", net=f"{n}.00") for n in range(1, count + 1)]
        await nodes.attest(write_cumcm(tmp_path / "e1.csv", rows))
        subject = Subject("cumcm:E1")
        await nodes.register(subject)
        yield nodes, subject


async def refused(code: str, work: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        await work
    assert caught.value.code == code


def altered(raw: bytes, **changes: Any) -> bytes:
    return encode_permit(replace(decode_permit(raw), **changes))


async def test_what_was_shown_is_pledged_once(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (nodes, subject):
        shown = await show(nodes, subject, "bank1")
        permits = await shown.permits()
        assert await shown.permits() != []
        opened = [decode_permit(each) for each in permits]
        assert [each.record_key for each in opened] == shown.keys
        assert {each.lender for each in opened} == {2}
        assert all(now_ms() < each.not_after <= now_ms() + PERMIT_MS_MAX for each in opened)
        lender, nonce = shown.lender, bytes(16)
        both = await asyncio.gather(*(lender.place(permits[0], 600_000, None, nonce) for _ in range(2)))
        assert both[0] == both[1]
        await refused("pledge_exists", lender.place(permits[0], 700_000, None, nonce))
        await refused("pledge_exceeds", lender.place(permits[0], 400_001, None, bytes([1]) * 16))
        other = await show(nodes, subject, "bank2")
        (theirs,) = await other.permits(shown.keys[0])
        second = await other.lender.place(theirs, 400_000, soon(), nonce)
        fingerprint = opened[0].fingerprint
        keys = [(1, fingerprint), (1, opened[1].fingerprint)]
        data = await lender.proof(keys)
        policy = decode_policy(nodes.homes["bank3"].policy())
        said = verify_pledges(data, policy, keys, now_ms=now_ms(), age_ms_max=600_000)
        state = said.states[1, fingerprint]
        assert [(each.member, each.ppm) for each in state.pledges] == [(2, 600_000), (3, 400_000)]
        assert said.states[keys[1]].is_free
        await refused("not_pledgee", lender.release(second.pledge))
        assert (await other.lender.confirm(second.pledge)).operation == "confirm"
        again = await other.lender.confirm(second.pledge)
        assert again == await other.lender.confirm(second.pledge)
        released = await lender.release(both[0].pledge)
        assert released == await lender.release(both[0].pledge)
        await refused("pledge_unknown", lender.release(bytes(16)))
        # The same place again is the same pledge, which has ended: it does not come back.
        assert (await lender.place(permits[0], 600_000, None, nonce)).transaction == both[0].transaction
        after = verify_pledges(await lender.proof(keys), policy, keys, now_ms=now_ms(), age_ms_max=600_000)
        assert after.states[1, fingerprint].pledged_ppm == 400_000


async def test_a_release_comes_after_the_place_that_is_under_way(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (nodes, subject):
        shown = await show(nodes, subject, "bank1")
        (raw,), lender, nonce = await shown.permits(shown.keys[0]), shown.lender, bytes(16)
        permit = decode_permit(raw)
        key = (permit.issuer, permit.fingerprint)
        pledge = pledge_id(2, *key, nonce)
        place = PledgePlace(permit=permit, ppm=WHOLE, not_after=None, nonce=nonce)
        # Stored and not sent yet: as while the engine is down, and the caller has given up waiting.
        await asyncio.to_thread(lender._store, _place_of("place", pledge), encode_pledge(place))
        assert (await lender.release(pledge)).operation == "release"
        assert (await lender.place(raw, WHOLE, None, nonce)).pledge == pledge, "it was placed, and has ended"
        policy = decode_policy(nodes.homes["bank3"].policy())
        said = verify_pledges(await lender.proof([key]), policy, [key], now_ms=now_ms(), age_ms_max=600_000)
        assert said.states[key].is_free


async def test_a_pledge_goes_from_bank_to_bank_and_back(tmp_path: Path) -> None:
    async with prepared(tmp_path, 2) as (nodes, subject):
        first, second = await show(nodes, subject, "bank1"), await show(nodes, subject, "bank2")
        (mine,), (theirs,) = await first.permits(first.keys[0]), await second.permits(first.keys[0])
        pledge = (await first.lender.place(mine, WHOLE, None, bytes(16))).pledge
        await refused("lender_inactive", first.lender.transfer(pledge, mine))
        there = await first.lender.transfer(pledge, theirs)
        assert there == await first.lender.transfer(pledge, theirs)
        await refused("not_pledgee", first.lender.release(pledge))
        await second.lender.transfer(pledge, mine)
        again = await first.lender.transfer(pledge, theirs)
        assert again.height > there.height
        assert (await second.lender.release(pledge)).operation == "release"


async def test_no_permit_but_for_what_was_shown_to_whom(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (nodes, subject):
        shown = await show(nodes, subject, "bank1")
        view_only = await show(nodes, subject, "bank2", may_pledge=False)
        await refused("pledge_not_consented", view_only.permits())
        await refused("consent_recipient_mismatch", shown.permits(bank="bank2"))
        await refused("record_not_disclosed", shown.permits(sequence=9))
        strange = shown.keys[0][:21] + bytes(16)
        await refused("record_not_disclosed", shown.permits(*shown.keys, strange))
        with pytest.raises(InputError):
            await shown.permits(shown.keys[0], shown.keys[0])
        foreign = bytes([1, 0, 3]) + shown.keys[0][3:]
        await refused("custodian_refused", shown.lender.permits(shown.artefact.id(1), 1, [foreign], soon()))
        await refused("permit_expired", shown.lender.permits(shown.artefact.id(1), 1, shown.keys, 1))
        # Used up is no obstacle: the records were shown. Revoked is.
        narrow = await show(nodes, subject, "bank3", max_uses=1, frequency="once")
        assert len(await narrow.permits()) == 6
        await nodes.desk.instruct(subject.order(narrow.artefact, "revoke"))
        await refused("consent_revoked", narrow.permits())


async def test_a_record_that_changed_is_not_permitted(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (nodes, subject):
        shown = await show(nodes, subject, "bank1")
        permits = await shown.permits()
        rows = [row(n, date=f"2025/{1 + n % 12}/3", net=f"{n}.00", status="作废发票") for n in (1, 2)]
        await nodes.attest(write_cumcm(tmp_path / "void.csv", rows))
        await refused("record_not_valid", shown.permits())
        codes = []
        for number, each in enumerate(permits):
            try:
                await shown.lender.place(each, WHOLE, None, bytes([number]) * 16)
            except RefusedError as error:
                codes.append(error.code)
        assert codes == ["record_not_valid"] * 2
        again = await show(nodes, subject, "bank1")
        values = nodes.nodes["tax"].replica.certified.view
        voided = [key for key in shown.keys if decode_record_value(values.get(key) or b"").status != 1]
        assert len(voided) == 2
        for key in voided:
            await refused("record_not_disclosed", again.permits(key))
        assert len(await again.permits(*(key for key in shown.keys if key not in voided))) == 4


async def test_nobody_pledges_with_a_permit_that_is_none(tmp_path: Path) -> None:
    async with prepared(tmp_path, 2) as (nodes, subject):
        shown = await show(nodes, subject, "bank1")
        first, second = await shown.permits()
        thief = nodes.nodes["bank2"].sharing.lender
        await refused("permit_not_for_signer", thief.place(first, WHOLE, None, bytes(16)))
        opened = decode_permit(second)
        tries: list[tuple[str, bytes]] = [
            ("permit_invalid", altered(first, lender=3)),
            ("permit_invalid", altered(first, record_key=opened.record_key, fingerprint=opened.fingerprint)),
            ("permit_invalid", altered(first, not_after=soon() * 2)),
            ("permit_invalid", altered(first, version=2)),
            ("permit_invalid", altered(first, signature=bytes(64))),
            ("permit_invalid", altered(first, key=bytes(16))),
        ]
        for number, (code, permit) in enumerate(tries):
            for lender in (thief, shown.lender):
                await refused(code, lender.place(permit, WHOLE, None, bytes([1 + number]) * 16))
        with pytest.raises(InputError):
            await thief.place(first[:-1], WHOLE, None, bytes(16))
        keys = [(1, decode_permit(each).fingerprint) for each in (first, second)]
        policy = decode_policy(nodes.homes["bank3"].policy())
        said = verify_pledges(await thief.proof(keys), policy, keys, now_ms=now_ms(), age_ms_max=600_000)
        assert all(each.is_free for each in said.states.values())


async def test_a_custodian_that_lies_gives_no_permit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with prepared(tmp_path, 2) as (nodes, subject):
        shown = await show(nodes, subject, "bank1")
        custody: Any = nodes.nodes["tax"].sharing.custody
        honest = custody.permitter._sign

        def lying(change: Any) -> None:
            monkeypatch.setattr(custody.permitter, "_sign", lambda *given: change(honest(*given)))

        def each(**changes: Any) -> Any:
            return lambda permits: [altered(one, **changes) for one in permits]

        for change in (
            each(lender=3), each(not_after=soon() * 2), each(signature=bytes(64)), lambda permits: permits[:1],
            lambda permits: permits[::-1], lambda permits: [b"", b""], lambda permits: [1, 2],
        ):  # fmt: skip
            lying(change)
            await refused("permit_invalid", shown.permits())


async def test_a_place_that_was_cut_off_is_brought_to_its_end(tmp_path: Path) -> None:
    async with prepared(tmp_path, 2) as (nodes, subject):
        shown = await show(nodes, subject, "bank1")
        first, _ = await shown.permits()
        lender: Any = shown.lender
        bring = lender._transactions.bring

        async def die(_place: bytes) -> Any:
            raise RuntimeError("cut off after it was stored")

        lender._transactions.bring = die
        with pytest.raises(RuntimeError):
            await lender.place(first, WHOLE, None, bytes(16))
        lender._transactions.bring = bring
        await nodes.stop("bank1")
        nodes.start("bank1")
        await nodes.ready()
        keys = [(1, decode_permit(first).fingerprint)]
        async with asyncio.timeout(30):
            placed = await shown.lender.place(first, WHOLE, None, bytes(16))
        policy = decode_policy(nodes.homes["bank3"].policy())
        said = verify_pledges(
            await shown.lender.proof(keys), policy, keys, now_ms=now_ms(), age_ms_max=600_000
        )
        assert [each.id for each in said.states[keys[0]].pledges] == [placed.pledge]


def test_a_permit_is_small(tmp_path: Path) -> None:
    """As many as may be asked for at once fit an answer."""
    from taxledger.ledger import limits

    largest = Permit(
        record_key=bytes([1]) + bytes(36),
        version=2**32 - 1,
        fingerprint=bytes(16),
        lender=65_535,
        not_after=limits.integer_max,
        key=bytes(16),
        signature=bytes(64),
    )
    assert len(encode_permit(largest)) + 3 <= 300
