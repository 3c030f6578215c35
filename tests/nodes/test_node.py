"""What a node does beside its engine: whom it trusts after a change of members, what it keeps of a fork."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import chainkit
import forkkit

from taxledger.ledger.forkformat import encode_fork
from taxledger.ledger.governance import member_set
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.nodes.forks.contradictions import Fork
from taxledger.nodes.forks.files import ForkFiles
from taxledger.nodes.identity.pki import make_credentials
from taxledger.nodes.identity.trust import Trust


def test_a_member_is_trusted_until_its_suspension_is_in_force_and_not_longer(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    credentials = {number: make_credentials("net", f"v{number}", now=now) for number in (1, 2, 3, 4, 8)}
    validators = [chainkit.validator(n, tls_ca_hash=each.ca_hash) for n, each in credentials.items()]
    others = [each for each in chainkit.make_genesis().members if each.number not in credentials]
    members = tuple(sorted((*validators, *others), key=lambda each: each.number))
    chain = chainkit.TestChain(chainkit.make_genesis(members=members))
    (tmp_path / "peers.pem").write_bytes(b"".join(each.ca_pem for each in credentials.values()))
    trust = Trust(tmp_path, lambda: SimpleNamespace(height=chain.tip.height, view=chain.view))

    def trusted() -> tuple[int, ...]:
        return trust.authorities().members

    assert trusted() == (1, 2, 3, 4, 8)
    before = trust.authorities()
    suspended = replace(validators[-1], status=2)
    propose = chain.sign(encode_propose(member_set(suspended, chain.chain_id, [])), 1)
    approvals = [chain.sign(encode_approve(log_leaf(propose)[:16]), member) for member in (2, 3, 4)]
    chain.add(propose, *approvals)
    assert trusted() == (1, 2, 3, 4, 8)
    chain.add()
    assert trusted() == (1, 2, 3, 4, 8)
    assert trust.authorities() is before, "a new object would have everybody's certificate checked anew"
    chain.add()
    assert trusted() == (1, 2, 3, 4)


async def test_evidence_of_a_fork_outlives_restarts_and_further_forks(tmp_path: Path) -> None:
    forks = [
        Fork(members=(n,), text=f"fork {n}", evidence=encode_fork(forkkit.same_size(n)), convicts=n != 2)
        for n in (1, 2, 3)
    ]
    for kept in (forks[:1], forks[1:], forks[2:]):
        files = ForkFiles(tmp_path, SimpleNamespace(), SimpleNamespace())  # each a start of its own
        await files.keep(kept)
        await files.keep(kept)
    written = sorted((tmp_path / "forks").iterdir())
    assert {each.read_bytes() for each in written} == {each.evidence for each in forks}
    assert sorted(each.suffix for each in written) == [".fork", ".fork", ".suspicion"]
