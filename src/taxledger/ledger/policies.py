"""The policies that a verifier holds: the present one, and those it went by before the validators changed.

A policy verifies what one set of validators certified, under one origin. What is kept for years was certified by
several; each piece is verified under the policy that its header asks for, and always under a single one.

Invariants:

* Every one is a file of the verifier's own (docs/protocol.md §18); none ever comes with what is verified.
* Anything fresh is verified under ``present`` alone: the keys of those who left are nobody's to watch.
* All are of one chain, and each former one says until when it was known to be good.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from taxledger.ledger.checkpoint import decode_note, parse_origin
from taxledger.ledger.errors import FormatError, InputError, VerificationError
from taxledger.ledger.header import decode_header
from taxledger.ledger.policy import Policy, decode_policy
from taxledger.ledger.policydate import Verified, policy_digest, read_verified

__all__ = ["HeldPolicy", "Policies", "decode_policies", "former_policies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPolicy:
    """A policy file of the verifier's own.

    Attributes:
        policy: whom it trusts.
        verified: what its line says; None where the present one has none.
        digest: ``policydate.policy_digest``, 32 bytes.
    """

    policy: Policy
    verified: Verified | None
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """See the module; ``held`` begins with the present one. Made by ``decode_policies``."""

    held: tuple[HeldPolicy, ...]

    @property
    def present(self) -> Policy:
        """The only one for anything fresh."""
        return self.held[0].policy

    def of(self, origin: str, validators_hash: bytes) -> tuple[HeldPolicy, ...]:
        """Those of this origin and set of validators, the newest given first: several where only log keys changed."""
        return tuple(
            each
            for each in self.held
            if (each.policy.origin, each.policy.validators_hash) == (origin, validators_hash)
        )

    def is_superseded(self, checkpoint: bytes, header: bytes) -> bool:
        """Whether this is of former validators, from before the present ones certified: no update will ever fit it.

        Where a set that left has come back since, it is not: the present policy is to be updated.
        """
        try:
            note, named = decode_note(checkpoint), decode_header(header)
        except (VerificationError, InputError):
            return False
        present = self.held[0]
        beyond = present.verified is not None and note.checkpoint.size > present.verified.size
        found = self.of(note.checkpoint.origin, named.validators_hash)
        return bool(found) and present not in found and not beyond

    def under(self, checkpoint: bytes, header: bytes) -> Policy:
        """The policy under which stored evidence with this checkpoint and header is to be verified.

        Nothing is verified by that. Where checkpoint or header can't be read it is the present one: who verifies
        then says what is wrong.

        Raises:
            VerificationError: ``policy_outdated``: no policy of these validators is held.
        """
        try:
            note, named = decode_note(checkpoint), decode_header(header)
        except (VerificationError, InputError):
            return self.present
        origin = note.checkpoint.origin
        if parse_origin(self.present.origin).chain_id != named.chain_id:
            return self.present
        found = self.of(origin, named.validators_hash)
        if not found:
            raise VerificationError(
                "policy_outdated",
                f"stored evidence needs the policy of {origin} of that time (taxledger policy update keeps it beside "
                "the new one)",
                expected=", ".join(each.policy.validators_hash.hex()[:16] for each in self.held),
                got=named.validators_hash.hex(),
            )
        signed = {(line.name, line.key_id) for line in note.log_lines}
        for each in found:
            if any((key.name, key.key_id) in signed for key in each.policy.log_keys):
                return each.policy
        return found[0].policy


def decode_policies(present: bytes, former: Iterable[bytes] = ()) -> Policies:
    """The policies of these files.

    Args:
        present: whom the verifier trusts now.
        former: whom it trusted before, the newest first or in any order.

    Raises:
        LimitError, FormatError: a file is no policy, a former one is of another chain, has no line that says when
            it was verified, or was verified later than the present one.
    """
    first = _held(present)
    rest = [_held(data) for data in former]
    for each in rest:
        _check_former(each, first)
    return Policies(held=(first, *rest))


def former_policies(present: bytes, files: Sequence[bytes]) -> tuple[bytes, ...]:
    """Those of some files that can be former policies of the present one; what else lies there is nobody's fault."""
    first = _held(present)
    found = []
    for data in files:
        try:
            held = _held(data)
            _check_former(held, first)
        except InputError:
            continue
        if held.digest != first.digest:
            found.append(data)
    return tuple(found)


def _held(data: bytes) -> HeldPolicy:
    return HeldPolicy(policy=decode_policy(data), verified=read_verified(data), digest=policy_digest(data))


def _check_former(former: HeldPolicy, present: HeldPolicy) -> None:
    ours, theirs = parse_origin(present.policy.origin), parse_origin(former.policy.origin)
    if (ours.network, ours.chain_id) != (theirs.network, theirs.chain_id):
        raise FormatError(
            f"expected a former policy of the chain of {present.policy.origin}, got {former.policy.origin}"
        )
    if former.verified is None:
        raise FormatError(
            "expected a former policy that says when it was verified, by a line '# taxledger policy: verified …', "
            f"got none in that of {', '.join(former.policy.witnesses)}"
        )
    if present.verified is not None and former.verified.time_s > present.verified.time_s:
        raise FormatError(
            f"expected the present policy first, verified {present.verified.text}, got a former one that was "
            f"verified {former.verified.text}"
        )
