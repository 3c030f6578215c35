"""``taxledger demo`` as ``make demo`` runs it, with fewer enterprises."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxledger.nodes.cli.main import main
from taxledger.nodes.control import network_status


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    assert main(["demo", "--dir", str(folder), "--enterprises", "3", "--seed", "5"]) == 0
    said = capsys.readouterr().out
    assert "verified: height" in said
    assert "refused: use_mismatch" in said
    assert "refused: consent_revoked" in said
    assert "verified: all 1 consents to all 4 members" in said
    assert "use 1: complete" in said
    assert "equal those of the source files to the cent" in said
    assert "the same as the tax office's" in said
    assert "17 invariants hold" in said
    disclosure = next(folder.glob("9*.disclosure"))
    assert f"The disclosure: {disclosure}" in said
    assert all(each.pid is None for each in network_status(folder / "network"))


def test_keeps_what_is_not_a_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("kept")
    assert main(["demo", "--dir", str(tmp_path)]) == 2
    assert "is not an earlier demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
