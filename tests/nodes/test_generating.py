"""Made-up enterprises: repeatable, consistent with themselves, and files that read back to the same records."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from taxledger.ledger.builtin import newest
from taxledger.ledger.errors import InputError
from taxledger.ledger.records import check_subject, parse_subject
from taxledger.ledger.schemas import KINDS
from taxledger.nodes.cli.main import main
from taxledger.nodes.generating import (
    PROFILES,
    GeneratedEnterprise,
    generate_enterprise,
    generate_twins,
    write_enterprises,
)
from taxledger.nodes.sources.mapping import load_mapping
from taxledger.nodes.sources.rows import BadRow, SourceRow
from taxledger.nodes.sources.tabular import TableSource

SEEDS = (1, 7, 2026)


@pytest.fixture(scope="module", params=SEEDS)
def good(request: pytest.FixtureRequest) -> GeneratedEnterprise:
    print(f"seed {request.param}")
    return generate_enterprise(request.param)


def amount(row_fields: dict[str, object] | object, name: str) -> int:
    value = row_fields[name]  # type: ignore[index]
    assert type(value) is int
    return value


def test_every_kind_and_every_row_fits_its_schema(good: GeneratedEnterprise) -> None:
    check_subject(good.subject)
    assert parse_subject(good.subject) == good.subject, "check characters are right"
    assert set(good.rows) == {name for name in KINDS if name != "predicate"}
    for kind, rows in good.rows.items():
        assert rows, kind
        for row in rows:
            assert (row.kind, row.subject) == (kind, good.subject)
            schema = newest(KINDS[kind])
            schema.check_fields(schema.row(row.fields))


def test_the_same_seed_gives_the_same_rows() -> None:
    one, two, other = (generate_enterprise(seed, "edge_gap") for seed in (5, 5, 6))
    assert one == two
    assert one.rows != other.rows
    assert one.subject != other.subject


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_changes_only_what_it_says(name: str) -> None:
    """Sales move filings; nothing else that a profile changes moves another kind."""
    follows = {
        "edge_gap": {"vat_invoice", "tax_filing"}, "gap": {"vat_invoice", "tax_filing"},
        "few_months": {"vat_invoice", "tax_filing"}, "quiet_months": {"vat_invoice", "tax_filing"},
        "nil_months": {"vat_invoice", "tax_filing"}, "dormant": {"vat_invoice", "tax_filing"},
        "red_letters": {"vat_invoice", "tax_filing"}, "voids": {"vat_invoice"},
        "concentrated": {"vat_invoice"}, "no_tax": {"vat_invoice", "tax_filing"},
        "sales_fall": {"vat_invoice", "tax_filing", "customs_declaration"},
        "recent_fall": {"vat_invoice", "tax_filing", "customs_declaration"},
        "tiny": {"vat_invoice", "tax_filing", "customs_declaration"},
        "late_filing": {"tax_filing"}, "unpaid_filing": {"tax_filing"}, "unfiled": {"tax_filing"},
        "no_filings": {"tax_filing"},
        "grade_c": {"tax_credit_rating"}, "grade_d": {"tax_credit_rating"}, "grade_m": {"tax_credit_rating"},
        "open_arrears": {"tax_arrears"}, "usage_fall": {"utility_usage"}, "usage_missing": {"utility_usage"},
        "usage_arrears": {"utility_usage"}, "cancelled_declarations": {"customs_declaration"},
        "few_exports": {"customs_declaration"}, "new_exporter": {"customs_declaration"},
        "expired_certificate": {"technology_qualification"}, "loans_elsewhere": {"credit_summary"},
        "borrowed_before": {"credit_summary"}, "completed_award": {"procurement_award"},
        "private_buyer": {"procurement_award"}, "award_without_account": {"procurement_award"},
        "terminated_contract": {"engineering_contract"}, "late_owner": {"engineering_contract"},
        "contract_without_account": {"engineering_contract"}, "good": set[str](),
    }  # fmt: skip
    if name == "young":
        return  # everything of it is younger
    one, two = generate_enterprise(3), generate_enterprise(3, name)
    assert {kind for kind in one.rows if one.rows[kind] != two.rows[kind]} == follows[name]


def test_filings_agree_with_invoices(good: GeneratedEnterprise) -> None:
    sales: dict[str, int] = defaultdict(int)
    tax: dict[str, int] = defaultdict(int)
    for row in good.records("vat_invoice"):
        if row.status == 1 and row.fields["direction"] == "sale":
            month = str(row.fields["date"])[:7]
            sales[month] += amount(row.fields, "net")
            tax[month] += amount(row.fields, "tax")
    filings = [row.fields for row in good.records("tax_filing") if row.fields["tax"] == "vat"]
    assert len(filings) == 30
    for each in filings:
        assert amount(each, "sales") == sales[str(each["period"])]
        assert amount(each, "output_tax") == tax[str(each["period"])]
        assert str(each["filed"]) <= str(each["due"])
        assert amount(each, "paid") == amount(each, "payable")


def test_traps_of_real_files(good: GeneratedEnterprise) -> None:
    invoices = good.rows["vat_invoice"]
    sales = [row for row in invoices if row.fields["direction"] == "sale"]
    red = [row for row in sales if amount(row.fields, "net") < 0]
    numbers = {row.fields["number"] for row in sales}
    assert any(row.fields.get("original") in numbers for row in red)
    assert any("original" not in row.fields for row in red)
    assert any(row.cells.get("status") == " 作废" for row in sales)
    assert len(good.records("vat_invoice")) < len(invoices), "rows that stand twice"
    assert any(amount(row.fields, "rate") == 170_000 for row in sales)
    assert any(
        amount(row.fields, "net") + amount(row.fields, "tax") != amount(row.fields, "gross") for row in sales
    )
    awards = [row.fields for row in good.records("procurement_award")]
    assert {each["state"] for each in awards} == {"active", "completed", "cancelled"}
    assert any(amount(each, "winners") > 1 for each in awards)
    assert any("buyer_id" not in each for each in awards)
    declarations = good.records("customs_declaration")
    assert {row.fields["state"] for row in declarations} == {"cleared", "declared", "rejected"}
    assert any(row.status == 2 for row in declarations)
    assert all("closed" in row.fields for row in good.records("tax_arrears"))
    assert len({row.fields["meter"] for row in good.records("utility_usage")}) > 1


def test_twins_file_the_same_sales_under_two_names() -> None:
    one, two = generate_twins(4, shared=25)
    assert one == generate_enterprise(4)
    assert one.subject != two.subject

    def sales(made: GeneratedEnterprise) -> set[tuple[object, ...]]:
        names = ("code", "number", "date", "net", "tax", "gross")
        return {
            tuple(row.fields.get(name) for name in names)
            for row in made.records("vat_invoice")
            if row.fields["direction"] == "sale"
        }

    assert len(sales(one) & sales(two)) == 25
    # The twin looks sound by itself: its filings hold what it took.
    filed = [row.fields for row in two.records("tax_filing") if row.fields["tax"] == "vat"]
    last = str(filed[-1]["period"])
    net = sum(
        amount(row.fields, "net")
        for row in two.records("vat_invoice")
        if row.status == 1 and row.fields["direction"] == "sale" and str(row.fields["date"])[:7] == last
    )
    assert amount(filed[-1], "sales") == net


def test_numbers_of_different_enterprises_never_meet() -> None:
    seen: set[tuple[object, object]] = set()
    for seed in range(100_000, 100_040):
        own = {
            (row.fields.get("code"), row.fields["number"])
            for row in generate_enterprise(seed).rows["vat_invoice"]
        }
        assert not own & seen
        seen |= own


def read_back(folder: Path, made: list[GeneratedEnterprise]) -> dict[str, list[SourceRow | BadRow]]:
    files = write_enterprises(made, folder)
    return {each.kind: list(TableSource(load_mapping(each.mapping)).rows(each.path)) for each in files}


def test_files_read_back_to_the_same_records(tmp_path: Path) -> None:
    made = [generate_enterprise(11, name) for name in ("good", "unfiled", "contract_without_account")]
    for kind, rows in read_back(tmp_path, made).items():
        schema = newest(KINDS[kind])
        expected = [
            (row.subject, row.status, schema.row(row.fields)) for each in made for row in each.rows[kind]
        ]
        assert [row[1:4] for row in rows if isinstance(row, SourceRow)] == expected, kind
        assert not [row for row in rows if isinstance(row, BadRow)], kind
    who = json.loads((tmp_path / "enterprises.json").read_text("utf-8"))
    assert [each["profile"] for each in who] == ["good", "unfiled", "contract_without_account"]


def test_a_file_without_rows_reads_back_empty(good: GeneratedEnterprise, tmp_path: Path) -> None:
    empty = replace(good, rows=dict.fromkeys(good.rows, ()))
    for file in write_enterprises([empty], tmp_path):
        assert list(TableSource(load_mapping(file.mapping), None).rows(file.path)) == []


def test_traps_are_refused_with_their_code(tmp_path: Path) -> None:
    made = generate_enterprise(12, traps=True)
    read = read_back(tmp_path, [made])
    for kind, rows in read.items():
        wanted = [row.refused for row in made.rows[kind] if row.refused not in ("", "conflict")]
        assert [row.code for row in rows if isinstance(row, BadRow)] == wanted, kind
    assert sum(bool(row.refused) for rows in made.rows.values() for row in rows) == 4
    files = write_enterprises([made], tmp_path)
    assert [each.kind for each in files if not each.through] == [
        "vat_invoice", "procurement_award", "utility_usage", "customs_declaration",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "first", "last"),
    [
        ("best", "2024-01", "2025-12"),
        ("good", "2025-10", "2025-12"),
        ("good", "2025-13", "2025-12"),
        ("good", "1990-01", "2025-12"),
    ],
)
def test_what_can_not_be_made(profile: str, first: str, last: str) -> None:
    with pytest.raises(InputError, match="expected"):
        generate_enterprise(1, profile, first, last)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "generate",
        "--dir",
        str(tmp_path / "new"),
        "--seed",
        "3",
        "--enterprises",
        "2",
        "--profile",
        "gap",
    ]
    assert main([*asked, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [each["profile"] for each in shown["enterprises"]] == ["gap", "gap"]
    assert len({each["subject"] for each in shown["enterprises"]}) == 2
    assert all(Path(each["file"]).is_file() and Path(each["mapping"]).is_file() for each in shown["files"])
    assert main([*asked, "--twins", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["enterprises"]) == 4
    assert main(asked) == 0
    assert "taxledger attest --home HOME --source csv --mapping" in capsys.readouterr().out
    assert main(["generate", "--profiles"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in PROFILES)
    assert main(["generate"]) == 2
    assert main([*asked, "--profile", "none"]) == 2
