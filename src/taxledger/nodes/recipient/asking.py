"""The recipient's side of a disclosure: ask the custodian, pull the pieces, verify all of it, then keep or hand on.

Nothing is handed on or kept before it verified under the policy of this member's own ledger. What the consent does
not let be stored stays in memory only as long as it is under way. The same request again (16 bytes) is the same use
at the custodian, and gets the same bytes: a retry after a crash, of either side, costs no use.

The custodian is not trusted: how much it may send, in how many pieces and how long that may take is limited here,
and whatever else it does ends in one refusal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

from taxledger.api.custody import ConsentReceipt, DossierProgress, ForwardedConsent, StoredDisclosure
from taxledger.ledger import canonical, limits
from taxledger.ledger.consent import Artefact, decode_artefact
from taxledger.ledger.consentoperations import ConsentRevoke
from taxledger.ledger.consentscope import check_scope
from taxledger.ledger.disclosure import (
    Disclosed,
    Disclosure,
    UseProof,
    encode_disclosure,
    evidence_query,
    piece_info,
    verify_disclosure,
)
from taxledger.ledger.errors import (
    FormatError,
    InputError,
    RefusedError,
    UnavailableError,
    VerificationError,
)
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.operations import encode_consent
from taxledger.ledger.policy import Policy
from taxledger.ledger.query import Query
from taxledger.ledger.shapes import array, fixed_bytes, integer, items
from taxledger.nodes.identity.hpke import hpke_open
from taxledger.nodes.logs import get_logger
from taxledger.nodes.own import OwnTransactions, require_accepted
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.recipient.forwarding import forward_artefact

__all__ = ["Kept", "Recipient"]

_TRY_MS = 30_000
"""A custodian tells who waits longer than 25 s to ask again."""
_PATIENCE_S = 10.0
"""A question is not asked again later than this: the client asks again itself, and it is the same use."""
_PAUSE_S, _PAUSE_S_MAX = 0.25, 2.0
_WHOLE_S_MAX = limits.answer_age_ms_default / 1_000
"""For all pieces. What takes longer is too old to verify."""
_HEAD_BYTES_MAX = 1 << 20
_PIECES_MAX = 1_024
"""A frame and parts of a thousand records, or of megabytes, make fewer."""
_SEAL_BYTES = 48
"""What sealing adds to a piece."""
_CODES = frozenset(
    {
        *("consent_unknown", "consent_changed", "consent_custodian_mismatch", "consent_recipient_mismatch"),
        *("consent_subject_mismatch", "consent_kind_exceeded", "consent_period_exceeded"),
        *("consent_fields_exceeded", "consent_paused", "consent_revoked", "consent_superseded"),
        *("consent_early", "consent_expired", "consent_used_up", "use_closed", "disclosure_withheld"),
        *("issuer_unknown", "answer_too_large", "inputs_incomplete"),
        *("predicate_argument_invalid", "predicate_unknown"),
    }
)
"""What a custodian may say; anything else is its refusal, and no word about the client or this node."""
_TEXT_MAX = 300


class Kept(Protocol):
    """What a member keeps of what it was shown (``store.py``, ``sweeper.py``). Methods block, but ``discard``."""

    def keep(self, data: bytes, disclosed: Disclosed, *, received_ms: int) -> StoredDisclosure: ...

    def stored(self) -> Sequence[StoredDisclosure]: ...

    def load(self, consent: bytes, sequence: int, *, now_ms: int) -> bytes: ...


Discard = Callable[..., Any]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Recipient:
    """Implements ``api.custody.Disclosures``. Lives on the event loop.

    Args:
        member: this member's number.
        policy: whom it trusts: the validators of the ledger that this node itself executes.
        peers: the other members' nodes.
        hpke_key: private half of a key of this member, by the public one; raises InputError.
        own: signs and submits this member's transactions.
        kept: where disclosures are stored; ``discard(consent, sequence, reason=…)`` destroys one.
    """

    def __init__(
        self,
        *,
        member: int,
        policy: Callable[[], Policy],
        peers: Mapping[int, PeerClient],
        hpke_key: Callable[[bytes], bytes],
        own: OwnTransactions,
        kept: Kept,
        discard: Discard,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self._member = member
        self._policy = policy
        self._peers = peers
        self._hpke_key = hpke_key
        self._own = own
        self._kept = kept
        self._discard = discard
        self._now_ms = now_ms
        self._log = get_logger("disclosure")

    # --- asking ---------------------------------------------------------------------------------

    async def dossier(
        self, query: Query, artefact: bytes, request: bytes
    ) -> AsyncIterator[DossierProgress | bytes]:
        """See ``api.custody.Disclosures``."""
        try:
            opened = decode_artefact(artefact)
        except VerificationError as error:
            raise RefusedError(error.code, "the artefact is not signed by the key it names") from error
        peer = self._peers.get(query.issuer)
        if peer is None:
            raise RefusedError("issuer_unknown", f"member {query.issuer} has no node here")
        self._check(opened, query)
        consent = opened.id(query.issuer)
        message = [1, "disclose", consent, opened.digest(query.issuer), query.as_list(), request]
        answer = await _call(peer, "disclose", message, bytes_max=_HEAD_BYTES_MAX)
        sequence, counts, salt, hpke_key, proof = await asyncio.to_thread(_read_head, answer, consent)
        private = await asyncio.to_thread(self._private, hpke_key)
        pieces: list[bytes] = []
        left, end_s = limits.disclosure_bytes_max, time.monotonic() + _WHOLE_S_MAX
        for number in range(len(counts)):
            if time.monotonic() > end_s:
                raise UnavailableError("the custodian sends too slowly: it would be too old to verify")
            sealed = await self._pull(peer, consent, sequence, number, sum(counts[:number]), left)
            left -= len(sealed)
            info = piece_info(consent, sequence, number)
            pieces.append(await asyncio.to_thread(_open, private, info, sealed))
            yield DossierProgress(
                sequence=sequence,
                pieces=len(counts),
                pieces_done=number + 1,
                records=sum(counts),
                records_done=sum(counts[: number + 1]),
            )
        file = Disclosure(
            artefact=opened,
            custodian=query.issuer,
            sequence=sequence,
            salt=salt,
            frame=pieces[0],
            parts=tuple(pieces[1:]),
            use_proof=proof,
        )
        yield await asyncio.to_thread(self._verify_and_keep, file, query)

    def _check(self, artefact: Artefact, query: Query) -> None:
        """What this side can see already: no need to bother the custodian, who would refuse it too."""
        if artefact.terms.recipient != self._member:
            raise RefusedError("consent_recipient_mismatch", "the consent is for another recipient")
        check_scope(artefact.terms, query)
        evidence_query(artefact, query)

    def _private(self, hpke_key: bytes) -> bytes:
        try:
            return self._hpke_key(hpke_key)
        except InputError as error:
            raise UnavailableError("it is sealed to a key that is not here") from error

    async def _pull(
        self, peer: PeerClient, consent: bytes, sequence: int, number: int, records_done: int, left: int
    ) -> bytes:
        """A sealed piece; of at most ``left`` bytes, and no larger than a part where it is one."""
        largest = left if number == 0 else min(left, limits.disclosure_part_bytes_max + _SEAL_BYTES)
        try:
            return await _call(peer, "piece", [1, "piece", consent, sequence, number], bytes_max=largest)
        except RefusedError as error:
            if error.code == "disclosure_withheld":
                raise RefusedError(error.code, f"after {records_done} records: {_detail(error)}") from error
            raise

    def _verify_and_keep(self, file: Disclosure, query: Query) -> bytes:
        try:
            data = encode_disclosure(file)
            disclosed = verify_disclosure(
                data,
                self._policy(),
                query,
                recipient=self._member,
                now_ms=self._now_ms(),
                age_ms_max=limits.answer_age_ms_default,
            )
        except (VerificationError, InputError) as error:
            code = error.code if isinstance(error, VerificationError) else "malformed"
            self._log.error("a disclosure does not verify", custodian=query.issuer, code=code)
            raise RefusedError(
                "disclosure_invalid", f"what the custodian sent does not verify: {code}"
            ) from error
        if disclosed.terms.mode == "store":
            self._kept.keep(data, disclosed, received_ms=self._now_ms())
        return data

    # --- handing in, revoking, keeping --------------------------------------------------------------------------

    async def forward(self, artefact: bytes) -> ForwardedConsent:
        """See ``api.custody.Disclosures``."""
        return await forward_artefact(self._peers, artefact, member=self._member)

    async def revoke(self, consent: bytes, preimage: bytes) -> ConsentReceipt:
        """See ``api.custody.Disclosures``."""
        payload = encode_consent(ConsentRevoke(consent=consent, preimage=preimage))
        signed = self._own.sign(payload)
        receipt = await self._own.deliver(signed, for_good=False)
        require_accepted(receipt.code)
        return ConsentReceipt(
            consent=consent,
            status="revoked",
            transaction=log_leaf(signed.raw),
            height=receipt.height or 0,
            index=receipt.index or 0,
            time_ms=receipt.certified_time_ms or 0,
        )

    async def stored(self) -> Sequence[StoredDisclosure]:
        """See ``api.custody.Disclosures``."""
        return await asyncio.to_thread(self._kept.stored)

    async def load(self, consent: bytes, sequence: int) -> bytes:
        """See ``api.custody.Disclosures``."""
        return await asyncio.to_thread(self._kept.load, consent, sequence, now_ms=self._now_ms())

    async def discard(self, consent: bytes, sequence: int, *, reason: str) -> bytes:
        """See ``api.custody.Disclosures``."""
        digest: bytes = await self._discard(consent, sequence, reason=reason)
        return digest


async def _call(peer: PeerClient, verb: str, message: list[Any], *, bytes_max: int) -> bytes:
    """One question to the custodian, asked again for a moment while it is out of reach: it is the same use."""
    begun_s, pause_s = time.monotonic(), _PAUSE_S
    while True:
        try:
            return await peer.call(verb, message, timeout_ms=_TRY_MS, answer_bytes_max=bytes_max)
        except UnavailableError:
            if time.monotonic() - begun_s >= _PATIENCE_S:
                raise
        except RefusedError as error:
            text = "".join(each if each.isprintable() else " " for each in _detail(error)[:_TEXT_MAX])
            raise RefusedError(error.code if error.code in _CODES else "custodian_refused", text) from error
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_S_MAX)


def _read_head(answer: bytes, consent: bytes) -> tuple[int, list[int], bytes, bytes, UseProof]:
    """(number of the use, records of each piece, salt, key to which it is sealed, use proof)."""
    try:
        value = items(canonical.decode(answer, bytes_max=_HEAD_BYTES_MAX), 8, "a head")
        version, what, got, sequence, counts, salt, hpke_key, proof = value
        if type(version) is not int or [version, what, got] != [1, "disclose", consent]:
            raise FormatError("expected a head of version 1 for this consent")
        checkpoint, header, inclusion, entries, map_proof = items(proof, 5, "a use proof")
        return (
            integer(sequence, 1, limits.consent_uses_max, "the number of a use"),
            _read_counts(counts),
            fixed_bytes(salt, 32, "a salt"),
            fixed_bytes(hpke_key, 32, "an HPKE key"),
            UseProof(
                checkpoint=checkpoint,
                header=header,
                inclusion=tuple(array(inclusion, 0, 64, "hashes")),
                entries=tuple(items(entries, 3, "values")),
                proof=map_proof,
            ),
        )
    except InputError as error:
        raise RefusedError("disclosure_invalid", f"the custodian's answer can't be read: {error}") from error


def _read_counts(value: Any) -> list[int]:
    """Of the frame, which has none, and of each part."""
    counts = array(value, 1, _PIECES_MAX, "pieces")
    for number, each in enumerate(counts):
        integer(
            each, min(number, 1), limits.disclosure_part_records_max * min(number, 1), "records of a piece"
        )
    return counts


def _open(private: bytes, info: bytes, sealed: bytes) -> bytes:
    try:
        return hpke_open(private, info, sealed)
    except VerificationError as error:
        raise RefusedError("disclosure_invalid", "a piece is not sealed to this member") from error


def _detail(error: RefusedError) -> str:
    return str(error).removeprefix(f"{error.code}: ")
