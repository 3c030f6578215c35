"""Red letters (红字): negative invoices, each of which takes back an original.

A valid invoice with a negative net amount looks for its original among the same subject's records of the
same direction: the one it names in ``original`` (number, or code and number), else the latest valid one of
the same counterparty and currency, not later than itself, with exactly opposite net and tax, that no other
red letter has taken. The original becomes ``reversed``. Both keep counting: the red letter is negative.

Red letters choose in the order of their dates, so the outcome does not depend on the order of rows. Those
that found nothing stay open and look again whenever new records of the subject come.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from taxledger.ledger.schemas import Row, Schema
from taxledger.ledger.statekeys import tag_prefix
from taxledger.nodes.custodian.changeset import (
    REASON_REVERSED,
    REVERSED,
    VALID,
    Batch,
    Change,
    NewRecord,
)
from taxledger.nodes.custodian.vault import RED_MATCHED, RED_OPEN, OpenedRecord, StoredVersion, Vault
from taxledger.nodes.sources.rows import BadRow

__all__ = ["match_red_letters"]

_NEEDED = {"direction", "number", "date", "counterparty", "currency", "net", "tax", "original"}
_PUNCTUATION = re.compile(r"[^0-9A-Za-z]+")


@dataclass(slots=True, eq=False)
class _Invoice:
    """A red letter or an original: in the batch (``new``), or in the vault (``stored``)."""

    key: bytes
    values: Row
    new: NewRecord | None
    stored: StoredVersion | None

    def __lt__(self, other: _Invoice) -> bool:  # for equal dates: any fixed order
        return self.key < other.key


def match_red_letters(batch: Batch, vault: Vault, schema: Schema) -> None:
    """Finds the originals of the batch's red letters, and those of older ones among the batch's invoices.

    Kinds without the fields of an invoice are left alone.
    """
    if not set(schema.position) >= _NEEDED:
        return
    subjects: dict[str, list[NewRecord]] = defaultdict(list)
    owner = {book.entry.tag: subject for (subject, _year), book in batch.books.items()}
    for new in batch.new:
        subjects[owner[new.tag]].append(new)
    for subject, news in subjects.items():
        _Subject(batch, vault, schema, subject, news).match()


class _Subject:
    """The invoices of one subject, while its red letters choose."""

    def __init__(
        self, batch: Batch, vault: Vault, schema: Schema, subject: str, news: Iterable[NewRecord]
    ) -> None:
        self._batch, self._vault, self._schema, self._subject = batch, vault, schema, subject
        at = schema.position
        self._date, self._net, self._tax = at["date"], at["net"], at["tax"]
        self._side = (at["direction"], at["counterparty"], at["currency"])
        self._direction, self._code, self._number = at["direction"], at.get("code"), at["number"]
        self._original = at["original"]
        self._reds: list[tuple[str, _Invoice]] = []
        self._by_amount: dict[tuple[object, ...], list[tuple[str, _Invoice]]] = defaultdict(list)
        self._by_number: dict[tuple[object, str], list[tuple[str, _Invoice]]] = defaultdict(list)
        self._taken: set[bytes] = set()
        self._positive: list[tuple[str, _Invoice]] = []
        # One that the same batch voids or reverses is no original any more.
        self._fresh = [each for each in news if each.status == VALID and each.key not in batch.changes]

    def match(self) -> None:
        red_keys = {each.key for each in self._fresh if _net(each.values, self._net) < 0}
        prefixes = self._prefixes()
        open_keys = {key for prefix in prefixes for key in self._vault.open_red_letters(prefix)}
        open_keys -= set(self._batch.changes)
        if not red_keys and not open_keys:
            return
        for new in self._fresh:
            self._add(_Invoice(new.key, new.values, new, None), red=new.key in red_keys)
        # Older originals were tried for the open ones before: only a new red letter needs them.
        for stored, opened in self._stored(prefixes, open_keys, originals=bool(red_keys)):
            self._add(_Invoice(stored.key, opened.values, None, stored), red=stored.key in open_keys)
        if any(red.values[self._original] is not None for _date, red in self._reds):
            for date, invoice in self._positive:
                for name in self._names(invoice.values):
                    self._by_number[invoice.values[self._direction], name].append((date, invoice))
        for same in (*self._by_amount.values(), *self._by_number.values()):
            same.sort()
        for _date, red in sorted(self._reds):
            self._choose(red)

    def _prefixes(self) -> list[bytes]:
        vault, kind = self._vault, self._schema.kind
        entries = [vault.tag(self._subject, kind, year) for year in vault.years()]
        return [tag_prefix(vault.member, kind, each.tag) for each in entries if each is not None]

    def _stored(
        self, prefixes: list[bytes], open_keys: set[bytes], *, originals: bool
    ) -> Iterable[tuple[StoredVersion, OpenedRecord]]:
        if not originals:
            for key in open_keys:
                yield from self._vault.newest(key)
            return
        for prefix in prefixes:
            for stored, opened in self._vault.newest(prefix):
                if stored.status == VALID and not stored.revoked and stored.key not in self._batch.changes:
                    yield stored, opened

    def _add(self, invoice: _Invoice, *, red: bool) -> None:
        values = invoice.values
        date = str(values[self._date])
        if red:
            self._reds.append((date, invoice))
        elif _net(values, self._net) > 0:
            side = tuple(values[at] for at in self._side)
            self._by_amount[*side, values[self._net], values[self._tax]].append((date, invoice))
            self._positive.append((date, invoice))

    def _names(self, values: Row) -> set[str]:
        number = _PUNCTUATION.sub("", str(values[self._number] or ""))
        code = "" if self._code is None else _PUNCTUATION.sub("", str(values[self._code] or ""))
        return {each for each in (number, code + number) if number and each}

    def _choose(self, red: _Invoice) -> None:
        values = red.values
        date, net, tax = str(values[self._date]), _net(values, self._net), values[self._tax]
        opposite = (-net, -tax if type(tax) is int else None)
        named = values[self._original]
        if named is not None:
            same = self._by_number.get((values[self._direction], _PUNCTUATION.sub("", str(named))), [])
            same = [each for each in same if each[1].key not in self._taken]
            whole = [
                each for each in same if (each[1].values[self._net], each[1].values[self._tax]) == opposite
            ]
            if same and not whole:
                self._warn(
                    red,
                    "reversed_in_part",
                    f"the whole amount of {named}, to reverse it",
                    f"{named} 的全部金额",
                )
                return
            found = whole[-1][1] if whole else None
        else:
            side = tuple(values[at] for at in self._side)
            found = self._latest(self._by_amount.get((*side, *opposite), []), date)
        if found is None:
            self._open(red)
        else:
            self._reverse(red, found)

    def _latest(self, same: list[tuple[str, _Invoice]], date: str) -> _Invoice | None:
        end = bisect_right(same, date, key=lambda each: each[0])
        while end > 0:
            end -= 1
            invoice = same.pop(end)[1]
            if invoice.key not in self._taken:
                return invoice
        return None

    def _open(self, red: _Invoice) -> None:
        if red.new is None:
            return
        red.new.red = RED_OPEN
        self._warn(
            red,
            "original_not_found",
            "a valid original with the opposite amounts; attested as given",
            "金额相反的有效原发票；已按原样登记",
        )

    def _reverse(self, red: _Invoice, original: _Invoice) -> None:
        self._taken.add(original.key)
        if red.new is not None:
            red.new.red = RED_MATCHED
        else:
            self._batch.red_matched.append(red.key)
        if original.new is not None:
            original.new.status = REVERSED
            return
        stored = original.stored
        assert stored is not None
        self._batch.changes[stored.key] = Change(
            key=stored.key, version=stored.version, status=REVERSED, values=original.values,
            content=stored.content, reason=REASON_REVERSED, red=stored.red,
            file=-1 if red.new is None else red.new.file, line=0 if red.new is None else red.new.line,
        )  # fmt: skip

    def _warn(self, red: _Invoice, code: str, expected: str, expected_zh: str) -> None:
        if red.new is None:
            return
        bad = BadRow(
            line=red.new.line, code=code, column="net", found=str(red.values[self._net]), expected=expected,
            expected_zh=expected_zh,
        )  # fmt: skip
        self._batch.warnings.append((red.new.file, bad))


def _net(values: Row, at: int) -> int:
    value = values[at]
    return value if type(value) is int else 0
