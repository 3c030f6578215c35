"""A format is told from content; files are grouped by schema; what is unknown is reported and loses nothing."""

from __future__ import annotations

import ast
import gzip
import warnings
import zipfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from custodykit import row, write_cumcm

from taxledger.ledger.errors import FormatError, InputError
from taxledger.ledger.subjects import SUBJECT_SCHEMES
from taxledger.nodes.cli.attestplan import make_plan
from taxledger.nodes.custodian.report import FileOutcome, UploadOutcome, join_outcomes
from taxledger.nodes.sources import documents, jsonreader, zipreader
from taxledger.nodes.sources.documents import FORMATS, detect, sort_files
from taxledger.nodes.sources.jsonreader import read_json
from taxledger.nodes.sources.zipreader import Archive

ROOT = Path(__file__).parents[2]

UNKNOWN = {
    "other.xml": (
        b"<a xmlns='u:x'><b/></a>",
        r"known format .*cumcm.*XML with the root element 'a' of namespace 'u:x'",
    ),
    "other.json": (b'[{"b": 1, "a": 2}]', "JSON with the keys 'a', 'b'"),
    "other.csv": (b"x;y;z\n1;2;3\n", "table or text that starts with 'x', 'y', 'z'"),
    "empty": (b" \n", "empty file"),
    "bad.xml": (b"<a", "not well-formed"),
    "doctype.xml": (b"<!DOCTYPE a><a/>", "DOCTYPE"),
    "bad.json": (b'{"a": tru}', "not JSON"),
    "bad.zip": (b"PK\x03\x04 no zip", "zip archive"),
    "cut.gz": (gzip.compress(b"<a/>" * 100)[:-12], "to its end|well-formed"),
    "binary": (bytes(range(1, 256)), "table or text"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_files_say_what_they_look_like(name: str, tmp_path: Path) -> None:
    data, reason = UNKNOWN[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(FormatError, match=reason) as caught:
        detect(path)
    assert str(caught.value).startswith(str(path))


def test_names_say_nothing(tmp_path: Path) -> None:
    for name in ("invoices.csv", "invoices.xml", "README"):
        write_cumcm(tmp_path / name, [row(1)])
        assert detect(tmp_path / name) == "cumcm"


def test_zip_of_another_kind(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("x.txt", "x")
    with pytest.raises(FormatError, match=r"zip archive with 'x\.txt'"):
        detect(tmp_path / "a")


def test_two_formats_of_one_file_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = replace(FORMATS["cumcm"], name="twin")
    monkeypatch.setattr(documents, "FORMATS", {**FORMATS, "twin": twin})
    write_cumcm(tmp_path / "a", [row(1)])
    with pytest.raises(FormatError, match="any of cumcm, twin"):
        detect(tmp_path / "a")


def test_formats_are_named_as_registered() -> None:
    assert all(name == each.name and each.title for name, each in FORMATS.items())
    for name, each in FORMATS.items():
        assert each.open(documents.SourceOptions()).schema == each.schema, name


def test_formats_schemes_and_reasons_are_documented() -> None:
    text = (ROOT / "docs" / "sources.md").read_text("utf-8")
    codes = {
        node.args[0].value
        for path in (ROOT / "src" / "taxledger" / "nodes" / "sources").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""))
        in ("CellError", "error")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(codes) > 30
    for name in (*FORMATS, *SUBJECT_SCHEMES, *codes):
        assert f"`{name}`" in text, name


def test_files_are_grouped_by_schema(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("1.csv", "b/2.csv"):
        write_cumcm(tmp_path / name, [row(1)])
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "3.txt").write_text("hello")
    plan = make_plan([tmp_path, tmp_path / "1.csv"], "auto")
    assert [each.name for each in plan.files] == ["1.csv", "3.txt", "2.csv"]
    assert [[each.name for each in group.formats] for group in plan.groups] == [["1.csv", "2.csv"]]
    assert [each.name for each in plan.unknown] == ["3.txt"]
    assert not sort_files([tmp_path / "3.txt"], "cumcm").unknown, "a named format is not guessed"


def test_plans_that_contradict_themselves(tmp_path: Path) -> None:
    write_cumcm(tmp_path / "1.csv", [row(1)])
    (tmp_path / "empty").mkdir()
    file = tmp_path / "1.csv"
    for arguments, reason in (
        ({"source": "nothing"}, "expected --source auto, csv or one of cumcm"),
        ({"source": "csv"}, "needs --mapping"),
        ({"source": "auto", "mapping": file}, "for --source csv"),
        ({"source": "auto", "side": "both"}, "--side sale or purchase"),
        ({"source": "auto", "kind": "tax_filing"}, "holds vat_invoice"),
    ):
        with pytest.raises(InputError, match=reason):
            make_plan([file], **arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got none"):
        make_plan([tmp_path / "empty"], "auto")


def test_outcomes_join_in_the_order_of_the_files() -> None:
    def outcome(*files: FileOutcome) -> UploadOutcome:
        return UploadOutcome(
            files=files, transactions=2, refused=[], resumed=1, resumed_refused=0, through=None, notes=["n"],
            dry_run=False,
        )  # fmt: skip

    parts = [
        outcome(FileOutcome(file="a", rows=1, accepted=1), FileOutcome(file="c")),
        outcome(FileOutcome(file="b")),
    ]
    joined = join_outcomes(parts, {"x": "no"}, order=["a", "x", "b", "c"], notes=["m"])
    assert [each.file for each in joined.files] == ["a", "x", "b", "c"]
    assert (joined.transactions, joined.resumed, joined.sum("rows"), joined.notes) == (
        4,
        2,
        1,
        ["n", "n", "m"],
    )
    assert joined.files[1].error == "no"
    assert not joined.complete


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return path


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "a", {"small": b"x", "bomb": bytes(50_000_000)})
    with Archive(path) as opened:
        assert opened.read("small", 1) == b"x"
        with pytest.raises(FormatError, match="at most 1,000 bytes of 'bomb'"):
            opened.read("bomb", 1_000)
        with pytest.raises(FormatError, match="'other' once, got 0"):
            opened.read("other", 1)
    # The size that the archive states is not believed: here it says one byte.
    stated = path.read_bytes().replace((50_000_000).to_bytes(4, "little"), (1).to_bytes(4, "little"))
    (tmp_path / "lies").write_bytes(stated)
    with Archive(tmp_path / "lies") as opened, pytest.raises(FormatError, match="'bomb'"):
        opened.read("bomb", 1_000)
    encrypted = bytearray(archive(tmp_path / "b", {"x": b"y"}).read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(mark) + at] |= 1
    (tmp_path / "encrypted").write_bytes(encrypted)
    with Archive(tmp_path / "encrypted") as opened, pytest.raises(FormatError, match="encrypted"):
        opened.read("x", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(tmp_path / "twice", "w") as made:
            made.writestr("x", b"1")
            made.writestr("x", b"2")
    with Archive(tmp_path / "twice") as opened, pytest.raises(FormatError, match="'x' once, got 2"):
        opened.read("x", 10)
    monkeypatch.setattr(zipreader, "MEMBERS_MAX", 1)
    with pytest.raises(FormatError, match="at most 1 members"):
        Archive(tmp_path / "a")
    monkeypatch.setattr(zipreader, "ZIP_BYTES_MAX", 10)
    with pytest.raises(FormatError, match="at most 10 bytes"):
        Archive(tmp_path / "a")


JSON = {
    b'{"a": 1}{"a": 2}\n': [{"a": 1}, {"a": 2}],
    b"\xef\xbb\xbf[1.10]": [[Decimal("1.10")]],
    b'{"a": 1, "a": 2}': "'a' twice",
    b"[NaN]": "NaN is no number",
    b"[" * 65 + b"]" * 65: "64 levels",
    b"[" * 200_000: "levels|not JSON",
    b"\xff": "utf-8",
    b"": "nothing there",
    b"[1" + b"0" * 5_000 + b"]": "not JSON",
    b'["\t"]': "not JSON",
}


@pytest.mark.parametrize("data", JSON, ids=range(len(JSON)))
def test_json(data: bytes) -> None:
    expected = JSON[data]
    if isinstance(expected, list):
        assert read_json(data) == expected
    else:
        with pytest.raises(FormatError, match=expected):
            read_json(data)


def test_json_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonreader, "JSON_BYTES_MAX", 8)
    with pytest.raises(FormatError, match="8 bytes of JSON"):
        read_json(b'"123456789"')
