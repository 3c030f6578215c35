"""Every file of the published data is read or refused with a reason, and the documents say how many."""

from __future__ import annotations

import pytest

from .folders import FOLDERS, Folder, count_folder, data_folder, documented_table

DATA = data_folder()
pytestmark = pytest.mark.skipif(DATA is None, reason="needs real data in TAXLEDGER_DATA")


@pytest.mark.parametrize(
    "folder",
    [pytest.param(each, id=each.name, marks=[] if each.walked else [pytest.mark.slow]) for each in FOLDERS],
)
def test_every_file_is_read_or_refused(folder: Folder) -> None:
    assert DATA is not None
    counts = count_folder(DATA / folder.name, folder.source)
    print(folder.name, counts)
    assert counts.files == folder.files
    assert counts.silent == []
    assert counts.records.total() >= folder.records
    said = next(line for line in documented_table().splitlines() if line.startswith(f"| {folder.name} "))
    for counter in (counts.records, counts.rows_refused, counts.files_refused):
        for name, count in counter.items():
            assert f"{count:,} {name}" in said, "python -m tests.acceptance.folders --write"
