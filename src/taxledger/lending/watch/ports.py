"""What the watcher needs of the world, each a small Protocol, and how the verifying client serves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

from taxledger.api.client import Client
from taxledger.api.events import Event, EventId
from taxledger.ledger.errors import InputError, RefusedError, UnavailableError, VerificationError
from taxledger.ledger.policies import Policies
from taxledger.lending.collecting import collect_evidence, reason_of
from taxledger.lending.decision import Reason
from taxledger.lending.evidence import VerifiedEvidence, check_policy_current, verify_evidence_set
from taxledger.lending.products.product import Product
from taxledger.lending.questions import questions
from taxledger.lending.watch.watched import Covered, WatchedLoan, covered_by

__all__ = ["ClientRecheck", "ClientState", "Events", "Recheck", "Rechecked", "StateReader"]

Entries = Mapping[bytes, Sequence[tuple[bytes, bytes]]]


class Events(Protocol):
    """Certified events after a place, in order, without gaps. A hint to look, never a proof."""

    def events(self, after: EventId | None = None) -> Iterator[Event]: ...


class StateReader(Protocol):
    """All pairs of the state map below prefixes, **proved**: none is left out, none is old.

    ``height_min``: the block after which it must be. A node tells of a block before its answers stand on it; who
    looked too early would find nothing, and not look again.

    Raises UnavailableError (nobody answers, or the answer is of an earlier block: try again) and VerificationError
    (an answer that is not proved).
    """

    def read(self, prefixes: Sequence[bytes], *, height_min: int = 0) -> Entries: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rechecked:
    """Fresh evidence and where it is on the ledger, or why there is none; exactly one of the two."""

    verified: VerifiedEvidence | None = None
    covered: Covered = field(default_factory=Covered)
    reasons: tuple[Reason, ...] = ()


class Recheck(Protocol):
    """Reads a borrower's records again under the loan's consent. The same ``request`` is the same use of it."""

    def __call__(
        self, loan: WatchedLoan, product: Product, *, request: str, as_of: date, now_ms: int
    ) -> Rechecked: ...


class ClientState:
    """``StateReader`` of the verifying client; a prefix with more than one answer holds is asked by month."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, prefixes: Sequence[bytes], *, height_min: int = 0) -> Entries:
        """See ``StateReader``."""
        found: dict[bytes, list[tuple[bytes, bytes]]] = {}
        for prefix in prefixes:
            try:
                found[prefix] = self._pairs(prefix, height_min)
            except RefusedError as error:
                if error.code != "answer_too_large" or len(prefix) != 20:
                    raise
                found[prefix] = []
                for month in range(17):
                    part = prefix + bytes([month])
                    found[prefix] += self._pairs(part, height_min)
        return found

    def _pairs(self, prefix: bytes, height_min: int) -> list[tuple[bytes, bytes]]:
        state = self._client.state(prefix)
        if state.header.height < height_min:
            raise UnavailableError(f"expected an answer as of block {height_min}, got {state.header.height}")
        return list(state.entries[prefix])


class ClientRecheck:
    """``Recheck`` through the lender's own node.

    Args:
        client: of that node.
        policies, recipient: the lender's own; fresh evidence counts under the present policy alone.
        issuers: kind -> member whose word on it counts.
        age_ms_max: how old evidence may be.
        wait_s_max: how long custodians are waited for, seconds.
    """

    def __init__(
        self,
        client: Client,
        policies: Policies,
        *,
        recipient: int,
        issuers: Mapping[int, int],
        age_ms_max: int,
        wait_s_max: float,
    ) -> None:
        self._client, self._policies, self._recipient = client, policies, recipient
        self._issuers, self._age_ms_max, self._wait_s_max = issuers, age_ms_max, wait_s_max

    def __call__(
        self, loan: WatchedLoan, product: Product, *, request: str, as_of: date, now_ms: int
    ) -> Rechecked:
        asked = questions(product, loan.subject, self._issuers, as_of)
        collected = collect_evidence(
            self._client, asked, loan.artefact, request=request, wait_s_max=self._wait_s_max
        )
        check_policy_current(collected.files, self._policies)
        if collected.reasons:
            return Rechecked(reasons=collected.reasons)
        try:
            verified = verify_evidence_set(
                collected.files,
                self._policies.present,
                recipient=self._recipient,
                now_ms=now_ms,
                age_ms_max=self._age_ms_max,
                artefact=loan.artefact,
            )
        except (VerificationError, InputError) as error:
            return Rechecked(reasons=(reason_of(error, asked[0].issuer),))
        return Rechecked(verified=verified, covered=covered_by(collected.files, verified))
