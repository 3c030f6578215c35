"""The real twins: what one enterprise has pledged is refused when the other offers it, at another bank."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..borrowing import add_unrated, pledge_all, rated_network
from ..networks import Network, cumcm_files
from ..stage import ROOT, Finding, Line, Stage, check
from ..totals import Totals, read_invoices

_PAIRS = {("E14", "E131"): 3_336, ("E138", "E155"): 1_083, ("E255", "E264"): 423}
_INSIDE = 391
_YEARS = ("2016-01", "2020-12")


def run(stage: Stage) -> Iterator[Finding]:
    net, _ = rated_network(stage)
    add_unrated(stage)
    stage.taxledger("lend", "init", "--home", net.home("bank2"), ok=False)
    yield from _collisions(stage, net)
    for (first, second), shared in _PAIRS.items():
        yield from _pledged(stage, net, first, second, shared)


def _collisions(stage: Stage, net: Network) -> Iterator[Finding]:
    names = sorted({each.name.partition(".")[0] for each in cumcm_files(stage)})
    asked = stage.work / "twins-subjects.json"
    asked.write_text(json.dumps([f"cumcm:{each}" for each in names]))
    script = ROOT / "tests" / "acceptance" / "fingerprints.py"
    said = stage.ok([stage.python, script, net.home("tax"), net.policy, asked, *_YEARS])
    pairs = {frozenset(map(_name, pair)): count for *pair, count in said.json["pairs"]}
    expected = {frozenset(pair): count for pair, count in _PAIRS.items()}
    others = {tuple(sorted(pair)): count for pair, count in pairs.items() if pair not in expected}
    total = sum(said.json["sales"].values())
    combinations = len(names) * (len(names) - 1) // 2
    yield check(
        "whose fingerprints meet",
        f"{total:,} sales of {len(names)} enterprises, {combinations:,} pairs of them: "
        + ", ".join(f"{'/'.join(sorted(pair))} {count:,}" for pair, count in pairs.items())
        + f"; false hits: {len(others)}",
        pairs == expected,
    )
    inside = {_name(subject): count for subject, count in said.json["inside"].items()}
    own = _repeats(stage)
    sales = {name: count for (name, direction), count in own.items() if direction == "sale"}
    yield check(
        "number, date and amounts repeated inside one enterprise, under another counterparty",
        f"{own.total()}: {', '.join(f'{count} {direction}s of {name}' for (name, direction), count in own.items())}; "
        f"the sales have one fingerprint: {inside}",
        inside == sales and own.total() == _INSIDE,
    )


def _repeats(stage: Stage) -> Counter[tuple[str, str]]:
    """The same by the separate script, by (enterprise, direction)."""
    seen: Counter[tuple[object, ...]] = Counter()
    for *invoice, _party, amounts in read_invoices(cumcm_files(stage), Totals()):
        seen[*invoice, amounts] += 1
    found: Counter[tuple[str, str]] = Counter()
    for (name, _year, direction, *_), count in seen.items():
        if count > 1:
            found[str(name), str(direction)] += count - 1
    return found


def _name(subject: str) -> str:
    return subject.removeprefix("cumcm:")


def _pledged(stage: Stage, net: Network, first: str, second: str, expected: int) -> Iterator[Finding]:
    """All shared sales: one bank takes them from the one side, another is offered them from the other."""
    offer = {"kind": "vat_invoice", "issuer": 1, "from": _YEARS[0], "to": _YEARS[1]}
    name = f"twins-{first}-{second}"
    shown = [
        _offer(stage, net, f"{name}-{side}-shown", "bank1", side, {**offer, "look": True})
        for side in (first, second)
    ]
    marks = [{each["fingerprint"] for each in side} for side in shown]
    shared = sorted(marks[0] & marks[1])
    yield check(f"{first}/{second}: sales that both show", f"{len(shared):,}", len(shared) == expected)
    one, other = (
        _offer(stage, net, f"{name}-{side}", bank, side, {**offer, "fingerprints": shared})
        for side, bank in ((first, "bank1"), (second, "bank2"))
    )
    sides = [{each["fingerprint"]: each for each in side} for side in (one, other)]
    taken = [mark for mark in shared if sides[0][mark]["became"] == "placed"]
    gross = sum(sides[0][mark]["gross"] for mark in taken)
    yield check(
        f"{first} pledges them at bank1",
        f"{_counts(sides[0], shared)}; {gross / 100:,.2f} CNY gross",
        all((each["status"] == "valid") == (each["became"] == "placed") for each in sides[0].values()),
    )
    again = [mark for mark in taken if sides[1][mark]["became"] == "placed"]
    yield check(
        f"{second} offers the same at bank2",
        f"{_counts(sides[1], taken)}; financed twice: {len(again)}",
        not again
        and all(
            (sides[1][mark]["became"] == "pledge_contested") == (sides[1][mark]["status"] == "valid")
            for mark in taken
        ),
    )
    free = [mark for mark in shared if mark not in set(taken)]
    yield check(
        f"{second} offers what {first} has voided or reversed",
        _counts(sides[1], free),
        all(
            (each["status"] == "valid") == (each["became"] == "placed")
            for each in (sides[1][mark] for mark in free)
        ),
    )


def _counts(side: dict[str, Any], marks: list[str]) -> str:
    found = Counter((side[mark]["status"], side[mark]["became"]) for mark in marks)
    return ", ".join(f"{count:,} {status}: {code}" for (status, code), count in found.most_common())


def _offer(
    stage: Stage, net: Network, name: str, bank: str, side: str, offer: dict[str, Any]
) -> list[dict[str, Any]]:
    said = pledge_all(stage, net, name, bank, [{**offer, "subject": f"cumcm:{side}"}], ppm=1_000_000)
    return said[0]["records"]  # type: ignore[no-any-return]


LINE = Line(
    name="twins",
    title="shared sales of three pairs of twins: pledged from one side, refused from the other",
    run=run,
)
