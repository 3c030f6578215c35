"""A product: what is asked of an enterprise, what is lent, and at which terms.

Invariants:

* A ``Product`` is only ever a valid one: every feature is known, every threshold is an integer of its unit, the
  limit is an amount of money, and there is exactly one way to its rate.
* It is named by id, version and the SHA-256 of its file, with that of its scorecard: two decisions under the same
  digests followed the same rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taxledger.ledger.currencies import MINOR_DIGITS
from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import KINDS
from taxledger.lending.features import FEATURES
from taxledger.lending.features.feature import Feature, Unit
from taxledger.lending.payments.port import AMOUNT_MINOR_MAX
from taxledger.lending.products.comparison import Comparison, decode_comparison, find_feature
from taxledger.lending.products.files import LimitFile, ProductFile, SecurityFile, TermsFile
from taxledger.lending.products.quantities import GRADES, parse_factor, parse_money, show_quantity
from taxledger.lending.products.scorecard import Scorecard, decode_scorecard
from taxledger.lending.tomlfile import read_toml

__all__ = ["Limit", "Product", "Rule", "Security", "Terms", "WatchRule", "decode_product"]

_PLEDGEABLE = ("vat_invoice", "procurement_award", "engineering_contract")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule: ``fail`` and ``undefined`` are verdicts, ``pass``, ``refer`` or ``refuse``."""

    id: str
    title: str
    title_zh: str
    comparison: Comparison
    fail: str
    undefined: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRule:
    """What raises an alert when it does not hold: ``severity`` is ``info``, ``warning`` or ``critical``."""

    id: str
    title: str
    title_zh: str
    comparison: Comparison
    severity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """``factor × feature``, rounded down to a multiple of ``step``; all amounts in minor units."""

    feature: Feature
    factor_ppm: int
    max: int
    min: int
    step: int

    def of(self, value: int, share_ppm: int = 1_000_000) -> int:
        """The limit, before ``min`` is looked at: 0 where the feature is not positive."""
        if value <= 0:
            return 0
        amount = value * self.factor_ppm * share_ppm // 1_000_000_000_000
        amount = min(amount, self.max)
        return amount - amount % self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Terms of an offer; one of ``rate_ppm`` (per year) and ``rate_by_grade`` (rank to ppm), or the scorecard's."""

    months_max: int
    rate_ppm: int | None
    rate_by_grade: Mapping[int, int] | None
    revolving: bool
    day_count: int
    rounding: str
    offer_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Records of a kind are pledged with this share of their value."""

    kind: int
    share_ppm: int
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product.

    Attributes:
        id, version, title, title_zh, source: of the file.
        digest: SHA-256 of the product file; ``scorecard_digest`` of the scorecard's, None without one.
        currency: ISO 4217.
        attested_within_days: the issuer must have attested through this many days before as-of, or later.
        rules, watch, limit, terms, security, scorecard: see there.
    """

    id: str
    version: int
    title: str
    title_zh: str
    source: str
    digest: bytes
    scorecard_digest: bytes | None
    currency: str
    attested_within_days: int
    rules: tuple[Rule, ...]
    watch: tuple[WatchRule, ...]
    limit: Limit
    terms: Terms
    security: Security | None
    scorecard: Scorecard | None

    @property
    def features(self) -> tuple[Feature, ...]:
        """Every feature that it reads, ascending by id."""
        found = {each.comparison.feature.id: each.comparison.feature for each in self.rules}
        found |= {each.comparison.feature.id: each.comparison.feature for each in self.watch}
        found[self.limit.feature.id] = self.limit.feature
        if self.terms.rate_by_grade is not None:
            found["grade"] = FEATURES["grade"]
        if self.scorecard is not None:
            found |= {each.feature.id: each.feature for each in self.scorecard.bands}
        return tuple(found[id] for id in sorted(found))

    @property
    def months(self) -> dict[int, int]:
        """Kind -> months of evidence back from as-of that it needs, ascending by kind."""
        found: dict[int, int] = {}
        for feature in self.features:
            for kind in feature.kinds:
                found[kind] = max(found.get(kind, 1), feature.months)
        if self.security is not None:
            found.setdefault(self.security.kind, 1)
        return dict(sorted(found.items()))


def decode_product(
    data: bytes, scorecards: Mapping[str, bytes], features: Mapping[str, Feature] = FEATURES
) -> Product:
    """A product of its file.

    Args:
        data: the TOML.
        scorecards: files by id.
        features: known ones.

    Raises:
        FormatError: not a product; the message names the place.
    """
    file = read_toml(data, ProductFile)
    _once((each.id for each in (*file.rules, *file.watch)), "rules and watch")
    card_data = None
    if file.scorecard is not None:
        card_data = scorecards.get(file.scorecard)
        if card_data is None:
            raise FormatError(
                f"scorecard: expected one of {', '.join(sorted(scorecards)) or 'none'}, got {file.scorecard!r}"
            )
    scorecard = None if card_data is None else decode_scorecard(card_data, features)
    if MINOR_DIGITS.get(file.currency) != 2:
        # Amounts are written with two decimals: "5,000.00" of a currency without any would be 500,000.
        raise FormatError(f"currency: expected one with two decimal places, got {file.currency!r}")
    if scorecard is not None and scorecard.currency != file.currency:
        raise FormatError(
            f"scorecard: expected one in {file.currency}, got {scorecard.id} in {scorecard.currency}"
        )
    return Product(
        id=file.id,
        version=file.version,
        title=file.title,
        title_zh=file.title_zh,
        source=file.source,
        digest=hashlib.sha256(data).digest(),
        scorecard_digest=None if card_data is None else hashlib.sha256(card_data).digest(),
        currency=file.currency,
        attested_within_days=file.attested_within_days,
        rules=tuple(
            Rule(
                id=each.id,
                title=each.title,
                title_zh=each.title_zh,
                comparison=decode_comparison(each, features),
                fail=each.fail,
                undefined=each.undefined,
            )
            for each in file.rules
        ),
        watch=tuple(
            WatchRule(
                id=each.id,
                title=each.title,
                title_zh=each.title_zh,
                comparison=decode_comparison(each, features),
                severity=each.severity,
            )
            for each in file.watch
        ),
        limit=_limit(file.limit, features),
        terms=_terms(file.terms, scorecard),
        security=None if file.security is None else _security(file.security),
        scorecard=scorecard,
    )


def _once(ids: Iterable[str], where: str) -> None:
    seen: set[str] = set()
    for each in ids:
        if each in seen:
            raise FormatError(f"{where}: expected each id once, got {each!r} twice")
        seen.add(each)


def _limit(file: LimitFile, features: Mapping[str, Feature]) -> Limit:
    feature = find_feature(features, file.feature)
    if feature.unit is not Unit.MONEY:
        raise FormatError(
            f"limit.feature: expected an amount of money, got {feature.id!r}, in {feature.unit}"
        )
    found = Limit(
        feature=feature,
        factor_ppm=parse_factor(file.factor),
        max=parse_money(file.max),
        min=parse_money(file.min),
        step=parse_money(file.step),
    )
    if found.step <= 0 or found.factor_ppm <= 0 or not 0 <= found.min <= found.max:
        raise FormatError("limit: expected factor and step above 0, and 0 ≤ min ≤ max")
    if found.max > AMOUNT_MINOR_MAX:  # no offer could say it
        raise FormatError(f"limit.max: expected at most {show_quantity(AMOUNT_MINOR_MAX, Unit.MONEY)}")
    return found


def _terms(file: TermsFile, scorecard: Scorecard | None) -> Terms:
    by_grade = None
    if file.rate_by_grade is not None:
        unknown = [each for each in file.rate_by_grade if each not in GRADES]
        if unknown or not file.rate_by_grade:
            raise FormatError(f"terms.rate_by_grade: expected grades of {', '.join(GRADES)}, got {unknown}")
        by_grade = {GRADES[each]: parse_factor(rate) for each, rate in file.rate_by_grade.items()}
    rate = None if file.rate is None else parse_factor(file.rate)
    by_card = scorecard is not None and all(
        each.rate_ppm is not None for each in scorecard.grades if each.verdict != "refuse"
    )
    if (rate is not None) + (by_grade is not None) + by_card != 1:
        raise FormatError("terms: expected exactly one of rate, rate_by_grade, and a scorecard with rates")
    for each in (rate, *(by_grade or {}).values()):
        if each is not None and not 0 <= each <= 1_000_000:
            raise FormatError("terms: expected rates of 0 % to 100 %")
    return Terms(
        months_max=file.months_max,
        rate_ppm=rate,
        rate_by_grade=by_grade,
        revolving=file.revolving,
        day_count=file.day_count,
        rounding=file.rounding,
        offer_days=file.offer_days,
    )


def _security(file: SecurityFile) -> Security:
    if file.kind not in _PLEDGEABLE:
        raise FormatError(f"security.kind: expected one of {', '.join(_PLEDGEABLE)}, got {file.kind!r}")
    share = parse_factor(file.share)
    if not 10_000 <= share <= 1_000_000:
        raise FormatError(f"security.share: expected 1 % to 100 %, got {file.share!r}")
    return Security(kind=KINDS[file.kind], share_ppm=share, required=file.required)
