"""Scorecards: points by feature band, points to a grade, a grade to rate and share of the limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from taxledger.ledger.errors import FormatError
from taxledger.lending.features.feature import Feature
from taxledger.lending.products.comparison import find_feature
from taxledger.lending.products.files import PointsFile, ScorecardFile
from taxledger.lending.products.quantities import parse_factor, parse_quantity
from taxledger.lending.tomlfile import read_toml

__all__ = ["Bands", "ScoreGrade", "Scorecard", "card_id", "decode_scorecard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """Points of one feature: ``points[i]`` where the value is below ``bounds[i]``, the last one where below none."""

    feature: Feature
    bounds: tuple[int, ...]
    points: tuple[int, ...]
    undefined: int

    def score(self, value: int | None) -> int:
        if value is None:
            return self.undefined
        for bound, points in zip(self.bounds, self.points, strict=False):
            if value < bound:
                return points
        return self.points[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreGrade:
    """A grade: ``at_least`` None for the lowest; ``rate_ppm`` None leaves the product's."""

    grade: str
    at_least: int | None
    verdict: str
    rate_ppm: int | None
    limit_share_ppm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """A scorecard; grades descending by points."""

    id: str
    version: int
    title: str
    title_zh: str
    currency: str
    base: int
    bands: tuple[Bands, ...]
    grades: tuple[ScoreGrade, ...]

    def score(self, values: Mapping[str, int | None]) -> int:
        """Points of feature values by id."""
        return self.base + sum(each.score(values[each.feature.id]) for each in self.bands)

    def grade(self, points: int) -> ScoreGrade:
        return next(each for each in self.grades if each.at_least is None or points >= each.at_least)


def decode_scorecard(data: bytes, features: Mapping[str, Feature]) -> Scorecard:
    """A scorecard of its file.

    Raises:
        FormatError: not a scorecard; the message names the place.
    """
    file = read_toml(data, ScorecardFile)
    bands = tuple(_bands(each, features) for each in file.points)
    if len({each.feature.id for each in bands}) != len(bands):
        raise FormatError("points: expected each feature once")
    grades = tuple(
        ScoreGrade(
            grade=each.grade,
            at_least=each.at_least,
            verdict=each.verdict,
            rate_ppm=None if each.rate is None else parse_factor(each.rate),
            limit_share_ppm=parse_factor(each.limit_share),
        )
        for each in file.grades
    )
    bounds = [each.at_least for each in grades]
    if bounds[-1] is not None or None in bounds[:-1]:
        raise FormatError("grades: expected at_least in every grade but the last")
    if any(high <= low for high, low in pairwise(each for each in bounds if each is not None)):
        raise FormatError("grades: expected them descending by at_least")
    for each in grades:
        if not 0 <= each.limit_share_ppm <= 1_000_000:
            raise FormatError(f"grades: expected limit_share 0 % to 100 % in {each.grade}")
        if each.rate_ppm is not None and not 0 <= each.rate_ppm <= 1_000_000:
            raise FormatError(f"grades: expected rate 0 % to 100 % in {each.grade}")
    return Scorecard(
        id=file.id,
        version=file.version,
        title=file.title,
        title_zh=file.title_zh,
        currency=file.currency,
        base=file.base,
        bands=bands,
        grades=grades,
    )


def card_id(data: bytes) -> str:
    """The id that a scorecard's file says. Raises FormatError."""
    return read_toml(data, ScorecardFile).id


def _bands(file: PointsFile, features: Mapping[str, Feature]) -> Bands:
    try:
        feature = find_feature(features, file.feature)
        if file.bands[-1].below is not None or any(each.below is None for each in file.bands[:-1]):
            raise FormatError("expected below in every band but the last")
        bounds = tuple(parse_quantity(each.below, feature.unit) for each in file.bands[:-1])
        if any(low >= high for low, high in pairwise(bounds)):
            raise FormatError("expected bands ascending by below")
    except FormatError as error:
        raise FormatError(f"points of {file.feature}: {error}") from error
    return Bands(
        feature=feature,
        bounds=bounds,
        points=tuple(each.points for each in file.bands),
        undefined=file.undefined,
    )
