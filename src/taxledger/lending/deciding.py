"""Deciding: what a product's rules say about verified evidence.

Invariants:

* ``decide`` is a pure function: same product file, evidence, as-of and instant, same bytes. No clock, no float.
* What the evidence does not cover is never held against the enterprise: then the outcome is ``incomplete``, with the
  reasons, and no rule is asked.
* Freshness is judged against ``decided_ms`` when the evidence is verified, completeness against ``as_of``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from taxledger.ledger.kinds import KINDS, kind_name
from taxledger.lending.decision import Decision, FeatureValue, Reason, RuleResult
from taxledger.lending.evidence import VerifiedEvidence
from taxledger.lending.facts import Coverage, Facts
from taxledger.lending.features.feature import Basis
from taxledger.lending.features.windows import months_before
from taxledger.lending.known import known_until, known_until_kind
from taxledger.lending.products.product import Product, Rule
from taxledger.lending.products.scorecard import ScoreGrade

__all__ = ["decide", "incomplete"]

_ABSENCE_HURTS = frozenset(
    KINDS[name]
    for name in (
        "business_registration",
        "procurement_award",
        "engineering_contract",
        "technology_qualification",
    )
)
"""Kinds whose records only ever speak for the enterprise: a year in which the issuer had not begun can only hide
what would help it, so such a year makes nothing incomplete.
"""


def decide(
    product: Product,
    verified: VerifiedEvidence,
    *,
    application: str,
    recipient: int,
    as_of: date,
    decided_ms: int,
    age_ms_max: int,
    security: Sequence[bytes] = (),
) -> Decision:
    """What the product says about this evidence.

    Args:
        product: the product.
        verified: the evidence, verified at ``decided_ms`` with ``age_ms_max``.
        application: the lender's id of the application.
        recipient: the lender's member number.
        as_of: the decision date.
        decided_ms: milliseconds since 1970.
        age_ms_max: how old an answer might be.
        security: keys of the records offered as security, 37 bytes each.
    """
    draft = _Draft(
        product=product,
        application=application,
        recipient=recipient,
        subject=verified.facts.subject,
        as_of=as_of,
        decided_ms=decided_ms,
        age_ms_max=age_ms_max,
        security=tuple(sorted(set(security))),
        evidence=tuple(each.hex() for each in verified.digests),
    )
    missing = _missing(product, verified.facts, as_of, draft.security)
    if missing:
        return draft.close("incomplete", missing)
    facts = verified.facts
    basis = Basis(
        as_of=as_of,
        currency=product.currency,
        security=draft.security,
        pledged_ppm=facts.taken_ppm,
    )
    computed = {
        each.id: each.compute(facts, replace(basis, as_of=known_until(each, facts, as_of)))
        for each in product.features
    }
    values = tuple(
        FeatureValue(id=each.id, version=each.version, unit=each.unit.value, value=computed[each.id])
        for each in product.features
    )
    rules = tuple(_judge(rule, computed[rule.comparison.feature.id]) for rule in product.rules)
    score, grade = _grade(product, computed)
    reasons = [_reason_of(rule) for rule in rules if rule.verdict != "pass"]
    verdicts = [rule.verdict for rule in rules]
    if grade is not None and grade.verdict != "pass":
        verdicts.append(grade.verdict)
        reasons.append(
            Reason(
                code="score_grade",
                text=f"score {score} gives grade {grade.grade}",
                text_zh=f"评分 {score} 对应等级 {grade.grade}",
            )
        )
    if verified.facts.contested:
        verdicts.append("refer")
        reasons.append(
            _reason(
                "security_contested",
                "a record offered as security was offered to another lender as another record",
                "担保记录曾被以另一记录向其他机构质押",
            )
        )
    limit = product.limit.of(
        computed[product.limit.feature.id] or 0, 1_000_000 if grade is None else grade.limit_share_ppm
    )
    if limit < max(product.limit.min, 1):
        verdicts.append("refuse")
        reasons.append(
            Reason(
                code="below_minimum",
                text="the limit comes to less than the least amount that is lent",
                text_zh="测算额度低于最低放款额度",
            )
        )
    rate = _rate(product, computed, grade)
    if rate is None and "refuse" not in verdicts:
        verdicts.append("refer")
        reasons.append(
            Reason(
                code="rate_undefined",
                text="the product has no rate for this grade",
                text_zh="该等级无对应利率",
            )
        )
    outcome = "refuse" if "refuse" in verdicts else "refer" if "refer" in verdicts else "approve"
    return draft.close(
        outcome,
        reasons,
        rules=rules,
        features=values,
        score=score,
        grade=None if grade is None else grade.grade,
        limit=limit if outcome != "refuse" else 0,
        rate_ppm=rate if outcome != "refuse" else None,
    )


def incomplete(
    product: Product,
    reasons: Sequence[Reason],
    *,
    application: str,
    recipient: int,
    subject: str,
    as_of: date,
    decided_ms: int,
    age_ms_max: int,
    security: Sequence[bytes] = (),
    evidence: Sequence[bytes] = (),
) -> Decision:
    """The answer where evidence is missing, stale or does not verify; ``evidence``: digests of what did come."""
    draft = _Draft(
        product=product,
        application=application,
        recipient=recipient,
        subject=subject,
        as_of=as_of,
        decided_ms=decided_ms,
        age_ms_max=age_ms_max,
        security=tuple(sorted(set(security))),
        evidence=tuple(each.hex() for each in evidence),
    )
    return draft.close("incomplete", reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """What of a decision is known before its outcome."""

    product: Product
    application: str
    recipient: int
    subject: str
    as_of: date
    decided_ms: int
    age_ms_max: int
    security: tuple[bytes, ...]
    evidence: tuple[str, ...]

    def close(
        self,
        outcome: str,
        reasons: Sequence[Reason],
        *,
        rules: tuple[RuleResult, ...] = (),
        features: tuple[FeatureValue, ...] = (),
        score: int | None = None,
        grade: str | None = None,
        limit: int = 0,
        rate_ppm: int | None = None,
    ) -> Decision:
        product, card = self.product, self.product.scorecard_digest
        return Decision(
            application=self.application,
            product=product.id,
            product_version=product.version,
            product_digest=product.digest.hex(),
            scorecard_digest=None if card is None else card.hex(),
            recipient=self.recipient,
            subject=self.subject,
            as_of=self.as_of.isoformat(),
            decided_ms=self.decided_ms,
            age_ms_max=self.age_ms_max,
            outcome=outcome,
            reasons=tuple(reasons),
            rules=rules,
            features=features,
            score=score,
            grade=grade,
            limit=limit,
            currency=product.currency,
            rate_ppm=rate_ppm,
            term_months=product.terms.months_max,
            day_count=product.terms.day_count,
            rounding=product.terms.rounding,
            revolving=product.terms.revolving,
            offer_days=product.terms.offer_days,
            security=tuple(each.hex() for each in self.security),
            security_ppm=product.security.share_ppm if product.security is not None and self.security else 0,
            evidence=self.evidence,
        )


# --- what the evidence has to cover ---------------------------------------------------------------


def _missing(product: Product, facts: Facts, as_of: date, security: tuple[bytes, ...]) -> list[Reason]:
    behind = as_of - timedelta(days=product.attested_within_days)
    found = [
        reason
        for kind, months in product.months.items()
        for reason in _missing_of(
            kind,
            facts.coverage.get(kind),
            # An issuer that is further behind than the product allows is said so, not that too little was asked.
            months_before(max(known_until_kind(kind, facts, as_of), behind), months),
            as_of,
            product,
        )
    ]
    if product.security is None:
        return found
    if product.security.required and not security:
        found.append(
            Reason(
                code="security_missing",
                text=f"the product needs {kind_name(product.security.kind)} records as security",
                text_zh="该产品需要提供担保记录",
            )
        )
    known = {each.key: each for each in facts.of(product.security.kind)}
    for key in security:
        record = known.get(key)
        if record is None or record.fingerprint is None:
            found.append(
                _reason(
                    "security_unknown",
                    "a record offered as security is not in the evidence",
                    "担保记录不在证据中",
                )
            )
        elif (record.issuer, record.fingerprint) not in facts.pledged_ppm:
            found.append(
                _reason(
                    "pledges_unproved",
                    "no proof of what is pledged on a record offered",
                    "缺少担保记录质押状态的证明",
                )
            )
    return found


def _reason(code: str, text: str, text_zh: str) -> Reason:
    return Reason(code=code, text=text, text_zh=text_zh)


def _missing_of(
    kind: int, coverage: Coverage | None, start: date, as_of: date, product: Product
) -> list[Reason]:
    """What is wanting of one kind; ``start`` is the last day before its window."""
    name = kind_name(kind)
    if coverage is None:
        return [_reason("evidence_missing", f"{name}: no evidence", f"{name}：缺少证据")]
    found = []
    first = f"{start + timedelta(days=1):%Y-%m}"
    if coverage.from_period > first or coverage.to_period < f"{as_of:%Y-%m}":
        found.append(
            _reason(
                "evidence_too_short",
                f"{name}: needs {first} to {as_of:%Y-%m}, has {coverage.from_period} to {coverage.to_period}",
                f"{name}：需要 {first} 至 {as_of:%Y-%m}，仅有 {coverage.from_period} 至 {coverage.to_period}",
            )
        )
    needed = (as_of - timedelta(days=product.attested_within_days)).isoformat()
    if coverage.through is None or coverage.through < needed:
        through = coverage.through or "never"
        found.append(
            _reason(
                "not_attested_through",
                f"{name}: the issuer has attested through {through}, needed is {needed}",
                f"{name}：签发机构确认完整至 {coverage.through or '（无）'}，需要至 {needed}",
            )
        )
    if not coverage.begun and kind not in _ABSENCE_HURTS:
        found.append(
            _reason(
                "issuer_not_begun",
                f"{name}: the issuer attested nothing in a year that is asked",
                f"{name}：签发机构在所查年度未开始登记",
            )
        )
    if coverage.erased:
        found.append(
            _reason(
                "evidence_erased",
                f"{name}: {coverage.erased} records of the range are erased",
                f"{name}：{coverage.erased} 条记录已被删除",
            )
        )
    if coverage.closed:
        found.append(
            _reason(
                "fields_closed",
                f"{name}: the consent leaves fields closed: {', '.join(coverage.closed)}",
                f"{name}：授权未开放字段 {', '.join(coverage.closed)}",
            )
        )
    return found


# --- parts of a decision -----------------------------------------------------------------------------


def _judge(rule: Rule, value: int | None) -> RuleResult:
    comparison = rule.comparison
    holds = value is not None and comparison.holds(value)
    verdict = rule.undefined if value is None else "pass" if holds else rule.fail
    return RuleResult(
        id=rule.id,
        title=rule.title,
        title_zh=rule.title_zh,
        feature=comparison.feature.id,
        feature_version=comparison.feature.version,
        unit=comparison.feature.unit.value,
        value=value,
        operator=comparison.operator,
        thresholds=comparison.thresholds,
        verdict=verdict,
    )


def _reason_of(rule: RuleResult) -> Reason:
    return Reason(code=rule.id, text=rule.title, text_zh=rule.title_zh)


def _grade(product: Product, computed: dict[str, int | None]) -> tuple[int | None, ScoreGrade | None]:
    if product.scorecard is None:
        return None, None
    score = product.scorecard.score(computed)
    return score, product.scorecard.grade(score)


def _rate(product: Product, computed: dict[str, int | None], grade: ScoreGrade | None) -> int | None:
    terms = product.terms
    if terms.rate_ppm is not None:
        return terms.rate_ppm
    if terms.rate_by_grade is not None:
        rank = computed["grade"]
        return None if rank is None else terms.rate_by_grade.get(rank)
    return None if grade is None else grade.rate_ppm
