"""Procurement awards of the published files: how many there must be, and that broken ones never do worse than refuse.

Counts are printed: ``pytest -s``.
"""

from __future__ import annotations

import copy
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from custodykit import DATA

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources.awards import SCHEMA
from taxledger.nodes.sources.documents import FORMATS, detect
from taxledger.nodes.sources.formats import SourceOptions
from taxledger.nodes.sources.rows import BadRow, SourceRow

pytestmark = pytest.mark.skipif(
    not (DATA / "procurement_ted").is_dir(), reason="TAXLEDGER_DATA has no procurement_ted"
)

TED, EFORMS = DATA / "procurement_ted", DATA / "procurement_ted_eforms"
OCDS, TORONTO = DATA / "procurement_ocds", DATA / "procurement_toronto"
SEED = 20_260_301


def read(path: Path, name: str | None = None) -> list[SourceRow | BadRow]:
    return list(FORMATS[name or detect(path)].open(SourceOptions()).rows(path))


def files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.is_file())


def outcomes(folder: Path) -> tuple[dict[str, list[SourceRow | BadRow]], dict[str, str]]:
    """(rows by file, reason by file that was refused as a whole)."""
    found, refused = {}, {}
    for path in files(folder):
        try:
            rows = read(path)
        except FormatError as error:
            refused[path.name] = str(error)
            continue
        assert rows, f"{path}: neither a row nor a reason"
        for row in rows:
            if isinstance(row, BadRow):
                assert row.code, path
                assert row.expected, path
                assert row.expected_zh, path
            else:
                SCHEMA.check_fields(row.values)
        found[str(path.relative_to(folder))] = rows
    codes = Counter(each.code for rows in found.values() for each in rows if isinstance(each, BadRow))
    good = sum(isinstance(each, SourceRow) for rows in found.values() for each in rows)
    print(f"\n{folder.name}: {good} awards, {len(refused)} files refused, rows refused {dict(codes)}")
    return found, refused


def good_of(rows: list[SourceRow | BadRow]) -> list[dict[str, Any]]:
    return [SCHEMA.named(each.values) for each in rows if isinstance(each, SourceRow)]


def test_ted_notices() -> None:
    found, refused = outcomes(TED)
    rows = [each for rows in found.values() for each in rows]
    assert not refused
    assert len(found) == 66
    codes = Counter(each.code for each in rows if isinstance(each, BadRow))
    assert codes == {"award_unsuccessful": 17, "award_repeated": 2}
    awards = {"/".join(each["number"].split("/")[:2]) for each in good_of(rows)}
    # 104 in the files, two of them said again in another language.
    assert len(awards) == 102
    assert len({each["number"] for each in good_of(rows)}) == len(good_of(rows)), "numbers are unique"
    assert sum("amount" not in each for each in good_of(rows)) == 12, "a range is no amount"
    (hospital,) = good_of(found["2021_F03/000163-2021.xml"])
    assert (hospital["amount"], hospital["currency"], hospital["awarded"]) == (
        14_891_750_973,
        "EUR",
        "2020-12-28",
    )
    assert len(good_of(found["S01_F03/280005-2016.xml"])) == 0, "translations are not read"


def test_eforms_notices() -> None:
    found, refused = outcomes(EFORMS)
    assert not refused
    assert sum(bool(good_of(rows)) for rows in found.values()) == 13
    codes = {name: [getattr(each, "code", "ok") for each in rows] for name, rows in found.items()}
    assert codes["INVALID_can_24_empty.xml"] == ["value_missing"]
    assert codes["can_25_withheld.xml"] == ["winner_withheld"]
    assert codes["can_25_withheld_lots.xml"] == ["ok", "winner_withheld"]
    assert codes["can-modif_24_value.xml"] == ["award_modified"]
    assert codes["can_24_no_tenders.xml"] == ["award_unsuccessful"]
    (changed,) = good_of(found["can-modif_23.xml"])
    assert changed["number"] == "cb988d3a-79e9-4792-8739-da87831a20ef-01/CON-0001/LOT-0001", (
        "of the notice it changes"
    )
    corrections = [
        name
        for name, rows in found.items()
        if any(isinstance(each, SourceRow) and each.corrects for each in rows)
    ]
    assert corrections == ["can-modif_23.xml", "can-modif_25.xml"]
    assert [each["amount"] for each in good_of(found["can_23_contracts.xml"])] == [200_000_000, 100_000_000]


def test_ocds_files() -> None:
    found, refused = outcomes(OCDS)
    awards = [each for rows in found.values() for each in good_of(rows)]
    assert len(awards) >= 60
    assert "not JSON" in refused["OCDS-87SD3T-SEFIN-DRM-A-015-2015.json"]
    assert all("known format" in reason or "not JSON" in reason for reason in refused.values())
    assert len(refused) == 7
    split = found["ocdskit_realdata/release-package_split.json"]
    assert [each["number"] for each in good_of(split)] == [
        each["number"] for each in good_of(found["ocdskit_realdata/release-package-1-2.json"])
    ], "two documents in one file"
    bad_dates = [
        each
        for rows in found.values()
        for each in rows
        if isinstance(each, BadRow) and each.code == "date_malformed"
    ]
    assert len(bad_dates) == 2
    assert all("T00:00:00.-06:00" in each.found for each in bad_dates)


def test_toronto_table() -> None:
    found, refused = outcomes(TORONTO)
    (rows,) = found.values()
    assert not refused
    assert len(rows) == 441
    assert len(good_of(rows)) >= 410
    codes = Counter(each.code for each in rows if isinstance(each, BadRow))
    assert codes == {"text_malformed": 13, "winner_missing": 3, "unit_price": 1, "date_malformed": 1}
    # Another reading of the same cells: nothing but digits and the point.
    with (TORONTO / "awarded_contracts.csv").open(newline="") as file:
        cells = {each["unique_id"]: each["Awarded Amount"] for each in csv.DictReader(file)}
    for each in good_of(rows):
        digits = "".join(letter for letter in cells[each["number"]] if letter in "0123456789.")
        assert Decimal(digits) * 100 == each["amount"]


# --- broken files ---------------------------------------------------------------------------


def only_refuses(path: Path, name: str) -> None:
    """Reading ends in rows that fit their schema, bad rows, or FormatError: nothing else."""
    try:
        for row in read(path, name):
            if isinstance(row, SourceRow):
                SCHEMA.check_fields(row.values)
    except FormatError:
        return


SAMPLES = {
    "ted": TED / "2021_F03" / "135100-2021.xml",
    "eforms": EFORMS / "can_23_contracts.xml",
    "ocds": OCDS / "ocdskit_realdata" / "record-package-1.json",
    "ca-toronto": TORONTO / "awarded_contracts.csv",
}


@pytest.mark.parametrize("name", SAMPLES)
def test_cut_and_flipped_files(name: str, tmp_path: Path) -> None:
    random = Random(SEED)
    print(f"seed {SEED}")
    data = SAMPLES[name].read_bytes()[:40_000]
    path = tmp_path / "broken"
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(random.randrange(1, 6)):
            broken[random.randrange(len(broken))] = random.randrange(256)
        path.write_bytes(broken)
        only_refuses(path, name)
        path.write_bytes(data[: random.randrange(len(data))])
        only_refuses(path, name)


def changed_documents(document: Any, random: Random) -> Iterator[Any]:
    """The document with one value dropped or replaced by something of another type, again and again."""
    for _ in range(300):
        copied = copy.deepcopy(document)
        node = copied
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = random.choice(keys)
            if isinstance(node[key], (dict, list)) and node[key] and random.randrange(4):
                node = node[key]
                continue
            if random.randrange(3):
                node[key] = random.choice(
                    [None, [], {}, "", "x", 0, -1, 1e300, True, [[]], {"id": {}}, "\ud800"]
                )
            else:
                del node[key]
            break
        yield copied


def test_json_with_keys_dropped_and_types_changed(tmp_path: Path) -> None:
    random = Random(SEED)
    print(f"seed {SEED}")
    document = json.loads(SAMPLES["ocds"].read_text("utf-8"))
    for changed in changed_documents(document, random):
        (tmp_path / "a").write_text(json.dumps(changed))
        only_refuses(tmp_path / "a", "ocds")


@pytest.mark.parametrize("name", ["ted", "eforms"])
def test_xml_with_elements_dropped(name: str, tmp_path: Path) -> None:
    text = SAMPLES[name].read_text("utf-8")
    # Every element without children, dropped once.
    leaves = list(re.finditer(r"<([\w:]+)(?: [^<>]*)?>[^<>]*</\1>", text))
    for leaf in leaves[:400]:
        (tmp_path / "a").write_text(text[: leaf.start()] + text[leaf.end() :], "utf-8")
        only_refuses(tmp_path / "a", name)
