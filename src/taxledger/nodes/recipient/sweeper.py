"""The sweeper of a recipient's node: destroys what is over its retention, and what erasure notices name.

    sweeper = Sweeper(store, member=…, submit=own.submit, state_value=…)
    peers' handlers: "erase_notice": sweeper.on_erase_notice
    api ``Disclosures.discard``: sweeper.discard
    node's tasks: sweeper.run()      goes on with what a crash left, then sweeps every minute

Each destruction is said on the ledger, by one ``data.erased`` (docs/protocol.md §13). The order of durability is
that of ``store.py``. Said once: the salt is durable, so a transaction that is made again has the same digest; the
certified state is asked first whether it is there, and rule 34 lets it count once if both were under way.

A notice alone destroys nothing. Its sender must be the issuer of the records it names, and the certified ledger
must say that they are erased: else a member could empty the stores of others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, RefusedError, TaxledgerError, UnavailableError
from taxledger.ledger.operations import encode_data_erased
from taxledger.ledger.records import Status, decode_record_value
from taxledger.ledger.shapes import array, ascending, fixed_bytes, items
from taxledger.ledger.statekeys import data_erased_key, split_record_key
from taxledger.nodes.logs import get_logger
from taxledger.nodes.recipient.store import RECORDED, Destroyed, ReceivedStore

__all__ = ["SWEEP_S", "Certified", "Submit", "Sweeper"]

SWEEP_S = 60.0
"""Default time between two sweeps, seconds."""

_OK, _REPEATED = 0, 34


class Certified(Protocol):
    """What the sweeper reads of a transaction's receipt."""

    @property
    def code(self) -> int | None:
        """Result code of docs/protocol.md §8; 0 is success."""


Submit = Callable[[bytes], Awaitable[Certified]]
"""Signs a payload as this member, submits it, and returns when it is certified (``nodes/own.py``)."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Sweeper:
    """Lives on the event loop; what blocks runs in a thread, one thing at a time.

    Args:
        store: what this member keeps.
        member: its number.
        submit: see ``Submit``. Raises RefusedError or UnavailableError: it is tried again at the next sweep.
        state_value: the certified state's value under a key, or None.
        now_ms: milliseconds since 1970.
        interval_s: between two sweeps.
    """

    def __init__(
        self,
        store: ReceivedStore,
        *,
        member: int,
        submit: Submit,
        state_value: Callable[[bytes], bytes | None],
        now_ms: Callable[[], int] = _now_ms,
        interval_s: float = SWEEP_S,
    ) -> None:
        self._store = store
        self._member = member
        self._submit = submit
        self._state_value = state_value
        self._now_ms = now_ms
        self._interval_s = interval_s
        self._lock = asyncio.Lock()
        self._log = get_logger("recipient")

    async def run(self) -> None:
        """Sweeps for ever, at once and then at each interval; what fails is tried again at the next."""
        while True:
            try:
                await self.sweep()
            except TaxledgerError as error:
                self._log.warning("the sweeper will try again", error=str(error))
            await asyncio.sleep(self._interval_s)

    async def sweep(self) -> int:
        """Goes on with what is half done, and destroys what is overdue; how many of those there were.

        Raises:
            UnavailableError, RefusedError: see ``submit``. What is not said yet stays to be said.
        """
        now_ms = self._now_ms()
        overdue = await asyncio.to_thread(self._store.overdue, now_ms)
        async with self._lock:
            destroyed = await asyncio.to_thread(self._store.destroy_many, overdue, "retention", now_ms=now_ms)
        await self._settle()
        return len(destroyed)

    async def discard(self, consent: bytes, sequence: int, *, reason: str) -> bytes:
        """Destroys a disclosure before its time, says so on the ledger, and returns the digest (32 bytes).

        Args:
            consent: 16 bytes; ``sequence`` the number of the use.
            reason: in words, 1 to 1,024 bytes; shown to nobody but those who are given the salt.

        Raises:
            RefusedError: ``disclosure_unknown``. FormatError: no reason. UnavailableError: it is destroyed,
            and not on the ledger yet: the sweeper goes on.
        """
        if not 0 < len(reason.encode()) <= limits.reason_text_bytes_max:
            raise FormatError(f"expected a reason in words, at most {limits.reason_text_bytes_max} bytes")
        async with self._lock:
            destroyed = await asyncio.to_thread(
                self._store.destroy, consent, sequence, reason, now_ms=self._now_ms()
            )
        await self._settle()
        return destroyed.digest

    async def on_erase_notice(self, member: int, message: object) -> list[list[object]]:
        """Peer verb ``erase_notice``, from the custodian of the records that it names.

        Returns:
            ``[consent, sequence, reason, salt]`` of every disclosure that this notice destroyed, once all of
            it is certified.

        Raises:
            FormatError: no such message. RefusedError: ``notice_foreign``: records of another issuer.
            UnavailableError: the certified ledger here does not say yet that they are erased, or what was
            destroyed is not on it yet: send it again.
        """
        notice, keys = _decode_notice(message)
        for key in keys:
            if split_record_key(key)[0] != member:
                raise RefusedError("notice_foreign", "expected record keys of the sender's own")
            self._check_erased(key)
        async with self._lock:
            destroyed = await asyncio.to_thread(
                self._store.destroy_shown, keys, notice, now_ms=self._now_ms()
            )
        self._log.info("erasure notice", member=member, records=len(keys), disclosures=len(destroyed))
        await self._settle()
        said = await asyncio.to_thread(self._store.destroyed_by, notice)
        if any(each.state != RECORDED for each in said):
            raise UnavailableError("what was destroyed is not on the ledger yet")
        return [[each.consent, each.sequence, each.reason, each.salt] for each in said]

    def _check_erased(self, key: bytes) -> None:
        value = self._state_value(key)
        if value is None or decode_record_value(value).status is not Status.ERASED:
            raise UnavailableError("the certified ledger here does not say that these records are erased")

    async def _settle(self) -> None:
        """Steps 2 and 3 of everything that is destroyed: the same for what was done now and before a crash.

        One that the ledger refuses keeps none of the others waiting; the first error is raised at the end.
        """
        failure: TaxledgerError | None = None
        async with self._lock:
            await asyncio.to_thread(self._store.scrub)
            for each in await asyncio.to_thread(self._store.unsaid):
                try:
                    await self._say(each)
                except (RefusedError, UnavailableError) as error:
                    failure = failure or error
                else:
                    await asyncio.to_thread(self._store.note_recorded, each)
        if failure is not None:
            raise failure

    async def _say(self, destroyed: Destroyed) -> None:
        if self._state_value(data_erased_key(self._member, destroyed.digest)) is not None:
            return
        receipt = await self._submit(encode_data_erased(destroyed.digest, destroyed.count))
        if receipt.code not in (_OK, _REPEATED):
            raise RefusedError(
                "ledger_refused",
                f"the ledger refused data.erased with code {receipt.code}: it stays to be said",
            )
        self._log.info("data erased", count=destroyed.count)


def _decode_notice(message: object) -> tuple[bytes, Sequence[bytes]]:
    version, what, notice, keys = items(message, 4, "an erasure notice")
    if type(version) is not int or [version, what] != [1, "erase_notice"]:
        raise FormatError("expected an erasure notice of version 1")
    named = [
        fixed_bytes(each, 37, "a record key")
        for each in array(keys, 1, limits.notice_records_max, "record keys")
    ]
    ascending(named, "record keys")
    return fixed_bytes(notice, 16, "the name of a notice"), named
