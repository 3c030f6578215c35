"""Local months of readings as Green Button states them: seconds since 1970 UTC, an offset, and rules for summer time.

Source: NAESB REQ.21 (ESPI), ``LocalTimeParameters``. A rule is 32 bits in hexadecimal: seconds (12), hours (5), day of
the week from Monday (3), day of the month (5), operator (3), month (4), from the lowest; local time.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from taxledger.nodes.sources.rows import CellError

__all__ = ["SECONDS_MAX", "Zone", "parse_offset", "parse_rule"]

SECONDS_MAX = 7_258_118_400
"""2200-01-01: records are of years up to then."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Local times are counted as if they were UTC."""
_OFFSET_MAX = 18 * 3600
_RULE = re.compile(r"[0-9A-Fa-f]{8}")
_NONE = 0xFFFFFFFF
_ON_DATE, _ON_OR_AFTER, _LAST = 0, 1, 7


@dataclass(frozen=True, slots=True)
class _Rule:
    month: int
    operator: int
    day: int
    weekday: int
    seconds: int

    def at(self, year: int) -> datetime:
        """When the rule strikes in a year, local time."""
        days = calendar.monthrange(year, self.month)[1]
        if self.operator == _ON_DATE:
            day = min(max(self.day, 1), days)
        elif self.operator == _LAST:
            last = date(year, self.month, days)
            day = days - (last.isoweekday() - self.weekday) % 7
        else:
            # On or after a day, or the first to fifth of its weekday in the month.
            first = max(self.day, 1) if self.operator == _ON_OR_AFTER else 1
            begin = date(year, self.month, min(first, days))
            day = begin.day + (self.weekday - begin.isoweekday()) % 7
            day += 7 * (self.operator - 2) if self.operator > _ON_OR_AFTER else 0
            day = min(day, days)
        return datetime(year, self.month, day, tzinfo=UTC) + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """Local time of a meter.

    Attributes:
        offset: of standard time to UTC, seconds.
        summer: what summer time adds, seconds; 0 without.
        begins, ends: when it does; None without.
    """

    offset: int = 0
    summer: int = 0
    begins: _Rule | None = None
    ends: _Rule | None = None

    def month(self, second: int) -> str:
        """The local month ``YYYY-MM`` of a second since 1970 UTC."""
        local = _EPOCH + timedelta(seconds=second + self.offset)
        local += timedelta(seconds=self._summer_at(local))
        return f"{local.year:04}-{local.month:02}"

    def month_seconds(self, month: str) -> int:
        """How many seconds a local month has."""
        year, number = int(month[:4]), int(month[5:7])
        days = calendar.monthrange(year, number)[1]
        first = datetime(year, number, 1, tzinfo=UTC)
        return days * 86_400 + self._summer_at(first) - self._summer_at(first + timedelta(days=days))

    def _summer_at(self, standard: datetime) -> int:
        """What summer time adds at a local standard time."""
        if self.begins is None or self.ends is None:
            return 0
        begin = self.begins.at(standard.year)
        end = self.ends.at(standard.year) - timedelta(seconds=self.summer)
        inside = begin <= standard < end if begin < end else standard >= begin or standard < end
        return self.summer if inside else 0


def parse_offset(text: str) -> int:
    """Seconds, at most 18 hours either way. Raises CellError."""
    if not re.fullmatch(r"-?[0-9]{1,5}", text) or abs(int(text)) > _OFFSET_MAX:
        raise CellError(
            "offset_malformed", "an offset in seconds, at most 18 hours", "以秒计的时差，不超过 18 小时"
        )
    return int(text)


def parse_rule(text: str) -> _Rule | None:
    """A rule; None where there is no summer time. Raises CellError."""
    bits = int(text, 16) if _RULE.fullmatch(text) else -1
    if bits in (0, _NONE):
        return None
    seconds, hours = bits & 0xFFF, bits >> 12 & 0x1F
    weekday, day, operator, month = bits >> 17 & 7, bits >> 20 & 0x1F, bits >> 25 & 7, bits >> 28 & 0xF
    if bits < 0 or seconds > 3599 or hours > 23 or not 1 <= month <= 12 or (operator and not weekday):
        raise CellError(
            "rule_malformed", "a rule for summer time of 8 hexadecimal digits", "8 位十六进制夏令时规则"
        )
    return _Rule(month, operator, day, weekday, hours * 3600 + seconds)
