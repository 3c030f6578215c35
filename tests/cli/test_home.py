"""A network folder: what ``create_network`` writes, and what ``Home`` refuses to read."""

from __future__ import annotations

import datetime
import ssl
import stat
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError, RefusedError
from taxledger.ledger.genesis import decode_genesis, origin_of
from taxledger.ledger.policy import decode_policy
from taxledger.nodes.cli.network import grant_all_scopes
from taxledger.nodes.home import Home
from taxledger.nodes.homeconfig import decode_config, encode_config, host_port
from taxledger.nodes.identity.hpke import public_key_of
from taxledger.nodes.identity.pki import Authorities, issue_certificate, make_credentials, validity_of
from taxledger.nodes.local.control import find_homes, network_home
from taxledger.nodes.local.network import create_network, free_ports

NOW = datetime.datetime(2026, 3, 1, 9, tzinfo=datetime.UTC)
SECRET_FILES = {"client.json", "api_keys.json", "node.pem"}


def make(
    directory: Path,
    *,
    members: str = "tax bank1 bank2 bank3",
    observers: str = "",
    issues: dict[str, list[int]] | None = None,
    network: str = "demo",
) -> None:
    create_network(
        directory,
        members=members.split(),
        observers=observers.split(),
        issues=issues,
        network=network,
        now=NOW,
        grant=grant_all_scopes,
    )


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("network") / "net"
    make(directory, observers="auditor")
    return directory


def test_homes_agree(net: Path) -> None:
    homes = find_homes(net)
    assert [home.config.name for home in homes] == ["tax", "bank1", "bank2", "bank3", "auditor"]
    assert len({home.genesis() for home in homes}) == 1
    assert {home.policy() for home in homes} == {(net / "policy.txt").read_bytes()}
    genesis = decode_genesis(homes[0].genesis())
    assert genesis.time_ms == int(NOW.timestamp() * 1_000)
    for home, member in zip(homes, genesis.members, strict=True):
        assert (home.config.number, home.config.name) == (member.number, member.name)
        assert home.config.sequencer == 1
        assert Signer(home.key("transaction")).public_key == member.transaction_key
        assert public_key_of(home.key("hpke")) == member.hpke_key
        assert home.config.is_sequencer is (member.number == 1)
        assert len(home.config.others) == 4
    assert [member.is_validator for member in genesis.members] == [True] * 4 + [False]
    assert [bool(member.kinds) for member in genesis.members] == [True] + [False] * 4
    assert not homes[4].has_key("vote")


def test_policy_names_the_validators(net: Path) -> None:
    policy = decode_policy((net / "policy.txt").read_bytes())
    leaf = network_home(net, "tax").genesis()
    genesis = decode_genesis(leaf)
    assert policy.origin == origin_of(genesis, leaf)
    assert policy.threshold == 3
    assert {name: key.public_key for name, key in policy.witnesses.items()} == {
        member.name: member.cosign_key for member in genesis.validators
    }


def test_secrets_are_private(net: Path) -> None:
    for path in net.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir() or path.suffix == ".key" or path.name in SECRET_FILES:
            assert not mode & 0o077, path


def test_ports_differ_and_are_below_the_ephemeral_ones(net: Path) -> None:
    urls = [url for home in find_homes(net) for url in (home.config.api_url, home.config.peer_url)]
    ports = [host_port(url)[1] for url in urls]
    assert len(set(ports)) == len(ports)
    assert all(20_000 <= port < 32_000 for port in ports)
    assert len(set(free_ports(50))) == 50


def test_certificates(net: Path) -> None:
    homes = find_homes(net)
    genesis = decode_genesis(homes[0].genesis())
    hashes = {member.number: member.tls_ca_hash or b"" for member in genesis.members}
    authorities = Authorities(homes[0].tls_peers_path.read_bytes(), hashes)
    assert authorities.members == (1, 2, 3, 4, 5)
    for home in homes:
        pem = home.tls_node_path.read_bytes()
        der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
        assert authorities.member_of(der) == home.config.number
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(home.tls_node_path)
        context.load_verify_locations(home.tls_peers_path)
        assert validity_of(pem).end_s == int(NOW.timestamp()) + 168 * 3_600
        renewed = issue_certificate(
            home.tls_ca_path.read_bytes(), home.tls_ca_key_path.read_bytes(), now=NOW, hours=1
        )
        der = x509.load_pem_x509_certificate(renewed).public_bytes(serialization.Encoding.DER)
        assert authorities.member_of(der) == home.config.number
    assert len({hashes[number] for number in hashes}) == 5
    with pytest.raises(FormatError, match="another key"):
        issue_certificate(homes[0].tls_ca_path.read_bytes(), homes[1].tls_ca_key_path.read_bytes(), now=NOW)


def test_a_certificate_in_anothers_name_is_its_makers(net: Path) -> None:
    genesis = decode_genesis(network_home(net, "tax").genesis())
    hashes = {member.number: member.tls_ca_hash or b"" for member in genesis.members}
    peers = network_home(net, "bank1").tls_peers_path.read_bytes()
    stranger = make_credentials("demo", "tax", now=NOW)
    der = x509.load_pem_x509_certificate(stranger.node_pem).public_bytes(serialization.Encoding.DER)
    with pytest.raises(RefusedError, match="peer_unknown"):
        Authorities(peers + stranger.ca_pem, hashes).member_of(der)
    admitted = Authorities(peers + stranger.ca_pem, {**hashes, 9: stranger.ca_hash})
    assert admitted.member_of(der) == 9
    with pytest.raises(RefusedError, match="peer_unknown"):
        admitted.member_of(b"no certificate")


@pytest.mark.parametrize(
    ("members", "observers", "network", "expected"),
    [
        ("Tax bank1", "", "demo", "member name"),
        ("tax bank1 bank1", "", "demo", "given twice"),
        ("tax", "tax", "demo", "given twice"),
        ("", "", "demo", "1 to 32 members"),
        (" ".join(f"m{n}" for n in range(33)), "", "demo", "1 to 32 members"),
        ("tax", "", "Demo", "network name"),
        ("tax", "", "a/b", "network name"),
    ],
)
def test_bad_names(tmp_path: Path, members: str, observers: str, network: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        make(tmp_path / "net", members=members, observers=observers, network=network)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    make(tmp_path / "net", members="tax")
    assert network_home(tmp_path / "net", "tax").config.role == "validator"
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_nothing_is_left_when_it_fails(tmp_path: Path) -> None:
    def fail(path: Path) -> str:
        raise InputError(f"no key for {path}")

    with pytest.raises(InputError, match="no key"):
        create_network(tmp_path / "net", members=["tax"], now=NOW, grant=fail)
    assert not list(tmp_path.iterdir())


def test_a_secret_others_can_read_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "net", members="tax")
    home = network_home(tmp_path / "net", "tax")
    (home.path / "keys" / "vote.key").chmod(0o644)
    with pytest.raises(InputError, match="0600"):
        home.key("vote")
    (home.path / "keys" / "log.key").write_text("zz")
    with pytest.raises(FormatError, match="64 hex digits"):
        home.key("log")
    (home.path / "client.json").write_text("[]")
    with pytest.raises(FormatError, match="JSON object"):
        home.client()
    (home.path / "client.json").write_text('{"url": "http://127.0.0.1", "key": "k"}')
    with pytest.raises(FormatError, match="host:port"):
        home.client()
    assert "tl_" not in repr(network_home(tmp_path / "net", "tax"))


def test_no_home(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a member's home"):
        Home(tmp_path)
    with pytest.raises(InputError, match="not a network folder"):
        find_homes(tmp_path / "absent")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"member": {"number": "1"}}, "member.number"),
        ({"member": {"number": 0}}, "member number 1"),
        ({"member": {"number": 77}}, "among the peers"),
        ({"member": {"name": "Bank"}}, "member.name"),
        ({"member": {"role": "king"}}, "one of validator, observer"),
        ({"network": {"engine": "raft"}}, "one of embedded"),
        ({"network": {"sequencer": True}}, "network.sequencer"),
        ({"api": {"url": "http://nowhere"}}, "host:port"),
        ({"api": {"url": "ftp://127.0.0.1:1"}}, "http"),
        ({"peer": {"url": "http://127.0.0.1:1"}}, "https URL"),
        ({"peer": {"url": "https://127.0.0.1:99999"}}, "host and port"),
        ({"peers": "none"}, "expected peers"),
        ({"peers": [7]}, "number"),
    ],
)
def test_bad_settings(net: Path, change: dict[str, object], expected: str) -> None:
    document = tomllib.loads((net / "bank1" / "node.toml").read_text())
    decode_config(document)
    for name, value in change.items():
        document[name] = {**document[name], **value} if isinstance(value, dict) else value
    with pytest.raises(FormatError, match=expected):
        decode_config(document)


@pytest.mark.parametrize(("days", "expected"), [(1, 1), (30, 30), (0, None), (40_000, None), ("x", None)])
def test_how_long_blocks_are_kept(net: Path, days: object, expected: int | None) -> None:
    document = tomllib.loads((net / "bank1" / "node.toml").read_text())
    assert decode_config(document).keep_days is None
    document["prune"] = {"keep_days": days}
    if expected is None:
        with pytest.raises(FormatError, match="keep_days"):
            decode_config(document)
        return
    config = decode_config(document)
    assert config.keep_days == expected
    assert decode_config(tomllib.loads(encode_config(config))) == config


def test_a_peer_stands_once(net: Path) -> None:
    document = tomllib.loads((net / "bank1" / "node.toml").read_text())
    for peers in ([*document["peers"], document["peers"][0]], document["peers"][::-1]):
        with pytest.raises(FormatError, match="ascending by number"):
            decode_config({**document, "peers": peers})


def test_settings_that_are_no_toml(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[member")
    with pytest.raises(FormatError, match="not readable as TOML"):
        Home(tmp_path)


def test_each_issuer_has_its_own_kinds(tmp_path: Path) -> None:
    make(
        tmp_path / "net",
        members="tax procurement bank",
        observers="customs",
        issues={"tax": [5, 2], "procurement": [6, 7], "customs": [9]},
    )
    homes = find_homes(tmp_path / "net")
    genesis = decode_genesis(homes[0].genesis())
    assert [member.kinds for member in genesis.members] == [(2, 5), (6, 7), (), (9,)]
    assert len({home.key("vault") for home in homes}) == 4


@pytest.mark.parametrize(
    ("issues", "expected"),
    [
        ({"taxes": [5]}, "expected an issuer out of tax, bank, got 'taxes'"),
        ({"tax": []}, "expected kinds for tax"),
        ({"tax": [5, 5]}, "each once"),
        ({"tax": [77]}, "1 to 12, for tax to issue, got 77"),
    ],
)
def test_issues_that_are_none(tmp_path: Path, issues: dict[str, list[int]], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        make(tmp_path / "net", members="tax bank", issues=issues)
    assert not list(tmp_path.iterdir())
