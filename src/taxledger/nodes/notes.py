"""Certified checkpoints as signed notes: a log signature of one validator, and the q newest co-signatures.

A validator signs as the log itself. An observer asks validators until one has signed, and believes none: a
note whose signature does not verify would make every answer of its node worthless.
"""

from __future__ import annotations

from collections.abc import Callable

from taxledger.ledger.checkpoint import Checkpoint, encode_note, sign_checkpoint, verify_log_signature
from taxledger.ledger.errors import FormatError, RefusedError, UnavailableError, VerificationError
from taxledger.ledger.merkle import frontier_at
from taxledger.nodes.application import Keys
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.replica import CertifiedState, Replica

__all__ = ["Notes"]

_ASK_MS = 3_000


class Notes:
    """Makes the notes of one node. Lives on the event loop.

    Args:
        network: its name, part of the co-signers' names.
        keys: this member's, as of now: they change when a rotation is in force.
        peers: the other members' nodes, by number.
    """

    def __init__(
        self, network: str, replica: Replica, keys: Callable[[], Keys], peers: dict[int, PeerClient]
    ) -> None:
        self._network = network
        self._replica = replica
        self._keys = keys
        self._peers = peers
        self._made: tuple[object, bytes] | None = None
        self._log_signature: tuple[Checkpoint, bytes, bytes] | None = None

    async def note(self, state: CertifiedState) -> bytes:
        """The certified checkpoint with its signatures; made once a state."""
        # Not the state itself: it would keep its snapshot of the store alive.
        of = (state.checkpoint, state.cosigns)
        if self._made is not None and self._made[0] == of:
            return self._made[1]
        public_key, signature = await self._signature_of_log(state)
        lines = [
            (f"{self._network}/{validator.name}", validator.cosign_key, each.time_s, each.signature)
            for each in sorted(state.cosigns, key=lambda each: each.member)
            if (validator := state.validators[each.member]).cosign_key is not None
        ]
        made = encode_note(state.checkpoint, public_key, signature, lines)
        self._made = (of, made)
        return made

    async def _signature_of_log(self, state: CertifiedState) -> tuple[bytes, bytes]:
        """(log key, signature) of one validator."""
        if self._log_signature is not None and self._log_signature[0] == state.checkpoint:
            return self._log_signature[1:]
        keys = self._keys()
        own, key = state.validators.get(keys.member), keys.log
        if key is not None and own is not None and own.log_key == key.public_key:
            found = key.public_key, sign_checkpoint(key, state.checkpoint)
        else:
            found = await self._ask(state)
        self._log_signature = (state.checkpoint, *found)
        return found

    async def _ask(self, state: CertifiedState) -> tuple[bytes, bytes]:
        message = [1, "log_signature", state.checkpoint.size, state.checkpoint.root]
        for number, validator in state.validators.items():
            peer = self._peers.get(number)
            if peer is None or validator.log_key is None:
                continue
            try:
                signature = await peer.call("log_signature", message, timeout_ms=_ASK_MS, answer_bytes_max=64)
                verify_log_signature(validator.log_key, state.checkpoint, signature)
            except (UnavailableError, RefusedError, VerificationError):
                continue
            return validator.log_key, signature
        raise UnavailableError("no validator signs the checkpoint as the log")

    async def on_log_signature(self, _member: int, message: object) -> bytes:
        """Peer verb ``log_signature``: sign a checkpoint that is certified here, the newest one or one before:
        who asks may be a block behind us by now.
        """
        if type(message) is not list or len(message) != 4 or message[:2] != [1, "log_signature"]:
            raise FormatError('expected [1, "log_signature", size, root]')
        log_key = self._keys().log
        if log_key is None:
            raise RefusedError("not_validator", "this node has no log key")
        size, root = message[2:]
        checkpoint = _certified_checkpoint(self._replica.certified, size)
        if checkpoint is None or checkpoint.root != root:
            raise UnavailableError("another checkpoint is certified here")
        return sign_checkpoint(log_key, checkpoint)


def _certified_checkpoint(state: CertifiedState, size: object) -> Checkpoint | None:
    """The checkpoint of this size, if it is that of a certified block."""
    newest, chain = state.checkpoint, state.chain
    if state.height == 0 or type(size) is not int or not 1 < size <= newest.size:
        return None
    if chain.size(chain.height_of_index(size - 1)) != size:
        return None
    return Checkpoint(origin=newest.origin, size=size, root=frontier_at(chain.node, size).root)
