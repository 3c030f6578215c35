"""Certificates and keys of members on real nodes: renewed, rotated and refused while records come in."""

from __future__ import annotations

import datetime
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import chainkit
import pytest
from ledgers import check_ledgers

from network import Load, RealNetwork, real_network, until
from taxledger.nodes.cli.main import main
from taxledger.nodes.homeconfig import host_port
from taxledger.nodes.identity.hpke import public_key_of
from taxledger.nodes.identity.pki import authority_hash, issue_certificate, validity_of, validity_of_der

HOUR_S = 3_600


class Shell:
    """Runs a command line in this process and keeps what it says."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object, status: int = 0) -> str:
        self._capsys.readouterr()
        found = main([str(each) for each in arguments])
        said = self._capsys.readouterr()
        assert found == status, said
        return said.out if status == 0 else said.err

    def change(self, net: RealNetwork, *arguments: object) -> str:
        """A proposal, approved by two others and in force for each of them; the command's own answer."""
        said = self(*arguments)
        proposal = re.search(r"^proposal ([0-9a-f]{32})$", said, re.MULTILINE)
        assert proposal, said
        for approver in ("bank2", "bank3"):
            last = self("member", "approve", "--home", net.homes[approver].path, proposal[1])
        assert "in force" in last

        def in_force() -> bool:
            homes = [net.homes[name].path for name in ("bank2", "bank3")]
            return all("accepted since" not in self("member", "proposals", "--home", home) for home in homes)

        until(in_force, "the change is in force")
        return said


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def issue(net: RealNetwork, member: str, *, left_s: float, hours: int = 1_000) -> Path:
    """Give a member's node a certificate that has so many seconds left."""
    home = net.homes[member]
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=left_s)
    issued = end - datetime.timedelta(hours=hours)
    pem = issue_certificate(
        home.tls_ca_path.read_bytes(), home.tls_ca_key_path.read_bytes(), now=issued, hours=hours
    )
    home.tls_node_path.write_bytes(pem)
    return home.tls_node_path


def left_s(path: Path) -> float:
    return validity_of(path.read_bytes()).end_s - time.time()


def shown_left_s(net: RealNetwork, member: str) -> float:
    """Of the certificate that a running node shows to one who connects."""
    context = ssl.create_default_context(cafile=net.homes[member].tls_ca_path)
    address = host_port(net.homes[member].config.peer_url)
    with (
        socket.create_connection(address, timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=address[0]) as tls,
    ):
        certificate = tls.getpeercert(binary_form=True)
    assert certificate is not None
    return validity_of_der(certificate).end_s - time.time()


def metrics(net: RealNetwork, member: str) -> dict[str, float]:
    lines = net.get(member, "/metrics").text.splitlines()
    return {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if not line.startswith("#")}


def entry(shell: Shell, net: RealNetwork, name: str, asked: str = "bank3") -> dict[str, Any]:
    return dict(json.loads(shell("member", "show", "--home", net.homes[asked].path, name, "--json")))


def test_certificates_are_renewed_at_the_start_while_running_and_by_hand(
    tmp_path: Path, shell: Shell
) -> None:
    net = RealNetwork(tmp_path / "net")
    try:
        expired = issue(net, "bank1", left_s=-60)
        due = issue(net, "bank2", left_s=84 * HOUR_S + 8)
        offline = issue(net, "bank3", left_s=2 * HOUR_S)
        safe = tmp_path / "bank3-ca.key"
        net.homes["bank3"].tls_ca_key_path.rename(safe)
        net.start()
        assert left_s(expired) > 167 * HOUR_S, "renewed before it listened"
        assert left_s(due) < 85 * HOUR_S
        net.submit(net.tag_key())
        with Load(net, "bank1", "bank2", "bank3") as load:
            until(lambda: left_s(due) > 167 * HOUR_S, "bank2 renewed its certificate")
            until(lambda: shown_left_s(net, "bank2") > 167 * HOUR_S, "and shows it")
            load.progress(5)
            name = 'taxledger_peer_certificate_expires_seconds{peer="bank2"}'
            until(lambda: metrics(net, "tax").get(name, 0) > 167 * HOUR_S, "tax sees the renewed certificate")
            acknowledged = load.finish()
        said = metrics(net, "bank2")
        assert said['taxledger_tls_renewals_total{outcome="renewed"}'] == 1
        assert said["taxledger_tls_certificate_expires_seconds"] > 167 * HOUR_S
        assert said["taxledger_tls_authority_expires_seconds"] > 3_600 * 24 * HOUR_S
        assert said["taxledger_tls_certificate_renews"] == 1

        said = metrics(net, "bank3")
        assert said["taxledger_tls_certificate_renews"] == 0
        assert 0 < said["taxledger_tls_certificate_expires_seconds"] < 2 * HOUR_S
        assert '"certificate runs out"' in net.log("bank3") or "certificate runs out" in net.log("bank3")
        until(lambda: "certificate runs out" in net.log("tax"), "its peers warn of it too")
        home = net.homes["bank3"].path
        assert "private key" in shell("member", "certificate", "--home", home, status=2)
        wrong = net.homes["bank1"].tls_ca_key_path
        assert "another key" in shell(
            "member", "certificate", "--home", home, "--authority-key", wrong, status=2
        )
        assert "valid until" in shell("member", "certificate", "--home", home, "--authority-key", safe)
        assert left_s(offline) > 167 * HOUR_S
        until(
            lambda: metrics(net, "bank3")["taxledger_tls_certificate_expires_seconds"] > 167 * HOUR_S,
            "the running node takes it into use",
        )
        net.agree()
        net.stop()
        check_ledgers(net, acknowledged)
    finally:
        net.close()


@pytest.mark.slow
def test_a_node_whose_certificate_expired_is_refused_by_all_others(tmp_path: Path) -> None:
    net = RealNetwork(tmp_path / "net")
    try:
        issue(net, "bank3", left_s=-60)
        net.homes["bank3"].tls_ca_key_path.unlink()
        net.launch("bank3")
        net.start("tax")
        net.start("bank1")
        net.start("bank2")
        net.submit(net.tag_key())
        until(lambda: net.status("bank3"), "bank3 answers its own users")
        if net.engine == "embedded":  # another engine reaches its own kind by keys of their own
            assert net.status("bank3")["height"] == 0
        for name in ("tax", "bank1", "bank2"):
            assert 'taxledger_peer_certificate_expires_seconds{peer="bank3"}' not in metrics(net, name)
    finally:
        net.close()


def test_keys_are_rotated_on_the_ledger_while_records_come_in(net: RealNetwork, shell: Shell) -> None:
    home = net.homes["bank1"]
    before = entry(shell, net, "bank1")
    old_hpke = home.key("hpke")
    old_authority = authority_hash(home.tls_ca_path.read_bytes())
    with Load(net, "tax", "bank1") as load:
        load.progress(3)
        for key in ("transaction", "hpke", "tls"):
            shell.change(net, "member", "rotate", "--home", home.path, "--key", key)
            load.progress(3)
        acknowledged = load.finish()
    after = entry(shell, net, "bank1")
    for name in ("transaction_key", "hpke_key", "tls_ca_hash"):
        assert before[name] != after[name]
    # The node moved the keys into place, and signs with the new one: its command line can propose again.
    until(lambda: not list(home.keys_folder.glob("*.next.key")), "the next keys are in place")
    assert public_key_of(home.key("hpke")).hex() == after["hpke_key"]
    former = home.keys_folder / f"hpke.{before['hpke_key'][:8]}.key"
    assert former.read_text().strip() == old_hpke.hex()
    (folder,) = [path.parent for path in home.tls_folder.glob("*/ca.pem")]
    assert authority_hash((folder / "ca.pem").read_bytes()).hex() == after["tls_ca_hash"]
    assert authority_hash(home.tls_ca_path.read_bytes()) == old_authority

    # Everybody has the new authority, though no file was sent around, and hears bank1 under it alone.
    end_s = validity_of((folder / "node.pem").read_bytes()).end_s
    for name in ("tax", "bank2", "bank3"):
        peers = net.homes[name].tls_peers_path
        assert (folder / "ca.pem").read_bytes() in peers.read_bytes()
        net.stop(name)
        net.start(name)
    name = 'taxledger_peer_certificate_expires_seconds{peer="bank1"}'
    until(lambda: abs(metrics(net, "tax").get(name, 0) + time.time() - end_s) < 5, "tax hears it")
    shell.change(net, "member", "rotate", "--home", home.path, "--key", "hpke")
    assert "expected" in shell("member", "rotate", "--home", home.path, "--key", "master", status=2)
    net.agree()
    net.stop()
    check_ledgers(net, acknowledged)


def open_proposal(shell: Shell, *arguments: object) -> str:
    found = re.search(r"^proposal ([0-9a-f]{32})$", shell(*arguments), re.MULTILINE)
    assert found
    return found[1]


def approve(shell: Shell, net: RealNetwork, proposal: str, *members: str) -> None:
    for name in members:
        shell("member", "approve", "--home", net.homes[name].path, proposal)


@pytest.mark.slow
def test_a_follower_that_missed_its_own_change_of_authority_comes_back(
    net: RealNetwork, shell: Shell
) -> None:
    home = net.homes["bank1"]
    for key in ("tls", "transaction"):
        rotation = ("member", "rotate", "--home", home.path, "--key", key)
        before = entry(shell, net, "bank1")["height"]
        proposal = open_proposal(shell, *rotation)
        net.stop("bank1")
        approve(shell, net, proposal, "bank2", "bank3")
        net.submit(net.sign(chainkit.attest(chainkit.group(1 + len(key)))))
        until(
            lambda since=before: entry(shell, net, "bank1", asked="tax")["height"] > since, "it is in force"
        )
        net.start("bank1", restart=False)
        net.agree()
    shell.change(net, *rotation)  # and it can sign
    net.agree()


@pytest.mark.slow
def test_a_follower_that_missed_the_sequencers_change_of_authority_comes_back(
    net: RealNetwork, shell: Shell
) -> None:
    net.stop("bank1")
    proposal = open_proposal(shell, "member", "rotate", "--home", net.homes["tax"].path, "--key", "tls")
    approve(shell, net, proposal, "bank2", "bank3")
    height = until(lambda: entry(shell, net, "tax")["height"], "it is in force")
    for name in ("bank2", "tax"):  # nobody has a connection from before
        net.stop(name)
        net.start(name)
    net.start("bank1", restart=False)
    assert net.agree()["height"] >= height
    folder = next(net.homes["tax"].tls_folder.glob("*/ca.pem"))
    until(lambda: folder.read_bytes() in net.homes["bank1"].tls_peers_path.read_bytes(), "bank1 has it")
    with Load(net, "bank1") as load:
        load.progress(3)
        load.finish()


@pytest.mark.parametrize(
    "key", [pytest.param(each, marks=pytest.mark.slow) for each in ("transaction", "hpke", "tls")]
)
def test_a_node_killed_around_its_rotation_goes_on_with_the_key_in_force(
    net: RealNetwork, shell: Shell, key: str
) -> None:
    home = net.homes["bank1"]
    for delay_s in (0.0, 0.05, 0.2):
        before = entry(shell, net, "bank1", asked="tax")
        proposal = open_proposal(shell, "member", "rotate", "--home", home.path, "--key", key)
        approve(shell, net, proposal, "bank2", "bank3")
        time.sleep(delay_s)  # where in its change over it is hit; any of them must do
        net.kill("bank1")
        until(lambda: net.status("bank1"), "the supervisor started it again")
        net.agree()
        after = entry(shell, net, "bank1", asked="tax")
        assert after["height"] > before["height"]
        until(lambda: not list(home.keys_folder.glob("*.next.key")), "the next key is in place")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[RealNetwork]:
    with real_network(tmp_path / "net", observers=("auditor",)) as network:
        yield network


def peer_connection(net: RealNetwork, member: str, shown: str) -> http.client.HTTPSConnection:
    """To a member's node, with another member's certificate."""
    context = ssl.create_default_context(cafile=net.homes[member].tls_ca_path)
    context.load_cert_chain(net.homes[shown].tls_node_path)
    host, port = host_port(net.homes[member].config.peer_url)
    return http.client.HTTPSConnection(host, port, timeout=10, context=context)


def asked(connection: http.client.HTTPSConnection) -> int:
    """Status of a message with a verb that nobody knows: 404 for a member, 403 for anybody else."""
    connection.request("POST", "/peer/1/nothing", body=b"")
    response = connection.getresponse()
    response.read()
    return response.status


def test_a_suspended_member_is_refused_by_all_others_until_it_is_active_again(
    watched: RealNetwork, shell: Shell
) -> None:
    net, tax = watched, watched.homes["tax"].path
    net.agree()
    others = ("tax", "bank1", "bank2", "bank3")
    with ExitStack() as stack:

        def connect(name: str) -> http.client.HTTPSConnection:
            return stack.enter_context(closing(peer_connection(net, name, "auditor")))

        connections = {name: connect(name) for name in others}
        assert {asked(each) for each in connections.values()} == {404}
        shell.change(net, "member", "suspend", "--home", tax, "auditor")
        assert entry(shell, net, "auditor")["status"] == "suspended"
        height = entry(shell, net, "auditor")["height"]
        for name, connection in connections.items():
            until(lambda name=name: net.height(name) >= height, "the block of the suspension")
            assert asked(connection) == 403, f"{name}, on the connection in use"
            assert asked(connect(name)) == 403
        net.submit(net.sign(chainkit.attest(chainkit.group(1))))
        assert net.agree(*others)["height"] > net.height("auditor")
        shell.change(net, "member", "activate", "--home", tax, "auditor")
        until(lambda: asked(connections["tax"]) == 404, "it counts again")
        net.agree()
        shell.change(net, "member", "remove", "--home", tax, "auditor")
        assert asked(connections["tax"]) == 403


def test_an_observer_has_a_validator_propose_its_rotation(
    watched: RealNetwork, shell: Shell, tmp_path: Path
) -> None:
    net, home = watched, watched.homes["auditor"]
    net.agree()
    file = tmp_path / "rotation.json"
    for key in ("tls", "hpke", "transaction"):
        before = entry(shell, net, "auditor")
        said = shell("member", "rotate", "--home", home.path, "--key", key, "--reason", "yearly", "-o", file)
        assert "auditor: " in said
        assert json.loads(file.read_text())["reason"] == "yearly"
        shell.change(net, "member", "propose", "--home", net.homes["tax"].path, file)
        after = entry(shell, net, "auditor")
        changed = {name for name in before if before[name] != after[name]} - {"height"}
        assert changed == {{"tls": "tls_ca_hash", "hpke": "hpke_key"}.get(key, "transaction_key")}
        net.agree()
    until(lambda: not list(home.keys_folder.glob("*.next.key")), "the observer's keys are in place")
    said = shell("member", "proposals", "--home", home.path)
    assert said.count("in force since block") == 3
    assert "auditor" in shell("member", "list", "--home", home.path)
    proposing = ("member", "suspend", "--home", net.homes["tax"].path, "auditor")
    open_proposal(shell, *proposing)
    assert "open: approved by 1 of the 3" in shell(*proposing), "asked again, it is the same proposal"
    assert "one change at a time" in shell(
        "member", "rotate", "--home", net.homes["bank1"].path, "--key", "hpke", status=1
    )
    assert "no proposal" in shell("member", "approve", "--home", net.homes["bank1"].path, "ff" * 16, status=2)
    assert "expected a member of" in shell("member", "show", "--home", home.path, "nobody", status=2)
