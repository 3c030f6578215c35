"""What every section of a report needs to know, and how it writes what it reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from taxledger.lending.facts import Coverage, Fact, Facts
from taxledger.lending.features import FEATURES, Basis
from taxledger.lending.known import known_until
from taxledger.lending.report.blocks import Block, Column, Note, Table, Tone
from taxledger.lending.report.figures import money, show_value
from taxledger.lending.report.months import word
from taxledger.lending.report.plain import plain
from taxledger.lending.report.texts import TEXTS, Language, text

__all__ = ["Context"]

_ROWS_MAX = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The facts, and for whom they are shown.

    Attributes:
        facts: verified.
        as_of: the decision date.
        currency: of the product; other currencies are in no sum.
        language: of the report.
        security: record keys offered as security.
    """

    facts: Facts
    as_of: date
    currency: str
    language: Language
    security: tuple[bytes, ...] = ()

    def say(self, key: str, **values: object) -> str:
        return text(key, self.language, **values)

    def choice(self, fact: Fact, name: str) -> str:
        """A field of a few values, in words."""
        value = word(fact, name)
        return self.say(f"choice_{value}") if f"choice_{value}" in TEXTS else self.shown(value)

    def shown(self, value: object) -> str:
        """A field's text, or – where it is absent."""
        return plain(value) if value not in (None, "") else self.say("none")

    def money(self, amount: int | None) -> str:
        return self.say("none") if amount is None else money(amount, self.currency)

    @property
    def unit(self) -> str:
        """The currency as an axis names it."""
        return "元" if self.language == "zh" and self.currency == "CNY" else self.currency

    def feature(self, id: str) -> str:
        """A feature's value as decisions compute it, so that a report never says another number."""
        if id not in FEATURES:
            return self.say("none")
        feature = FEATURES[id]
        as_of = known_until(feature, self.facts, self.as_of)
        value = feature.compute(
            self.facts, Basis(as_of=as_of, currency=self.currency, security=self.security)
        )
        return show_value(value, feature.unit.value, self.currency, self.language)

    def coverage(self, kind: int) -> Coverage | None:
        return self.facts.coverage.get(kind)

    def until(self, kind: int) -> str | None:
        """The last month attested in whole or in part, None where the issuer never said."""
        found = self.facts.coverage.get(kind)
        return None if found is None or found.through is None else found.through[:7]

    def in_currency(self, facts: Iterable[Fact]) -> tuple[list[Fact], int]:
        """Those of the product's currency and how many are of another."""
        found = list(facts)
        kept = [each for each in found if word(each, "currency") in (self.currency, "")]
        return kept, len(found) - len(kept)

    def others(self, n: int) -> list[Block]:
        """A sentence about records of other currencies, where there are any."""
        return [Note(text=self.say("other_currencies", n=f"{n:,}"), tone="doubt")] if n else []

    def empty(self, kind: int) -> Note:
        """What to say where there are no records."""
        found = self.facts.coverage.get(kind)
        if found is None or found.through is None or not found.begun:
            return Note(text=self.say("no_records"))
        return Note(text=self.say("no_records_proved", date=found.through), tone="ink")

    def table(
        self, columns: Iterable[Column], rows: Sequence[tuple[str, ...]], tones: list[Tone] | None = None
    ) -> list[Block]:
        """A table of at most so many rows, and how many more there are."""
        blocks: list[Block] = [
            Table(
                columns=tuple(columns),
                rows=tuple(rows[:_ROWS_MAX]),
                tones=tuple((tones or [])[:_ROWS_MAX]),
            )
        ]
        if len(rows) > _ROWS_MAX:
            blocks.append(Note(text=self.say("more_rows", n=f"{len(rows) - _ROWS_MAX:,}")))
        return blocks
