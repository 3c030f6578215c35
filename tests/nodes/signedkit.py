"""Everything that honest nodes sign in a test, and whether any two of it convict their signer.

Nodes sign through ``SignatureMemory`` alone; a test's liars use their keys directly. So what is recorded there is what
honest members signed, also what they never sent: stricter than what anybody could hold against them.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations

import pytest

from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import InvariantError
from taxledger.ledger.merkle import frontier_at
from taxledger.ledger.store import MemoryStore
from taxledger.nodes.application import Application
from taxledger.nodes.signatures import SignatureMemory

VOTE = b"taxledger/vote/1"
COSIGNATURE = re.compile(
    rb"cosignature/v1\ntime ([0-9]+)\n([^/\n]+)/([0-9a-f]{32})/[a-z-]+\n([0-9]+)\n([^\n]+)\n"
)


class Signed:
    """Messages by key, and the logs they could be of."""

    def __init__(self) -> None:
        self.messages: dict[bytes, set[bytes]] = {}
        self.chains: list[Chain] = []

    def renew(self) -> None:
        """Another network with the same keys begins: what was signed in the one before is checked, and put away."""
        self.check()
        self.messages.clear()
        self.chains.clear()

    def votes(self, key: bytes) -> set[tuple[bytes, int, bytes]]:
        """(chain id, height, header hash)."""
        votes = [message[len(VOTE) :] for message in self.messages[key] if message.startswith(VOTE)]
        return {(each[:16], int.from_bytes(each[16:24], "big"), each[24:]) for each in votes}

    def trees(self, key: bytes) -> set[tuple[bytes, int, bytes]]:
        """(network/chain, size, root), whatever the engine or the time."""
        found = filter(None, map(COSIGNATURE.fullmatch, self.messages[key]))
        return {(each[2] + each[3], int(each[4]), b64decode(each[5])) for each in found}

    def roots(self, chain_id: bytes, size: int) -> set[bytes]:
        """What the nodes' logs have at a size."""
        roots = set()
        for chain in self.chains:
            if chain.chain_id != chain_id or not isinstance(chain.store, MemoryStore):
                continue
            try:
                if size <= chain.tip.frontier.size:
                    roots.add(frontier_at(chain.node, size).root)
            except InvariantError:  # a test took its leaves away
                continue
        return roots

    def check(self) -> int:
        """Every pair of messages of a key; returns how many were looked at."""
        looked = 0
        for key in self.messages:
            for one, two in combinations(sorted(self.votes(key)), 2):
                looked += 1
                assert one[:2] != two[:2], f"two votes of {key.hex()[:8]} at height {one[1]}"
            trees = sorted(self.trees(key))
            for one, two in combinations(trees, 2):
                looked += 1
                assert one[:2] != two[:2], f"two trees of {one[1]} leaves co-signed by {key.hex()[:8]}"
            # Of different sizes: all lie on one log, then nothing can show that two of them do not.
            for network, size, root in trees:
                roots = self.roots(bytes.fromhex(network[-32:].decode()), size)
                assert not roots or root in roots, (
                    f"{key.hex()[:8]} co-signed a tree of {size} that no log has"
                )
                assert len(roots) <= 1, f"two logs differ at size {size}"
        return looked


@contextmanager
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[Signed]:
    """What every node signs meanwhile."""
    signed = Signed()
    sign, begin = SignatureMemory.sign, Application.__init__

    def record(self, signer, message):  # type: ignore[no-untyped-def]
        signed.messages.setdefault(signer.public_key, set()).add(message)
        return sign(self, signer, message)

    def note(self, chain, *arguments, **options):  # type: ignore[no-untyped-def]
        signed.chains.append(chain)
        begin(self, chain, *arguments, **options)

    monkeypatch.setattr(SignatureMemory, "sign", record)
    monkeypatch.setattr(Application, "__init__", note)
    yield signed
