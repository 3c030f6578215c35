"""Fork evidence on disk: ``forks/`` in a member's home.

    <16 hex>.fork        convicts whom it names; anybody verifies it offline (docs/protocol.md §17)
    <16 hex>.suspicion   a statement that contradicts our log and convicts nobody by itself

A file is named by what was found, and never written over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from taxledger.ledger.errors import UnavailableError
from taxledger.ledger.forkformat import KeyBinding, VoteFork, decode_fork, encode_fork
from taxledger.ledger.hashing import sha256
from taxledger.ledger.statekeys import member_key
from taxledger.nodes.forks.contradictions import Fork
from taxledger.nodes.home import place_file
from taxledger.nodes.logs import get_logger
from taxledger.nodes.notes import Notes
from taxledger.nodes.replica import Replica

__all__ = ["FOLDER", "ForkFiles"]

FOLDER = "forks"


class ForkFiles:
    """Keeps what a node finds. Lives on the event loop.

    Args:
        home: the member's home.
        replica, notes: show, beside two votes, whose key made them.
    """

    def __init__(self, home: Path, replica: Replica, notes: Notes) -> None:
        self._folder = home / FOLDER
        self._replica = replica
        self._notes = notes
        self._kept: set[bytes] = set()
        self._log = get_logger("forks")

    async def keep(self, forks: Iterable[Fork]) -> None:
        """Write those that have no file yet, and say so."""
        for fork in forks:
            digest = sha256(fork.evidence)
            if digest in self._kept:
                continue
            name = f"{digest.hex()[:16]}.{'fork' if fork.convicts else 'suspicion'}"
            path = self._folder / name
            if not path.exists():
                data = await self._bound(fork.evidence) if fork.convicts else fork.evidence
                place_file(path, data, mode=0o644)
            self._kept.add(digest)
            what = "fork evidence" if fork.convicts else "a contradiction that convicts nobody yet"
            self._log.error("fork", what=what, text=fork.text, evidence=str(path))

    async def _bound(self, data: bytes) -> bytes:
        """With the proof of whose vote key it is, as far as there is one now: without it the ledger takes the
        evidence all the same.
        """
        fork = decode_fork(data)
        if not isinstance(fork, VoteFork) or fork.binding is not None:
            return data
        state = self._replica.certified
        if state.height == 0:
            return data
        try:
            note = await self._notes.note(state)
        except UnavailableError:
            return data
        key = member_key(fork.member)
        proved = state.view.prove([key])
        if not proved.entries[key]:
            return data
        binding = KeyBinding(
            checkpoint=note,
            header=state.header_leaf,
            inclusion=tuple(state.header_inclusion()),
            entry=proved.entries[key][0][1],
            proof=proved.proof,
        )
        return encode_fork(replace(fork, binding=binding))
