"""A small walk on a real network: from the wallet's consent to the payment file, and a decision made once more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taxledger.ledger.policy import decode_policy
from taxledger.nodes.cli.main import main
from taxledger.nodes.generating import generate_enterprise, write_enterprises

from .applications import apply_all
from .recompute import recompute

_AS_OF = "2025-12-31"
_PROFILES = ("good", "edge_gap")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tax office and two banks; of two made-up enterprises what the invoice product reads."""
    folder = tmp_path_factory.mktemp("walk")
    net, files = folder / "net", folder / "files"
    files.mkdir()
    made = [generate_enterprise(seed, name) for seed, name in enumerate(_PROFILES)]
    assert main(["network", "create", str(net), "--members", "tax,bank1,bank2"]) == 0
    assert main(["network", "start", str(net)]) == 0
    try:
        for each in write_enterprises(made, files):
            if each.kind in ("vat_invoice", "tax_arrears"):
                options = ["--source", "csv", "--mapping", str(each.mapping), "--through", each.through]
                assert main(["attest", "--home", str(net / "tax"), *options, str(each.path)]) == 0
        assert main(["lend", "init", "--home", str(net / "bank1")]) == 0
        yield net
    finally:
        assert main(["network", "stop", str(net)]) == 0


def _job(net: Path, out: Path, **more: Any) -> dict[str, Any]:
    applications = [
        {
            "id": name,
            "subject": generate_enterprise(seed, name).subject,
            "product": "invoice",
            "as_of": _AS_OF,
            **more,
        }
        for seed, name in enumerate(_PROFILES)
    ]
    return {"net": str(net), "bank": "bank1", "out": str(out), "threads": 2, "applications": applications}


def test_from_consent_to_pay_out_and_back_from_the_evidence(net: Path, tmp_path: Path) -> None:
    good, gap = apply_all(_job(net, tmp_path / "out", pay_out=True))
    assert (good["decision"]["outcome"], good["paid"]["state"], good["paid"]["after"]) == (
        "approve", "paid_out", "closed",
    )  # fmt: skip
    assert good["records"] > 100
    (order,) = map(Path, good["paid"]["files"])
    assert f">{good['paid']['amount'] / 100:.2f}</InstdAmt>" in order.read_text("utf-8")
    assert (gap["decision"]["outcome"], gap["state"], gap["paid"]) == ("refuse", "refused", None)
    assert "longest_gap" in [each["code"] for each in gap["decision"]["reasons"]]

    policy = decode_policy((net / "policy.txt").read_bytes())
    again = recompute(tmp_path / "out", policy)
    assert (again["decisions"], again["differ"]) == (2, [])
    evidence = tmp_path / "out" / "good" / "0.evidence"
    data = bytearray(evidence.read_bytes())
    data[len(data) // 2] ^= 1
    evidence.write_bytes(data)
    assert recompute(tmp_path / "out", policy)["differ"] == ["good"]


def test_what_was_left_closed_is_incomplete(net: Path, tmp_path: Path) -> None:
    for each in apply_all(_job(net, tmp_path / "out", closed=["net"])):
        assert each["decision"]["outcome"] == "incomplete"
        assert [one["code"] for one in each["decision"]["reasons"]] == ["fields_closed"]
        assert json.loads((tmp_path / "out" / each["id"] / "decision.json").read_bytes())["rules"] == []
