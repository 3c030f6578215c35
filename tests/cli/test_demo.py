"""``taxledger demo`` as ``make demo`` runs it, with fewer enterprises."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from taxledger.ledger.errors import VerificationError
from taxledger.nodes.cli.demo.receiver import receiving
from taxledger.nodes.cli.demo.tale import Tale
from taxledger.nodes.cli.main import main
from taxledger.nodes.local.control import network_status

SAID = (
    r"refused 拒绝: tax credit grade is A, B or M",
    r"pledge 质押 [0-9a-f]{32}: invoice \d+",
    r"calls bank1's service at http://127\.0\.0\.1:\d+",
    r"incomplete 证据不全: custodian_silent",
    r"refused 拒绝: pledge_contested",
    r"sums equal those of the source files to the cent",
    r"refused 拒绝: use_mismatch",
    r"critical D-INV-1 +pledge_impaired",
    r"its award is proved free",
    r"is refused 拒绝: consent_revoked",
    r"verified: all 1 consents to all 8 members",
    r"the same as the tax office's",
    r"\b1[789] invariants hold",
)


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    assert main(["demo", "--dir", str(folder), "--enterprises", "6", "--seed", "5"]) == 0
    said = capsys.readouterr().out
    assert [each for each in SAID if not re.search(each, said)] == []
    told = json.loads((folder / "demo.json").read_text("utf-8"))
    assert (told["as_told"], told["error"]) == (True, None)
    assert [each["outcome"] for each in told["steps"]] == ["as told"] * 15
    assert sum(each["seconds"] for each in told["steps"]) <= told["seconds"]
    assert set(told["loans"]) == {"tax", "invoice", "procurement"}
    for each in told["loans"].values():
        assert sum(each["parts_s"].values()) == pytest.approx(each["consent_to_payment_s"])
        assert (folder / "network/bank1/lending/payments" / each["payment_file"]).is_file()
    assert told["loans"]["procurement"]["channel"] == "platform"
    assert all(each.pid is None for each in network_status(folder / "network"))
    _verify(folder, told["verify"], capsys)


def _verify(folder: Path, commands: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The commands that it prints verify what it left, and refuse what was changed."""
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command)[1:]
        assert main(words) == 0
        assert "verified" in capsys.readouterr().out
        file = next(each for each in words if each.endswith((".disclosure", ".archive")))
        words[words.index(file)] = str(folder / f"tampered{Path(file).suffix}")
        assert main(words) == 1
    capsys.readouterr()
    assert (folder / "invoice-zh.pdf").read_bytes().startswith(b"%PDF")
    assert "发票贷" in (folder / "invoice-zh.html").read_text("utf-8")


def test_keeps_what_is_not_a_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("kept")
    assert main(["demo", "--dir", str(tmp_path)]) == 2
    assert "is not an earlier demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_step_that_is_not_as_told_fails(tmp_path: Path) -> None:
    tale = Tale(2)
    with tale.step("One", "一") as facts:
        facts["height"] = 3
    with pytest.raises(VerificationError) as refused, tale.step("Two", "二"):
        tale.expect("the loan", "refused", "offered")
    assert (refused.value.code, refused.value.expected) == ("not_as_told", "offered")
    tale.write(tmp_path / "demo.json", refused.value)
    told = json.loads((tmp_path / "demo.json").read_text("utf-8"))
    assert not told["as_told"]
    assert [each["outcome"] for each in told["steps"]] == ["as told", "failed"]
    assert "not_as_told" in told["error"]
    tale.write(tmp_path / "demo.json", None)
    assert json.loads((tmp_path / "demo.json").read_text("utf-8"))["as_told"] is False


def test_the_receiver_takes_only_what_is_signed() -> None:
    with receiving() as receiver:
        assert (
            receiver.take({"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,x"}, b"{}")
            == 400
        )
        assert receiver.got == []
