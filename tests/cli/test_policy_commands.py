"""``taxledger policy`` offline: show, update from a file of links, what is kept and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chainkit import TestChain, make_genesis
from policykit import joins, leaves, links_of, policy_file, policy_now

from taxledger.ledger.policylinks import encode_links
from taxledger.nodes.cli.main import main
from taxledger.nodes.formerpolicies import read_former_policies

LONG = ("--trust-days", "100000")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, bytes]:
    """(first policy, newest policy, links from one to the other)"""
    chain = TestChain(make_genesis(4))
    chain.add()
    first, policy = policy_file(chain), policy_now(chain)[0]
    joins(chain, 8)
    leaves(chain, 4)
    return first, policy_file(chain), encode_links(links_of(chain, policy))


def test_a_policy_is_updated_in_place_and_the_former_kept(
    files: tuple[bytes, bytes, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, newest, links = files
    path, proofs = tmp_path / "policy.txt", tmp_path / "p.links"
    path.write_bytes(first)
    proofs.write_bytes(links)
    assert main(["policy", "show", str(path), "--json", *LONG]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["validators"], shown["quorum"]) == (["v1", "v2", "v3", "v4"], 3)
    assert shown["days_left"] > 90_000

    assert main(["policy", "update", str(path), "--links", str(proofs)]) == 1
    said = capsys.readouterr().err
    assert "policy_expired" in said
    assert "信任期" in said
    assert path.read_bytes() == first

    assert main(["policy", "update", str(path), "--links", str(proofs), *LONG]) == 0
    out = capsys.readouterr().out
    assert "joined: v8" in out
    assert "left: v4" in out
    assert path.read_bytes() == newest
    (former,) = tmp_path.glob("policy.????????.txt")
    assert former.read_bytes() == first

    assert main(["policy", "update", str(path), "--links", str(proofs), *LONG]) == 1
    assert "links_broken" in capsys.readouterr().err
    assert path.read_bytes() == newest


def test_a_policy_without_a_date_is_dated_by_hand(
    files: tuple[bytes, bytes, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, newest, links = files
    path, proofs, out = tmp_path / "policy.txt", tmp_path / "p.links", tmp_path / "new.txt"
    plain = first.split(b"\n", 1)[1]
    path.write_bytes(plain)
    proofs.write_bytes(links)
    in_place = tmp_path / "kept" / "policy.txt"
    in_place.parent.mkdir()
    in_place.write_bytes(plain)
    dated = ["--dated", "2026-01-01T00:00:00Z", *LONG]
    assert main(["policy", "update", str(in_place), "--links", str(proofs), *dated]) == 0
    (former,) = read_former_policies(in_place)
    assert former == b"# taxledger policy: verified 2026-01-01T00:00:00Z size 0\n" + plain
    capsys.readouterr()
    update = ["policy", "update", str(path), "--links", str(proofs), "-o", str(out), "--json", *LONG]
    assert main(["policy", "show", str(path)]) == 0
    assert "--dated" in capsys.readouterr().out
    assert main(update) == 1
    capsys.readouterr()
    assert main([*update, "--dated", "2026-01-01T00:00:00Z"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["joined"], said["left"], said["changes"]) == (["v8"], ["v4"], 2)
    assert out.read_bytes() == newest
    assert path.read_bytes() == plain
    assert sorted(each.name for each in tmp_path.iterdir()) == ["kept", "new.txt", "p.links", "policy.txt"]


def test_a_source_of_proofs_must_be_named(tmp_path: Path, files: tuple[bytes, bytes, bytes]) -> None:
    path = tmp_path / "policy.txt"
    path.write_bytes(files[0])
    assert main(["policy", "update", str(path)]) == 2
    assert main(["policy", "update"]) == 2
