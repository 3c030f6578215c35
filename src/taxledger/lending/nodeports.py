"""The ports of a loan's engine, served by the lender's own node through the verifying client (``loans/ports.py``).

A custodian that is silent or refuses is an answer (the decision is incomplete); the lender's own node that does not
answer is trouble, and is raised.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from taxledger.api.client import Client
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.disclosure import decode_disclosure
from taxledger.ledger.errors import InputError, RefusedError, VerificationError
from taxledger.ledger.kinds import kind_name
from taxledger.ledger.permit import decode_permit
from taxledger.ledger.policy import Policy
from taxledger.ledger.statekeys import split_record_key
from taxledger.lending.assessing import Case, assess
from taxledger.lending.collecting import collect_evidence, reason_of
from taxledger.lending.decision import Decision, Reason
from taxledger.lending.evidence import pledge_keys, verify_evidence_set
from taxledger.lending.loans.ports import Evidence, EvidenceRequest, PledgeOrder
from taxledger.lending.offered import find_offered
from taxledger.lending.products.keeper import ProductKeeper
from taxledger.lending.questions import questions

__all__ = ["NodeConsents", "NodeEvidence", "NodePledges", "SystemClock", "Trust", "make_decider"]

_PERMIT_MS = 86_400_000


class Trust(Protocol):
    """What the lender goes by, from its own files: policy, member number, issuers, how old evidence may be."""

    @property
    def policy(self) -> Policy: ...
    @property
    def recipient(self) -> int: ...
    @property
    def issuers(self) -> Mapping[int, int]: ...
    @property
    def age_ms_max(self) -> int: ...
    @property
    def wait_s_max(self) -> float: ...


class SystemClock:
    """``Clock``: the machine's; the banking day is that of the lender's time zone."""

    def __init__(self, time_zone: str) -> None:
        self._zone = ZoneInfo(time_zone)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def today(self) -> date:
        return datetime.now(self._zone).date()


class NodeConsents:
    """``ConsentPort``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def forward(self, artefact: bytes, *, key: str) -> tuple[Reason, ...]:
        """The artefact itself is the key: a custodian answers the same one with its first receipt."""
        made = self._client.forward_consent(artefact)
        return tuple(
            Reason(
                code=each.code,
                text=f"custodian {each.member} has not granted the consent: {each.detail}"[:400],
                text_zh=f"数据机构 {each.member} 未登记授权（{each.code}）",
            )
            for each in made.failures
        )


class NodeEvidence:
    """``EvidencePort``: every custodian side by side, then what is pledged on the security they showed."""

    def __init__(self, client: Client, trust: Trust, keeper: ProductKeeper) -> None:
        self._client, self._trust, self._keeper = client, trust, keeper

    def collect(self, request: EvidenceRequest) -> Evidence:
        application, trust = request.application, self._trust
        product = self._keeper.product(application.product)
        asked = questions(product, application.subject, trust.issuers, request.as_of)
        came = collect_evidence(
            self._client, asked, request.artefact, request=request.key, wait_s_max=trust.wait_s_max
        )
        if came.reasons or not application.security:
            return Evidence(files=came.files, reasons=came.reasons)
        try:
            facts = verify_evidence_set(
                came.files,
                trust.policy,
                recipient=trust.recipient,
                now_ms=time.time_ns() // 1_000_000,
                age_ms_max=trust.age_ms_max,
            ).facts
        except (VerificationError, InputError) as error:
            return Evidence(files=came.files, reasons=(reason_of(error, asked[0].issuer),))
        if product.security is None:
            return Evidence(files=came.files)
        # A name that means no record, or several, is the decision's to say.
        security, _unknown = find_offered(facts, product.security.kind, application.security)
        pledges = self._client.pledge_proof(pledge_keys(facts, security)) if security else None
        return Evidence(files=came.files, pledges=pledges)


def make_decider(trust: Trust, keeper: ProductKeeper) -> Callable[[EvidenceRequest, Evidence, int], Decision]:
    """``Decider``. The product file is kept, durably, before a decision under it is."""

    def decide(request: EvidenceRequest, evidence: Evidence, decided_ms: int) -> Decision:
        application = request.application
        product = keeper.product(application.product)
        keeper.keep(product)
        case = Case(
            application=application.id,
            product=product,
            subject=application.subject,
            as_of=request.as_of,
            security=application.security,
            recipient=trust.recipient,
            age_ms_max=trust.age_ms_max,
        )
        return assess(
            case,
            evidence.files,
            evidence.pledges,
            trust.policy,
            decided_ms=decided_ms,
            reasons=evidence.reasons,
        )

    return decide


class NodePledges:
    """``PledgePort``: permits from the custodians, then one pledge a record, all or none.

    Each pledge has a request key of its own, so that placing again gives the first one's receipt. Before it is said
    that all are placed, the ledger is asked with proof: a pledge of an attempt that was given up may have been
    released since.
    """

    def __init__(self, client: Client, evidence: Callable[[str], Evidence]) -> None:
        """``evidence``: what decided on a loan, by its id."""
        self._client, self._evidence = client, evidence

    def place(self, order: PledgeOrder, *, key: str) -> tuple[bytes, ...]:
        """See ``PledgePort``."""
        placed: list[bytes] = []
        try:
            permits = self._permits(order)
            for number, record in enumerate(order.security):
                receipt = self._client.place_pledge(
                    permits[record], order.share_ppm, request_key=f"{key}/{number}"
                )
                placed.append(receipt.pledge)
            self._check_open(permits.values(), placed)
        except (RefusedError, VerificationError, InputError):
            self.release(tuple(placed), key=key)
            raise
        return tuple(placed)

    def release(self, pledges: tuple[bytes, ...], *, key: str) -> None:
        """See ``PledgePort``; the pledge's id is its key."""
        for each in pledges:
            try:
                self._client.release_pledge(each)
            except RefusedError as error:
                if error.code != "pledge_unknown":
                    raise

    def _permits(self, order: PledgeOrder) -> dict[bytes, bytes]:
        """A permit for each record, by its key, under the use of the consent that showed it."""
        files = self._evidence(order.loan).files
        artefact = decode_artefact(order.artefact)
        found: dict[bytes, bytes] = {}
        for file in files:
            chosen = [each for each in order.security if _shown(file.query.issuer, file.query.kinds, each)]
            if chosen:
                sequence = decode_disclosure(file.data).sequence
                until = time.time_ns() // 1_000_000 + _PERMIT_MS
                permits = self._client.request_permits(
                    artefact.id(file.query.issuer), sequence, chosen, not_after=until
                )
                found.update(zip(chosen, permits, strict=True))
        missing = [each for each in order.security if each not in found]
        if missing:
            kind = kind_name(split_record_key(missing[0])[1])
            raise RefusedError(
                "record_not_disclosed", f"no evidence shows a {kind} record that is to be pledged"
            )
        return found

    def _check_open(self, permits: Iterable[bytes], placed: Sequence[bytes]) -> None:
        decoded = [decode_permit(each) for each in permits]
        states = self._client.verified_pledges((each.issuer, each.fingerprint) for each in decoded).states
        open_now = {pledge.id for state in states.values() for pledge in state.pledges}
        if not open_now.issuperset(placed):
            raise RefusedError("pledge_released", "a pledge that was placed is not open any more")


def _shown(issuer: int, kinds: tuple[int, ...], record: bytes) -> bool:
    found_issuer, kind, *_rest = split_record_key(record)
    return found_issuer == issuer and kind in kinds
