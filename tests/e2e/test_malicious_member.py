"""Four real engines, and one member's node that lies: the other three write on, and say who proposes junk."""

from __future__ import annotations

from pathlib import Path

import pytest

from network import Load, RealNetwork

pytestmark = [pytest.mark.usefixtures("cometbft"), pytest.mark.slow]


def test_three_write_on_beside_a_liar(tmp_path: Path) -> None:
    net = RealNetwork(tmp_path / "net")
    honest = net.names[:3]
    try:
        net.break_at("bank3", 0, "", kind="malicious")
        net.start()
        net.submit(net.tag_key())
        with Load(net, *honest, threads=3) as load:
            load.progress(40)
            acknowledged = load.finish()
        assert len(acknowledged) >= 40
        said = net.agree(*honest)
        assert said["writes"] == "ok"
        logs = [net.log(name) for name in honest]
        assert any("proposal refused" in log and "bank3" in log for log in logs)
        assert all("fatal" not in log and "diverged" not in log for log in logs)
    finally:
        net.close()
