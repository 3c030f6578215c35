"""A member's own keys and certificates in its home, cut off anywhere: always whole, always the one on the ledger."""

from __future__ import annotations

import datetime
import os
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chainkit
import pytest

from taxledger.ledger import canonical
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError, RefusedError, UnavailableError
from taxledger.ledger.governance import member_set
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.members import Member, member_of
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.nodes import home as home_module
from taxledger.nodes.cli.network import grant_all_scopes
from taxledger.nodes.home import Home
from taxledger.nodes.identity.birthtokens import has_token
from taxledger.nodes.identity.certificates import AuthorityFolder, TlsIdentity, is_running_out
from taxledger.nodes.identity.hpke import public_key_of
from taxledger.nodes.identity.memberkeys import KeyInForce, hpke_key_of, next_key, promote_keys
from taxledger.nodes.identity.membership import (
    ROTATABLE,
    decode_proposal_file,
    encode_proposal_file,
    rotate,
    what_changes,
)
from taxledger.nodes.identity.pki import (
    Validity,
    authority_hash,
    certificate_addresses,
    issue_certificate,
    make_authority,
    validity_of,
)
from taxledger.nodes.identity.trust import Trust
from taxledger.nodes.identity.upkeep import wanted_hashes
from taxledger.nodes.local.network import create_network

NOW = datetime.datetime.now(datetime.UTC)
HOUR_S = 3_600


class StopNow(BaseException):
    """As kill -9: nothing of ours runs afterwards."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    create_network(tmp_path / "net", members=["tax"], now=NOW, grant=grant_all_scopes)
    return Home(tmp_path / "net" / "tax")


def identity(home: Home, *, at_s: float = 0.0, hours: int = 168) -> TlsIdentity:
    return TlsIdentity(home, hours=hours, now=lambda: NOW.timestamp() + at_s)


def entry(home: Home) -> Member:
    return chainkit.validator(
        1,
        name="tax",
        transaction_key=Signer(home.key("transaction")).public_key,
        hpke_key=public_key_of(home.key("hpke")),
        tls_ca_hash=authority_hash(home.tls_ca_path.read_bytes()),
    )


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The process dies before its n-th step on the disk (rename or sync)."""
    steps = [0]

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            steps[0] += 1
            if steps[0] > number:
                raise StopNow
            return real(*arguments, **options)

        return step

    monkeypatch.setattr(home_module.os, "fsync", guarded(os.fsync))
    monkeypatch.setattr(Path, "replace", guarded(Path.replace))


def test_it_is_renewed_at_half_of_its_life_and_not_before(home: Home) -> None:
    (folder,) = identity(home).folders()
    assert folder.path == home.tls_folder
    for at_s, due in ((0, False), (83.9 * HOUR_S, False), (84.1 * HOUR_S, True), (200 * HOUR_S, True)):
        assert identity(home, at_s=at_s).is_due(folder) is due, at_s
    assert identity(home, at_s=-2 * HOUR_S).is_due(folder), "a clock set back: it is not valid yet"
    before = certificate_addresses(folder.node_path.read_bytes())
    later = identity(home, at_s=100 * HOUR_S)
    validity = later.renew(folder)
    assert validity == validity_of(home.tls_node_path.read_bytes())
    assert validity.end_s == int(NOW.timestamp() + 268 * HOUR_S)
    assert certificate_addresses(home.tls_node_path.read_bytes()) == before == ("127.0.0.1",)
    assert stat.S_IMODE(home.tls_node_path.stat().st_mode) == 0o600
    assert not later.is_due(folder)
    home.tls_node_path.write_bytes(b"half a file")
    assert later.is_due(folder)


def test_a_renewed_certificate_names_the_same_hosts(home: Home) -> None:
    (folder,) = identity(home).folders()
    hosts = ("10.1.2.3", "::1", "127.0.0.1", "node.bank1.example")
    ca, key = folder.ca_path.read_bytes(), folder.key_path.read_bytes()
    folder.node_path.write_bytes(issue_certificate(ca, key, now=NOW, addresses=hosts))
    identity(home).renew(folder)
    assert certificate_addresses(folder.node_path.read_bytes()) == hosts
    folder.node_path.unlink()
    identity(home).renew(folder)
    assert certificate_addresses(folder.node_path.read_bytes()) == ("127.0.0.1",), (
        "where node.toml says it is"
    )


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://bank1.example:8701", "bank1.example"),
        ("https://10.0.0.7:8701", "10.0.0.7"),
        ("https://[fe80:0:0::7]:8701", "fe80::7"),
    ],
)
def test_a_node_that_was_moved_gets_a_certificate_for_its_new_host(home: Home, url: str, host: str) -> None:
    (folder,) = identity(home).folders()
    assert not identity(home).is_due(folder)
    toml = home.path / "node.toml"
    toml.write_text(toml.read_text().replace(home.config.peer_url, url))
    moved = identity(Home(home.path))
    assert moved.is_due(folder)
    moved.renew(folder)
    assert certificate_addresses(folder.node_path.read_bytes()) == ("127.0.0.1", host)
    assert not moved.is_due(folder)


def test_near_the_end_of_its_authority_it_is_not_renewed_for_ever(home: Home) -> None:
    (folder,) = identity(home).folders()
    near = folder.validity.end_s - NOW.timestamp() - 10 * HOUR_S
    last = identity(home, at_s=near)
    assert last.is_due(folder)
    assert last.renew(folder).end_s == folder.validity.end_s
    assert not last.is_due(folder)


def test_only_its_own_authority_signs(home: Home) -> None:
    (folder,) = identity(home).folders()
    before = home.tls_node_path.read_bytes()
    other = make_authority("demo", "tax", now=NOW)
    with pytest.raises(FormatError, match="another key"):
        identity(home).renew(folder, key_pem=other.key_pem)
    home.tls_ca_key_path.unlink()
    with pytest.raises(InputError, match=r"ca\.key"):
        identity(home).renew(folder)
    assert home.tls_node_path.read_bytes() == before


@pytest.mark.parametrize("number", range(4))
def test_a_stop_within_a_renewal_leaves_the_old_pair_or_the_new(
    home: Home, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (folder,) = identity(home).folders()
    before = home.tls_node_path.read_bytes()
    with monkeypatch.context() as patched:
        stop_at(patched, number)
        try:
            identity(home, at_s=100 * HOUR_S).renew(folder)
        except StopNow:
            assert number < 3
    import ssl

    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(home.tls_node_path)  # key and certificate fit
    assert (home.tls_node_path.read_bytes() == before) is (number < 2)


@pytest.mark.parametrize("number", range(10))
def test_a_stop_within_a_new_authority_leaves_none_or_a_whole_one(
    home: Home, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patched:
        stop_at(patched, number)
        try:
            identity(home).create()
        except StopNow:
            assert number < 9
    folders = identity(home).folders()
    assert len(folders) == (1 if number < 8 else 2)
    for each in folders:
        identity(home, at_s=100 * HOUR_S).renew(each)


def test_the_authority_on_the_ledger_is_shown_first(home: Home) -> None:
    mine = identity(home)
    first = mine.folders()[0]
    second = mine.create()
    assert second.path.name == second.hash.hex()[:8]
    assert [each.hash for each in mine.in_order([first.hash])] == [first.hash, second.hash]
    assert [each.hash for each in mine.in_order([second.hash, first.hash])] == [second.hash, first.hash]
    for path in home.tls_folder.glob("**/node.pem"):
        path.unlink()
    with pytest.raises(InputError, match="member certificate"):
        mine.in_order([first.hash])


def test_what_runs_out_is_warned_of() -> None:
    week = Validity(begin_s=0, end_s=7 * 86_400)
    assert not is_running_out(week, 7 * 86_400 * 0.66)
    assert is_running_out(week, 7 * 86_400 * 0.67)
    decade = Validity(begin_s=0, end_s=3_650 * 86_400)
    assert not is_running_out(decade, 3_640 * 86_400)
    assert is_running_out(decade, 3_644 * 86_400)


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["transaction", "hpke", "cosign", "log"])
@pytest.mark.parametrize("number", range(7))
def test_a_stop_while_a_key_is_promoted_loses_none(
    home: Home, monkeypatch: pytest.MonkeyPatch, use: str, number: int
) -> None:
    now = entry(home)
    old, new = home.key(use), next_key(home, use)
    assert next_key(home, use) == new, "asked again, it is the same"
    assert promote_keys(home, now) == [], "not yet on the ledger"
    public = public_key_of(new) if use == "hpke" else Signer(new).public_key
    then = replace(now, **{f"{use}_key": public})
    assert has_token(home, f"{use}.next") == (use == "cosign")
    with monkeypatch.context() as patched:
        stop_at(patched, number)
        try:
            assert promote_keys(home, then) == [use]
        except StopNow:
            assert number < 5
    if use == "transaction":
        assert KeyInForce(home, lambda: public).present().public_key == public
    elif use == "hpke":
        assert hpke_key_of(home, public) == new
        assert hpke_key_of(home, public_key_of(old)) == old
    promote_keys(home, then)
    assert home.key(use) == new
    assert not home.has_key(f"{use}.next")
    assert promote_keys(home, then) == []
    assert has_token(home, "cosign") or use != "cosign"
    for path in home.keys_folder.glob("*.key"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077


def test_the_signer_follows_the_ledger(home: Home) -> None:
    now = [entry(home).transaction_key]
    key = KeyInForce(home, lambda: now[0])
    first = key.present()
    assert key.present() is first
    new = Signer(next_key(home, "transaction")).public_key
    assert key.present() is first
    now[0] = new
    assert key.present().public_key == new
    now[0] = bytes(32)
    with pytest.raises(InputError, match="none of the transaction keys"):
        key.present()


def test_a_disk_that_is_full_makes_no_key(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(home_module.os, "fsync", full)
    with pytest.raises(UnavailableError, match="No space"):
        next_key(home, "hpke")
    assert sorted(path.name for path in home.keys_folder.iterdir() if "next" in path.name) == []


# --- changes -------------------------------------------------------------------------------------


def test_rotation_asked_twice_is_one_change(home: Home) -> None:
    chain_id = bytes(16)
    for key in ROTATABLE:
        made = [
            rotate(home, entry(home), key, chain_id=chain_id, identity=identity(home, at_s=at))
            for at in (5, 9)
        ]
        assert made[0] == made[1]
        assert "tax: " in what_changes(made[0], [entry(home)])
        file = encode_proposal_file(made[0], chain_id=chain_id, text="t", reason="r")
        assert decode_proposal_file(file, chain_id=chain_id) == made[0]
        with pytest.raises(FormatError, match="of ledger"):
            decode_proposal_file(file, chain_id=bytes(15) + b"x")
    for key in ("vote", "log", "cosign"):
        client = replace(entry(home), role=3, vote_key=None, log_key=None, cosign_key=None)
        with pytest.raises(InputError, match="validator's home"):
            rotate(home, client, key, chain_id=chain_id, identity=identity(home))
    for bad in (b"", b"{}", b"[]", b'{"chain_id": "00", "change": "zz"}'):
        with pytest.raises(FormatError, match="proposal file"):
            decode_proposal_file(bad, chain_id=chain_id)


class Governed:
    """A ledger of four validators on which member 3 gets another TLS authority."""

    def __init__(self, folder: Path) -> None:
        self.made = {number: make_authority("net", f"v{number}", now=NOW) for number in (1, 2, 3, 4)}
        self.new = make_authority("net", "v3", now=NOW)
        members = tuple(chainkit.validator(n, tls_ca_hash=each.hash) for n, each in self.made.items())
        others = tuple(each for each in chainkit.make_genesis().members if each.number not in self.made)
        self.chain = chainkit.TestChain(
            chainkit.make_genesis(members=tuple(sorted((*members, *others), key=lambda each: each.number)))
        )
        (folder / "peers.pem").write_bytes(b"".join(each.pem for each in self.made.values()))
        self.trust = Trust(folder, self.certified)  # type: ignore[arg-type]

    def certified(self) -> Any:
        return SimpleNamespace(height=self.chain.tip.height, view=self.chain.view)

    def propose(self) -> bytes:
        member = member_of(self.chain.view, 3)
        assert member is not None
        change = member_set(replace(member, tls_ca_hash=self.new.hash), self.chain.chain_id, [])
        return self.chain.sign(encode_propose(change), 1)

    def approve(self, proposal: bytes) -> list[bytes]:
        return [self.chain.sign(encode_approve(log_leaf(proposal)[:16]), number) for number in (2, 4)]


def test_the_next_authority_counts_from_its_acceptance_and_is_shown_a_block_later(tmp_path: Path) -> None:
    ledger = Governed(tmp_path)
    old, new = ledger.made[3].hash, ledger.new.hash

    def counts() -> tuple[set[bytes], tuple[bytes, ...]]:
        pems = {authority_hash(each.encode()) for each in ledger.trust.authorities().pems_of(3)}
        return pems, wanted_hashes(ledger.certified(), 3)

    assert counts() == ({old}, (old,))
    proposal = ledger.propose()
    ledger.chain.add(proposal)
    assert counts() == ({old}, (old,)), "open: anybody may propose anything"
    assert ledger.trust.wanted() == {new: 3}
    with pytest.raises(FormatError, match="asked for"):
        ledger.trust.add(ledger.made[1].pem, new)
    ledger.trust.add(ledger.new.pem, new)
    assert ledger.trust.wanted() == {}
    assert counts() == ({old}, (old,))
    ledger.chain.add(*ledger.approve(proposal))
    assert counts() == ({old, new}, (old, new))
    ledger.chain.add()
    assert counts() == ({old, new}, (new, old))
    ledger.chain.add()
    assert counts() == ({new}, (new,))


async def test_an_authority_is_given_by_its_hash_and_taken_only_if_it_has_it(tmp_path: Path) -> None:
    ledger = Governed(tmp_path)
    giver = tmp_path / "giver"
    (giver / "abcdef01").mkdir(parents=True)
    (giver / "peers.pem").write_bytes(b"")
    (giver / "abcdef01" / "ca.pem").write_bytes(ledger.new.pem)
    other = Trust(giver, ledger.certified)  # type: ignore[arg-type]
    answer = canonical.encode(await other.on_authority(1, [1, "authority", ledger.new.hash]))
    with pytest.raises(RefusedError, match="authority_unknown"):
        await other.on_authority(1, [1, "authority", bytes(32)])
    for bad in ([1, "authority"], [1, "authority", "x"], None, 7):
        with pytest.raises(InputError):
            await other.on_authority(1, bad)
    ledger.trust.take(answer, ledger.new.hash)
    assert ledger.trust.find(ledger.new.hash) == ledger.new.pem
    before = ledger.trust.peers_path.read_bytes()
    for lie in (
        answer[:-1],
        canonical.encode([1, "authority", b"x"]),
        canonical.encode([1, "authority", before]),
    ):
        with pytest.raises(InputError):
            ledger.trust.take(lie, bytes(32))
    assert ledger.trust.peers_path.read_bytes() == before


def test_a_folder_is_read_anew_when_it_is_another(home: Home) -> None:
    mine = identity(home)
    first = mine.folders()
    assert mine.folders()[0] is first[0]
    made = make_authority("demo", "tax", now=NOW)
    home.tls_ca_path.unlink()
    home.tls_ca_path.write_bytes(made.pem)
    os.utime(home.tls_ca_path, ns=(1, 1))
    (found,) = mine.folders()
    assert isinstance(found, AuthorityFolder)
    assert found.hash == made.hash
    assert time.time() < found.validity.end_s
