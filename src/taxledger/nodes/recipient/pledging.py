"""A lender's pledges: placed, confirmed, released and transferred by its node's own transactions.

What was asked for is durable, signed, before it is sent (``own.StoredTransactions``): the same again, also after a
crash, gets the first outcome and places nothing twice. A pledge's nonce is the caller's, so its id says which request
it is. The store holds only what stands on the ledger, or was refused by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from taxledger.api.pledging import PledgeReceipt
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.ledger.operations import encode_pledge
from taxledger.ledger.permit import decode_permit
from taxledger.ledger.pledgeoperations import (
    PledgeConfirm,
    PledgeOperation,
    PledgePlace,
    PledgeRelease,
    PledgeTransfer,
)
from taxledger.ledger.pledgeproof import PledgeKey, encode_pledge_proof, prove_pledges
from taxledger.ledger.pledgestate import Pledge, entry_of, placement_of, pledge_id
from taxledger.ledger.shapes import fixed_bytes
from taxledger.ledger.transaction import decode_transaction
from taxledger.nodes.background import Background, Locks
from taxledger.nodes.notes import Notes
from taxledger.nodes.own import SENT_TABLE, OwnTransactions, Sent, StoredTransactions, require_accepted
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.recipient.permits import ask_permits
from taxledger.nodes.replica import CertifiedState
from taxledger.nodes.sealed.database import Database

__all__ = ["Lender"]

_WAIT_S = 30.0
_PLACE, _CONFIRM, _RELEASE, _TRANSFER = "place", "confirm", "release", "transfer"


class Lender:
    """Implements ``api.pledging.Pledging``. Lives on the event loop.

    Args:
        path: the SQLite file of its transactions.
        member: this member's number; ``chain_id`` of the ledger.
        peers: the other members' nodes.
        own: signs and submits this member's transactions.
        certified: gives the newest certified state; ``notes`` of it.
        background: what is begun goes on there.
    """

    def __init__(
        self,
        path: Path,
        *,
        member: int,
        chain_id: bytes,
        peers: Mapping[int, PeerClient],
        own: OwnTransactions,
        certified: Callable[[], CertifiedState],
        notes: Notes,
        background: Background,
    ) -> None:
        self._database = Database(path, (SENT_TABLE,), what="pledges")
        self._transactions = StoredTransactions(self._database, own)
        self._member = member
        self._chain_id = chain_id
        self._peers = peers
        self._certified = certified
        self._notes = notes
        self._background = background
        self._locks = Locks()

    # --- permits --------------------------------------------------------------------------------

    async def permits(
        self, consent: bytes, sequence: int, records: Sequence[bytes], not_after: int
    ) -> tuple[bytes, ...]:
        """See ``api.pledging.Pledging``."""
        return await ask_permits(
            self._peers,
            self._certified().view,
            member=self._member,
            chain_id=self._chain_id,
            consent=consent,
            sequence=sequence,
            records=records,
            not_after=not_after,
        )

    # --- pledges --------------------------------------------------------------------------------

    async def place(self, permit: bytes, ppm: int, not_after: int | None, nonce: bytes) -> PledgeReceipt:
        """See ``api.pledging.Pledging``."""
        opened = decode_permit(permit)
        pledge = pledge_id(self._member, opened.issuer, opened.fingerprint, fixed_bytes(nonce, 16, "a nonce"))
        operation = PledgePlace(permit=opened, ppm=ppm, not_after=not_after, nonce=nonce)
        return await self._submit(_PLACE, pledge, operation, _place_of(_PLACE, pledge))

    async def confirm(self, pledge: bytes) -> PledgeReceipt:
        """See ``api.pledging.Pledging``."""
        return await self._change(_CONFIRM, pledge, PledgeConfirm(pledge=pledge))

    async def release(self, pledge: bytes) -> PledgeReceipt:
        """See ``api.pledging.Pledging``. A place of this pledge that is still under way comes to its end first: who
        gives a loan up must not be told that there is no such pledge, and then have it.
        """
        place = _place_of(_PLACE, fixed_bytes(pledge, 16, "a pledge"))
        sent = await asyncio.to_thread(self._transactions.sent, place)
        if sent is not None and sent.code is None:
            await self._background.within(self._transactions.bring(place), _WAIT_S)
        return await self._change(_RELEASE, pledge, PledgeRelease(pledge=pledge))

    async def transfer(self, pledge: bytes, permit: bytes) -> PledgeReceipt:
        """See ``api.pledging.Pledging``."""
        return await self._change(
            _TRANSFER, pledge, PledgeTransfer(pledge=pledge, permit=decode_permit(permit))
        )

    async def _change(self, name: str, pledge: bytes, operation: PledgeOperation) -> PledgeReceipt:
        place = _place_of(name, fixed_bytes(pledge, 16, "a pledge"))
        async with self._locks.hold(place):
            await asyncio.to_thread(self._forget_outdated, name, pledge, place, encode_pledge(operation))
            return await self._submit(name, pledge, operation, place, locked=True)

    def _forget_outdated(self, name: str, pledge: bytes, place: bytes, payload: bytes) -> None:
        """An outcome of before is the answer only while it still says how things are: a pledge may have come back, and
        be passed on to another.
        """
        sent = self._transactions.sent(place)
        if sent is None or sent.code is None:
            return
        held = self._held(pledge)
        stands = held is None or (name == _CONFIRM and held.not_after is None)
        if not stands or decode_transaction(sent.signed.raw).payload != payload:
            self._forget(place)

    def _forget(self, place: bytes) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM sent WHERE place = ?", (place,))

    def _held(self, pledge: bytes) -> Pledge | None:
        """A pledge that is this member's by the newest certified state."""
        view = self._certified().view
        placement = placement_of(view, pledge)
        entry = None if placement is None else entry_of(view, placement.issuer, placement.fingerprint)
        for each in () if entry is None else entry.pledges:
            if each.id == pledge and each.member == self._member:
                return each
        return None

    async def _submit(
        self, name: str, pledge: bytes, operation: PledgeOperation, place: bytes, *, locked: bool = False
    ) -> PledgeReceipt:
        payload = encode_pledge(operation)
        if locked:
            await asyncio.to_thread(self._store, place, payload)
        else:
            async with self._locks.hold(place):
                await asyncio.to_thread(self._store, place, payload)
        sent = await self._background.within(self._transactions.bring(place), _WAIT_S)
        require_accepted(sent.code)
        return _receipt(name, pledge, sent)

    def _store(self, place: bytes, payload: bytes) -> None:
        sent = self._transactions.sent(place)
        if sent is not None and sent.code:
            # It had no effect, and nothing was kept of it: the same request again is another attempt.
            self._forget(place)
            sent = None
        if sent is None:
            signed = self._transactions.sign(payload)
            with self._database.write() as connection:
                self._transactions.store(connection, place, signed)
        elif decode_transaction(sent.signed.raw).payload != payload:
            raise RefusedError("pledge_exists", "this request was for another share, end, permit or lender")

    # --- proofs ---------------------------------------------------------------------------------

    async def proof(self, keys: Sequence[PledgeKey]) -> bytes:
        """See ``api.pledging.Pledging``."""
        state = self._certified()
        if state.header is None:
            raise UnavailableError("no block is certified yet")
        note = await self._notes.note(state)

        def prove() -> bytes:
            made = prove_pledges(
                keys,
                view=state.view,
                checkpoint=note,
                header=state.header_leaf,
                inclusion=state.header_inclusion(),
            )
            return encode_pledge_proof(made)

        return await asyncio.to_thread(prove)

    # --- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go on with what a crash left; nothing more."""
        for name in (_PLACE, _CONFIRM, _RELEASE, _TRANSFER):
            for place in await asyncio.to_thread(self._transactions.unsettled, _prefix(name)):
                self._background.start(self._transactions.bring(place))
        await asyncio.Event().wait()

    def close(self) -> None:
        self._database.close()


def _prefix(name: str) -> bytes:
    return name.encode().ljust(8, b"_")


def _place_of(name: str, pledge: bytes) -> bytes:
    """Where the transaction of an operation on a pledge is stored."""
    return _prefix(name) + pledge


def _receipt(name: str, pledge: bytes, sent: Sent) -> PledgeReceipt:
    return PledgeReceipt(
        pledge=pledge,
        operation=name,
        transaction=sent.signed.id,
        height=sent.height or 0,
        index=sent.index or 0,
        time_ms=sent.time_ms or 0,
    )
