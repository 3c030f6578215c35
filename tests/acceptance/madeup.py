"""A network of two lenders, a tax office and an office for everything else, with made-up enterprises attested."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .networks import Network
from .stage import Stage

__all__ = ["AS_OF", "LATER", "PRODUCTS", "RANGE", "MadeUp", "made_up", "quantity", "threshold"]

AS_OF, LATER = "2025-12-31", "2026-04-30"
RANGE = ("2023-07", "2025-12")
_SEED = 7
_WAIT_S = 8
"""So that the walk does not wait long for an office that is down."""
_TAX = ("vat_invoice", "tax_filing", "tax_credit_rating", "tax_arrears", "business_registration")
_WORKS = (
    *("procurement_award", "engineering_contract", "utility_usage"),
    *("customs_declaration", "technology_qualification", "credit_summary"),
)
PRODUCTS = {
    "tax": ("tax",),
    "invoice": ("tax",),
    "contest": ("tax",),
    "procurement": ("works",),
    "electricity": ("tax", "works"),
    "customs": ("works",),
    "engineering": ("tax", "works"),
    "technology": ("tax", "works"),
    "first_time": ("tax", "works"),
}
"""The products, each with the offices that it asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeUp:
    """Attributes:
    net: running; ``works`` is its fourth member.
    subjects: by profile; ``good too`` is another good one.
    breaks: by profile and product, the rules that have to fail.
    titles: by profile, what is wrong with it.
    rows: attested by kind.
    offered: by kind and subject, the number of the record to offer as security.
    """

    net: Network
    subjects: dict[str, str]
    breaks: dict[str, dict[str, list[str]]]
    titles: dict[str, str]
    rows: dict[str, int]
    offered: dict[str, dict[str, str]]


def made_up(stage: Stage) -> MadeUp:
    """The network, made at the first call; with a kept ``--work`` folder, that of an earlier walk again."""
    if "made_up" not in stage.kept:
        stage.kept["made_up", "quantity", "threshold"] = _made_up(stage)
    return stage.kept["made_up", "quantity", "threshold"]  # type: ignore[no-any-return]


def _made_up(stage: Stage) -> MadeUp:
    profiles = stage.taxledger("generate", "--profiles", "--json").json
    folder, kept = stage.work / "made-up-files", stage.work / "made-up.json"
    net = Network(stage, stage.work / "made-up")
    if kept.exists():
        net.start()
    else:
        # The first of each profile, and one more good one.
        count = ("--enterprises", len(profiles) + 1, "--seed", _SEED)
        said = stage.taxledger("generate", "--dir", folder, *count, "--json").json
        issues = [f"tax={','.join((*_TAX, 'predicate'))}", f"works={','.join(_WORKS)}"]
        given = [option for each in issues for option in ("--issues", each)]
        stage.taxledger("network", "create", net.folder, "--members", "bank1,bank2,tax,works", *given)
        net.start()
        for each in said["files"]:
            office = "tax" if each["kind"] in _TAX else "works"
            given = ["--source", "csv", "--mapping", each["mapping"], "--through", AS_OF, "--json"]
            each["said"] = stage.taxledger("attest", "--home", net.home(office), *given, each["file"]).json
        for bank in ("bank1", "bank2"):
            stage.taxledger("lend", "init", "--home", net.home(bank))
            settings = net.home(bank) / "lending" / "lending.toml"
            text = settings.read_text("utf-8")
            settings.write_text(re.sub("(wait_seconds_max = )[0-9]+", rf"\g<1>{_WAIT_S}", text), "utf-8")
        kept.write_text(json.dumps(said))
    said = json.loads(kept.read_bytes())
    subjects: dict[str, str] = {}
    for each in said["enterprises"]:
        subjects["good too" if each["profile"] in subjects else each["profile"]] = each["subject"]
    return MadeUp(
        net=net,
        subjects=subjects,
        breaks={each["profile"]: each["breaks"] for each in profiles},
        titles={each["profile"]: each["title"] for each in profiles},
        rows={each["kind"]: each["said"]["accepted"] for each in said["files"]},
        offered={
            kind: _first_numbers(next(each["file"] for each in said["files"] if each["kind"] == kind))
            for kind in ("procurement_award", "engineering_contract")
        }
        | {
            "vat_invoice": _sales(
                next(each["file"] for each in said["files"] if each["kind"] == "vat_invoice")
            )
        },
    )


def _first_numbers(path: str) -> dict[str, str]:
    """Of each subject of a file the number of its first record: that is the one to offer."""
    found: dict[str, str] = {}
    with open(path, encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            found.setdefault(f"uscc:{row['统一社会信用代码']}", row["编号"])
    return found


def _sales(path: str) -> dict[str, str]:
    """Of each subject of a file the number of its last sale that stands and that nothing reverses by name."""
    with open(path, encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    reversed_ = {row["原发票号码"] for row in rows}
    return {
        f"uscc:{row['统一社会信用代码']}": row["编号"]
        for row in sorted(rows, key=lambda each: each["日期"])
        if row["方向"] == "销项" and row["记录状态"] == "正常"
        if not row["金额"].startswith("-") and row["编号"] not in reversed_
    }


def quantity(unit: str, value: Any) -> str:
    """A value as an officer reads it."""
    if value is None:
        return "undefined"
    match unit:
        case "money":
            return f"{value / 100:,.2f}"
        case "ppm":
            return f"{value / 10_000:g} %"
        case "grade":
            return "DCMBA"[value - 1]
        case "flag":
            return "yes" if value else "no"
        case "days" | "months":
            return f"{value} {unit}" if value != 1 else f"1 {unit[:-1]}"
        case _:
            return str(value)


_WORDS = {"at_least": "at least ", "at_most": "at most ", "equals": "", "one_of": ""}


def threshold(operator: str, unit: str, values: Sequence[Any]) -> str:
    """What a rule asks, as an officer reads it."""
    return _WORDS[operator] + ", ".join(quantity(unit, each) for each in values)
