"""The client for asyncio: a shell of ``core`` over httpx. ``sync.py`` is its twin."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import httpx
from tenacity import AsyncRetrying

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

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """Asks one node and verifies what it says against the caller's policy. For one event loop.

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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._core = ClientCore(base_url, api_key, policy, age_ms_max=age_ms_max)
        self._retries = retries or RetryLimits()
        self._http = httpx.AsyncClient(transport=transport, **http_arguments(self._core, ca))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def status(self) -> dict[str, Any]:
        """Where the node says it stands; not proved."""
        return await self._run(self._core.status())

    async def policy_file(self) -> bytes:
        """The node's policy file, to compare with one's own; never to trust."""
        return await self._run(self._core.policy_file())

    async def policy_links(self) -> bytes:
        """The file that leads from the caller's policy to the present one: ``policychain.follow_links`` verifies it."""
        return await self._run(self._core.policy_links())

    async def checkpoint(self, age_ms_max: int | None = None) -> SignedCheckpoint:
        """The newest checkpoint, verified."""
        return await self._run(self._core.checkpoint(age_ms_max))

    async def transaction(self, id: bytes, age_ms_max: int | None = None) -> VerifiedTransaction | None:
        """A transaction by its id (32 bytes), proved to be in the log; None when the node knows of none."""
        return await self._run(self._core.transaction(id, age_ms_max))

    async def state(self, *prefixes: bytes, age_ms_max: int | None = None) -> VerifiedState:
        """All pairs of the state map under prefixes or whole keys, proved."""
        return await self._run(self._core.state(prefixes, age_ms_max))

    async def submit(self, raw: bytes, wait: Literal["certified", "none"] = "certified") -> Receipt:
        """Submit a signed transaction; by default wait until it is certified. Not proved: see
        ``transaction``.
        """
        return await self._run(self._core.submit(raw, wait))

    async def dossier(self, query: Query) -> bytes:
        """Evidence of the issuer's own node about its own records, not verified."""
        return await self._run(self._core.dossier(query))

    async def verified_dossier(self, query: Query, age_ms_max: int | None = None) -> EvidenceAnswer:
        """Such evidence, verified: the answer to the query."""
        return await self._run(self._core.verified_dossier(query, age_ms_max))

    async def disclosure(
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
        return await self._dossier(self._core.disclosure(query, consent, on_progress, request_key))

    async def verified_disclosure(
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
        return await self._dossier(
            self._core.verified_disclosure(query, consent, recipient, on_progress, request_key, age_ms_max)
        )

    async def consents(
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
        return await self._steps(self._core.consents(subject_secret, members, age_ms_max))

    async def register_subject(
        self, subject: str, public_key: bytes, *, authentication: str, reason: str | None = None
    ) -> int:
        """Register a subject's key at its custodian; the key's number. A changed key needs a reason."""
        return await self._run(self._core.register_subject(subject, public_key, authentication, reason))

    async def grant_consent(self, artefact: bytes) -> ConsentReceipt:
        """Hand an artefact to the custodian, which puts the consent on the ledger."""
        return await self._run(self._core.grant_consent(artefact))

    async def forward_consent(self, artefact: bytes) -> ForwardedConsent:
        """Hand an artefact, as its recipient, to every custodian it names; says which of them granted it."""
        return await self._run(self._core.forward_consent(artefact))

    async def instruct(self, instruction: bytes) -> ConsentReceipt:
        """Hand a subject's instruction to the custodian, which carries it out."""
        return await self._run(self._core.instruct(instruction))

    async def consents_of(self, subject: str) -> list[ConsentEntry]:
        """A subject's consents as its custodian knows them, with the artefacts; the node's word."""
        return await self._run(self._core.consents_of(subject))

    async def consent_receipt(self, subject: str, consent: bytes) -> dict[str, Any]:
        """A consent's receipt in the shape of ISO/IEC TS 27560; the node's word."""
        return await self._run(self._core.consent_receipt(subject, consent))

    async def revoke_consent(self, consent: bytes, preimage: bytes) -> ConsentReceipt:
        """Revoke a consent (16 bytes) by its preimage (32 bytes), through any member's node."""
        return await self._run(self._core.revoke_consent(consent, preimage))

    async def erase(self, query: Query, *, reason: str) -> ErasureReceipt:
        """Destroy the custodian's own records that a query names; its issuer is not looked at."""
        return await self._run(self._core.erase(query, reason))

    async def disclosures(self) -> list[StoredDisclosure]:
        """What the node keeps of what was disclosed to it."""
        return await self._run(self._core.disclosures())

    async def load_disclosure(self, consent: bytes, sequence: int) -> bytes:
        """The file of a disclosure that the node keeps, not verified."""
        return await self._run(self._core.load_disclosure(consent, sequence))

    async def discard_disclosure(self, consent: bytes, sequence: int, *, reason: str) -> bytes:
        """Destroy a disclosure that the node keeps; the digest of what it said on the ledger."""
        return await self._run(self._core.discard_disclosure(consent, sequence, reason))

    async def request_permits(
        self, consent: bytes, sequence: int, records: Sequence[bytes], *, not_after: int
    ) -> list[bytes]:
        """Permits to pledge records (keys of one issuer) that a use of a consent (its id) showed, in their order.

        ``not_after``: milliseconds since 1970; they may end earlier.
        """
        return await self._run(self._core.request_permits(consent, sequence, records, not_after))

    async def place_pledge(
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
        return await self._run(self._core.place_pledge(permit, ppm, not_after, request_key, nonce))

    async def confirm_pledge(self, pledge: bytes) -> PledgeReceipt:
        """Make a reservation (16 bytes) a pledge without end."""
        return await self._run(self._core.confirm_pledge(pledge))

    async def release_pledge(self, pledge: bytes) -> PledgeReceipt:
        """End a pledge of the node's member."""
        return await self._run(self._core.release_pledge(pledge))

    async def transfer_pledge(self, pledge: bytes, permit: bytes) -> PledgeReceipt:
        """Pass a pledge to the lender that the permit names, which asked its custodian for it."""
        return await self._run(self._core.transfer_pledge(pledge, permit))

    async def pledge_proof(self, keys: Iterable[PledgeKey]) -> bytes:
        """The file that proves what is pledged under (issuer, fingerprint), and what is not; not verified."""
        return await self._run(self._core.pledge_proof(keys))

    async def verified_pledges(
        self, keys: Iterable[PledgeKey], age_ms_max: int | None = None
    ) -> VerifiedPledges:
        """What is pledged under each (issuer, fingerprint), verified."""
        return await self._run(self._core.verified_pledges(keys, age_ms_max))

    async def history(self, key: bytes) -> list[RecordChange]:
        """What happened to a record (37-byte key), oldest first; the node's word."""
        return await self._run(self._core.history(key))

    async def events(self, after: EventId | None = None) -> AsyncIterator[Event]:
        """Certified events after a place (None: now), for ever, without gaps; reconnects by itself."""
        cursor = self._core.events(after)
        backoff = Backoff(self._retries)
        while True:
            try:
                # Closed with this generator, not whenever the collector finds it.
                async with contextlib.aclosing(self._stream(cursor)) as events:
                    async for event in events:
                        backoff.worked()
                        yield event
                error = TryAgainError("the node ended the stream")
            except TryAgainError as caught:
                error = caught
            await asyncio.sleep(backoff.pause_s(error))

    async def _stream(self, cursor: EventCursor) -> AsyncGenerator[Event, None]:
        request = cursor.request()
        try:
            async with self._http.stream(**request_arguments(request)) as response:
                if response.status_code != 200:
                    raise error_of(await self._read(request, response))
                async for piece in response.aiter_bytes():
                    for event in cursor.feed(piece):
                        yield event
        except httpx.HTTPError as error:
            raise connection_error(error) from error

    async def _run(self, call: Call[T]) -> T:
        async for attempt in AsyncRetrying(**retry_arguments(self._retries)):
            with attempt:
                return call.read(await self._send(call.request))
        raise AssertionError("tenacity ends by returning or raising")

    async def _steps(self, steps: ConsentSteps) -> VerifiedConsents:
        try:
            call = next(steps)
            while True:
                call = steps.send(await self._run(call))
        except StopIteration as done:
            found: VerifiedConsents = done.value
            return found

    async def _dossier(self, call: DossierCall[T]) -> T:
        async for attempt in AsyncRetrying(**retry_arguments(self._retries)):
            with attempt:
                return call.read(await self._receive(call))
        raise AssertionError("tenacity ends by returning or raising")

    async def _receive(self, call: DossierCall[T]) -> bytes:
        reader = call.reader()
        try:
            async with self._http.stream(**request_arguments(call.request)) as response:
                if response.status_code != 200:
                    check_status(await self._read(call.request, response))
                call.check_start(response.headers)
                async for piece in response.aiter_bytes():
                    reader.feed(piece)
        except httpx.HTTPError as error:
            raise connection_error(error) from error
        return reader.finish()

    async def _send(self, request: Request) -> Answer:
        try:
            async with self._http.stream(**request_arguments(request)) as response:
                return await self._read(request, response)
        except httpx.HTTPError as error:
            raise connection_error(error) from error

    async def _read(self, request: Request, response: httpx.Response) -> Answer:
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > request.bytes_max:
                raise oversized(request)
        return answer_of(response, bytes(body))
