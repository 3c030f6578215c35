"""Erasure: destroys records at the custodian, then says so on the ledger, then to every recipient.

    eraser = Eraser(open_vault=…, member=…, signer=key in force, submitter=LoopSubmitter(loop, answers),
                    state_value=…, recipients=custody book, forget=custody book, tell=peers)
    api ``Custody.erase``: eraser.erase        node's tasks: eraser.run()      at the end: eraser.close()

The order, and why it is this one:

    1. one commit deletes the rows of every record asked, of all versions, with secrets, reasons, keyed hashes,
       what is staged of them and the seeds of their ids, and the subject's tag rows where nothing of that kind
       and year is left; in their place stand the keys alone, *to be said*
    2. the file is written anew (``scrub``), and ``forget`` drops what the node keeps of them elsewhere: the sealed
       pieces of disclosures under the subject's consents. From here the data is gone
    3. ``erase`` transactions, 256 records each and one kind and tag each, are durable in the outbox, then submitted
    4. certified: now recipients are told, each until it has shown that it destroyed what it held

First the data, then the ledger: data must be gone though the ledger is down, and a status *erased* must never
stand over fields that are still there. What this costs: between 1 and 4, about a block, the ledger still calls
the records valid, and there is nothing to answer with. A dossier is then refused as unavailable, and answered a
moment later; no answer is ever wrong. The other order would go on serving fields after they were to be erased,
for as long as the ledger is down.

Recipients come last: they destroy nothing until their own certified ledger says *erased* (``sweeper.py``).

A crash leaves each record in one of these steps, and ``run`` goes on from there: every step is durable before the
next begins, and may be done again. What is said twice counts once: step 3 asks the certified state first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby

from taxledger.api.custody import ErasureNotice, ErasureReceipt
from taxledger.ledger import canonical, limits
from taxledger.ledger.consent import PREDICATE_KIND
from taxledger.ledger.consentstate import data_erased_digest
from taxledger.ledger.errors import InputError, RefusedError, TaxledgerError, UnavailableError
from taxledger.ledger.operations import RevokeChange, encode_erase
from taxledger.ledger.query import Query, record_prefixes
from taxledger.ledger.records import Status, decode_record_value
from taxledger.ledger.shapes import array, fixed_bytes, integer, items, text
from taxledger.ledger.statekeys import data_erased_key
from taxledger.nodes.custodian.erasures import CERTIFIED, NEVER_ATTESTED, Erasures, Notice, Recipient
from taxledger.nodes.custodian.outbox import (
    OPERATION_ERASE,
    STAGE_CHANGE,
    Outbox,
    Submitter,
    Transaction,
)
from taxledger.nodes.custodian.predicatebook import PredicateBook
from taxledger.nodes.custodian.tags import require_accepted
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.identity.memberkeys import TransactionSigner
from taxledger.nodes.logs import get_logger

__all__ = ["Eraser"]

_RETRY_S = 60.0
_EXCLUSIVE_S, _PAUSE_S = 10.0, 0.1
_REASON_OTHER = 5
"""On the ledger an erasure gives no reason of its own: one digest in several records would link them."""

Tell = Callable[[int, list[object]], Awaitable[bytes]]
"""(member, message of verb ``erase_notice``) → the answer's bytes; raises as ``PeerClient.call``."""


class Eraser:
    """Erases records of one issuer, in its node. Lives on the event loop; what blocks runs in a thread.

    Args:
        open_vault: opens the issuer's vault, or None as long as there is none; called once, in a thread.
        member: the issuer.
        signer: its transaction key; ``submitter`` the way to the ledger, called from threads.
        state_value: the certified state's value under a key, or None; called from threads.
        recipients: (member, consent) of every consent of a subject that was ever granted here; called in a thread.
        forget: drops the pieces of disclosures under some consents (16 bytes each); they are gone when it
            returns; may be repeated; called in a thread.
        tell: see ``Tell``.
        clock: seconds since 1970 UTC.
    """

    def __init__(
        self,
        *,
        open_vault: Callable[[], Vault | None],
        member: int,
        signer: TransactionSigner,
        submitter: Submitter,
        state_value: Callable[[bytes], bytes | None],
        recipients: Callable[[str], Sequence[Recipient]],
        forget: Callable[[Sequence[bytes]], None],
        tell: Tell,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._open_vault = open_vault
        self._member = member
        self._signer = signer
        self._submitter = submitter
        self._state_value = state_value
        self._recipients = recipients
        self._forget = forget
        self._tell = tell
        self._clock = clock
        self._vault: Vault | None = None
        self._lock = asyncio.Lock()
        self._log = get_logger("custodian")

    def close(self) -> None:
        """Closes the vault; safe to repeat."""
        if self._vault is not None:
            self._vault.close()

    async def erase(self, query: Query, *, reason: str) -> ErasureReceipt:
        """Destroys every record that a query names; see ``Custody.erase``. The same again tells how far it is.

        A year's or a quarter's record goes with any month of it. Answers to predicates (their kind) are those
        given under the subject's consents. The receipt counts all that was ever erased under the query.

        Args:
            query: subject, kinds and months; the issuer is this member.
            reason: in words; sealed in the vault. It should not name the subject.

        Raises:
            FormatError: no reason. RefusedError: ``issuer_unknown``.
            UnavailableError: an upload is running, and nothing was done; or the data is destroyed and the ledger
            does not say so yet: the message tells which. The node goes on by itself.
        """
        if query.issuer != self._member:
            raise RefusedError("issuer_unknown", f"member {query.issuer} is not the issuer here")
        text(reason, limits.reason_text_bytes_max, "a reason")
        async with self._lock:
            prefixes = await asyncio.to_thread(self._destroy, query, reason)
            try:
                await self._go_on()
            except UnavailableError as error:
                raise UnavailableError(
                    f"the data is destroyed; the ledger or a recipient has not confirmed it yet: {error}"
                ) from error
            return await asyncio.to_thread(self._outcome, prefixes)

    async def run(self) -> None:
        """Goes on with what is unfinished, at once and then every minute, for ever."""
        while True:
            try:
                async with self._lock:
                    await self._go_on()
            except (TaxledgerError, OSError) as error:
                self._log.warning("an erasure is not finished yet", error=str(error))
            await asyncio.sleep(_RETRY_S)

    async def _go_on(self) -> None:
        """Steps 2 to 4 of everything: the same for what was destroyed now and before a crash."""
        if await asyncio.to_thread(self._opened) is None:
            return
        await asyncio.to_thread(self._finish)
        await asyncio.to_thread(self._say)
        await self._notify()

    # --- 1 and 2: the data ------------------------------------------------------------------

    def _opened(self) -> Erasures | None:
        if self._vault is None:
            self._vault = self._open_vault()
        return None if self._vault is None else Erasures(self._vault)

    def _destroy(self, query: Query, reason: str) -> list[bytes]:
        erasures = self._opened()
        if erasures is None or self._vault is None:
            return []
        recipients = list(self._recipients(query.subject))
        prefixes = _prefixes(self._vault, query, recipients)
        with _exclusive(self._vault):
            count = erasures.destroy(prefixes, recipients, reason, int(self._clock() * 1000))
        self._log.info("records destroyed", records=count, kinds=list(query.kinds))
        return list(prefixes)

    def _finish(self) -> None:
        erasures = self._opened()
        assert erasures is not None
        assert self._vault is not None
        if erasures.is_unfinished():
            PredicateBook(self._vault).forget(erasures.unfinished_predicates())
            erasures.scrub()
            self._forget_pieces(erasures)
            erasures.note_scrubbed()

    # --- 3: the ledger ----------------------------------------------------------------------

    def _say(self) -> None:
        erasures, vault = self._opened(), self._vault
        assert erasures is not None
        assert vault is not None
        if not erasures.has_unsettled():
            return
        with _exclusive(vault):
            outbox = Outbox(vault, self._signer, self._submitter, self._clock)
            try:
                # What an interrupted upload left may be about these records: it must be on the ledger before.
                require_accepted(outbox.resume())
                transactions = self._prepare(erasures, outbox)
                settled = outbox.finish(outbox.start([each for each, _keys in transactions]))
            finally:
                outbox.close()
        refused = {each.receipt.code for each in settled} - {0}
        if refused:
            raise UnavailableError(f"the ledger refused to call records erased: code {min(refused)}")

    def _prepare(self, erasures: Erasures, outbox: Outbox) -> list[tuple[Transaction, list[bytes]]]:
        """Durable transactions for all of which the ledger must be told."""
        known: dict[bytes, int] = {}
        changes: list[RevokeChange] = []
        for key in erasures.unsaid():
            value = self._state_value(key)
            if value is None:
                known[key] = NEVER_ATTESTED
                continue
            record = decode_record_value(value)
            if record.status is Status.ERASED:
                known[key] = CERTIFIED
            else:
                changes.append(
                    RevokeChange(key=key, version=record.version, reason=_REASON_OTHER, reason_digest=None)
                )
        erasures.note_states(known)
        transactions = []
        # One tag each: two tags of an enterprise in one transaction would be linked for good.
        for tag, grouped in groupby(changes, key=lambda each: each.key[:20]):
            of_tag = list(grouped)
            for at in range(0, len(of_tag), limits.amend_changes_max):
                part = of_tag[at : at + limits.amend_changes_max]
                transaction = outbox.prepare(STAGE_CHANGE, OPERATION_ERASE, encode_erase(tag[3], part))
                transactions.append((transaction, [each.key for each in part]))
        assert self._vault is not None
        with self._vault.database.write() as connection:
            outbox.store(connection, [transaction for transaction, _keys in transactions])
            for transaction, keys in transactions:
                erasures.note_said(connection, keys, transaction.sequence)
        return transactions

    # --- 4: recipients ----------------------------------------------------------------------

    async def _notify(self) -> None:
        erasures = self._opened()
        assert erasures is not None
        await asyncio.to_thread(self._make_notices, erasures)
        waiting = await asyncio.to_thread(erasures.waiting_notices)
        # All at once: one that does not answer keeps none of the others waiting.
        await asyncio.gather(*(self._notify_one(erasures, each) for each in waiting))

    def _make_notices(self, erasures: Erasures) -> None:
        if erasures.is_ready():
            # Once more: a disclosure that read the vault just before it was emptied, and planned just after.
            # From now on the certified state says that they are erased, and no such plan can be made.
            self._forget_pieces(erasures)
            erasures.make_notices()

    def _forget_pieces(self, erasures: Erasures) -> None:
        consents = erasures.consents()
        if consents:
            self._forget(consents)

    async def _notify_one(self, erasures: Erasures, notice: Notice) -> None:
        message: list[object] = [1, "erase_notice", notice.notice, list(notice.keys)]
        try:
            answers = self._confirmed(notice, await self._tell(notice.member, message))
        except (UnavailableError, RefusedError, InputError) as error:
            self._log.warning("an erasure notice is not confirmed", member=notice.member, error=str(error))
            return
        await asyncio.to_thread(erasures.note_confirmed, notice, answers)
        self._log.info("erasure notice confirmed", member=notice.member, disclosures=len(answers))

    def _confirmed(self, notice: Notice, answer: bytes) -> list[tuple[bytes, int, str, bytes]]:
        """What the recipient opened, when the ledger has it and the consents are ours.

        Raises:
            InputError: no such answer. RefusedError: a consent of others. UnavailableError: the certified
            ledger here has not a digest yet.
        """
        answers = []
        for each in array(canonical.decode(answer), 0, limits.consent_uses_max, "erasures"):
            consent, sequence, reason, salt = items(each, 4, "an erasure")
            consent = fixed_bytes(consent, 16, "a consent")
            sequence = integer(sequence, 1, limits.consent_uses_max, "the number of a use")
            reason = text(reason, limits.reason_text_bytes_max, "a reason")
            salt = fixed_bytes(salt, 32, "a salt")
            if consent not in notice.consents:
                raise RefusedError(
                    "notice_foreign", "the recipient names a consent that is not the subject's"
                )
            digest = data_erased_digest(salt, consent, sequence, reason)
            value = self._state_value(data_erased_key(notice.member, digest))
            if value is None or canonical.decode(value)[0] != digest:
                raise UnavailableError("a recipient's data.erased is not on the certified ledger here")
            answers.append((consent, sequence, reason, salt))
        return answers

    # --- what became of it ------------------------------------------------------------------

    def _outcome(self, prefixes: Sequence[bytes]) -> ErasureReceipt:
        erasures = self._opened()
        if erasures is None:
            return ErasureReceipt(records=0, transactions=(), notices=())
        records, transactions, notices, settled = erasures.outcome(prefixes)
        if not settled:
            raise UnavailableError("the ledger does not say yet that all of it is erased")
        members = sorted({each.member for each in notices})
        return ErasureReceipt(
            records=records,
            transactions=tuple(transactions),
            notices=tuple(
                ErasureNotice(
                    member=member,
                    confirmed=all(each.confirmed for each in notices if each.member == member),
                )
                for member in members
            ),
        )


@contextmanager
def _exclusive(vault: Vault) -> Iterator[None]:
    """``Vault.exclusive``, waiting a while: parts of this node (predicates) hold it for a moment."""
    with ExitStack() as stack:
        deadline_s = time.monotonic() + _EXCLUSIVE_S
        while True:
            try:
                stack.enter_context(vault.exclusive())
                break
            except UnavailableError:
                if time.monotonic() >= deadline_s:
                    raise
            time.sleep(_PAUSE_S)
        yield


def _prefixes(vault: Vault, query: Query, recipients: Sequence[Recipient]) -> dict[bytes, tuple[int, int]]:
    """(kind, year) by record prefix, of every year that has keys.

    Where year keys can't be opened any more (they may have been destroyed), a subject that has records is found
    all the same: its pseudonym stands beside them.
    """
    years = set(query.years).intersection(vault.years())
    found: dict[bytes, tuple[int, int]] = {}
    consents = sorted({f"consent:{consent.hex()}" for _member, consent in recipients})
    for kind in query.kinds:
        for subject in consents if kind == PREDICATE_KIND else [query.subject]:
            tags = {}
            for year in sorted(years):
                try:
                    entry = vault.tag(subject, kind, year)
                except InputError:
                    continue
                if entry is not None:
                    tags[kind, year] = entry.tag
            found.update(record_prefixes(query, tags))
    return found
