"""Features of an enterprise's standing: grade, arrears, qualifications, credit elsewhere, registration.

They say what is so on the as-of date: every record known up to it is read, and one that can't be read leaves no number.
"""

from __future__ import annotations

from collections.abc import Sequence

from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features.feature import Basis, Compute, Feature, Unit, all_of, define, total
from taxledger.lending.features.records import integer, is_read, records_of, span_of, text
from taxledger.lending.features.windows import day_of, window

__all__ = ["STANDING"]

RATING, ARREARS = KINDS["tax_credit_rating"], KINDS["tax_arrears"]
QUALIFICATION, CREDIT = KINDS["technology_qualification"], KINDS["credit_summary"]
REGISTRATION = KINDS["business_registration"]
RANKS = {"D": 1, "C": 2, "M": 3, "B": 4, "A": 5}
CERTIFICATES = ("high_tech", "specialised", "little_giant")
PATENTS = ("invention_patent", "utility_model", "design_patent")


def _known(facts: Facts, basis: Basis, kind: int, name: str) -> list[Fact] | None:
    """Every counted record whose date ``name`` is not after as-of; None where one can't be read."""
    records, as_of = records_of(facts, kind), basis.as_of.isoformat()
    if records is None:
        return None
    found = []
    for each in records.facts:
        day = text(each, name)
        if each.status is Status.VOIDED:
            continue
        if day is None:
            if span_of(each).after < basis.as_of.toordinal():
                return None
        elif day <= as_of:
            found.append(each)
    return found


# --- grade ----------------------------------------------------------------------------------


def _ranks(facts: Facts, basis: Basis) -> list[int | None] | None:
    """The rank of every rated year up to the as-of date, the newest first; None in it: can't be read."""
    records, as_of = records_of(facts, RATING), basis.as_of.isoformat()
    if records is None:
        return None
    by_year: dict[int, list[int | None]] = {}
    for each in records.facts:
        if each.status is Status.VOIDED:
            continue
        year = integer(each, "year")
        if year is None:
            # An erased one may be of its period's year, and any of the newest where that is not known.
            year = int(each.period[:4]) if each.period else basis.as_of.year
        published = text(each, "published")
        if year > basis.as_of.year or (published is not None and published > as_of):
            continue
        readable = is_read(each, "published", "grade")
        by_year.setdefault(year, []).append(RANKS.get(text(each, "grade") or "") if readable else None)
    return [_least(by_year[year]) for year in sorted(by_year, reverse=True)]


def _least(ranks: Sequence[int | None]) -> int | None:
    known = [rank for rank in ranks if rank is not None]
    return min(known) if len(known) == len(ranks) else None


def _grade(facts: Facts, basis: Basis) -> int | None:
    ranks = _ranks(facts, basis)
    return ranks[0] if ranks else None


def _grade_trend(facts: Facts, basis: Basis) -> int | None:
    ranks = _ranks(facts, basis)
    if ranks is None or len(ranks) < 2:
        return None
    newest, before = ranks[:2]
    return None if newest is None or before is None else newest - before


# --- arrears --------------------------------------------------------------------------------


def _open(facts: Facts, basis: Basis, category: str) -> list[Fact] | None:
    """Records of arrears that are open on the as-of date; None where it is not known of one."""
    found, as_of = _known(facts, basis, ARREARS, "opened"), basis.as_of.isoformat()
    if found is None:
        return None
    result = []
    for each in found:
        if not is_read(each, "category", "closed") or text(each, "category") is None:
            return None
        closed = text(each, "closed")
        if text(each, "category") == category and (closed is None or closed > as_of):
            result.append(each)
    return result


def _open_count(category: str) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        found = _open(facts, basis, category)
        return None if found is None else len(found)

    return compute


def _open_amount(facts: Facts, basis: Basis) -> int | None:
    found = _open(facts, basis, "arrears")
    if found is None or any(text(each, "currency") is None for each in found):
        return None
    return total(integer(each, "amount") for each in found if text(each, "currency") == basis.currency)


# --- credit elsewhere -----------------------------------------------------------------------


def _summary(facts: Facts, basis: Basis) -> Fact | None:
    """The newest summary of the last 12 months; None where there is none, or one that can't be read may be newer."""
    records, days = records_of(facts, CREDIT), window(basis.as_of, 12)
    counted = [each for each in records.facts if each.status is not Status.VOIDED] if records else []
    spans = [(span_of(each), each) for each in counted]
    dated = [(span.upto, each.key, each) for span, each in spans if text(each, "as_of") and span.upto in days]
    if not dated:
        return None
    newest = max(dated, key=lambda each: each[:2])
    hidden = any(
        not text(each, "as_of") and newest[0] <= span.upto and span.after < days.upto for span, each in spans
    )
    return None if hidden else newest[2]


def _loans_elsewhere(facts: Facts, basis: Basis) -> int | None:
    summary = _summary(facts, basis)
    return None if summary is None else integer(summary, "loans_open")


def _overdue_days(facts: Facts, basis: Basis) -> int | None:
    summary = _summary(facts, basis)
    return None if summary is None else integer(summary, "overdue_days")


def _first_borrower(facts: Facts, basis: Basis) -> int | None:
    summary = _summary(facts, basis)
    if summary is None:
        return None
    loans, lenders = integer(summary, "loans_open"), integer(summary, "lenders")
    return all_of(
        (
            text(summary, "first_borrowed") is None if is_read(summary, "first_borrowed") else None,
            None if loans is None else loans == 0,
            None if lenders is None else lenders == 0,
        )
    )


# --- qualifications, registration -----------------------------------------------------------


def _is_valid(fact: Fact, as_of: str) -> bool | None:
    if not is_read(fact, "valid_from", "valid_until"):
        return None
    begins, ends = text(fact, "valid_from"), text(fact, "valid_until")
    return (begins is None or begins <= as_of) and (ends is None or as_of <= ends)


def _valid(categories: Sequence[str] | None) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        found = _known(facts, basis, QUALIFICATION, "issued")
        if found is None:
            return None
        count = 0
        for each in found:
            category = text(each, "category")
            if category is None:
                return None
            if categories is None or category in categories:
                flag = _is_valid(each, basis.as_of.isoformat())
                if flag is None:
                    return None
                count += flag
        return count

    return compute


def _registration(facts: Facts, basis: Basis) -> Fact | None:
    """The newest registration known."""
    found = _known(facts, basis, REGISTRATION, "registered")
    return max(found, key=lambda each: (text(each, "registered") or "", each.key)) if found else None


def _registered_days(facts: Facts, basis: Basis) -> int | None:
    fact = _registration(facts, basis)
    return None if fact is None else basis.as_of.toordinal() - day_of(text(fact, "registered") or "")


def _registration_active(facts: Facts, basis: Basis) -> int | None:
    fact = _registration(facts, basis)
    if fact is None:
        return None
    state, until = text(fact, "state"), text(fact, "until")
    within = until is None or until >= basis.as_of.isoformat()
    return all_of((None if state is None else state == "active", within if is_read(fact, "until") else None))


# --- the list -------------------------------------------------------------------------------

STANDING: tuple[Feature, ...] = (
    define(
        (RATING,),
        "grade",
        Unit.GRADE,
        36,
        ("Tax credit grade", "纳税信用等级"),
        "of the newest rated year not after as-of's, published by as-of; none: undefined",
        _grade,
    ),
    define(
        (RATING,),
        "grade_trend",
        Unit.COUNT,
        36,
        ("Change of the tax credit grade", "纳税信用等级变动"),
        "rank of the newest rated year − rank of the rated year before it; only one: undefined",
        _grade_trend,
    ),
    *(
        define(
            (ARREARS,),
            f"open_{name}_count",
            Unit.COUNT,
            36,
            titles,
            f"records of category {category} opened by as-of and not closed by then, of any currency",
            _open_count(category),
        )
        for name, category, titles in (
            ("arrears", "arrears", ("Open tax arrears", "未结清欠税笔数")),
            ("violations", "violation", ("Open tax violations", "未结税务违法数")),
            ("audits", "audit", ("Open tax audits", "未结税务稽查数")),
        )
    ),
    define(
        (ARREARS,),
        "open_arrears_amount",
        Unit.MONEY,
        36,
        ("Amount of open tax arrears", "未结清欠税金额"),
        "Σ amount of the open arrears of the basis' currency",
        _open_amount,
    ),
    define(
        (CREDIT,),
        "loans_elsewhere",
        Unit.COUNT,
        12,
        ("Open loans elsewhere", "他行未结清贷款笔数"),
        "loans_open of the newest summary of the last 12 months; none: undefined",
        _loans_elsewhere,
    ),
    define(
        (CREDIT,),
        "overdue_days_elsewhere",
        Unit.DAYS,
        12,
        ("Days overdue elsewhere", "他行贷款逾期天数"),
        "overdue_days of the newest summary of the last 12 months; none: undefined",
        _overdue_days,
    ),
    define(
        (CREDIT,),
        "first_borrower",
        Unit.FLAG,
        12,
        ("Never borrowed before", "首贷户"),
        "newest summary of the last 12 months: no loan open, no lender, first_borrowed absent; none: undefined",
        _first_borrower,
    ),
    *(
        define(
            (QUALIFICATION,),
            id,
            Unit.COUNT,
            120,
            titles,
            f"{which} issued by as-of with valid_from (if any) ≤ as-of ≤ valid_until (if any)",
            _valid(categories),
        )
        for id, categories, which, titles in (
            ("valid_qualifications", None, "qualifications", ("Valid qualifications", "有效资质数")),
            (
                "valid_certificates",
                CERTIFICATES,
                "high_tech, specialised and little_giant",
                ("Valid certificates", "有效认定数（高新、专精特新、小巨人）"),
            ),
            ("valid_patents", PATENTS, "patents", ("Valid patents", "有效专利数")),
        )
    ),
    define(
        (REGISTRATION,),
        "registered_days",
        Unit.DAYS,
        120,
        ("Days since registration", "成立天数"),
        "as-of − registered of the newest registration known; none: undefined",
        _registered_days,
    ),
    define(
        (REGISTRATION,),
        "registration_active",
        Unit.FLAG,
        120,
        ("Registration is active", "登记状态为存续"),
        "newest registration known: active, until absent or not before as-of; none: undefined",
        _registration_active,
    ),
)
