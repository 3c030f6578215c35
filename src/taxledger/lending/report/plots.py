"""Plots as marks: columns by month, bars by name, and a gauge of a value against its threshold. Integers only, so
the same numbers give the same marks everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taxledger.lending.report.blocks import WIDTH, Label, Line, Mark, Plot, Rect, Tone
from taxledger.lending.report.figures import axis, steps
from taxledger.lending.report.plain import width_of

__all__ = ["Bar", "Series", "columns", "fit", "gauge", "horizontal"]

_TOP, _BOTTOM, _LEFT, _RIGHT = 70, 60, 150, 10
_SIZE = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values by month: those of the same ``stack`` stand on one another, positive up and negative down."""

    name: str
    tone: Tone
    values: Sequence[int]
    stack: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A named amount, how it is written, and which share of the whole it is."""

    name: str
    value: int
    shown: str
    share: str
    tone: Tone = "blue"


def fit(text: str, width: int, size: int = _SIZE) -> str:
    """As much of a text as fits into a width."""
    if width_of(text) * size <= width * 100:
        return text
    while text and (width_of(text) + 100) * size > width * 100:
        text = text[:-1]
    return text.rstrip() + "…"


def columns(
    months: Sequence[str],
    series: Sequence[Series],
    *,
    unit: str,
    per_step: int,
    show: Callable[[int], str],
    summary: str,
    veiled_after: str | None = None,
    veil: str = "",
    height: int = 460,
) -> Plot:
    """Columns by month.

    Args:
        months: ``YYYY-MM``, ascending; each series has a value for each.
        series: what is drawn, side by side by their stack.
        unit: what the axis counts, in words.
        per_step: minor units to one of the axis.
        show: writes a value for who points at its column.
        summary: what it shows in words.
        veiled_after: months after this one are not attested yet; ``veil`` says so.
        height: tenths of a millimetre.
    """
    stacks = sorted({each.stack for each in series})
    heights = [
        (
            sum(max(each.values[at], 0) for each in series if each.stack == stack),
            sum(min(each.values[at], 0) for each in series if each.stack == stack),
        )
        for stack in stacks
        for at in range(len(months))
    ]
    ticks = steps(min(low for _high, low in heights), max(high for high, _low in heights))
    low = ticks[0]
    lowest = min(low for _high, low in heights)
    if low < 0 and -lowest * 3 < -low:  # a few small red letters shall not take half of the plot
        low, ticks = lowest * 5 // 4, ticks[1:]
    span = ticks[-1] - low
    floor = height - _BOTTOM

    def level(value: int) -> int:
        return floor - (value - low) * (floor - _TOP) // span

    marks: list[Mark] = [Label(x=0, y=28, text=unit, tone="muted", size=_SIZE)]
    slot = (WIDTH - _LEFT - _RIGHT) // max(len(months), 1)
    hidden = _veil(months, veiled_after, veil, slot, floor)
    marks += hidden
    for tick in ticks:
        y = level(tick)
        marks.append(Line(x1=_LEFT, y1=y, x2=WIDTH - _RIGHT, y2=y, tone="grid" if tick else "faint"))
        marks.append(
            Label(x=_LEFT - 14, y=y + 9, text=axis(tick, per_step), anchor="end", tone="muted", size=_SIZE)
        )
    thick = max(slot * 7 // 10 // len(stacks), 2)
    for at, month in enumerate(months):
        for place, stack in enumerate(stacks):
            x = _LEFT + at * slot + slot * 3 // 20 + place * thick
            up = down = 0
            for each in (each for each in series if each.stack == stack):
                value = each.values[at]
                if value == 0:
                    continue
                begin = up if value > 0 else down
                top, bottom = sorted((level(begin), level(begin + value)))
                title = f"{month} {each.name}: {show(value)}"
                marks.append(
                    Rect(
                        x=x, y=top, width=thick - 2, height=max(bottom - top, 2), tone=each.tone, title=title
                    )
                )
                up, down = (up + value, down) if value > 0 else (up, down + value)
    marks += _month_labels(months, slot, floor)
    marks += _legend([(each.name, each.tone) for each in series] + ([(veil, "grid")] if hidden else []))
    return Plot(width=WIDTH, height=height, marks=tuple(marks), summary=summary)


def _veil(months: Sequence[str], after: str | None, words: str, slot: int, floor: int) -> list[Mark]:
    later = [at for at, month in enumerate(months) if after is not None and month > after]
    if not later:
        return []
    x = _LEFT + later[0] * slot
    width = len(later) * slot
    return [Rect(x=x, y=_TOP, width=width, height=floor - _TOP, tone="veil", title=words)]


def _month_labels(months: Sequence[str], slot: int, floor: int) -> list[Mark]:
    """Months under their columns, as many as there is room for, and years under the first month of each."""
    every = next(each for each in (1, 2, 3, 6, 12) if each * slot >= 45 or each == 12)
    marks: list[Mark] = []
    for at, month in enumerate(months):
        middle = _LEFT + at * slot + slot // 2
        if int(month[5:]) % every == 1 % every:
            marks.append(
                Label(x=middle, y=floor + 28, text=month[5:], anchor="middle", tone="muted", size=20)
            )
        if at == 0 or month[5:] == "01":
            room = next(
                (n for n, each in enumerate(months[at + 1 :], 1) if each[5:] == "01"), len(months) - at
            )
            if room * slot >= 50:
                x = _LEFT + at * slot
                marks.append(
                    Label(x=middle, y=floor + 54, text=month[:4], anchor="middle", tone="ink", size=20)
                )
                marks.append(Line(x1=x, y1=floor, x2=x, y2=floor + 10, tone="faint"))
    return marks


def _legend(entries: Sequence[tuple[str, Tone]]) -> list[Mark]:
    marks: list[Mark] = []
    x = WIDTH - _RIGHT
    for name, tone in reversed(entries):
        x -= width_of(name) * _SIZE // 100
        marks.append(Label(x=x, y=28, text=name, size=_SIZE))
        x -= 34
        marks.append(Rect(x=x, y=8, width=24, height=22, tone=tone))
        x -= 40
    return marks


def horizontal(bars: Sequence[Bar], *, whole: int, summary: str) -> Plot:
    """Bars by name, one a row, each as long as its part of the whole."""
    row, name_width, value_width, share_width = 54, 620, 290, 130
    room = WIDTH - name_width - value_width - share_width
    marks: list[Mark] = []
    for at, each in enumerate(bars):
        y = at * row
        length = min(max(each.value, 0) * room // max(whole, 1), room)
        title = f"{each.name}: {each.shown}, {each.share}"
        marks += [
            Label(x=0, y=y + 35, text=fit(each.name, name_width - 30), size=_SIZE),
            Rect(x=name_width, y=y + 10, width=room, height=34, tone="veil"),
            Rect(x=name_width, y=y + 10, width=max(length, 2), height=34, tone=each.tone, title=title),
            Label(x=WIDTH - share_width, y=y + 35, text=each.shown, anchor="end", size=_SIZE),
            Label(x=WIDTH, y=y + 35, text=each.share, anchor="end", size=_SIZE, tone="muted"),
        ]
    return Plot(width=WIDTH, height=max(len(bars), 1) * row, marks=tuple(marks), summary=summary)


def gauge(value: int, thresholds: Sequence[int], tone: Tone, *, summary: str, width: int = 260) -> Plot:
    """A value as a bar, with a line at each threshold; the bar ends at five quarters of the largest."""
    height = 34
    largest = max(abs(value), *(abs(each) for each in thresholds), 1)
    low = min(value, *thresholds, 0)
    span = 5 * (largest - low)  # in quarters: five quarters of the largest, and of what lies below 0
    zero = -5 * low * width // span

    def place(amount: int) -> int:
        return min(max(zero + 4 * amount * width // span, 0), width)

    begin, end = sorted((zero, place(value)))
    marks: list[Mark] = [
        Rect(x=0, y=10, width=width, height=14, tone="veil"),
        Rect(x=begin, y=10, width=max(end - begin, 3), height=14, tone=tone, title=summary),
    ]
    marks += [
        Line(x1=place(each), y1=2, x2=place(each), y2=height - 2, tone="ink", weight=4) for each in thresholds
    ]
    return Plot(width=width, height=height, marks=tuple(marks), summary=summary)
