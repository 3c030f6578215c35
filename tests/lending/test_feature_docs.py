"""The table of docs/features.md is that of the code. Run as a program it writes the table anew."""

from __future__ import annotations

import re
from pathlib import Path

from taxledger.ledger.kinds import kind_name
from taxledger.lending.features import FEATURES

DOCS = Path(__file__).resolve().parents[2] / "docs" / "features.md"
BEGIN, END = "<!-- features -->\n", "<!-- end of features -->\n"
_CHINESE = re.compile(r"[一-鿿]")


def table() -> str:
    lines = ["| id | v | unit | kinds | months | definition | 中文 |", "|---|--:|---|---|--:|---|---|"]
    for each in FEATURES.values():
        kinds = ", ".join(kind_name(kind) for kind in each.kinds) or "all asked"
        cells = (f"`{each.id}`", each.version, each.unit, kinds, each.months, each.rule, each.title_zh)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    """Before the table, the table, after it."""
    text = DOCS.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    found, end, after = rest.partition(END)
    assert begin
    assert end
    return before + begin, found, end + after


def test_the_table_is_that_of_the_code() -> None:
    assert parts()[1] == table(), "run python tests/lending/test_feature_docs.py"


def test_every_feature_says_what_it_is() -> None:
    for name, each in FEATURES.items():
        assert name == each.id
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert each.version >= 1
        assert list(each.kinds) == sorted(set(each.kinds))
        assert _CHINESE.search(each.title_zh), name
        assert each.title[0].isupper(), name
        assert "|" not in each.rule, name
        # The window stands in the name, and the evidence reaches at least so far back.
        for months in re.findall(r"_(\d+)m(?:_|$)", name):
            assert each.months >= int(months), name
    assert list(FEATURES) == sorted(FEATURES)


if __name__ == "__main__":
    before, _table, after = parts()
    DOCS.write_text(before + table() + after, "utf-8")
