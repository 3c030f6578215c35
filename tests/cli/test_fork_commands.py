"""``taxledger fork verify | show | list``: offline, from files alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import chainkit
import forkkit
import pytest

from taxledger.ledger.forkformat import encode_fork
from taxledger.ledger.policy import encode_policy
from taxledger.nodes.cli.main import main
from taxledger.nodes.forks.contradictions import suspicion


@pytest.fixture
def policy(tmp_path: Path) -> str:
    chain = forkkit.history(1)
    path = tmp_path / "policy.txt"
    path.write_bytes(
        encode_policy(
            origin=chain.origin,
            log_keys=[chainkit.signer(n, "log").public_key for n in (1, 2, 3, 4)],
            witnesses={f"v{n}": chainkit.signer(n, "cosign").public_key for n in (1, 2, 3, 4)},
        )
    )
    return str(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (forkkit.same_size, "one size has one root"),
        (forkkit.other_beginning, "does not begin with the smaller"),
        (forkkit.two_leaves, "stand two leaves"),
        (forkkit.votes, "voted for header"),
    ],
)
def test_verify_says_who_and_what(tmp_path: Path, policy: str, capsys, make, said: str) -> None:
    file = tmp_path / "x.fork"
    file.write_bytes(encode_fork(make()))
    assert main(["fork", "verify", str(file), "--policy", policy]) == 0
    out = capsys.readouterr().out
    assert "convicted  v3" in out
    assert said in out
    assert main(["fork", "verify", str(file), "--policy", policy, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["convicted"] == ["v3"]
    assert main(["fork", "show", str(file)]) == 0
    assert said in capsys.readouterr().out


def test_what_convicts_nobody_has_status_1_and_a_reason(tmp_path: Path, policy: str, capsys) -> None:
    good = forkkit.same_size(3)
    row = good.signers[0]
    wrong = replace(good, signers=(replace(row, signature=row.other_signature),))
    for data, reason in (
        (encode_fork(wrong), "signature_invalid"),
        (encode_fork(forkkit.votes(bound=False)), "binding_missing"),
        (encode_fork(good)[:-1], "not_canonical"),
        (suspicion([b"x"]), "suspicion"),
    ):
        file = tmp_path / "x.fork"
        file.write_bytes(data)
        assert main(["fork", "verify", str(file), "--policy", policy]) == 1
        assert reason in capsys.readouterr().err
    assert main(["fork", "verify", str(tmp_path / "none"), "--policy", policy]) == 2
    file.write_bytes(suspicion([b"x"]))
    assert main(["fork", "show", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "suspicion"
