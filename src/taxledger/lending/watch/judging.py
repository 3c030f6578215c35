"""What is wrong with a loan, as findings: pure functions of proved state and verified evidence.

Invariant: a watch rule is asked as of the last day through which everything that it reads is attested, never beyond:
silence after that day says nothing about the borrower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from taxledger.ledger import canonical
from taxledger.ledger.consentstate import decode_consent_value
from taxledger.ledger.kinds import kind_name
from taxledger.ledger.pledgestate import PledgeMarks, decode_pledge_entry
from taxledger.ledger.records import Status, decode_record_value
from taxledger.ledger.statekeys import consent_key, pledges_key
from taxledger.lending.decision import Reason
from taxledger.lending.evidence import VerifiedEvidence
from taxledger.lending.features import Basis
from taxledger.lending.known import known_until
from taxledger.lending.products.product import Product, WatchRule
from taxledger.lending.products.quantities import show_quantity
from taxledger.lending.watch.watched import WatchedLoan

__all__ = [
    "Finding",
    "changed_records",
    "consent_findings",
    "consent_refusal",
    "late_findings",
    "pledge_findings",
    "recheck_refused",
    "rule_findings",
]

Entries = Mapping[bytes, Sequence[tuple[bytes, bytes]]]

_STATUS_ZH = {
    Status.VALID: "有效",
    Status.VOIDED: "作废",
    Status.REVERSED: "红冲",
    Status.REVOKED: "撤销",
    Status.ERASED: "删除",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What becomes an alert."""

    rule: str
    severity: str
    text: str
    text_zh: str
    data: Mapping[str, str | int | None] = field(default_factory=dict)


def changed_records(keys: Sequence[bytes], values: Mapping[bytes, bytes]) -> list[Finding]:
    """Records that an event names, by what they are now: a changed one is said once, with the worst of it.

    Args:
        keys: of the records.
        values: of the state map, proved.
    """
    counts: dict[Status, int] = {}
    for key in keys:
        if key in values:
            record = decode_record_value(values[key])
            if record.version > 1 or record.status is not Status.VALID:
                counts[record.status] = counts.get(record.status, 0) + 1
    if not counts:
        return []
    severe = {Status.REVOKED: "critical", Status.VOIDED: "warning", Status.REVERSED: "warning"}
    severity = max((severe.get(each, "info") for each in counts), key=("info", "warning", "critical").index)
    ordered = sorted(counts.items())
    said = ", ".join(f"{count} {status.name.lower()}" for status, count in ordered)
    said_zh = "，".join(f"{_STATUS_ZH.get(status, status.name)} {count} 条" for status, count in ordered)
    return [
        Finding(
            rule="record_changed",
            severity=severity,
            text=f"records of the borrower were changed: {said}",
            text_zh=f"企业记录发生变更：{said_zh}",
            data={status.name.lower(): count for status, count in ordered},
        )
    ]


# --- consent and pledges ----------------------------------------------------------------------


def consent_refusal(loan: WatchedLoan, entries: Entries, time_ms: int) -> str | None:
    """Why the loan's consents allow no further use, as a code; None where all do."""
    for consent in loan.consents:
        pairs = entries[consent_key(consent)]
        if not pairs:
            return "consent_unknown"
        refusal = decode_consent_value(pairs[0][1]).refusal(time_ms)
        if refusal is not None:
            return refusal
    return None


def consent_findings(loan: WatchedLoan, entries: Entries, time_ms: int) -> list[Finding]:
    """A consent that has ended, or rests: nothing can be read under it."""
    refusal = consent_refusal(loan, entries, time_ms)
    if refusal is None:
        return []
    return [
        Finding(
            rule="consent_ended",
            severity="warning",
            text=f"the borrower's consent allows no further reading ({refusal})",
            text_zh=f"企业授权已不能继续使用（{refusal}）",
            data={"code": refusal},
        )
    ]


def pledge_findings(loan: WatchedLoan, entries: Entries) -> list[Finding]:
    """Pledges for the loan that are gone, impaired or contested."""
    found: dict[str, int] = {}
    for pledge in loan.pledges:
        pairs = entries[pledges_key(pledge.issuer, pledge.fingerprint)]
        entry = decode_pledge_entry(pairs[0][1]) if pairs else None
        if entry is None or all(each.id != pledge.id for each in entry.pledges):
            found["pledge_missing"] = found.get("pledge_missing", 0) + 1
            continue
        if entry.marks & PledgeMarks.IMPAIRED:
            found["pledge_impaired"] = found.get("pledge_impaired", 0) + 1
        if entry.marks & PledgeMarks.CONTESTED:
            found["pledge_contested"] = found.get("pledge_contested", 0) + 1
    words = {
        "pledge_missing": ("are no longer pledged to this lender", "不再质押给本机构"),
        "pledge_impaired": ("changed after they were pledged", "质押后发生变更"),
        "pledge_contested": (
            "were offered to another lender as another record",
            "被以另一记录向其他机构质押",
        ),
    }
    return [
        Finding(
            rule=rule,
            severity="critical",
            text=f"{count} of the loan's pledged records {words[rule][0]}",
            text_zh=f"本贷款有 {count} 条质押记录{words[rule][1]}",
            data={"records": count},
        )
        for rule, count in sorted(found.items())
    ]


# --- evidence ---------------------------------------------------------------------------------


def recheck_refused(reasons: Sequence[Reason]) -> Finding:
    """That the borrower could not be looked at again."""
    codes = ", ".join(sorted({each.code for each in reasons}))
    return Finding(
        rule="cannot_recheck",
        severity="warning",
        text=f"something changed, and the borrower can't be checked again: {codes}",
        text_zh=f"记录有变动，但无法重新核查：{codes}",
        data={"codes": codes},
    )


def rule_findings(
    product: Product, verified: VerifiedEvidence, loan: WatchedLoan, today: date
) -> list[Finding]:
    """The watch rules that do not hold, or can't be computed."""
    return [
        finding
        for finding in (_ask(rule, product, verified, loan, today) for rule in product.watch)
        if finding is not None
    ]


def _ask(
    rule: WatchRule, product: Product, verified: VerifiedEvidence, loan: WatchedLoan, today: date
) -> Finding | None:
    feature = rule.comparison.feature
    coverage = [verified.facts.coverage.get(kind) for kind in feature.kinds]
    value = None
    if all(each is not None and each.through is not None for each in coverage):
        basis = Basis(
            as_of=known_until(feature, verified.facts, today),
            currency=product.currency,
            security=loan.security,
            pledged_ppm=verified.facts.taken_ppm,
        )
        value = feature.compute(verified.facts, basis)
    if value is not None and rule.comparison.holds(value):
        return None
    shown = show_quantity(value, feature.unit)
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        text=f"{rule.title}: {shown}" if value is not None else f"{rule.title}: can't be computed",
        text_zh=f"{rule.title_zh}：{shown}" if value is not None else f"{rule.title_zh}：无法计算",
        data={"feature": feature.id, "version": feature.version, "value": value},
    )


def late_findings(
    issuer: int, kind: int, value: bytes | None, today: date, within_days: int
) -> list[Finding]:
    """An issuer that is behind with attesting: what it has not said yet can't be watched."""
    through = None if value is None else str(canonical.decode(value)[0])
    if through is not None and date.fromisoformat(through) >= today - timedelta(days=within_days):
        return []
    name = kind_name(kind)
    return [
        Finding(
            rule="attestation_late",
            severity="info",
            text=f"member {issuer} has attested {name} only through {through or 'no day'}",
            text_zh=f"签发机构 {issuer} 的 {name} 仅签发至 {through or '（无）'}",
            data={"issuer": issuer, "kind": kind, "through": through},
        )
    ]
