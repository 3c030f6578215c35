"""One machine's network goes over to CometBFT, every member takes its home to a machine of its own, a fifth joins.

docs/operating.md, "To another engine", as an operator does it: commands, and edits of ``node.toml``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machines

from network import until
from taxledger.nodes.cli.ledger import audit_path
from taxledger.nodes.cli.main import main
from taxledger.nodes.local.network import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ("tax", "bank1", "bank2", "bank3")
ASKED = ("--subject", "cumcm:E1", "--kind", "vat_invoice", "--from", "2025-01", "--to", "2025-02")
INVOICES = """,企业代号,发票号码,开票日期,购方单位代号,金额,税额,价税合计,发票状态
0,E1,{number},2025/1/14,B7,1000.0,130.0,1130.0,有效发票
"""


class Moving(Machines):
    """Homes of one folder first, then each in a folder of its own."""

    moved = False

    def home(self, name: str) -> Path:
        return self.folder / name / "home" if self.moved or name not in NAMES else self.folder / "net" / name

    def attest(self, number: int, through: str) -> None:
        file = self.post / f"{number}.csv"
        file.write_text(INVOICES.format(number=number))
        self.run("attest", "--home", self.home("tax"), "--source", "auto", "--through", through, file)

    def evidence(self, output: str) -> Path:
        path = self.post / output
        self.run("evidence", "get", "--home", self.home("bank1"), "--consent", self.post / "e1.consent", *ASKED,
                 "-o", path)  # fmt: skip
        return path

    def verify(self, path: Path, policy: Path, *more: str, code: int = 0) -> str:
        return self.run(
            "evidence", "verify", path, "--policy", policy, "--recipient", "2", *ASKED, *more, code=code
        )

    def attempt(self, *arguments: str | Path) -> str:
        """A command that may have to be given again; what it says."""
        self._capsys.readouterr()
        main([str(each) for each in arguments])
        said = self._capsys.readouterr()
        return said.out + said.err


@pytest.fixture
def net(
    tmp_path: Path, cometbft: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Moving]:
    monkeypatch.setenv("TAXLEDGER_WALLET_PASSPHRASE", "a passphrase of the test")
    made = Moving(tmp_path, capsys, engine="embedded")
    try:
        made.run("network", "create", tmp_path / "net", "--members", ",".join(NAMES))
        for name in NAMES:
            (tmp_path / name).mkdir()
        yield made
    finally:
        made.stop(*list(made.processes))


def begin(net: Moving) -> Path:
    """A record, a consent, evidence and a pledge, under the embedded engine."""
    net.start(*NAMES)
    net.attest(10203, "2025-02-28")
    wallet, tax, bank = net.post / "e1.wallet", net.home("tax"), net.home("bank1")
    net.run("wallet", "create", wallet, "--subject", "cumcm:E1")
    net.run("subject", "register", "--home", tax, "--wallet", wallet, "--authentication", "identity card")
    net.run("consent", "grant", "--home", tax, "--wallet", wallet, "--to", "bank1", "--kind", "vat_invoice",
            "--from", "2025-01", "--until", "2025-02", "--uses", "9", "--may-pledge", "--yes",
            "-o", net.post / "e1.consent")  # fmt: skip
    shown = net.evidence("before.disclosure")
    net.verify(shown, bank / "policy.txt")
    net.run("pledge", "permit", "--home", bank, "--disclosure", shown, "-o", net.post / "e1.permits")
    net.run("pledge", "place", "--home", bank, net.post / "e1.permits", "--ppm", "800000")
    net.agree(*NAMES)
    return shown


def move(net: Moving) -> None:
    """Each home to its own machine, with an address of its own: nothing but the backup goes there."""
    old = {name: (net.home(name) / "node.toml").read_text() for name in NAMES}
    edits: dict[str, str] = {}
    for number, name in enumerate(NAMES, start=2):
        text, (peer, engine) = old[name], free_ports(2)
        url = re.search(r'\[peer\]\nurl = "https://([^"]+)"', text)
        order = re.search(r'\[engine\]\naddress = "([^"]+)"', text)
        assert url
        assert order
        edits |= {url[1]: f"127.0.0.{number}:{peer}", order[1]: f"127.0.0.{number}:{engine}"}
    for name in NAMES:
        file = net.folder / f"{name}.backup"
        net.run("backup", net.home(name), "-o", file, "--with-keys", "--with-journal")
    net.moved = True
    for name in NAMES:
        net.run("restore", net.folder / f"{name}.backup", "-o", net.home(name), "--with-journal")
        path = net.home(name) / "node.toml"
        text = path.read_text()
        for former, new in edits.items():
            text = text.replace(former, new)
        path.write_text(text)
    (net.folder / "net").rename(net.folder / "former")


@pytest.mark.parametrize("ran", [False, True], ids=["at once", "after it ran"])
def test_each_member_takes_its_home_away_and_a_fifth_joins(net: Moving, ran: bool) -> None:
    before = begin(net)
    first = (net.home("bank1") / "policy.txt").read_bytes()
    height = net.status("tax")["height"]
    net.stop(*NAMES)
    net.run("network", "migrate", net.folder / "net", "--to", "cometbft")
    net.engine = "cometbft"
    if ran:
        net.start(*NAMES)
        net.attest(10204, "2025-02-28")
        net.agree(*NAMES)
        net.stop(*NAMES)
    move(net)
    net.start(*NAMES)
    net.agree(*NAMES)
    for name in NAMES:
        assert "does not sign" not in net.log(name)
        assert not (net.home(name) / "keys" / "vote.fresh").exists()
    # It goes on: records, the consent of before, the pledge of before.
    net.attest(10205, "2025-02-28")
    bank = net.home("bank1")
    net.verify(net.evidence("after.disclosure"), bank / "policy.txt")
    assert "verified" in net.verify(before, bank / "policy-embedded.txt", "--max-age", "1h")
    shown = net.run("pledge", "show", "--home", bank, "--permits", net.post / "e1.permits")
    assert "800,000" in shown, shown
    # A verifier with the first policy follows over the handover.
    policy = net.post / "policy.txt"
    policy.write_bytes(first)
    net.run("policy", "update", policy, "--home", net.home("bank2"))
    net.verify(net.evidence("third.disclosure"), policy)
    join(net)
    net.verify(net.evidence("fourth.disclosure"), bank / "policy.txt")
    # The new member leads over its own joining too (over the handover, who was there does).
    net.run("policy", "update", policy, "--home", net.home("bank4"))
    net.verify(net.evidence("fifth.disclosure"), policy)
    assert not [path for name in (*NAMES, "bank4") for path in (net.home(name) / "forks").glob("*")]
    net.stop(*NAMES, "bank4")
    for name in ("tax", "bank3"):
        report, differences = audit_path(net.home(name), None)
        assert report.ok, [each for each in report.verdicts if each.failure]
        assert not differences
        assert [(each.engine, each.first) for each in report.engines] == [
            ("embedded", 1),
            ("cometbft", height + 1),
        ]


def move_alone(net: Moving, name: str) -> None:
    """Another address later: its own ``node.toml`` says so, and the node tells the others."""
    path = net.home(name) / "node.toml"
    text = path.read_text()
    for former in re.findall(r'^(?:url = "https://|address = ")([^"]+)"', text, re.M):
        text = text.replace(former, f"127.0.0.9:{free_ports(1)[0]}")
    path.write_text(text)


def join(net: Moving) -> None:
    """As "A member joins" says, with ``member sync``: blocks of the former engine are replayed by nobody."""
    public, bundle = net.init("bank4"), net.post / "network-now.json"
    home = net.home("bank4")
    net.run("network", "bundle", "--home", net.home("tax"), "-o", bundle)
    assert json.loads(bundle.read_text())["engine"] == "cometbft"
    net.run("member", "prove", "--home", home, "--bundle", bundle, "-o", public)
    net.approve(net.run("member", "add", "--home", net.home("tax"), public), "bank1", "bank2")
    net.follow(*NAMES)
    net.run("network", "bundle", "--home", net.home("tax"), "-o", bundle)
    net.enter("bank4", bundle)
    assert (home / "engine" / "handover.bin").exists()
    number = iter(range(20_001, 30_000))

    def synced() -> bool:
        said = net.attempt("member", "sync", "--home", home)
        net.attest(next(number), "2025-02-28")
        return "verified and placed" in said

    until(synced, "a snapshot that the engine has gone on from")
    net.start("bank4")
    net.agree(*NAMES, "bank4")
    # Its co-signature counts: one of five away, four are enough.
    net.stop("bank2")
    net.attest(next(number), "2025-02-28")
    net.agree("tax", "bank1", "bank3", "bank4")
    move_alone(net, "bank2")
    net.start("bank2")
    net.agree(*NAMES, "bank4")
    assert "127.0.0.9" in (net.home("bank4") / "peers.json").read_text()
