"""The custodian's desk: subjects' keys, grants and instructions, each checked before it goes on the ledger.

The ledger can't see who gave a consent; that the subject did is checked here, by its signature under the key that
was registered when the person was identified. What was signed is durable before the transaction is sent, so a
retry of the same artefact or instruction gets the first one's outcome. It goes on also when the caller waits no
longer, and after a crash: what a subject decided is not lost because the network was down.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from taxledger.api.custody import ConsentEntry, ConsentReceipt, ErasureReceipt, UseEntry
from taxledger.ledger import canonical, statekeys
from taxledger.ledger.consent import PREDICATE_KIND, Artefact, ConsentTerms, decode_artefact
from taxledger.ledger.consentoperations import ConsentChange, ConsentGrant, ConsentOperation, ConsentRevoke
from taxledger.ledger.consentstate import consent_of, decode_use_value
from taxledger.ledger.crypto import check_subject_key
from taxledger.ledger.errors import RefusedError, UnavailableError, VerificationError
from taxledger.ledger.instruction import ConsentOrder, Instruction, decode_instruction
from taxledger.ledger.members import member_of
from taxledger.ledger.operations import encode_consent
from taxledger.ledger.predicates import check_predicates
from taxledger.ledger.query import Query
from taxledger.ledger.records import check_subject
from taxledger.ledger.schemas import decode_schema, kind_name
from taxledger.ledger.shapes import text
from taxledger.nodes.background import Background
from taxledger.nodes.custodian.custody import (
    GRANTS,
    INSTRUCTIONS,
    CustodyBook,
    SubjectKey,
    grant_place,
    instruction_place,
    place_of_instruction,
)
from taxledger.nodes.custodian.dossier import Custodian
from taxledger.nodes.logs import get_logger
from taxledger.nodes.own import Sent, require_accepted
from taxledger.nodes.replica import CertifiedState, Replica

__all__ = ["ConsentDesk"]

T = TypeVar("T")

_TEXT_BYTES_MAX = 512
_CONSENT_BYTES = 16
_WAIT_S = 30.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Erasing(Protocol):
    """What destroys records and sees to it that recipients do."""

    async def erase(self, query: Query, *, reason: str) -> ErasureReceipt: ...


class ConsentDesk:
    """Lives on the event loop.

    Args:
        member: this member's number; ``chain_id`` of its ledger.
        custodian: knows schema documents; ``book`` keeps what was signed.
        replica: the certified state.
        background: what is begun goes on there.
        eraser: destroys records; None where there is none.
    """

    def __init__(
        self,
        *,
        member: int,
        chain_id: bytes,
        custodian: Custodian,
        book: CustodyBook,
        replica: Replica,
        background: Background,
        eraser: Erasing | None = None,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self._member = member
        self._chain_id = chain_id
        self._custodian = custodian
        self._book = book
        self._replica = replica
        self._background = background
        self._eraser = eraser
        self._now_ms = now_ms
        self._writing = asyncio.Lock()
        self._log = get_logger("consent")

    # --- subjects -------------------------------------------------------------------------------

    async def register_subject(
        self, subject: str, public_key: bytes, *, authentication: str, reason: str | None
    ) -> int:
        """See ``api.custody.Custody``."""
        check_subject(subject)
        check_subject_key(public_key)
        text(authentication, _TEXT_BYTES_MAX, "how the person was authenticated")
        if reason is not None:
            text(reason, _TEXT_BYTES_MAX, "a reason")
        async with self._writing:
            keys = await asyncio.to_thread(self._book.subject_keys, subject)
            if keys and keys[-1].public_key == public_key:
                return keys[-1].number
            if keys and reason is None:
                raise RefusedError(
                    "subject_key_exists", "another key is registered: say why it is replaced, with a reason"
                )
            key = SubjectKey(
                number=len(keys) + 1,
                public_key=public_key,
                authentication=authentication,
                reason=reason,
                registered_ms=self._now_ms(),
            )
            await asyncio.to_thread(self._book.add_subject_key, subject, key)
        self._log.info("subject key registered", number=key.number)
        return key.number

    async def _check_key(self, subject: str, public_key: bytes) -> None:
        keys = await asyncio.to_thread(self._book.subject_keys, subject)
        if not keys or keys[-1].public_key != public_key:
            raise RefusedError("consent_key_unknown", "it is not signed by the subject's registered key")

    # --- grants -----------------------------------------------------------------------------------

    async def grant(self, artefact: bytes) -> ConsentReceipt:
        """See ``api.custody.Custody``."""
        try:
            opened = decode_artefact(artefact)
        except VerificationError as error:
            raise RefusedError(error.code, "the artefact is not signed by the key it names") from error
        consent = await self._logged("grant", self._grant(opened))
        return await self._receipt(consent, grant_place(consent), "active")

    async def _grant(self, artefact: Artefact) -> bytes:
        """Checked and certified; the consent's id."""
        terms = artefact.terms
        if terms.chain_id != self._chain_id:
            raise RefusedError("consent_chain_mismatch", "the consent is for another ledger")
        part = terms.custodian(self._member)
        consent = artefact.id(self._member)
        async with self._writing:
            if await asyncio.to_thread(self._book.artefact, consent) is None:
                await self._check_key(terms.subject, artefact.public_key)
                self._check_terms(terms)
                await asyncio.to_thread(self._check_holder, terms)
                if part.former is not None:
                    await self._check_former(terms, part.former)
                operation = ConsentGrant(
                    digest=artefact.digest(self._member),
                    holder=terms.holder,
                    not_before=terms.not_before,
                    not_after=terms.not_after,
                    max_uses=terms.max_uses,
                    revoke_hash=part.revoke_hash,
                    former=part.former,
                )
                signed = self._book.transactions.sign(encode_consent(operation))
                await asyncio.to_thread(self._book.add_consent, consent, terms.subject, artefact.raw, signed)
        await self._bring(self._book.transactions.bring(grant_place(consent)))
        return consent

    def _check_holder(self, terms: ConsentTerms) -> None:
        """Holders are public: who copies one would put its own consent on another subject's list.

        Who was first under a holder is its owner, for nobody can copy it before. Only where that one is known here
        is a grant refused: else a copier, once in, would keep the owner out.
        """
        state = self._replica.certified
        heights = {
            key[-_CONSENT_BYTES:]: canonical.decode(value)[0]
            for key, value in state.view.scan(statekeys.holder_key(terms.holder))
        }
        first = min(heights.values(), default=0)
        owners = {
            self._book.subject_hash(consent) for consent, height in heights.items() if height == first
        } - {None}
        if owners and self._book.subject_of(terms.subject) not in owners:
            raise RefusedError("consent_terms_invalid", "the holder is another subject's")

    async def _check_former(self, terms: ConsentTerms, former: bytes) -> None:
        """A consent ends by another of its own subject only. Validators compare holders, and these are public: who
        copies one from the ledger could end another subject's consent.
        """
        raw = await asyncio.to_thread(self._book.artefact, former)
        if raw is None:
            raise RefusedError("consent_unknown", "this custodian holds no such former consent")
        before = decode_artefact(raw).terms
        if (before.subject, before.recipient) != (terms.subject, terms.recipient):
            raise RefusedError(
                "consent_terms_invalid", "the former consent is another subject's, or for another recipient"
            )

    def _check_terms(self, terms: ConsentTerms) -> None:
        """What no validator can check, because it stands in the artefact only."""
        state = self._replica.certified
        if terms.not_after <= self._now_ms():
            raise RefusedError("consent_terms_invalid", "the consent has expired already")
        if terms.recipient == self._member:
            # It has the records; and an erasure would wait for a notice to itself that nobody confirms.
            raise RefusedError("consent_terms_invalid", "expected another recipient than the custodian")
        recipient = member_of(state.view, terms.recipient)
        if recipient is None or not recipient.is_active or recipient.hpke_key is None:
            raise RefusedError("recipient_unknown", f"member {terms.recipient} is no active recipient")
        check_predicates(terms)
        self._check_kinds(state, terms)
        # Read once for each kind: a consent may name one kind sixteen times, and every field each time.
        named = dict.fromkeys(each.kind for each in terms.details if each.fields)
        schemas = {kind: self._fields(state, kind) for kind in named}
        for detail in terms.details:
            for name in detail.fields or ():
                for known in schemas[detail.kind]:
                    if name not in known:
                        raise RefusedError(
                            "consent_fields_exceeded", f"{kind_name(detail.kind)} has no field {name}"
                        )

    def _check_kinds(self, state: CertifiedState, terms: ConsentTerms) -> None:
        """Each kind is one that some custodian named issues, and one of them at least is issued here: what a consent
        names and nobody can show, its subject signed in vain.
        """
        kinds = {each.kind for each in terms.details} | ({PREDICATE_KIND} if terms.predicates else set())
        named = {each.member: member_of(state.view, each.member) for each in terms.custodians}
        issued = {
            number: kinds.intersection(member.kinds)
            for number, member in named.items()
            if member is not None and member.is_active
        }
        if missing := kinds.difference(*issued.values()):
            raise RefusedError(
                "consent_kind_exceeded", f"no custodian named issues records of {kind_name(min(missing))}"
            )
        if not issued.get(self._member):
            raise RefusedError(
                "consent_kind_exceeded", "this custodian issues none of the kinds that the consent names"
            )

    def _fields(self, state: CertifiedState, kind: int) -> list[frozenset[str]]:
        """Field names of every registered schema of a kind."""
        numbers = [key[2] for key, _value in state.view.scan(bytes([8, kind]))]
        documents = [self._custodian.document(state, kind, number) for number in numbers]
        return [frozenset(each.name for each in decode_schema(document).fields) for document in documents]

    # --- instructions -------------------------------------------------------------------------------

    async def instruct(self, instruction: bytes) -> ConsentReceipt:
        """See ``api.custody.Custody``."""
        try:
            opened = decode_instruction(instruction)
        except VerificationError as error:
            raise RefusedError(error.code, "the instruction is not signed by the key it names") from error
        await self._logged("instruction", self._instruct(opened))
        order = opened.order
        status = {"pause": "paused", "resume": "active", "revoke": "revoked"}[order.action]
        return await self._receipt(order.consent, instruction_place(order.consent, order.number), status)

    async def _instruct(self, instruction: Instruction) -> None:
        consent, number = instruction.order.consent, instruction.order.number
        if instruction.order.chain_id != self._chain_id:
            raise RefusedError("consent_chain_mismatch", "the instruction is for another ledger")
        raw = await asyncio.to_thread(self._book.artefact, consent)
        if raw is None:
            raise RefusedError("consent_unknown", "this custodian holds no such consent")
        async with self._writing:
            last = await asyncio.to_thread(self._book.last_instruction, consent)
            if last is None or last[1] != instruction.raw:
                if last is not None and number <= last[0]:
                    raise RefusedError(
                        "instruction_repeated", f"expected a number above {last[0]}, got {number}"
                    )
                await self._check_key(decode_artefact(raw).terms.subject, instruction.public_key)
                signed = self._book.transactions.sign(encode_consent(_operation_of(instruction.order)))
                await asyncio.to_thread(self._book.add_instruction, consent, number, instruction.raw, signed)
        await self._bring(self._in_order(consent, number, instruction.order.action))

    async def _in_order(self, consent: bytes, number: int, action: str | None = None) -> Sent:
        """Bring an instruction, after the grant and the instructions before it: the subject's last word is the last
        on the ledger. A revocation waits for the grant only: it is final.
        """
        places = [grant_place(consent)]
        if action != "revoke":
            places += await asyncio.to_thread(
                self._book.transactions.unsettled, instruction_place(consent, 0)[:-8]
            )
        last = instruction_place(consent, number)
        for place in places:
            if place[: len(GRANTS)] == GRANTS or place < last:
                await self._book.transactions.bring(place)
        return await self._book.transactions.bring(last)

    # --- what was given -------------------------------------------------------------------------------

    async def consents(self, subject: str) -> Sequence[ConsentEntry]:
        """See ``api.custody.Custody``."""
        check_subject(subject)
        state = self._replica.certified
        entries = []
        for consent, raw in await asyncio.to_thread(self._book.consents_of, subject):
            sent = await asyncio.to_thread(self._book.transactions.sent, grant_place(consent))
            entry = await asyncio.to_thread(self._entry, state, consent, raw, sent)
            if entry is not None:
                entries.append(entry)
        return sorted(entries, key=lambda each: (each.granted_height, each.consent))

    def _entry(
        self, state: CertifiedState, consent: bytes, raw: bytes, sent: Sent | None
    ) -> ConsentEntry | None:
        value = consent_of(state.view, consent)
        if value is None:
            return None  # refused, or not certified yet
        artefact = decode_artefact(raw)
        uses = []
        for key, data in state.view.scan(statekeys.uses_prefix(consent)):
            use = decode_use_value(data)
            uses.append(
                UseEntry(
                    sequence=int.from_bytes(key[17:], "big"),
                    state=use.state.name.lower(),
                    planned=use.planned_count,
                    count=use.count,
                    opened_height=use.opened_height,
                    closed_height=use.closed_height,
                )
            )
        return ConsentEntry(
            consent=consent,
            artefact=raw,
            status=value.status.name.lower(),
            uses=value.uses,
            max_uses=value.max_uses,
            granted_height=(sent.height if sent else None) or 0,
            recipient=artefact.terms.recipient,
            subject_key=artefact.public_key,
            uses_list=tuple(uses),
        )

    async def erase(self, query: Query, *, reason: str) -> ErasureReceipt:
        """See ``api.custody.Custody``."""
        if self._eraser is None:
            raise UnavailableError("this node has no vault to erase from")
        return await self._eraser.erase(query, reason=reason)

    # --- sending --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go on with what a crash left; nothing more."""
        for place in await asyncio.to_thread(self._book.transactions.unsettled, GRANTS):
            self._background.start(self._book.transactions.bring(place))
        for place in await asyncio.to_thread(self._book.transactions.unsettled, INSTRUCTIONS):
            consent, number = place_of_instruction(place)
            raw = await asyncio.to_thread(self._book.instruction, consent, number)
            action = None if raw is None else decode_instruction(raw).order.action
            self._background.start(self._in_order(consent, number, action))
        await asyncio.Event().wait()

    async def _bring(self, work: Coroutine[Any, Any, Sent]) -> None:
        sent = await self._background.within(work, _WAIT_S)
        require_accepted(sent.code)

    async def _receipt(self, consent: bytes, place: bytes, status: str) -> ConsentReceipt:
        sent = await self._book.transactions.bring(place)
        return ConsentReceipt(
            consent=consent,
            status=status,
            transaction=sent.signed.id,
            height=sent.height or 0,
            index=sent.index or 0,
            time_ms=sent.time_ms or 0,
        )

    async def _logged(self, what: str, work: Awaitable[T]) -> T:
        try:
            return await work
        except RefusedError as error:
            self._log.warning(f"{what} refused", code=error.code)
            raise


def _operation_of(order: ConsentOrder) -> ConsentOperation:
    if order.action == "revoke":
        return ConsentRevoke(consent=order.consent, preimage=None)
    return ConsentChange(consent=order.consent, resume=order.action == "resume")
