"""Numbers as people read them: exact in tables, short on axes. Integers only."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from taxledger.lending.report.texts import Language, text

__all__ = ["axis", "money", "scale_of", "share", "show_value", "steps"]

_MINOR_DIGITS = {"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "BHD": 3, "KWD": 3, "OMR": 3, "TND": 3, "JOD": 3}
_GRADES = {5: "A", 4: "B", 3: "M", 2: "C", 1: "D"}
_SCALES: dict[Language, tuple[tuple[int, str], ...]] = {
    "zh": ((100_000_000, "亿"), (10_000, "万"), (1, "")),
    "en": ((1_000_000_000, "billion "), (1_000_000, "million "), (1_000, "thousand "), (1, "")),
}


def minor_per_unit(currency: str) -> int:
    """How many minor units are one of a currency."""
    return int(10 ** _MINOR_DIGITS.get(currency, 2))


def money(amount: int, currency: str) -> str:
    """``1,234.50`` of minor units."""
    per_unit = minor_per_unit(currency)
    sign, whole = "−" if amount < 0 else "", abs(amount)
    digits = len(str(per_unit)) - 1
    return f"{sign}{whole // per_unit:,}" + (f".{whole % per_unit:0{digits}}" if digits else "")


def share(ppm: int) -> str:
    """``12.34 %`` of parts per million, half a hundredth of a percent rounded up."""
    rounded = (Decimal(ppm) / 10_000).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
    return f"{rounded:,f}".replace("-", "−") + " %"


def show_value(value: int | None, unit: str, currency: str, language: Language) -> str:
    """A feature's value or threshold; ``–`` where it is undefined."""
    if value is None:
        return "–"
    match unit:
        case "money":
            return money(value, currency)
        case "ppm":
            return share(value)
        case "grade":
            return _GRADES.get(value, str(value))
        case "flag":
            return text("yes" if value else "no", language)
        case "months" | "days":
            return text(f"unit_{unit}", language, n=f"{value:,}")
        case _:
            return f"{value:,}".replace("-", "−")


def scale_of(largest: int, currency: str, language: Language) -> tuple[int, str]:
    """(minor units per step of an axis, its name): thousands, millions, 万, 亿."""
    per_unit = minor_per_unit(currency)
    for factor, name in _SCALES[language]:
        if largest >= factor * per_unit:
            return factor * per_unit, name
    return per_unit, ""


def steps(lowest: int, highest: int, count: int = 5) -> list[int]:
    """Round numbers from at most ``lowest`` to at least ``highest``, about ``count`` apart; 0 is one of them."""
    span = max(highest, 0) - min(lowest, 0) or 1
    raw = max(1, -(-span // count))
    power = 10 ** (len(str(raw)) - 1)
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= raw)
    first, last = min(lowest, 0) // step, -(-max(highest, 0) // step)
    return [each * step for each in range(first, max(last, first + 1) + 1)]


def axis(value: int, per_step: int) -> str:
    """A tick's number in units of the axis, without zeros that say nothing."""
    shown = f"{Decimal(value) / per_step:,.3f}".rstrip("0").rstrip(".")
    return "0" if shown in ("-0", "") else shown.replace("-", "−")
