"""One feature against one threshold: the smallest part of every rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from taxledger.ledger.errors import FormatError
from taxledger.lending.features.feature import Feature
from taxledger.lending.products.files import RuleFile, WatchFile
from taxledger.lending.products.quantities import parse_quantity

__all__ = ["OPERATORS", "Comparison", "decode_comparison", "find_feature"]

OPERATORS = ("at_least", "at_most", "equals", "one_of")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A comparison.

    Attributes:
        feature: what is measured.
        operator: one of ``OPERATORS``.
        thresholds: integers of the feature's unit; one, or several for ``one_of``.
    """

    feature: Feature
    operator: str
    thresholds: tuple[int, ...]

    def holds(self, value: int) -> bool:
        """Whether a value meets it."""
        match self.operator:
            case "at_least":
                return value >= self.thresholds[0]
            case "at_most":
                return value <= self.thresholds[0]
            case _:
                return value in self.thresholds


def find_feature(features: Mapping[str, Feature], id: str) -> Feature:
    """The feature of an id. Raises FormatError with those that look like it."""
    if id in features:
        return features[id]
    close = [each for each in sorted(features) if each.split("_")[0] == id.split("_")[0]] or sorted(features)
    raise FormatError(f"expected a feature of docs/features.md like {', '.join(close[:6])}, got {id!r}")


def decode_comparison(file: RuleFile | WatchFile, features: Mapping[str, Feature]) -> Comparison:
    """The comparison of a rule. Raises FormatError."""
    named = [each for each in OPERATORS if getattr(file, each) is not None]
    if len(named) != 1:
        got = " and ".join(named) or "none"
        raise FormatError(f"rule {file.id}: expected exactly one of {', '.join(OPERATORS)}, got {got}")
    operator = named[0]
    stated = getattr(file, operator)
    try:
        feature = find_feature(features, file.feature)
        values = stated if operator == "one_of" else [stated]
        thresholds = tuple(parse_quantity(each, feature.unit) for each in values)
    except FormatError as error:
        raise FormatError(f"rule {file.id}: {error}") from error
    if not thresholds or len(set(thresholds)) != len(thresholds):
        raise FormatError(f"rule {file.id}: expected different values in one_of")
    return Comparison(feature=feature, operator=operator, thresholds=thresholds)
