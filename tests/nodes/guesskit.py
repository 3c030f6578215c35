"""Guessers: from a ledger's bytes alone, whose is a pseudonym of another year or kind?

They know whose every pseudonym of one kind and year is, as a bank does that has all consents for it, and guess
the owners of another run of pseudonyms. ``surprise`` says how unlikely so many hits are by chance.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taxledger.ledger import canonical
from taxledger.ledger.transaction import decode_transaction

Run = tuple[str, int, int]
"""Operation, kind, year."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A pseudonym where it first stands in its run.

    Attributes:
        tag: 16 bytes.
        transaction: counted from the first of the run.
        height, part: 0–9, which tenth of the run's blocks and of its entries.
    """

    tag: bytes
    transaction: int
    height: int
    part: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a guesser has before it.

    Attributes:
        known, wanted: two runs, in the order of the log; ``owners`` of the tags of ``known``.
        truth: owners of the tags of ``wanted``. A guesser may use those of all *other* tags than the one it
            guesses: more than any bank has.
        chance: for guesses between equals.
    """

    known: Sequence[Sighting]
    wanted: Sequence[Sighting]
    owners: dict[bytes, str]
    truth: dict[bytes, str]
    chance: random.Random


Guess = tuple[bytes, Iterable[str]]
"""A wanted tag, and the owners among whom it is said to be."""
Guesser = Callable[[Case], Iterator[Guess]]


def sightings(blocks: Iterable[tuple[int, Iterable[bytes]]]) -> dict[Run, list[Sighting]]:
    """The runs of a ledger, given as (height, leaves). The year of an amended record is that of its tag."""
    entries: dict[Run, list[tuple[bytes, int, int]]] = defaultdict(list)
    year_of: dict[bytes, int] = {}
    for height, leaves in blocks:
        for number, (operation, kind, *rest) in enumerate(map(payload, leaves)):
            place = (height, number)
            if operation == "attest":
                year, _through, groups = rest
                for tag, _month, _schema, _status, packed in groups:
                    year_of[tag] = year
                    entries[operation, kind, year] += [(tag, *place)] * (len(packed) // 64)
            elif operation == "amend":
                for key, *_change in rest[0]:
                    entries[operation, kind, year_of[key[4:20]]].append((key[4:20], *place))
    return {run: _sightings(found) for run, found in entries.items()}


def _sightings(entries: Sequence[tuple[bytes, int, int]]) -> list[Sighting]:
    numbers: dict[tuple[int, int], int] = {}
    found: dict[bytes, Sighting] = {}
    first, last = entries[0][1], entries[-1][1]
    for at, (tag, height, number) in enumerate(entries):
        transaction = numbers.setdefault((height, number), len(numbers))
        if tag not in found:
            found[tag] = Sighting(
                tag=tag,
                transaction=transaction,
                height=round(9 * (height - first) / max(1, last - first)),
                part=10 * at // len(entries),
            )
    return list(found.values())


def payload(leaf: bytes) -> list[Any]:
    """Operation, kind and the rest of a transaction."""
    _version, *rest = canonical.decode(decode_transaction(leaf).payload)
    return rest


# --- the guessers ---------------------------------------------------------------------------


def by_order(case: Case) -> Iterator[Guess]:
    """The n-th that appears is the n-th that appeared."""
    for known, wanted in zip(case.known, case.wanted, strict=True):
        yield wanted.tag, [case.owners[known.tag]]


def by_reverse_order(case: Case) -> Iterator[Guess]:
    return by_order(replace(case, known=case.known[::-1]))


def by_rank(case: Case) -> Iterator[Guess]:
    """The n-th by value is the n-th by value."""
    return by_order(replace(case, known=sorted(case.known, key=_tag), wanted=sorted(case.wanted, key=_tag)))


def by_value(case: Case) -> Iterator[Guess]:
    """The one whose value is nearest."""
    for wanted in case.wanted:
        value = int.from_bytes(wanted.tag, "big")
        nearest = min(case.known, key=lambda each: abs(int.from_bytes(each.tag, "big") - value))
        yield wanted.tag, [case.owners[nearest.tag]]


def _tag(each: Sighting) -> bytes:
    return each.tag


def _same(case: Case, name: str) -> Iterator[Guess]:
    groups: dict[int, list[str]] = defaultdict(list)
    for each in case.known:
        groups[getattr(each, name)].append(case.owners[each.tag])
    for each in case.wanted:
        yield each.tag, groups[getattr(each, name)]


def by_transaction(case: Case) -> Iterator[Guess]:
    """One of those in the transaction of the same number."""
    return _same(case, "transaction")


def by_height(case: Case) -> Iterator[Guess]:
    """One of those as far between the first block and the last."""
    return _same(case, "height")


def by_part(case: Case) -> Iterator[Guess]:
    """One of those in the same tenth."""
    return _same(case, "part")


def by_height_and_order(case: Case) -> Iterator[Guess]:
    """Among those as far between the first block and the last, the one at the same place."""
    places: dict[int, list[str]] = defaultdict(list)
    for each in case.known:
        places[each.height].append(case.owners[each.tag])
    taken: dict[int, int] = defaultdict(int)
    for each in case.wanted:
        same, at = places[each.height], taken[each.height]
        taken[each.height] += 1
        yield each.tag, [same[at] if at < len(same) else case.chance.choice(list(case.owners.values()))]


def by_predecessor(case: Case) -> Iterator[Guess]:
    """Told whose the tag before is: the one that came after that one."""
    order = [case.owners[each.tag] for each in case.known]
    follower = dict(zip(order, [*order[1:], order[0]], strict=True))
    for before, each in zip(case.wanted, case.wanted[1:], strict=False):
        yield each.tag, [follower[case.truth[before.tag]]]


def by_neighbourhood(case: Case) -> Iterator[Guess]:
    """Told whose all the tags around are: one of those that stood near most of them."""
    order = [case.owners[each.tag] for each in case.known]
    place = {owner: at for at, owner in enumerate(order)}
    for at, each in enumerate(case.wanted):
        around = [*case.wanted[max(0, at - 4) : at], *case.wanted[at + 1 : at + 5]]
        places = sorted(place[case.truth[other.tag]] for other in around)
        middle = places[len(places) // 2]
        taken = {case.truth[other.tag] for other in around}
        yield each.tag, [owner for owner in order[max(0, middle - 5) : middle + 6] if owner not in taken]


GUESSERS: dict[str, Guesser] = {
    each.__name__: each
    for each in (
        by_order,
        by_reverse_order,
        by_rank,
        by_value,
        by_transaction,
        by_height,
        by_part,
        by_height_and_order,
        by_predecessor,
        by_neighbourhood,
    )
}


# --- against chance -------------------------------------------------------------------------


@dataclass(slots=True)
class Score:
    """Guesses so far: how many, how many hit, and how many would by chance."""

    guesses: int = 0
    hits: int = 0
    expected: float = 0.0

    def add(self, case: Case, guesser: Guesser) -> None:
        """Lets the guesser guess, and counts."""
        for tag, owners in guesser(case):
            said = set(owners)
            self.guesses += 1
            self.hits += case.truth[tag] in said
            self.expected += len(said) / len(case.owners)

    def surprise(self) -> float:
        """Probability of as many hits or more in independent guesses of the mean chance."""
        if self.guesses == 0:
            return 1.0
        p = min(1.0, self.expected / self.guesses)
        return math.fsum(
            math.comb(self.guesses, k) * p**k * (1 - p) ** (self.guesses - k)
            for k in range(self.hits, self.guesses + 1)
        )
