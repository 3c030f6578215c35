"""The shape of product and scorecard files (TOML). What they may say is here; anything else is an error.

Shapes only: ``product.py`` and ``scorecard.py`` give the values their meaning and check what hangs together.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from taxledger.lending.tomlfile import Shape

__all__ = [
    "BandFile",
    "GradeFile",
    "LimitFile",
    "PointsFile",
    "ProductFile",
    "RuleFile",
    "ScorecardFile",
    "SecurityFile",
    "TermsFile",
    "WatchFile",
]

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
Title = Annotated[str, Field(min_length=1, max_length=200)]
Threshold = str | int | bool


class _Comparison(Shape):
    """A feature and exactly one threshold."""

    id: Name
    feature: Name
    title: Title
    title_zh: Title
    at_least: Threshold | None = None
    at_most: Threshold | None = None
    equals: Threshold | None = None
    one_of: list[Threshold] | None = None


class RuleFile(_Comparison):
    """``[[rules]]``: what an application has to meet, and what follows where it does not."""

    fail: Literal["refuse", "refer"] = "refuse"
    undefined: Literal["refuse", "refer", "pass"] = "refer"


class WatchFile(_Comparison):
    """``[[watch]]``: what raises an alert after pay-out."""

    severity: Literal["info", "warning", "critical"] = "warning"


class LimitFile(Shape):
    """``[limit]``: factor × feature, rounded down to ``step``, at most ``max``; below ``min`` nothing is lent."""

    feature: Name
    factor: str
    max: str
    min: str = "0"
    step: str = "1.00"


class TermsFile(Shape):
    """``[terms]``: what an offer says."""

    months_max: Annotated[int, Field(ge=1, le=120)]
    rate: str | None = None
    rate_by_grade: dict[str, str] | None = None
    revolving: bool = True
    day_count: Literal[360, 365] = 360
    rounding: Literal["half_up"] = "half_up"
    offer_days: Annotated[int, Field(ge=1, le=90)] = 7


class SecurityFile(Shape):
    """``[security]``: records that are pledged."""

    kind: Name
    share: str = "100 %"
    required: bool = True


class ProductFile(Shape):
    """A product."""

    id: Name
    version: Annotated[int, Field(ge=1, le=1_000_000)]
    title: Title
    title_zh: Title
    source: Title
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "CNY"
    attested_within_days: Annotated[int, Field(ge=0, le=400)] = 46
    scorecard: Name | None = None
    rules: Annotated[list[RuleFile], Field(min_length=1, max_length=64)]
    limit: LimitFile
    terms: TermsFile
    security: SecurityFile | None = None
    watch: Annotated[list[WatchFile], Field(max_length=64, default_factory=list)]


class BandFile(Shape):
    """Points where the value is below ``below``; the last band has no bound."""

    below: Threshold | None = None
    points: Annotated[int, Field(ge=-1_000, le=1_000)]


class PointsFile(Shape):
    """``[[points]]``: a feature's bands, ascending."""

    feature: Name
    undefined: Annotated[int, Field(ge=-1_000, le=1_000)] = 0
    bands: Annotated[list[BandFile], Field(min_length=1, max_length=32)]


class GradeFile(Shape):
    """``[[grades]]``: from how many points, descending; the last has no least number."""

    grade: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9+-]{0,3}$")]
    at_least: int | None = None
    verdict: Literal["pass", "refer", "refuse"] = "pass"
    rate: str | None = None
    limit_share: str = "100 %"


class ScorecardFile(Shape):
    """A scorecard."""

    id: Name
    version: Annotated[int, Field(ge=1, le=1_000_000)]
    title: Title
    title_zh: Title
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "CNY"
    base: int = 0
    points: Annotated[list[PointsFile], Field(min_length=1, max_length=64)]
    grades: Annotated[list[GradeFile], Field(min_length=1, max_length=16)]
