"""For every enterprise and year: the issuer's verified answer has the sums of the files, to the cent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..networks import cumcm_network, cumcm_totals, fen, sums_of
from ..stage import Finding, Line, Stage, check
from ..totals import Totals

_DIRECTIONS = ("purchase", "sale")
_NOTED = ("E14", "E131", "E160", "E22", "E61", "E13", "E27", "E46", "E53", "E138")
"""Twins, repeated rows, rows turned void, rows that do not add up, seller and buyer of the same invoices."""
_SAMPLE = 20


def differences(totals: Totals, enterprise: str, years: range, answer: list[dict[str, Any]]) -> list[str]:
    """Where an answer's totals are not those of the files."""
    found = []
    for direction in _DIRECTIONS:
        parts = [totals.of(enterprise, year, direction) for year in years]
        expected = (
            sum(each.count for each in parts),
            *(fen(sum((getattr(each, name) for each in parts), start=0)) for name in ("net", "tax", "gross")),
        )
        got = sums_of(answer, direction)
        void = sum(
            row["count"] for row in answer if (row["direction"], row["status"]) == (direction, "voided")
        )
        expected_void = sum(each.void for each in parts)
        if (got, void) != (expected, expected_void):
            found.append(f"{enterprise} {years} {direction}: expected {expected}, got {got}; void {void}")
    return found


def run(stage: Stage) -> Iterator[Finding]:
    net, _said, _seconds = cumcm_network(stage)
    totals = cumcm_totals(stage)
    enterprises = sorted({enterprise for enterprise, _, _ in totals.sums})
    every = range(min(year for _, year, _ in totals.sums), max(year for _, year, _ in totals.sums) + 1)
    pairs = [(enterprise, year) for enterprise in enterprises for year in every]
    questions = [(f"cumcm:{enterprise}", f"{year}-01", f"{year}-12") for enterprise, year in pairs]
    answers = net.ask_many(questions)
    wrong: list[str] = []
    for (enterprise, year), answer in zip(pairs, answers, strict=True):
        wrong += differences(totals, enterprise, range(year, year + 1), answer["totals"])
    records = sum(answer["records"] for answer in answers)
    filled = sum(answer["records"] > 0 for answer in answers)
    yield check(
        "through the client library",
        f"{len(enterprises)} enterprises × {len(every)} years, {filled} with records, {records:,} records: "
        + (f"{len(wrong)} differ: {'; '.join(wrong[:3])}" if wrong else "all equal to the cent"),
        not wrong and records == totals.invoices,
    )
    total = sum(fen(each.gross) for each in totals.sums.values())
    answered = sum(sums_of(answer["totals"], each)[3] for answer in answers for each in _DIRECTIONS)
    yield check("gross over all", f"{answered / 100:,.2f} CNY", answered == total)
    proof, file = (sum(answer[name] for answer in answers) for name in ("proof_bytes", "file_bytes"))
    times = sorted(answer["seconds"] for answer in answers)
    yield check(
        "answers",
        f"{file:,} bytes, {100 * proof / file:.1f} % of it proof; median {times[len(times) // 2] * 1e3:.0f} ms, "
        f"slowest {times[-1]:.1f} s with the verification",
    )
    largest = max(answers, key=lambda answer: int(answer["records"]))
    yield check(
        "the largest",
        f"{largest['records']:,} records, {largest['proof_bytes']:,} proof bytes, "
        f"{100 * largest['proof_bytes'] / largest['record_bytes']:.2f} % of the records' bytes",
    )
    complete = all(answer["complete"] for answer in answers)
    yield check("complete through 2020-12-31, says each", complete, complete)
    others = [each for each in enterprises if each not in _NOTED][:: max(1, len(enterprises) // 12)]
    sample = [*_NOTED, *others][:_SAMPLE]
    wrong, shown_to, asked = [], 0, 0
    for at, enterprise in enumerate(sample):
        years = every if at < 2 else range(every[at % 3 + 1], every[at % 3 + 1] + 1)
        first, last = f"{years[0]}-01", f"{years[-1]}-12"
        member = ("bank1", "bank2", "bank3")[at % 3]
        path = stage.work / "answer.evidence"
        verified = net.ask(member, f"cumcm:{enterprise}", first, last, path)
        shown = stage.taxledger("evidence", "show", path, "--json").json
        wrong += differences(totals, enterprise, years, verified["totals"])
        uses = net.uses("bank3", f"cumcm:{enterprise}")
        shown_to += uses[-1]["count"] if uses else 0
        asked += verified["records"]
        if shown["totals"] != verified["totals"] or len(shown["records"]) != verified["records"]:
            wrong.append(f"{enterprise}: show and verify differ")
    yield check(
        "through evidence get, verify and show",
        f"{len(sample)} enterprises at three banks, each under its consent: "
        + ("; ".join(wrong[:3]) or "all equal to the cent"),
        not wrong,
    )
    yield check(
        "the enterprises' lists of uses",
        f"{shown_to:,} records were shown, say the ledger's uses; {asked:,} were verified",
        shown_to == asked > 0,
    )
    said = stage.taxledger(
        *("evidence", "get", "--home", net.home("bank1"), "--subject", "cumcm:E14", "--kind", "vat_invoice"),
        *("--from", "2019-01", "--to", "2019-12", "-o", stage.work / "no.evidence"),
        ok=False,
    )
    yield check("without a consent", said.end, said.status == 1 and "consent_missing" in said.err)


LINE = Line(
    name="sums", title="every enterprise and year: verified sums equal the files', to the cent", run=run
)
