"""The client for threads: a shell of ``core`` over httpx. ``aio.py`` is its twin."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import httpx
from tenacity import Retrying

from taxledger.api.client.consents import Steps as ConsentSteps
from taxledger.api.client.consents import VerifiedConsents
from taxledger.api.client.core import ClientCore
from taxledger.api.client.dossiers import DossierCall, OnProgress
from taxledger.api.client.follow import EventCursor
from taxledger.api.client.reading import VerifiedState, VerifiedTransaction
from taxledger.api.client.shell import (
    Backoff,
    answer_of,
    connection_error,
    http_arguments,
    oversized,
    request_arguments,
)
from taxledger.api.client.wire import (
    Answer,
    Call,
    Request,
    RetryLimits,
    TryAgainError,
    check_status,
    error_of,
    retry_arguments,
)
from taxledger.api.custody import (
    ConsentEntry,
    ConsentReceipt,
    ErasureReceipt,
    ForwardedConsent,
    StoredDisclosure,
)
from taxledger.api.events import Event, EventId
from taxledger.api.pledging import PledgeReceipt
from taxledger.api.reader import Receipt, RecordChange
from taxledger.ledger import limits
from taxledger.ledger.answer import Answer as EvidenceAnswer
from taxledger.ledger.checkpoint import SignedCheckpoint
from taxledger.ledger.disclosure import Disclosed
from taxledger.ledger.pledgeproof import PledgeKey, VerifiedPledges
from taxledger.ledger.policy import Policy
from taxledger.ledger.query import Query

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """Asks one node and verifies what it says against the caller's policy. May be used by several threads.

    All methods raise VerificationError when an answer is not proved, RefusedError with the problem's code,
    InputError for what was asked wrongly, and UnavailableError when the node can't be reached long enough.

    Args:
        base_url: ``http(s)://host[:port]``; plain http for loopback only.
        api_key: ``tl_<id>_<secret>``.
        policy: whom to trust: the caller's own file (``ledger.policy.decode_policy``).
        ca: PEM file of the authority that signed the node's certificate; None for the system's.
        age_ms_max: how old a certificate may be, milliseconds.
        retries: how long to go on trying.
        transport: for tests.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        policy: Policy,
        *,
        ca: Path | None = None,
        age_ms_max: int = limits.answer_age_ms_default,
        retries: RetryLimits | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._core = ClientCore(base_url, api_key, policy, age_ms_max=age_ms_max)
        self._retries = retries or RetryLimits()
        self._http = httpx.Client(transport=transport, **http_arguments(self._core, ca))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def status(self) -> dict[str, Any]:
        """Where the node says it stands; not proved."""
        return self._run(self._core.status())

    def policy_file(self) -> bytes:
        """The node's policy file, to compare with one's own; never to trust."""
        return self._run(self._core.policy_file())

    def policy_links(self) -> bytes:
        """The file that leads from the caller's policy to the present one: ``policychain.follow_links`` verifies it."""
        return self._run(self._core.policy_links())

    def checkpoint(self, age_ms_max: int | None = None) -> SignedCheckpoint:
        """The newest checkpoint, verified."""
        return self._run(self._core.checkpoint(age_ms_max))

    def transaction(self, id: bytes, age_ms_max: int | None = None) -> VerifiedTransaction | None:
        """A transaction by its id (32 bytes), proved to be in the log; None when the node knows of none."""
        return self._run(self._core.transaction(id, age_ms_max))

    def state(self, *prefixes: bytes, age_ms_max: int | None = None) -> VerifiedState:
        """All pairs of the state map under prefixes or whole keys, proved."""
        return self._run(self._core.state(prefixes, age_ms_max))

    def submit(self, raw: bytes, wait: Literal["certified", "none"] = "certified") -> Receipt:
        """Submit a signed transaction; by default wait until it is certified. Not proved: see
        ``transaction``.
        """
        return self._run(self._core.submit(raw, wait))

    def dossier(self, query: Query) -> bytes:
        """Evidence of the issuer's own node about its own records, not verified."""
        return self._run(self._core.dossier(query))

    def verified_dossier(self, query: Query, age_ms_max: int | None = None) -> EvidenceAnswer:
        """Such evidence, verified: the answer to the query."""
        return self._run(self._core.verified_dossier(query, age_ms_max))

    def disclosure(
        self,
        query: Query,
        consent: bytes,
        *,
        on_progress: OnProgress | None = None,
        request_key: str | None = None,
    ) -> bytes:
        """A disclosure under a consent's artefact, not verified.

        Args:
            query: what is asked.
            consent: the artefact's bytes.
            on_progress: told how far it is.
            request_key: 1 to 128 printable characters that name the use: the same again gets the same bytes and
                is counted once. None for a use of its own.
        """
        return self._dossier(self._core.disclosure(query, consent, on_progress, request_key))

    def verified_disclosure(
        self,
        query: Query,
        consent: bytes,
        recipient: int,
        *,
        on_progress: OnProgress | None = None,
        request_key: str | None = None,
        age_ms_max: int | None = None,
    ) -> Disclosed:
        """A disclosure, verified: the answer to the query, what was opened of it, and the use it was.

        Args:
            query, consent, on_progress, request_key: as of ``disclosure``.
            recipient: the caller's own member number.
            age_ms_max: how old a certificate may be, milliseconds.
        """
        return self._dossier(
            self._core.verified_disclosure(query, consent, recipient, on_progress, request_key, age_ms_max)
        )

    def consents(
        self,
        subject_secret: bytes,
        members: Iterable[int] | None = None,
        age_ms_max: int | None = None,
    ) -> VerifiedConsents:
        """All consents of the subject that holds this secret, with all their uses: proved to be complete.

        Args:
            subject_secret: 32 bytes; stays here.
            members: recipients to look at; None for every member of the network.
            age_ms_max: how old a certificate may be, milliseconds.
        """
        return self._steps(self._core.consents(subject_secret, members, age_ms_max))

    def register_subject(
        self, subject: str, public_key: bytes, *, authentication: str, reason: str | None = None
    ) -> int:
        """Register a subject's key at its custodian; the key's number. A changed key needs a reason."""
        return self._run(self._core.register_subject(subject, public_key, authentication, reason))

    def grant_consent(self, artefact: bytes) -> ConsentReceipt:
        """Hand an artefact to the custodian, which puts the consent on the ledger."""
        return self._run(self._core.grant_consent(artefact))

    def forward_consent(self, artefact: bytes) -> ForwardedConsent:
        """Hand an artefact, as its recipient, to every custodian it names; says which of them granted it."""
        return self._run(self._core.forward_consent(artefact))

    def instruct(self, instruction: bytes) -> ConsentReceipt:
        """Hand a subject's instruction to the custodian, which carries it out."""
        return self._run(self._core.instruct(instruction))

    def consents_of(self, subject: str) -> list[ConsentEntry]:
        """A subject's consents as its custodian knows them, with the artefacts; the node's word."""
        return self._run(self._core.consents_of(subject))

    def consent_receipt(self, subject: str, consent: bytes) -> dict[str, Any]:
        """A consent's receipt in the shape of ISO/IEC TS 27560; the node's word."""
        return self._run(self._core.consent_receipt(subject, consent))

    def revoke_consent(self, consent: bytes, preimage: bytes) -> ConsentReceipt:
        """Revoke a consent (16 bytes) by its preimage (32 bytes), through any member's node."""
        return self._run(self._core.revoke_consent(consent, preimage))

    def erase(self, query: Query, *, reason: str) -> ErasureReceipt:
        """Destroy the custodian's own records that a query names; its issuer is not looked at."""
        return self._run(self._core.erase(query, reason))

    def disclosures(self) -> list[StoredDisclosure]:
        """What the node keeps of what was disclosed to it."""
        return self._run(self._core.disclosures())

    def load_disclosure(self, consent: bytes, sequence: int) -> bytes:
        """The file of a disclosure that the node keeps, not verified."""
        return self._run(self._core.load_disclosure(consent, sequence))

    def discard_disclosure(self, consent: bytes, sequence: int, *, reason: str) -> bytes:
        """Destroy a disclosure that the node keeps; the digest of what it said on the ledger."""
        return self._run(self._core.discard_disclosure(consent, sequence, reason))

    def request_permits(
        self, consent: bytes, sequence: int, records: Sequence[bytes], *, not_after: int
    ) -> list[bytes]:
        """Permits to pledge records (keys of one issuer) that a use of a consent (its id) showed, in their order.

        ``not_after``: milliseconds since 1970; they may end earlier.
        """
        return self._run(self._core.request_permits(consent, sequence, records, not_after))

    def place_pledge(
        self,
        permit: bytes,
        ppm: int,
        *,
        not_after: int | None = None,
        request_key: str | None = None,
        nonce: bytes | None = None,
    ) -> PledgeReceipt:
        """Pledge a share (in millionths) of the permit's record, or reserve it until an instant.

        ``request_key``: 1 to 128 printable characters that name the pledge: the same again places nothing twice.
        ``nonce``: 16 bytes that name it instead, so that its id is known before (``pledgestate.pledge_id``).
        """
        return self._run(self._core.place_pledge(permit, ppm, not_after, request_key, nonce))

    def confirm_pledge(self, pledge: bytes) -> PledgeReceipt:
        """Make a reservation (16 bytes) a pledge without end."""
        return self._run(self._core.confirm_pledge(pledge))

    def release_pledge(self, pledge: bytes) -> PledgeReceipt:
        """End a pledge of the node's member."""
        return self._run(self._core.release_pledge(pledge))

    def transfer_pledge(self, pledge: bytes, permit: bytes) -> PledgeReceipt:
        """Pass a pledge to the lender that the permit names, which asked its custodian for it."""
        return self._run(self._core.transfer_pledge(pledge, permit))

    def pledge_proof(self, keys: Iterable[PledgeKey]) -> bytes:
        """The file that proves what is pledged under (issuer, fingerprint), and what is not; not verified."""
        return self._run(self._core.pledge_proof(keys))

    def verified_pledges(self, keys: Iterable[PledgeKey], age_ms_max: int | None = None) -> VerifiedPledges:
        """What is pledged under each (issuer, fingerprint), verified."""
        return self._run(self._core.verified_pledges(keys, age_ms_max))

    def history(self, key: bytes) -> list[RecordChange]:
        """What happened to a record (37-byte key), oldest first; the node's word."""
        return self._run(self._core.history(key))

    def export(self) -> Iterator[bytes]:
        """The archive of the certified ledger (docs/protocol.md §11), in pieces; auditing it is the caller's.

        Not tried again: where it breaks off, UnavailableError is raised.
        """
        request = self._core.export()
        try:
            with self._http.stream(**request_arguments(request)) as response:
                if response.status_code != 200:
                    raise error_of(self._read(request, response))
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise connection_error(error) from error

    def events(self, after: EventId | None = None) -> Iterator[Event]:
        """Certified events after a place (None: now), for ever, without gaps; reconnects by itself."""
        cursor = self._core.events(after)
        backoff = Backoff(self._retries)
        while True:
            try:
                for event in self._stream(cursor):
                    backoff.worked()
                    yield event
                error = TryAgainError("the node ended the stream")
            except TryAgainError as caught:
                error = caught
            time.sleep(backoff.pause_s(error))

    def _stream(self, cursor: EventCursor) -> Iterator[Event]:
        request = cursor.request()
        try:
            with self._http.stream(**request_arguments(request)) as response:
                if response.status_code != 200:
                    raise error_of(self._read(request, response))
                for piece in response.iter_bytes():
                    yield from cursor.feed(piece)
        except httpx.HTTPError as error:
            raise connection_error(error) from error

    def _run(self, call: Call[T]) -> T:
        for attempt in Retrying(**retry_arguments(self._retries)):
            with attempt:
                return call.read(self._send(call.request))
        raise AssertionError("tenacity ends by returning or raising")

    def _steps(self, steps: ConsentSteps) -> VerifiedConsents:
        try:
            call = next(steps)
            while True:
                call = steps.send(self._run(call))
        except StopIteration as done:
            found: VerifiedConsents = done.value
            return found

    def _dossier(self, call: DossierCall[T]) -> T:
        for attempt in Retrying(**retry_arguments(self._retries)):
            with attempt:
                return call.read(self._receive(call))
        raise AssertionError("tenacity ends by returning or raising")

    def _receive(self, call: DossierCall[T]) -> bytes:
        reader = call.reader()
        try:
            with self._http.stream(**request_arguments(call.request)) as response:
                if response.status_code != 200:
                    check_status(self._read(call.request, response))
                call.check_start(response.headers)
                for piece in response.iter_bytes():
                    reader.feed(piece)
        except httpx.HTTPError as error:
            raise connection_error(error) from error
        return reader.finish()

    def _send(self, request: Request) -> Answer:
        try:
            with self._http.stream(**request_arguments(request)) as response:
                return self._read(request, response)
        except httpx.HTTPError as error:
            raise connection_error(error) from error

    def _read(self, request: Request, response: httpx.Response) -> Answer:
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > request.bytes_max:
                raise oversized(request)
        return answer_of(response, bytes(body))
