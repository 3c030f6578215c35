"""Sharing of data between members under consent: its parts put together for one node.

own transactions ──▶ custody (issuers): desk, discloser, predicates, eraser ◀── peers: disclose, piece, grant, permit
                └──▶ recipient (everyone): asking, what is kept, sweeper, lender ◀── peers: erase_notice
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from taxledger.ledger.errors import UnavailableError
from taxledger.ledger.members import member_of
from taxledger.nodes.answers import Answers
from taxledger.nodes.background import Background
from taxledger.nodes.custodian.consentgate import ConsentGate
from taxledger.nodes.custodian.custody import CustodyBook
from taxledger.nodes.custodian.desk import ConsentDesk
from taxledger.nodes.custodian.disclosing import Discloser
from taxledger.nodes.custodian.dossier import Custodian
from taxledger.nodes.custodian.erasing import Eraser
from taxledger.nodes.custodian.forwarded import grant_handler
from taxledger.nodes.custodian.loopsubmitter import LoopSubmitter
from taxledger.nodes.custodian.openuses import OpenUses
from taxledger.nodes.custodian.permitting import Permitter
from taxledger.nodes.custodian.predicatekeeper import PredicateKeeper
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.home import Home
from taxledger.nodes.identity.memberkeys import KeyInForce, hpke_key_of
from taxledger.nodes.own import OwnTransactions
from taxledger.nodes.peering.transport import Handler, PeerClient
from taxledger.nodes.policies import policy_of
from taxledger.nodes.recipient.asking import Recipient
from taxledger.nodes.recipient.pledging import Lender
from taxledger.nodes.recipient.store import ReceivedStore
from taxledger.nodes.recipient.sweeper import Sweeper
from taxledger.nodes.replica import Replica
from taxledger.nodes.sealed.homekeys import open_key_provider

__all__ = ["CustodyParts", "Sharing"]

_NOTICE_MS = 60_000


class CustodyParts:
    """What only a custodian's node has."""

    def __init__(
        self,
        home: Home,
        *,
        custodian: Custodian,
        replica: Replica,
        answers: Answers,
        peers: Mapping[int, PeerClient],
        own: OwnTransactions,
        transaction_key: KeyInForce,
        background: Background,
        is_current: Callable[[], bool],
        idle_ms: int,
    ) -> None:
        member, chain_id = home.config.number, replica.application.chain.chain_id
        self.book = CustodyBook(home.path / "custody.sqlite", open_key_provider(home), own)
        self.uses = OpenUses(self.book, replica, background, idle_ms=idle_ms)
        provider = open_key_provider(home)

        def open_vault() -> Vault | None:
            if not home.vault_path.exists():
                return None
            return Vault.open(home.vault_path, provider, chain_id=chain_id, member=member)

        submitter = LoopSubmitter(asyncio.get_running_loop(), answers)
        self.predicates = PredicateKeeper(
            open_vault=open_vault,
            signer=transaction_key,
            submitter=submitter,
            replica=replica,
        )
        gate = ConsentGate(member=member, replica=replica, is_current=is_current, now_ms=_clock_ms)
        self.discloser = Discloser(
            member=member,
            custodian=custodian,
            book=self.book,
            uses=self.uses,
            gate=gate,
            notes=answers.notes,
            predicates=self.predicates.answer,
            background=background,
        )
        self.permitter = Permitter(
            member=member,
            chain_id=chain_id,
            book=self.book,
            gate=gate,
            signer=transaction_key.present,
            now_ms=_clock_ms,
        )
        self.eraser = Eraser(
            open_vault=open_vault,
            member=member,
            signer=transaction_key,
            submitter=submitter,
            state_value=lambda key: replica.certified.view.get(key),
            recipients=self.book.recipients_of,
            forget=self.book.forget_consents,
            tell=partial(_tell, peers),
        )
        self.desk = ConsentDesk(
            member=member,
            chain_id=chain_id,
            custodian=custodian,
            book=self.book,
            replica=replica,
            eraser=self.eraser,
            background=background,
        )

    def handlers(self) -> dict[str, Handler]:
        return {
            "disclose": self.discloser.on_disclose,
            "piece": self.discloser.on_piece,
            "grant": grant_handler(self.desk),
            "permit": self.permitter.on_permit,
        }

    def tasks(self) -> dict[str, Awaitable[None]]:
        return {
            "open uses": self.uses.run(),
            "predicates": self.predicates.run(),
            "eraser": self.eraser.run(),
            "consents": self.desk.run(),
        }


class Sharing:
    """Made with the node, on the event loop.

    Args:
        home: of the member; ``custodian`` where it keeps records.
        replica, answers, peers: the node's.
        transaction_key: the member's, the one that is in force.
        is_current: whether this node hears of blocks, and has all.
        idle_ms: see ``OpenUses``; ``sweep_s`` between two sweeps.

    Attributes:
        custody: None where the member issues nothing (when it starts to, its node is started again).
        recipient, lender: for the API.
    """

    def __init__(
        self,
        home: Home,
        *,
        custodian: Custodian | None,
        replica: Replica,
        answers: Answers,
        peers: Mapping[int, PeerClient],
        transaction_key: KeyInForce,
        is_current: Callable[[], bool],
        idle_ms: int,
        sweep_s: float,
    ) -> None:
        number = home.config.number
        own = OwnTransactions(
            member=number,
            chain_id=replica.application.chain.chain_id,
            signer=transaction_key.present,
            answers=answers,
            clock=time.time,
        )
        self._background = Background(lambda: answers.engine.writes if answers.engine is not None else None)
        member = member_of(replica.certified.view, number)
        self.custody: CustodyParts | None = None
        if custodian is not None and member is not None and member.kinds:
            self.custody = CustodyParts(
                home,
                custodian=custodian,
                replica=replica,
                answers=answers,
                peers=peers,
                own=own,
                transaction_key=transaction_key,
                background=self._background,
                is_current=is_current,
                idle_ms=idle_ms,
            )
        self._received = ReceivedStore.open(home.path / "received.sqlite", open_key_provider(home))
        self._sweeper = Sweeper(
            self._received,
            member=number,
            submit=own.submit,
            state_value=lambda key: replica.certified.view.get(key),
            now_ms=partial(_now_ms, replica),
            interval_s=sweep_s,
        )
        self.recipient = Recipient(
            member=number,
            policy=lambda: policy_of(replica.certified),
            peers=peers,
            hpke_key=partial(hpke_key_of, home),
            own=own,
            kept=self._received,
            discard=self._sweeper.discard,
            now_ms=partial(_now_ms, replica),
        )

        self.lender = Lender(
            home.path / "pledges.sqlite",
            member=number,
            chain_id=replica.application.chain.chain_id,
            peers=peers,
            own=own,
            certified=lambda: replica.certified,
            notes=answers.notes,
            background=self._background,
        )

    @property
    def desk(self) -> ConsentDesk | None:
        """For the API; None where the member issues nothing."""
        return None if self.custody is None else self.custody.desk

    def handlers(self) -> dict[str, Handler]:
        """Peer verbs."""
        custody = self.custody.handlers() if self.custody is not None else {}
        return {"erase_notice": self._sweeper.on_erase_notice, **custody}

    def tasks(self) -> dict[str, Awaitable[None]]:
        """What runs as long as the node does."""
        custody = self.custody.tasks() if self.custody is not None else {}
        return {"sweeper": self._sweeper.run(), "pledges": self.lender.run(), **custody}

    async def stop(self) -> None:
        """After the tasks have ended: nothing is begun any more, and the stores are closed."""
        await self._background.stop()
        if self.custody is not None:
            await asyncio.to_thread(self.custody.predicates.close)
            await asyncio.to_thread(self.custody.eraser.close)
            await asyncio.to_thread(self.custody.book.close_store)
        await asyncio.to_thread(self._received.close)
        await asyncio.to_thread(self.lender.close)


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _now_ms(replica: Replica) -> int:
    """Milliseconds since 1970; not before the validators' certified time, so that a clock that was set back keeps
    nothing beyond its retention. Of q co-signatures the oldest: no lying validator can bring an end forward.
    """
    return max(time.time_ns() // 1_000_000, replica.certified.cosigned_time_ms or 0)


async def _tell(peers: Mapping[int, PeerClient], member: int, message: list[object]) -> bytes:
    """One erasure notice; the recipient answers when what it destroyed is certified."""
    peer = peers.get(member)
    if peer is None:
        raise UnavailableError(f"member {member} has no node here")
    return await peer.call("erase_notice", message, timeout_ms=_NOTICE_MS)
