"""The custodian's side of a disclosure: no field leaves but under a consent, and under a use that is certified.

A recipient's node asks with ``disclose``, then pulls piece by piece with ``piece``:

    consent, recipient, scope, state checked → pieces made and synced → ``consent.use`` certified → pieces, the
    consent's certified state looked at before each → ``consent.use_close`` with what may have left

Who asks is known by its certificate. The state that counts is this node's newest certified one, and it must be
fresh: a node that is cut off hands out nothing, for it would not hear of a revocation.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Any

from taxledger.ledger import canonical
from taxledger.ledger.consent import PREDICATE_KIND, Artefact, decode_artefact
from taxledger.ledger.consentoperations import ConsentUse
from taxledger.ledger.consentscope import check_scope, opened_fields
from taxledger.ledger.consentstate import consent_of
from taxledger.ledger.disclosure import digest_of_pieces, evidence_query, piece_info, use_keys
from taxledger.ledger.errors import FormatError, LimitError, RefusedError, UnavailableError
from taxledger.ledger.evidence import Evidence
from taxledger.ledger.hashing import sha256
from taxledger.ledger.members import member_of
from taxledger.ledger.operations import encode_consent
from taxledger.ledger.parts import part_records, split_evidence
from taxledger.ledger.query import Query
from taxledger.ledger.records import Status
from taxledger.ledger.shapes import fixed_bytes, integer, items
from taxledger.nodes.background import Background, Locks
from taxledger.nodes.custodian.consentgate import ConsentGate
from taxledger.nodes.custodian.custody import CustodyBook, ShownRecord, Use
from taxledger.nodes.custodian.dossier import Custodian
from taxledger.nodes.custodian.openuses import OpenUses
from taxledger.nodes.identity.hpke import hpke_seal
from taxledger.nodes.logs import get_logger
from taxledger.nodes.notes import Notes
from taxledger.nodes.replica import CertifiedState

__all__ = ["Discloser", "PredicateAnswerer"]

ANSWER_S_MAX = 25.0
"""Local: who waits longer, because writes wait, is told to ask again: what it asked for goes on meanwhile."""
QUESTIONS_AT_ONCE_MAX = 32
"""Local: of one member, those included that go on."""
PredicateAnswerer = Callable[[Artefact, Query], Awaitable[CertifiedState]]
"""Makes sure that the predicates of a consent are attested; the state that holds them."""


class Discloser:
    """Serves ``disclose`` and ``piece``, and ends what was begun. Lives on the event loop.

    Args:
        member: this member's number.
        custodian: opens records; ``book`` keeps consents and uses; ``uses`` ends them.
        gate: the certified state, and whether a consent is in force by it; ``notes`` of that state.
        background: what is begun goes on there.
        predicates: attests what a consent for predicates asks for; None where this is not offered.
    """

    def __init__(
        self,
        *,
        member: int,
        custodian: Custodian,
        book: CustodyBook,
        uses: OpenUses,
        gate: ConsentGate,
        notes: Notes,
        background: Background,
        predicates: PredicateAnswerer | None = None,
    ) -> None:
        self._member = member
        self._custodian = custodian
        self._book = book
        self._uses = uses
        self._gate = gate
        self._notes = notes
        self._predicates = predicates
        self._background = background
        self._planning = Locks()
        self._questions: Counter[int] = Counter()
        self._log = get_logger("disclosure")

    # --- questions ---------------------------------------------------------------------------

    async def _answered(self, member: int, work: Callable[[], Awaitable[bytes]]) -> bytes:
        """What the work gives. Nobody waits without end, and nobody takes all of this node for itself."""
        if self._questions[member] >= QUESTIONS_AT_ONCE_MAX:
            raise UnavailableError("too many questions of this member are open: ask again")

        async def counted() -> bytes:
            try:
                return await work()
            finally:
                self._questions[member] -= 1

        self._questions[member] += 1
        return await self._background.within(counted(), ANSWER_S_MAX)

    # --- disclose -------------------------------------------------------------------------------

    async def on_disclose(self, member: int, message: Any) -> bytes:
        """Peer verb ``disclose``: ``[1, "disclose", consent16, digest32, query, request16]`` →
        ``[1, "disclose", consent16, sequence, [records of each piece], salt32, hpke key, use proof]``.
        """
        version, what, consent, digest, asked, request = items(message, 6, "a disclose message")
        if type(version) is not int or [version, what] != [1, "disclose"]:
            raise FormatError("expected a disclose message of version 1")
        fixed_bytes(consent, 16, "a consent")
        fixed_bytes(digest, 32, "a digest")
        fixed_bytes(request, 16, "a request")
        subject, issuer, kinds, from_period, to_period = items(asked, 5, "a query")
        if type(kinds) is not list:
            raise FormatError("expected kinds as an array")
        query = Query(
            subject=subject, issuer=issuer, kinds=tuple(kinds), from_period=from_period, to_period=to_period
        )
        return await self._answered(member, lambda: self._disclose(member, consent, digest, query, request))

    async def _disclose(
        self, member: int, consent: bytes, digest: bytes, query: Query, request: bytes
    ) -> bytes:
        try:
            artefact = await self._artefact(member, consent, digest, query)
            async with self._planning.hold(consent):
                use = await self._begin(member, artefact, query, request)
        except RefusedError as error:
            self._log.warning("disclosure refused", member=member, consent=consent.hex(), code=error.code)
            raise
        proof = await self._use_proof(artefact, use.sequence)
        return canonical.encode(
            [1, "disclose", consent, use.sequence, use.counts, use.salt, use.hpke_key, proof]
        )

    async def _artefact(self, member: int, consent: bytes, digest: bytes, query: Query) -> Artefact:
        """The artefact under which this member may ask this; nothing is kept of what is refused."""
        raw = await asyncio.to_thread(self._book.artefact, consent)
        if raw is None:
            raise RefusedError("consent_unknown", "this custodian holds no such consent")
        artefact = decode_artefact(raw)
        if artefact.terms.recipient != member:
            raise RefusedError("consent_recipient_mismatch", "the consent is for another recipient")
        if artefact.digest(self._member) != digest:
            raise RefusedError("consent_changed", "the artefact is not the one that was granted")
        if query.issuer != self._member:
            raise RefusedError("consent_custodian_mismatch", "another custodian is asked")
        check_scope(artefact.terms, query)
        evidence_query(artefact, query)
        return artefact

    async def _begin(self, member: int, artefact: Artefact, query: Query, request: bytes) -> Use:
        """The use of this request, certified and open; planned now unless it was before."""
        consent = artefact.id(self._member)
        known = await asyncio.to_thread(self._book.use_of_request, consent, request)
        if known is not None:
            await self._go_on(known)
            return known
        state, sequence = await self._next_use(consent)
        self._gate.check_consent(state, consent, used=False)
        return await self._plan(member, artefact, query, request, state, sequence)

    async def _go_on(self, use: Use) -> None:
        """A request that comes again: its use, and no other bytes."""
        place = (use.consent, use.sequence)
        self._gate.check_consent(self._gate.fresh_state(), use.consent, used=True)
        await self._uses.certify(use)
        if not await asyncio.to_thread(self._book.has_ended, *place):
            self._uses.touch(*place)
            return
        now = await asyncio.to_thread(self._book.use, *place) or use
        if now.may_have_left < len(now.hashes):
            raise RefusedError("use_closed", "this use has ended: what had not left by then is withheld")

    async def _next_use(self, consent: bytes) -> tuple[CertifiedState, int]:
        """(a state that has every use planned before, the number of the next)."""
        last = await asyncio.to_thread(self._book.last_use, consent)
        if last is not None:
            try:
                await self._uses.certify(
                    last
                )  # one whose recipient did not wait for it may still be under way
            except RefusedError as error:
                self._log.warning("planned use refused", consent=consent.hex(), code=error.code)
            last = await asyncio.to_thread(self._book.last_use, consent)
        state = self._gate.fresh_state()
        value = consent_of(state.view, consent)
        sequence = 1 if value is None else value.uses + 1
        if last is not None and last.sequence >= sequence:
            raise UnavailableError("the certified state here lacks the last use of this consent")
        return state, sequence

    async def _plan(
        self,
        member: int,
        artefact: Artefact,
        query: Query,
        request: bytes,
        state: CertifiedState,
        sequence: int,
    ) -> Use:
        consent = artefact.id(self._member)
        if query.kinds == (PREDICATE_KIND,):
            if self._predicates is None:
                raise RefusedError("issuer_unknown", "this custodian answers no predicates")
            state = await self._predicates(artefact, query)
        recipient = member_of(state.view, member)
        if recipient is None or recipient.hpke_key is None:
            raise RefusedError("recipient_key_missing", "the recipient's entry has no HPKE key")
        note = await self._notes.note(state)
        loop = asyncio.get_running_loop()
        evidence = await loop.run_in_executor(
            self._custodian.executor, self._open, artefact, query, state, note
        )
        use = await asyncio.to_thread(
            self._make_durable, artefact, sequence, request, member, recipient.hpke_key, evidence
        )
        await self._uses.certify(use)
        self._log.info("disclosure", member=member, consent=consent.hex(), use=sequence, records=use.planned)
        return use

    def _open(self, artefact: Artefact, query: Query, state: CertifiedState, note: bytes) -> Evidence:
        return self._custodian.opened(
            evidence_query(artefact, query),
            state,
            note,
            lambda schema: opened_fields(artefact.terms, query, schema),
        )

    def _make_durable(
        self,
        artefact: Artefact,
        sequence: int,
        request: bytes,
        member: int,
        hpke_key: bytes,
        evidence: Evidence,
    ) -> Use:
        """Frame and parts sealed to the recipient, committed to by a signed ``consent.use``; all synced."""
        try:
            frame, parts = split_evidence(evidence)
        except LimitError as error:
            raise RefusedError("answer_too_large", str(error)) from error
        pieces = [frame, *parts]
        consent = artefact.id(self._member)
        salt = os.urandom(32)
        use = Use(
            consent=consent,
            sequence=sequence,
            request=request,
            member=member,
            hashes=tuple(sha256(each) for each in pieces),
            counts=(0, *(part_records(part, number) for number, part in enumerate(parts, start=1))),
            salt=salt,
            hpke_key=hpke_key,
        )
        sealed = [
            hpke_seal(hpke_key, piece_info(consent, sequence, number), piece)
            for number, piece in enumerate(pieces)
        ]
        operation = ConsentUse(
            consent=consent,
            sequence=sequence,
            digest=digest_of_pieces("use", salt, use.hashes),
            count=use.planned,
        )
        signed = self._book.transactions.sign(encode_consent(operation))
        shown = _pledgeable(evidence, use.counts) if artefact.terms.may_pledge else ()
        self._book.plan(use, sealed, signed, shown)
        return use

    async def _use_proof(self, artefact: Artefact, sequence: int) -> list[Any]:
        state = self._gate.fresh_state()
        note = await self._notes.note(state)
        keys = use_keys(artefact, self._member, sequence)

        def prove() -> list[Any]:
            proven = state.view.prove(keys)
            values = [proven.entries[key][0][1] if proven.entries[key] else b"" for key in keys]
            if not all(values):
                raise UnavailableError("the use is not in the certified state here yet")
            return [note, state.header_leaf, state.header_inclusion(), values, proven.proof]

        return await asyncio.to_thread(prove)

    # --- pieces ---------------------------------------------------------------------------------

    async def on_piece(self, member: int, message: Any) -> bytes:
        """Peer verb ``piece``: ``[1, "piece", consent16, sequence, number]`` → the sealed piece."""
        version, what, consent, sequence, number = items(message, 5, "a piece message")
        if type(version) is not int or [version, what] != [1, "piece"]:
            raise FormatError("expected a piece message of version 1")
        fixed_bytes(consent, 16, "a consent")
        integer(sequence, 1, 2**32 - 1, "the number of a use")
        integer(number, 0, 2**32 - 1, "the number of a piece")
        return await self._answered(member, lambda: self._piece_of(member, consent, sequence, number))

    async def _piece_of(self, member: int, consent: bytes, sequence: int, number: int) -> bytes:
        try:
            use = await self._asked_use(member, consent, sequence, number)
            async with self._uses.sending(consent, sequence):
                piece, is_last = await self._piece(use, number)
        except RefusedError as error:
            self._log.warning(
                "piece refused", member=member, consent=consent.hex(), use=sequence, code=error.code
            )
            if error.code == "disclosure_withheld":
                self._uses.close_soon(consent, sequence)
            raise
        if is_last:
            self._uses.close_soon(consent, sequence)
        return piece

    async def _asked_use(self, member: int, consent: bytes, sequence: int, number: int) -> Use:
        use = await asyncio.to_thread(self._book.use, consent, sequence)
        if use is None:
            raise RefusedError("use_unknown", "this custodian has planned no such use")
        if use.member != member:
            raise RefusedError("consent_recipient_mismatch", "the use is another recipient's")
        if number >= len(use.hashes):
            raise FormatError(f"expected a piece 0 to {len(use.hashes) - 1}, got {number}")
        return use

    async def _piece(self, asked: Use, number: int) -> tuple[bytes, bool]:
        """(the sealed piece, whether it is the last of an open use)."""
        consent, sequence = asked.consent, asked.sequence
        await self._uses.certify(asked)
        use = await asyncio.to_thread(self._book.use, consent, sequence) or asked
        try:
            self._gate.check_consent(self._gate.fresh_state(), consent, used=True)
        except RefusedError as error:
            raise RefusedError("disclosure_withheld", f"{error.code}: the rest is withheld") from error
        ended = await asyncio.to_thread(self._book.has_ended, consent, sequence)
        if ended and number >= use.may_have_left:
            raise RefusedError("use_closed", "this use has ended: what had not left by then is withheld")
        # Synced before it is sent: whatever happens next, the close will not say that less has left.
        piece = await asyncio.to_thread(self._book.leaves, consent, sequence, number)
        if piece is None:
            raise RefusedError("use_closed", "the bytes of this use are kept no longer")
        if not ended:
            self._uses.touch(consent, sequence)
        return piece, not ended and number == len(use.hashes) - 1


def _pledgeable(evidence: Evidence, counts: Sequence[int]) -> list[ShownRecord]:
    """The valid records with a fingerprint, each with the piece that shows it."""
    records = (
        (group.prefix + end, value)
        for group in evidence.groups
        for end, (_raw, value) in zip(group.ends, group.values, strict=True)
    )
    pieces = chain.from_iterable([piece] * count for piece, count in enumerate(counts))
    return [
        ShownRecord(key, value.version, piece)
        for (key, value), piece in zip(records, pieces, strict=True)
        if value.fingerprint is not None and value.status == Status.VALID
    ]
