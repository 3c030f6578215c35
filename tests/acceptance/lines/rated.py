"""The 72 rated enterprises through the contest rule and the invoice product, from attested data to decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any

from ..borrowing import (
    application,
    apply_all,
    documented,
    outcomes,
    rated_enterprises,
    rated_network,
    recomputed,
)
from ..networks import cumcm_files
from ..salesrules import Books, differences, measure, read_books
from ..stage import Finding, Line, Stage, check

_PRODUCTS = ("contest", "invoice")
_ROWS, _DEFAULTS, _DEFAULTS_OF_D = 213_823, 15, 14
_MEASURED = frozenset(measure(Books([], {}), date(2020, 2, 29), date(2018, 3, 1)))
"""The values that the separate script knows."""


class _Rated:
    """An enterprise: what is known of it besides, and what was decided."""

    def __init__(self, name: str, grade: str, defaulted: bool, decided: dict[str, dict[str, Any]]) -> None:
        self.name, self.grade, self.defaulted, self.decided = name, grade, defaulted, decided

    def decision(self, product: str) -> dict[str, Any]:
        return self.decided[product]["decision"]  # type: ignore[no-any-return]

    def outcome(self, product: str) -> str:
        return str(self.decision(product)["outcome"])

    def value(self, feature: str) -> Any:
        return next(
            each["value"]
            for product in _PRODUCTS
            for each in self.decision(product)["features"]
            if each["id"] == feature
        )


def run(stage: Stage) -> Iterator[Finding]:
    net, said = rated_network(stage)
    rows = " + ".join(f"{each['accepted']:,}" for each in said)
    whole = said[0]["rows"] == _ROWS and not any(each["rejected"] for each in said)
    yield check("attested: invoices + grades + arrears", f"{rows} in {said[0]['seconds']:.0f} s", whole)
    enterprises = rated_enterprises(stage)
    wanted = [application(f"cumcm:{name}", product) for name in enterprises for product in _PRODUCTS]
    became = apply_all(stage, net, "rated-out", wanted)
    by_subject: dict[str, dict[str, dict[str, Any]]] = {}
    for each in became:
        by_subject.setdefault(each["subject"], {})[each["product"]] = each
    rated = [_Rated(name, *known, by_subject[f"cumcm:{name}"]) for name, known in enterprises.items()]
    yield _times(became)
    answered = sum(each["decision"]["outcome"] in ("approve", "refuse") for each in became)
    yield check("decided on merit", f"{answered} of {len(became)}", answered == len(became) == 2 * 72)
    yield from _verdicts(rated)
    books = read_books(each for each in cumcm_files(stage) if each.parent.name.startswith("f1_"))
    yield from _totals(books, rated)
    yield recomputed(stage, net, "rated-out")
    yield documented(stage, "rated-enterprises.md", "rated", _document(rated, books))


def _times(became: list[dict[str, Any]]) -> Finding:
    whole = sorted(each["seconds"] for each in became)
    size, records = sum(each["bytes"] for each in became), sum(each["records"] for each in became)
    return check(
        "applications",
        f"{len(became)}, {records:,} records in {size:,} bytes of evidence; from the signed consent to the decision "
        f"median {whole[len(whole) // 2]:.2f} s, slowest {whole[-1]:.2f} s, eight side by side",
    )


def _verdicts(rated: list[_Rated]) -> Iterator[Finding]:
    refused = [each for each in rated if each.grade == "D" and each.outcome("contest") == "refuse"]
    grade_d = [each for each in rated if each.grade == "D"]
    by_rule = all("grade" in outcomes(each.decision("contest")) for each in refused)
    yield check(
        "D refused by the contest rule", f"{len(refused)} of {len(grade_d)}", refused == grade_d and by_rule
    )
    defaulted = [each for each in rated if each.defaulted]
    of_d = sum(each.grade == "D" for each in defaulted)
    yield check(
        "defaulters", f"{len(defaulted)}, {of_d} of them D", (len(defaulted), of_d) == (_DEFAULTS, _DEFAULTS_OF_D)
    )  # fmt: skip
    for product in _PRODUCTS:
        caught = sum(each.outcome(product) == "refuse" for each in defaulted)
        shares = ", ".join(f"{grade} {_share(rated, grade, product)}" for grade in "ABCD")
        yield check(f"{product}: approved", f"{shares}; of {len(defaulted)} defaulters {caught} refused")


def _share(rated: list[_Rated], grade: str, product: str) -> str:
    of_grade = [each for each in rated if each.grade == grade]
    return f"{sum(each.outcome(product) == 'approve' for each in of_grade)} of {len(of_grade)}"


# --- against the files ---------------------------------------------------------------------------


def _totals(books: dict[str, Books], rated: list[_Rated]) -> Iterator[Finding]:
    """Every figure of the invoices, against the script that reads the files alone."""
    wrong, months, values, fen = [], 0, 0, 0
    for each in rated:
        for product in _PRODUCTS:
            answered = each.decided[product]
            wrong += differences(answered, books[each.name])
            months += sum(map(len, answered["months"].values()))
            fen += sum(abs(sums[3]) for sides in answered["months"].values() for sums in sides.values())
            values += sum(one["id"] in _MEASURED for one in answered["decision"]["features"])
        if each.outcome("contest") == "approve":
            tenth = min(int(each.value("net_sales_12m")) // 10, 100_000_000)
            if each.decision("contest")["limit"] != tenth:
                wrong.append(f"{each.name}: limit")
    yield check(
        "against the files, by a separate script",
        f"count, net, tax and gross of {months:,} months in {2 * len(rated)} answers ({fen / 100:,.2f} CNY gross), "
        f"and {values} values of rules and limits: {len(wrong)} differ"
        + "".join(f"; {one}" for one in wrong[:3]),
        not wrong,
    )


# --- the document --------------------------------------------------------------------------------


def _document(rated: list[_Rated], books: dict[str, Books]) -> str:
    lines = ["| grade | enterprises | defaulted | contest approves | invoice product approves |"]
    lines.append("|---|---:|---:|---:|---:|")
    for grade in "ABCD":
        of_grade = [each for each in rated if each.grade == grade]
        lines.append(_counts(grade, of_grade))
    lines.append(_counts("all", rated))
    defaulted = [each for each in rated if each.defaulted]
    caught = {product: sum(each.outcome(product) == "refuse" for each in defaulted) for product in _PRODUCTS}
    lines += [
        "",
        f"Of the {len(defaulted)} enterprises that defaulted, the contest rule refuses {caught['contest']} and the "
        f"invoice product {caught['invoice']}. Of the {len(rated) - len(defaulted)} that did not, they refuse "
        + " and ".join(
            str(sum(not each.defaulted and each.outcome(product) == "refuse" for each in rated))
            for product in _PRODUCTS
        )
        + ".",
        "",
        "What the invoice product refuses them for (one may fail on several): " + _reasons(rated) + ".",
        "Enterprises with sales in the files' last months: " + _sellers(books) + ".",
        "",
        "| enterprise | grade | defaulted | net sales of 12 months | contest | limit | rate | invoice | limit | "
        "rules not met |",
        "|---|---|---|---:|---|---:|---:|---|---:|---|",
    ]
    return "\n".join([*lines, *map(_row, rated)])


def _reasons(rated: list[_Rated]) -> str:
    found = Counter(code for each in rated for code in outcomes(each.decision("invoice")))
    return ", ".join(f"`{code}` {count}" for code, count in found.most_common())


def _sellers(books: dict[str, Books]) -> str:
    months = ("2019-10", "2019-11", "2019-12", "2020-01", "2020-02")
    sold = {month: sum(month in each.months["sale"] for each in books.values()) for month in months}
    return ", ".join(f"{month} {count}" for month, count in sold.items())


def _counts(name: str, chosen: list[_Rated]) -> str:
    approved = [sum(each.outcome(product) == "approve" for each in chosen) for product in _PRODUCTS]
    cells = [name, len(chosen), sum(each.defaulted for each in chosen), *approved]
    return f"| {' | '.join(map(str, cells))} |"


def _row(each: _Rated) -> str:
    contest, invoice = each.decision("contest"), each.decision("invoice")
    against = [f"contest: {code}" for code in outcomes(contest)] + outcomes(invoice)
    rate = "–" if contest["rate_ppm"] is None else f"{contest['rate_ppm'] / 10_000:g} %"
    cells = [
        each.name,
        each.grade,
        "yes" if each.defaulted else "no",
        f"{each.value('net_sales_12m') / 100:,.2f}",
        contest["outcome"],
        f"{contest['limit'] / 100:,.2f}",
        rate,
        invoice["outcome"],
        f"{invoice['limit'] / 100:,.2f}",
        ", ".join(against) or "–",
    ]
    return f"| {' | '.join(cells)} |"


LINE = Line(
    name="rated",
    title="72 rated enterprises through contest rule and invoice product, on attested data",
    run=run,
)
