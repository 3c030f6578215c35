"""What the API asks of a node about consents and disclosures: two Protocols, and the values that cross them.

``Custody`` is the desk of an issuer's own node: subjects' keys, consents, erasure. ``Disclosures`` is every
member's: to ask for data under a consent, to revoke by preimage, to keep and to destroy what was disclosed.

Invariants every implementation keeps:

- **Certified first.** A ``ConsentReceipt`` is of a certified block; a disclosure's bytes leave the custodian
  only after its ``consent.use`` is certified.
- **Same again.** A retry of the same artefact, instruction or request gets the first one's outcome.
- **Errors.** ``RefusedError`` with a code of the table in ``problems.py``, ``InputError`` for bad bytes,
  ``UnavailableError`` when it would work later. Messages hold no subject, no field's value, no secret.
- Methods may be called concurrently from one event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from taxledger.ledger.query import Query

__all__ = [
    "ConsentEntry",
    "ConsentReceipt",
    "Custody",
    "Disclosures",
    "DossierProgress",
    "ErasureNotice",
    "ErasureReceipt",
    "ForwardedConsent",
    "GrantFailure",
    "StoredDisclosure",
    "UseEntry",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentReceipt:
    """What became of a grant, an instruction or a revocation.

    Attributes:
        consent: its id, 16 bytes.
        status: ``active``, ``paused``, ``revoked`` or ``superseded``, after it.
        transaction: id of the transaction that did it, 32 bytes.
        height, index: its block, and its leaf in the log.
        time_ms: block time.
    """

    consent: bytes
    status: str
    transaction: bytes
    height: int
    index: int
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantFailure:
    """A custodian at which an artefact is not granted.

    Attributes:
        member: its number.
        code: of the problem: ``unavailable`` where trying again can help.
        detail: one sentence.
    """

    member: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedConsent:
    """What became of an artefact that its recipient handed to every custodian it names.

    Attributes:
        receipts: of those that granted it, ascending by member.
        failures: of the others.
    """

    receipts: tuple[ConsentReceipt, ...]
    failures: tuple[GrantFailure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UseEntry:
    """One use of a consent.

    Attributes:
        sequence: from 1.
        state: ``open``, ``complete``, ``partial`` or ``none``.
        planned: records that were to leave; ``count`` those that did, 0 while it is open.
        opened_height: block of the use; ``closed_height`` of its close, None while it is open.
    """

    sequence: int
    state: str
    planned: int
    count: int
    opened_height: int
    closed_height: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentEntry:
    """A consent as its custodian knows it.

    Attributes:
        consent: its id, 16 bytes; ``artefact`` what the subject signed.
        status: as in ``ConsentReceipt``.
        uses, max_uses: how often it was used, and may be.
        granted_height: block of the grant.
        recipient: number of the member that may ask.
        subject_key: the key that signed, 32 bytes.
        uses_list: every use, ascending by number.
    """

    consent: bytes
    artefact: bytes
    status: str
    uses: int
    max_uses: int
    granted_height: int
    recipient: int
    subject_key: bytes
    uses_list: tuple[UseEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureNotice:
    """A recipient that was told to destroy what it holds; ``confirmed`` once its ``data.erased`` is certified."""

    member: int
    confirmed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReceipt:
    """What became of an erasure.

    Attributes:
        records: how many were erased.
        transactions: ids of the ``erase`` transactions, 32 bytes each; none where nothing was left to erase.
        notices: one for each recipient that had been shown any of them, ascending by member.
    """

    records: int
    transactions: tuple[bytes, ...]
    notices: tuple[ErasureNotice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DossierProgress:
    """How far a disclosure is.

    Attributes:
        sequence: number of the use.
        pieces, pieces_done: the frame and the parts; ``records``, ``records_done`` the records in them.
    """

    sequence: int
    pieces: int
    pieces_done: int
    records: int
    records_done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDisclosure:
    """A disclosure that a recipient's node keeps.

    Attributes:
        consent: 16 bytes; ``sequence`` the number of the use.
        custodian: number of the member that disclosed.
        subject: of whom.
        records: how many; ``file_bytes`` the size of the file.
        stored_ms: when it was stored; ``erase_after_ms`` when the sweeper destroys it.
    """

    consent: bytes
    sequence: int
    custodian: int
    subject: str
    records: int
    file_bytes: int
    stored_ms: int
    erase_after_ms: int


class Custody(Protocol):
    """The desk of a custodian's node. See the module's invariants."""

    async def register_subject(
        self, subject: str, public_key: bytes, *, authentication: str, reason: str | None
    ) -> int:
        """Register a subject's key, after the caller identified the person; the key's number, from 1.

        The same key again is harmless, and gives its number. A new key takes the place of the one before, for
        everything signed from then on; what the former signed stays.

        Raises:
            RefusedError: ``subject_key_exists``: another key is registered, and no ``reason`` says why it changes.
        """

    async def grant(self, artefact: bytes) -> ConsentReceipt:
        """Check an artefact and put the consent on the ledger; a retry gets the first receipt.

        Raises:
            RefusedError: ``consent_key_unknown`` (not the subject's registered key),
                ``consent_chain_mismatch``, ``consent_custodian_mismatch``, ``consent_exists``,
                ``consent_fields_exceeded``, ``consent_kind_exceeded`` (a kind this issuer has not),
                ``consent_terms_invalid``, ``consent_unknown`` (the former one).
        """

    async def instruct(self, instruction: bytes) -> ConsentReceipt:
        """Carry out a subject's signed instruction (``ledger/instruction.py``); a retry gets the first receipt.

        Raises:
            RefusedError: ``consent_unknown``, ``consent_key_unknown``, ``instruction_repeated`` (its number is
                not higher than the last one's), ``consent_state_invalid``.
        """

    async def consents(self, subject: str) -> Sequence[ConsentEntry]:
        """Every consent of a subject at this custodian, whichever of its keys signed; ascending by grant."""

    async def erase(self, query: Query, *, reason: str) -> ErasureReceipt:
        """Destroy fields and secrets of the records a query names, here and by notice at recipients.

        Call it again to see which notices are confirmed by now.
        """


class Disclosures(Protocol):
    """A member's node as recipient. See the module's invariants."""

    def dossier(
        self, query: Query, artefact: bytes, request: bytes
    ) -> AsyncIterator[DossierProgress | bytes]:
        """Ask the custodian under a consent: yields progress, then the file's bytes (docs/protocol.md §13).

        Args:
            query: what is asked.
            artefact: the consent's.
            request: 16 bytes that name the request: the same again is the same use, and gets the same bytes.

        Raises:
            RefusedError: with the custodian's code: ``consent_unknown``, ``consent_recipient_mismatch``,
                ``consent_subject_mismatch``, ``consent_kind_exceeded``, ``consent_period_exceeded``,
                ``consent_fields_exceeded``, ``consent_paused``, ``consent_revoked``, ``consent_superseded``,
                ``consent_early``, ``consent_expired``, ``consent_used_up``, ``consent_changed`` (another
                artefact), ``use_closed``, ``disclosure_withheld`` (revoked while streaming; the message says
                how many records came).
        """

    async def forward(self, artefact: bytes) -> ForwardedConsent:
        """Hand an artefact to every custodian it names. One that is down or refuses hides none of the others.

        Raises:
            RefusedError: ``consent_signature_invalid``, ``consent_recipient_mismatch`` (not this member).
        """

    async def revoke(self, consent: bytes, preimage: bytes) -> ConsentReceipt:
        """Revoke any member's consent by the preimage (32 bytes) of its revoke hash.

        Raises:
            RefusedError: ``consent_unknown``, ``preimage_invalid``, ``consent_state_invalid``.
        """

    async def stored(self) -> Sequence[StoredDisclosure]:
        """What this node keeps (mode ``store``), ascending by when it was stored."""

    async def load(self, consent: bytes, sequence: int) -> bytes:
        """A stored disclosure's file. Raises RefusedError ``disclosure_unknown``."""

    async def discard(self, consent: bytes, sequence: int, *, reason: str) -> bytes:
        """Destroy a stored disclosure and put ``data.erased`` on the ledger; its digest, 32 bytes.

        Raises:
            RefusedError: ``disclosure_unknown``.
        """
