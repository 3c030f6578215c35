"""Every question a client can ask, as a ``Call``: the request, and what its answer proves. No I/O.

The policy is the caller's, from its own file, never from the node that is asked.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlsplit

from taxledger import __version__
from taxledger.api.client import reading
from taxledger.api.client.consentcalls import ConsentCalls, question_body
from taxledger.api.client.consents import Steps as ConsentSteps
from taxledger.api.client.consents import list_consents
from taxledger.api.client.dossiers import STREAM, DossierCall, OnProgress
from taxledger.api.client.follow import EventCursor
from taxledger.api.client.pledgecalls import PledgeCalls
from taxledger.api.client.reading import VerifiedState, VerifiedTransaction
from taxledger.api.client.wire import Answer, Call, Request, answer_call, check_status
from taxledger.api.events import EventId
from taxledger.api.reader import Receipt, RecordChange
from taxledger.ledger import limits
from taxledger.ledger.answer import Answer as EvidenceAnswer
from taxledger.ledger.checkpoint import SignedCheckpoint, parse_origin
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.disclosure import Disclosed, verify_disclosure
from taxledger.ledger.errors import InputError, RefusedError, VerificationError
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.policy import Policy
from taxledger.ledger.query import Query
from taxledger.ledger.verify import verify_evidence

__all__ = ["ClientCore", "check_base_url"]

_JSON = "application/json"
_POST_TIMEOUT_S = 75.0
"""Longer than a node waits for a certificate or a custodian, so that its answer comes first."""


def check_base_url(base_url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        InputError: not http(s)://host[:port]; or plain http to anything but loopback, which would show the
        key.
    """
    try:
        parts = urlsplit(base_url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise InputError("expected a URL http(s)://host[:port]") from None
    bare = not (parts.query or parts.fragment or parts.username or parts.path.strip("/"))
    if parts.scheme not in ("http", "https") or not host or not bare:
        raise InputError("expected a URL http(s)://host[:port]")
    if parts.scheme == "http" and not _is_loopback(host):
        raise InputError(
            "expected https for a host that is not loopback: the API key must not travel in the clear"
        )
    return base_url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ClientCore(ConsentCalls, PledgeCalls):
    """Builds calls.

    Args:
        base_url: of the node's API.
        api_key: ``tl_<id>_<secret>``.
        policy: whom to trust.
        age_ms_max: how old a certificate may be where a method is not told otherwise, milliseconds.
        now_ms: the present instant, milliseconds since 1970.
        new_key: makes Idempotency-Keys.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        policy: Policy,
        *,
        age_ms_max: int = limits.answer_age_ms_default,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        new_key: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        if not api_key.isascii() or not api_key.isprintable() or " " in api_key or not api_key:
            raise InputError("expected an API key tl_<id>_<secret>")
        self.base_url = check_base_url(base_url)
        self.policy = policy
        self.headers = {"Authorization": f"Bearer {api_key}", "User-Agent": f"taxledger/{__version__}"}
        self._age_ms_max = age_ms_max
        self._now_ms = now_ms
        self._new_key = new_key

    # --- the node -------------------------------------------------------------------------

    def status(self) -> Call[dict[str, Any]]:
        return answer_call(Request(method="GET", path="/v1/status"), reading.read_object)

    def policy_file(self) -> Call[bytes]:
        request = Request(method="GET", path="/v1/policy", bytes_max=limits.policy_bytes_max)
        return answer_call(request, lambda answer: answer.body)

    def policy_links(self) -> Call[bytes]:
        request = Request(
            method="GET",
            path="/v1/policy/links",
            params=(
                ("from", self.policy.validators_hash.hex()),
                ("engine", parse_origin(self.policy.origin).engine),
            ),
            bytes_max=limits.policy_links_bytes_max,
        )
        return answer_call(request, lambda answer: answer.body)

    # --- the ledger -----------------------------------------------------------------------

    def checkpoint(self, age_ms_max: int | None = None) -> Call[SignedCheckpoint]:
        request = Request(method="GET", path="/v1/checkpoint", bytes_max=limits.checkpoint_bytes_max)
        return answer_call(
            request, lambda answer: reading.read_note(answer, self.policy, **self._times(age_ms_max))
        )

    def transaction(self, id: bytes, age_ms_max: int | None = None) -> Call[VerifiedTransaction | None]:
        def read(answer: Answer) -> VerifiedTransaction | None:
            try:
                check_status(answer)
            except RefusedError as error:
                if error.code == "transaction_unknown":
                    return None
                raise
            return reading.read_transaction(answer, id, self.policy, **self._times(age_ms_max))

        return Call(request=Request(method="GET", path=f"/v1/transactions/{id.hex()}"), read=read)

    def state(self, prefixes: Sequence[bytes], age_ms_max: int | None = None) -> Call[VerifiedState]:
        request = Request(
            method="GET",
            path="/v1/state",
            params=tuple(("prefix", prefix.hex()) for prefix in prefixes),
            bytes_max=limits.evidence_bytes_max,
        )
        return answer_call(
            request,
            lambda answer: reading.read_state(answer, prefixes, self.policy, **self._times(age_ms_max)),
        )

    def events(self, after: EventId | None) -> EventCursor:
        return EventCursor(self.policy.origin, after)

    # --- questions with a body --------------------------------------------------------------

    def submit(self, raw: bytes, wait: Literal["certified", "none"]) -> Call[Receipt]:
        request = self._post("/v1/transactions", raw, "application/cose", params=(("wait", wait),))
        return answer_call(
            request, lambda answer: reading.read_receipt(reading.read_object(answer), log_leaf(raw))
        )

    def dossier(self, query: Query) -> Call[bytes]:
        return answer_call(self._dossier(query), lambda answer: answer.body)

    def disclosure(
        self, query: Query, consent: bytes, on_progress: OnProgress | None, request_key: str | None
    ) -> DossierCall[bytes]:
        return DossierCall(
            request=self._disclosure(query, consent, request_key),
            on_progress=on_progress,
            read=lambda data: data,
        )

    def verified_disclosure(
        self,
        query: Query,
        consent: bytes,
        recipient: int,
        on_progress: OnProgress | None,
        request_key: str | None,
        age_ms_max: int | None = None,
    ) -> DossierCall[Disclosed]:
        # What came is compared with the artefact that was named: another one that covers the question, too,
        # would be a disclosure under a consent that nobody asked to use.
        wanted = decode_artefact(consent).id(query.issuer)

        def read(data: bytes) -> Disclosed:
            times = self._times(age_ms_max)
            disclosed = verify_disclosure(
                data,
                self.policy,
                query,
                recipient=recipient,
                now_ms=times["now_ms"],
                age_ms_max=times["age_ms_max"],
            )
            if disclosed.consent != wanted:
                raise VerificationError("consent_mismatch", "disclosed under another consent")
            return disclosed

        return DossierCall(
            request=self._disclosure(query, consent, request_key), on_progress=on_progress, read=read
        )

    def consents(
        self, subject_secret: bytes, members: Iterable[int] | None, age_ms_max: int | None
    ) -> ConsentSteps:
        return list_consents(lambda keys: self.state(keys, age_ms_max), subject_secret, members)

    def verified_dossier(self, query: Query, age_ms_max: int | None = None) -> Call[EvidenceAnswer]:
        return answer_call(
            self._dossier(query),
            lambda answer: verify_evidence(
                answer.body,
                self.policy,
                query,
                now_ms=self._now_ms(),
                age_ms_max=self._age_ms_max if age_ms_max is None else age_ms_max,
            ),
        )

    def history(self, key: bytes) -> Call[list[RecordChange]]:
        body = json.dumps({"key": key.hex()}).encode()
        return answer_call(self._post("/v1/records/history", body, _JSON), reading.read_history)

    def export(self) -> Request:
        """The archive is a stream of any length: the shell reads it."""
        return Request(method="GET", path="/v1/export")

    def _dossier(self, query: Query) -> Request:
        content = json.dumps(question_body(query)).encode()
        return self._post("/v1/dossiers", content, _JSON, bytes_max=limits.evidence_bytes_max)

    def _disclosure(self, query: Query, consent: bytes, request_key: str | None) -> Request:
        body = question_body(query) | {"consent": base64.b64encode(consent).decode()}
        made = self._post("/v1/dossiers", json.dumps(body).encode(), _JSON)
        headers = {**made.headers, "Accept": STREAM}
        if request_key is not None:
            headers["Idempotency-Key"] = request_key
        return replace(made, headers=headers)

    def _post(self, path: str, content: bytes, media_type: str, **more: Any) -> Request:
        # Made once a call: whoever tries again sends the same key.
        headers = {"Content-Type": media_type, "Idempotency-Key": self._new_key()}
        more.setdefault("timeout_s", _POST_TIMEOUT_S)
        return Request(method="POST", path=path, content=content, headers=headers, **more)

    def _times(self, age_ms_max: int | None) -> dict[str, int]:
        limit_ms = self._age_ms_max if age_ms_max is None else age_ms_max
        return {"now_ms": self._now_ms(), "age_ms_max": limit_ms}
