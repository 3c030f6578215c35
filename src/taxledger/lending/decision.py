"""A decision, and its bytes: who has evidence and product file computes the same ones (``deciding.py``).

Invariant: ``decode_decision`` returns only what has the one form; nothing in it is a float.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from taxledger.ledger.errors import FormatError

__all__ = [
    "OUTCOMES",
    "Decision",
    "FeatureValue",
    "Reason",
    "RuleResult",
    "decode_decision",
    "encode_decision",
]

OUTCOMES = ("approve", "refuse", "refer", "incomplete")

_VERSION = 1
_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why the outcome is what it is: a code, and a sentence for the officer in two languages."""

    code: str
    text: str
    text_zh: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """One rule's value against its threshold.

    Attributes:
        id, title, title_zh: of the rule.
        feature, feature_version: what was measured; ``unit`` of the value and the thresholds.
        value: None where it is undefined.
        operator: ``at_least``, ``at_most``, ``equals`` or ``one_of``.
        thresholds: one, or several for ``one_of``.
        verdict: ``pass``, ``refer`` or ``refuse``.
    """

    id: str
    title: str
    title_zh: str
    feature: str
    feature_version: int
    unit: str
    value: int | None
    operator: str
    thresholds: tuple[int, ...]
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureValue:
    """A feature as it was computed."""

    id: str
    version: int
    unit: str
    value: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A decision.

    Attributes:
        application: the lender's id of the application.
        product, product_version, product_digest, scorecard_digest: what decided; digests are SHA-256 in hex.
        recipient: the lender's member number.
        subject: the enterprise.
        as_of: ``YYYY-MM-DD``; ``decided_ms`` when.
        age_ms_max: how old the evidence might have been.
        outcome: one of ``OUTCOMES``.
        reasons: why; empty for an approval.
        rules: every rule, in the order of the file.
        features: everything that was computed, ascending by id.
        score, grade: of the scorecard, None without one.
        limit: minor units, 0 unless approved or referred.
        currency, rate_ppm (per year, None where nothing is offered), term_months, day_count, rounding, revolving,
        offer_days: the terms.
        security: record keys in hex that are to be pledged, ascending; ``security_ppm`` with which share.
        evidence: SHA-256 of each evidence file in hex, in the order of the set.
    """

    version: int = _VERSION
    application: str
    product: str
    product_version: int
    product_digest: str
    scorecard_digest: str | None
    recipient: int
    subject: str
    as_of: str
    decided_ms: int
    age_ms_max: int
    outcome: str
    reasons: tuple[Reason, ...]
    rules: tuple[RuleResult, ...]
    features: tuple[FeatureValue, ...]
    score: int | None
    grade: str | None
    limit: int
    currency: str
    rate_ppm: int | None
    term_months: int
    day_count: int
    rounding: str
    revolving: bool
    offer_days: int
    security: tuple[str, ...]
    security_ppm: int
    evidence: tuple[str, ...]

    def value(self, feature: str) -> int | None:
        """The value of a feature by its id; None where undefined. Raises KeyError where it was not computed."""
        for each in self.features:
            if each.id == feature:
                return each.value
        raise KeyError(feature)


_SHAPE = TypeAdapter(Decision)


# --- bytes --------------------------------------------------------------------------------------------


def encode_decision(decision: Decision) -> bytes:
    """The one form: JSON, keys ascending, no blanks, integers only, UTF-8."""
    return json.dumps(
        asdict(decision), ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    ).encode()


def decode_decision(data: bytes) -> Decision:
    """A decision of its bytes.

    Raises:
        FormatError: no decision in its one form.
    """
    if len(data) > _BYTES_MAX:
        raise FormatError(f"expected a decision of at most {_BYTES_MAX} bytes, got {len(data)}")
    try:
        decision = _SHAPE.validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise FormatError(f"expected a decision, got at {place or 'its start'}: {first['msg']}") from error
    if decision.version != _VERSION or encode_decision(decision) != data:
        raise FormatError("expected a decision in its one form: keys ascending, no blanks, no member twice")
    return decision
