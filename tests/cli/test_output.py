"""What an issuer wrote is shown to the person at the terminal, not obeyed by the terminal."""

from __future__ import annotations

import pytest

from taxledger.nodes.cli.output import print_table, say


def test_control_characters_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[2Kb\r\x7f\x9b\u202ec\n钢材")
    assert capsys.readouterr().out == "a\ufffd[2Kb\ufffd\ufffd\ufffd\ufffdc\n钢材\n"
    rows = [("vat_invoice", "CNY\x1b[2K\nverified")]
    print_table(("kind", "currency"), rows)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2
