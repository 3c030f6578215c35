"""``taxledger lend products``: what an officer does with product files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taxledger.nodes.cli.main import main


def test_products_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lend", "products", "list"]) == 0
    listed = capsys.readouterr().out
    assert "procurement" in listed
    assert "政采贷" in listed
    assert main(["lend", "products", "show", "invoice"]) == 0
    shown = capsys.readouterr().out
    assert "sales_gap_days_24m" in shown
    assert "5 %" in shown
    assert main(["lend", "products", "show", "tax", "--json"]) == 0
    rule = json.loads(capsys.readouterr().out)["rules"][0]
    assert (rule["feature"], rule["one_of"], rule["undefined"]) == ("grade", [5, 4, 3], "refuse")


def test_a_product_that_there_is_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lend", "products", "show", "housing"]) == 2
    assert "expected a product of contest, customs" in capsys.readouterr().err


def test_exported_files_are_edited_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "products"
    assert main(["lend", "products", "export", str(folder)]) == 0
    assert main(["lend", "products", "export", str(folder)]) == 2
    file = folder / "tax.toml"
    assert main(["lend", "products", "check", str(file)]) == 0
    file.write_text(file.read_text("utf-8").replace('"5,000.00"', '"5000,00"'), "utf-8")
    capsys.readouterr()
    assert main(["lend", "products", "check", str(file)]) == 2
    said = capsys.readouterr().err
    assert str(file) in said
    assert "rule tax_paid: expected an amount in quotes" in said
    other = folder / "other.toml"
    other.write_bytes((folder / "contest.toml").read_bytes())
    assert main(["lend", "products", "check", str(other)]) == 2
    assert "expected id = 'other'" in capsys.readouterr().err


def test_junk_is_no_archive_and_a_wrong_policy_file_is_wrong_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junk, policy = tmp_path / "junk.loan", tmp_path / "policy.txt"
    junk.write_bytes(b"junk")
    policy.write_text("no policy", "utf-8")
    assert main(["lend", "verify-archive", str(junk), "--policy", str(policy)]) == 2
    vectors = json.loads((Path(__file__).parents[1] / "vectors/policy.json").read_text("utf-8"))
    policy.write_text(vectors["accepted"][0], "utf-8")
    capsys.readouterr()
    assert main(["lend", "verify-archive", str(junk), "--policy", str(policy)]) == 1
    assert "archive_malformed" in capsys.readouterr().err
