"""The ports of a loan's engine, served by the lender's own node through the verifying client (``loans/ports.py``).

A custodian that is silent or refuses is an answer (the decision is incomplete); the lender's own node that does not
answer is trouble, and is raised.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from taxledger.api.client import Client
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.disclosure import decode_disclosure
from taxledger.ledger.errors import InputError, RefusedError, UnavailableError, VerificationError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.kinds import kind_name
from taxledger.ledger.permit import decode_permit
from taxledger.ledger.pledgeproof import PledgeState
from taxledger.ledger.pledgestate import PledgeMarks, pledge_id
from taxledger.ledger.policies import Policies
from taxledger.ledger.policy import Policy
from taxledger.ledger.statekeys import placement_key, split_record_key
from taxledger.lending.assessing import Case, assess
from taxledger.lending.collecting import collect_evidence, reason_of
from taxledger.lending.decision import Decision, Reason
from taxledger.lending.evidence import check_policy_current, pledge_keys, verify_evidence_set
from taxledger.lending.facts import Fact
from taxledger.lending.loans.ports import Evidence, EvidenceRequest, PledgeOrder
from taxledger.lending.offered import find_offered
from taxledger.lending.products.keeper import ProductKeeper
from taxledger.lending.questions import questions

__all__ = ["NodeConsents", "NodeEvidence", "NodePledges", "SystemClock", "Trust", "make_decider"]

_PERMIT_MS = 12 * 3_600_000
"""From the order on, which is durable: every attempt asks for the same permit. Custodians give them for a day."""
_NOT_THERE = frozenset({"pledge_unknown", "pledge_ended"})
"""What says that a pledge is not open, which is what a release is for."""


class Trust(Protocol):
    """What the lender goes by, from its own files: policies (``policy`` is the present one), member number, issuers,
    how old evidence may be.
    """

    @property
    def policy(self) -> Policy: ...
    @property
    def policies(self) -> Policies: ...
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
        check_policy_current(came.files, trust.policies)
        if came.reasons or not application.security:
            return Evidence(files=came.files, reasons=came.reasons)
        try:
            facts = verify_evidence_set(
                came.files,
                trust.policy,
                recipient=trust.recipient,
                now_ms=time.time_ns() // 1_000_000,
                age_ms_max=trust.age_ms_max,
                artefact=request.artefact,
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
            artefact=request.artefact,
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

    The id of each pledge follows from the loan and the record, before anything is asked. So what an attempt that was
    cut off has placed is found on the ledger, and released where the next one is refused, whatever the dead one knew.
    """

    def __init__(
        self,
        client: Client,
        recipient: int,
        evidence: Callable[[str], Evidence],
        records: Callable[[str], Sequence[Fact]],
    ) -> None:
        """A port.

        Args:
            client: of the lender's own node.
            recipient: the lender's member number.
            evidence: what decided on a loan, by its id.
            records: those offered as security, verified as they were for the decision.
        """
        self._client, self._recipient = client, recipient
        self._evidence, self._records = evidence, records

    def place(self, order: PledgeOrder, *, key: str) -> tuple[bytes, ...]:
        """See ``PledgePort``."""
        wanted = self._wanted(order, key)
        try:
            self._place_missing(order, wanted)
            if not self._open(wanted).issuperset(each.id for each in wanted):
                raise RefusedError("pledge_released", "a pledge that was placed is not open any more")
        except (RefusedError, VerificationError, InputError):
            self.release(tuple(each.id for each in wanted), key=key)
            raise
        return tuple(each.id for each in wanted)

    def check(self, loan: str, pledges: tuple[bytes, ...]) -> None:
        """See ``PledgePort``. The mark is of the record: a change after another lender's pledge refuses as well."""
        states = self._states(
            [(each.issuer, each.fingerprint) for each in self._records(loan) if each.fingerprint]
        )
        of_ours = {pledge.id: state for state in states for pledge in state.pledges}
        for each in pledges:
            if each not in of_ours:
                raise RefusedError("pledge_missing", f"pledge {each.hex()} is not open any more")
            if of_ours[each].marks & PledgeMarks.IMPAIRED:
                raise RefusedError("pledge_impaired", f"the record of pledge {each.hex()} was changed")

    def release(self, pledges: tuple[bytes, ...], *, key: str) -> None:
        """See ``PledgePort``; the pledge's id is its key."""
        for each in pledges:
            try:
                self._client.release_pledge(each)
            except RefusedError as error:
                if error.code not in _NOT_THERE:
                    raise

    def _wanted(self, order: PledgeOrder, key: str) -> list[_Wanted]:
        """In the order of the records. The same for every attempt, or nothing is done in any."""
        try:
            known = {each.key: each for each in self._records(order.loan)}
        except (VerificationError, InputError) as error:
            # An earlier attempt may have placed: that must not become a refusal which leaves it there.
            raise UnavailableError(
                f"{order.loan}: its evidence does not verify any more, a person has to look: {error}"
            ) from error
        found = []
        for number, record in enumerate(order.security):
            fact = known.get(record)
            if fact is None or fact.fingerprint is None:
                kind = kind_name(split_record_key(record)[1])
                raise RefusedError(
                    "record_not_disclosed", f"no evidence shows a {kind} record that is to be pledged"
                )
            nonce = sha256(f"{key}/{number}".encode())[:16]
            found.append(
                _Wanted(
                    record=record,
                    version=fact.version,
                    place=(fact.issuer, fact.fingerprint),
                    nonce=nonce,
                    id=pledge_id(self._recipient, fact.issuer, fact.fingerprint, nonce),
                )
            )
        return found

    def _place_missing(self, order: PledgeOrder, wanted: Sequence[_Wanted]) -> None:
        there = self._open(wanted)
        missing = [each for each in wanted if each.id not in there]
        permits = self._permits(order, [each.record for each in missing])
        for each in missing:
            permit = decode_permit(permits[each.record])
            if (permit.version, permit.fingerprint) != (each.version, each.place[1]):
                raise RefusedError(
                    "permit_invalid", "the permit is not for the record as it was decided upon"
                )
        for each in missing:
            try:
                self._client.place_pledge(permits[each.record], order.share_ppm, nonce=each.nonce)
            except RefusedError as error:
                # With another permit than an attempt before, which is on the ledger, or under way.
                if error.code != "pledge_exists":
                    raise
                if not self._was_placed(each.id):
                    raise UnavailableError(f"pledge {each.id.hex()} is still under way") from error

    def _permits(self, order: PledgeOrder, records: Sequence[bytes]) -> dict[bytes, bytes]:
        """A permit for each record, by its key, under the use of the consent that showed it."""
        artefact = decode_artefact(order.artefact)
        found: dict[bytes, bytes] = {}
        for file in self._evidence(order.loan).files if records else ():
            chosen = [each for each in records if _shown(file.query.issuer, file.query.kinds, each)]
            if chosen:
                sequence = decode_disclosure(file.data).sequence
                permits = self._client.request_permits(
                    artefact.id(file.query.issuer),
                    sequence,
                    chosen,
                    not_after=order.ordered_ms + _PERMIT_MS,
                )
                found.update(zip(chosen, permits, strict=True))
        return found

    def _open(self, wanted: Sequence[_Wanted]) -> set[bytes]:
        """Ids of the pledges that are open on these records, proved."""
        return {
            pledge.id for state in self._states([each.place for each in wanted]) for pledge in state.pledges
        }

    def _states(self, places: Sequence[tuple[int, bytes]]) -> tuple[PledgeState, ...]:
        """What is pledged under these, proved."""
        try:
            return tuple(self._client.verified_pledges(places).states.values()) if places else ()
        except VerificationError as error:  # the own node's answer, not what was asked
            raise UnavailableError(f"the node's proof of pledges does not verify: {error}") from error

    def _was_placed(self, pledge: bytes) -> bool:
        """Whether it ever stood on the ledger, proved."""
        key = placement_key(pledge)
        try:
            return bool(self._client.state(key).entries[key])
        except VerificationError as error:
            raise UnavailableError(f"the node's proof of state does not verify: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A pledge: of which record at which version, under which (issuer, fingerprint), its nonce, the id that follows."""

    record: bytes
    version: int
    place: tuple[int, bytes]
    nonce: bytes
    id: bytes


def _shown(issuer: int, kinds: tuple[int, ...], record: bytes) -> bool:
    found_issuer, kind, *_rest = split_record_key(record)
    return found_issuer == issuer and kind in kinds
