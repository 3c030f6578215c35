"""From a policy to the newest one: each set of validators named by a quorum of the one before (docs/protocol.md §18).

The format is that of ``policylinks.py``. A link's header is of the last block of its set. A quorum of that set
co-signed the log right after it, and the header names the hash of the next set's keys: so the keys need no other
proof. The head is a newer state, certified by the last set; it gives the log keys, and shows that the set is at work.

Invariants: everything in a file is hashed, covered by a signature, or compared; a link counts only for the set that
the links before it led to; whatever the input, the outcome is a new policy or one refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.checkpoint import (
    COSIGNATURE_TYPE,
    LOG_TYPE,
    Checkpoint,
    Origin,
    VerifierKey,
    cosigner_name,
    decode_note,
    make_origin,
    note_key_id,
    parse_origin,
    parse_vkey,
    validators_hash,
    verify_cosignature,
)
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.header import Header, header_of_chain
from taxledger.ledger.members import Member, decode_member, validators_hash_of
from taxledger.ledger.merkle import inclusion_root, verify_inclusion
from taxledger.ledger.policy import Policy, encode_policy, quorum, verify_signatures
from taxledger.ledger.policydate import Verified, check_trusted
from taxledger.ledger.policylinks import MEMBERS, Cosigned, EngineLink, PolicyHead, SetLink, decode_links
from taxledger.ledger.statemap.proof import verify_prefixes

__all__ = ["FollowedPolicy", "follow_links", "verify_links"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedPolicy:
    """What a policy has become.

    Attributes:
        data: the new policy file, with the line that says when it was verified.
        policy: its content.
        verified: what the line says: the oldest co-signature of the head, and the size of its log.
        header: of the head's block.
        changes: how many times the set of validators changed on the way.
    """

    data: bytes
    policy: Policy
    verified: Verified
    header: Header
    changes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    """The set that counts at one place of the log.

    Attributes:
        origin: the chain's, with the engine that orders it here.
        witnesses: member name -> co-signing key.
        size: leaves of the log up to which it is known to count.
    """

    origin: str
    witnesses: Mapping[str, VerifierKey]
    size: int

    @property
    def hash(self) -> bytes:
        return validators_hash(key.text for key in self.witnesses.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """When a signature may have been made, milliseconds since 1970."""

    now_ms: int
    trust_ms: int

    def check(self, time_s: int, what: str) -> None:
        ahead_ms = time_s * 1_000 - self.now_ms
        if ahead_ms > limits.cosignature_ahead_ms_max:
            raise VerificationError(
                "checkpoint_stale",
                f"{what} is in the future",
                expected=f"at most {limits.cosignature_ahead_ms_max} ms",
                got=ahead_ms,
            )
        if -ahead_ms > self.trust_ms:
            raise VerificationError(
                "policy_expired",
                f"{what} is older than the trust period",
                expected=f"at most {self.trust_ms} ms",
                got=-ahead_ms,
            )


def follow_links(
    policy: Policy,
    verified: Verified | None,
    data: bytes,
    *,
    now_ms: int,
    trust_ms: int,
    age_ms_max: int,
) -> FollowedPolicy:
    """The policy that a file of links leads to, once everything about it is verified.

    Args:
        policy: whom to trust until now.
        verified: when that policy was verified, of its file.
        data: the file, from anywhere.
        now_ms: the present instant, milliseconds since 1970.
        trust_ms: the trust period: how long ago the policy may have been verified, and a link been co-signed.
        age_ms_max: how old the head may be.

    Raises:
        VerificationError: with the first code of §17's table that fits.
    """
    check_trusted(verified, now_ms=now_ms, trust_ms=trust_ms)
    file = decode_links(data)
    reached = _Reached(
        origin=policy.origin, witnesses=policy.witnesses, size=verified.size if verified is not None else 0
    )
    _check_chain(file.head, parse_origin(policy.origin))
    times = _Times(now_ms=now_ms, trust_ms=trust_ms)
    for link in file.links:
        if isinstance(link, EngineLink):
            reached = _follow_engine(reached, link, times)
        else:
            reached = _follow_set(reached, link, times)
    found, header = _verify_head(reached, file.head, now_ms=now_ms, age_ms_max=age_ms_max)
    oldest_s = min(line.time_s for line in decode_note(file.head.checkpoint).cosign_lines)
    new = Verified(time_s=oldest_s, size=header.size)
    try:
        written = encode_policy(
            origin=found.origin,
            log_keys=[key.public_key for key in found.log_keys],
            witnesses={name: key.public_key for name, key in found.witnesses.items()},
            verified=new,
        )
    except FormatError as error:  # a key twice, though a quorum certified it
        raise VerificationError("header_mismatch", f"no policy has such members: {error}") from error
    return FollowedPolicy(
        data=written,
        policy=found,
        verified=new,
        header=header,
        changes=sum(isinstance(link, SetLink) for link in file.links),
    )


def verify_links(
    origins: Sequence[str], witnesses: Mapping[str, VerifierKey], links: Sequence[SetLink], *, now_ms: int
) -> bytes:
    """The hash of the set of validators that links lead to; how long ago they were co-signed does not matter.

    Args:
        origins: the chain's, one after another where it went over to another engine: the later ones come later.
        witnesses: of the set to begin at, member name -> co-signing key.
        links: from it on, in order.
        now_ms: the present instant, milliseconds since 1970.

    Raises:
        VerificationError: as ``follow_links``.
    """
    times = _Times(now_ms=now_ms, trust_ms=limits.integer_max)
    reached, later = _Reached(origin=origins[0], witnesses=witnesses, size=0), list(origins[1:])
    for link in links:
        try:
            reached = _follow_set(reached, link, times)
        except VerificationError as error:
            if error.code != "signature_invalid" or not later:
                raise
            reached = _follow_set(replace(reached, origin=later.pop(0)), link, times)
    return reached.hash


def _check_chain(head: PolicyHead, trusted: Origin) -> None:
    """The links are of the policy's chain: asked before any signature, so that another chain is said to be one."""
    got = decode_note(head.checkpoint).checkpoint.origin
    try:
        origin = parse_origin(got)
    except FormatError:
        origin = None
    if origin is None or (origin.network, origin.chain_id) != (trusted.network, trusted.chain_id):
        raise VerificationError(
            "policy_mismatch",
            "links of another chain",
            expected=f"{trusted.network}/{trusted.chain_id.hex()}",
            got=got,
        )


def _broken(message: str, *, expected: Any = None, got: Any = None) -> VerificationError:
    return VerificationError("links_broken", message, expected=expected, got=got)


def _follow_set(reached: _Reached, link: SetLink, times: _Times) -> _Reached:
    """The next set, if a quorum of the one reached co-signed the header that names it."""
    header = header_of_chain(link.header, parse_origin(reached.origin).chain_id)
    if header.validators_hash != reached.hash:
        raise _broken(
            "not the validators that the links lead to before",
            expected=reached.hash.hex(),
            got=header.validators_hash.hex(),
        )
    if header.next_validators_hash == header.validators_hash:
        raise _broken("no change of the validators", got=f"block {header.height}")
    if header.size <= reached.size:
        raise _broken("not in the order of the log", expected=f"above {reached.size}", got=header.size)
    root = inclusion_root(log_leaf(link.header), header.index, header.size, link.inclusion)
    point = Checkpoint(origin=reached.origin, size=header.size, root=root)
    _verify_cosigned(reached, point, link.cosigned, times)
    named = validators_hash(link.vkeys)
    if named != header.next_validators_hash:
        raise _broken(
            "other keys than the header names", expected=header.next_validators_hash.hex(), got=named.hex()
        )
    witnesses = _witnesses(link.vkeys, parse_origin(reached.origin).network)
    return _Reached(origin=reached.origin, witnesses=witnesses, size=header.size)


def _follow_engine(reached: _Reached, link: EngineLink, times: _Times) -> _Reached:
    """The same set under another engine, if a quorum of it co-signed its last block anew, under the new origin.

    An honest validator does so only after it left the former engine for good (``handover.py``).
    """
    origin = parse_origin(reached.origin)
    header = header_of_chain(link.header, origin.chain_id)
    if header.validators_hash != reached.hash:
        raise _broken(
            "not the validators that the links lead to before",
            expected=reached.hash.hex(),
            got=header.validators_hash.hex(),
        )
    if header.next_validators_hash != header.validators_hash:
        # The next engine begins with the set of this block: members hand over no block that is the last of its set.
        raise _broken("a handover where the validators change", got=f"block {header.height}")
    if header.size < reached.size:
        raise _broken("not in the order of the log", expected=f"{reached.size} or more", got=header.size)
    try:
        to = make_origin(origin.network, origin.chain_id, link.engine)
    except FormatError as error:
        raise _broken(str(error)) from error
    if to == reached.origin:
        raise _broken("no change of the engine", got=link.engine)
    root = inclusion_root(log_leaf(link.header), header.index, header.size, link.inclusion)
    _verify_cosigned(reached, Checkpoint(origin=to, size=header.size, root=root), link.cosigned, times)
    return _Reached(origin=to, witnesses=reached.witnesses, size=header.size)


def _verify_cosigned(
    reached: _Reached, point: Checkpoint, cosigned: Sequence[Cosigned], times: _Times
) -> None:
    """Returns when exactly a quorum of the set co-signed, within the trust period."""
    names = [name for name, _time_s, _signature in cosigned]
    for name in names:
        if name not in reached.witnesses:
            raise VerificationError("signer_unknown", "not one of the validators", got=name)
    if len(set(names)) != len(names):
        raise VerificationError("signer_repeated", "one co-signer twice")
    needed = quorum(len(reached.witnesses))
    if len(names) != needed or names != sorted(names):
        code = "quorum_missing" if len(names) < needed else "malformed"
        raise VerificationError(code, "co-signatures, ascending by name", expected=needed, got=len(names))
    for name, time_s, signature in cosigned:
        verify_cosignature(reached.witnesses[name].public_key, point, time_s, signature)
    for name, time_s, _signature in cosigned:
        times.check(time_s, f"the co-signature of {name}")


def _witnesses(vkeys: Iterable[str], network: str) -> dict[str, VerifierKey]:
    """Member name -> co-signing key. A quorum named them; that they are keys is looked at all the same."""
    witnesses: dict[str, VerifierKey] = {}
    for each in vkeys:
        try:
            key = parse_vkey(each)
            name = key.name.removeprefix(f"{network}/")
            if key.type != COSIGNATURE_TYPE or key.name != cosigner_name(network, name) or name in witnesses:
                raise FormatError(
                    f"expected a co-signing key {network}/<name>, each once, got {key.name[:80]}"
                )
        except FormatError as error:
            raise _broken(f"a key of the next validators: {error}") from error
        if any(key.public_key == other.public_key for other in witnesses.values()):
            raise _broken("a key of the next validators: one key twice", got=key.name)
        witnesses[name] = key
    return witnesses


def _verify_head(
    reached: _Reached, head: PolicyHead, *, now_ms: int, age_ms_max: int
) -> tuple[Policy, Header]:
    """(the policy of the set reached, header of the head), once the head is verified."""
    note = decode_note(head.checkpoint)
    if note.checkpoint.origin != reached.origin:
        raise VerificationError(
            "policy_mismatch", "the head's origin", expected=reached.origin, got=note.checkpoint.origin
        )
    origin = parse_origin(reached.origin)
    header = header_of_chain(head.header, origin.chain_id)
    if header.size != note.checkpoint.size:
        raise VerificationError(
            "header_mismatch",
            "the log's size after the header",
            expected=note.checkpoint.size,
            got=header.size,
        )
    for named in (header.validators_hash, header.next_validators_hash):
        if named != reached.hash:
            raise _broken(
                "the head is of other validators than the links lead to",
                expected=reached.hash.hex(),
                got=named.hex(),
            )
    if header.size < reached.size:
        raise _broken("a head before the links", expected=f"{reached.size} or more", got=header.size)
    validators = [each for each in _members(head) if each.is_validator]
    policy = _policy(reached, validators)
    verify_signatures(policy, note, now_ms=now_ms, age_ms_max=age_ms_max)
    size, root = note.checkpoint.size, note.checkpoint.root
    verify_inclusion(log_leaf(head.header), size - 1, size, head.inclusion, root)
    verify_prefixes(header.state_root, {MEMBERS: head.members}, head.proof)
    if validators_hash_of(origin.network, validators) != reached.hash:
        raise VerificationError("header_mismatch", "the validators in the state are not those of its header")
    return policy, header


def _members(head: PolicyHead) -> list[Member]:
    return [decode_member(int.from_bytes(key[1:], "big"), value) for key, value in head.members]


def _policy(reached: _Reached, validators: Sequence[Member]) -> Policy:
    """The set reached, with the log keys that the head shows; these are proved only after the signatures."""
    log_keys = tuple(
        VerifierKey(
            name=reached.origin,
            key_id=note_key_id(reached.origin, LOG_TYPE, member.log_key),
            type=LOG_TYPE,
            public_key=member.log_key,
        )
        for member in validators
        if member.log_key is not None
    )
    # In the order of the members' numbers, as in the network's first policy file.
    ordered = [each.name for each in validators if each.name in reached.witnesses]
    rest = [name for name in reached.witnesses if name not in ordered]
    return Policy(
        origin=reached.origin,
        log_keys=log_keys,
        witnesses={name: reached.witnesses[name] for name in (*ordered, *rest)},
        threshold=quorum(len(reached.witnesses)),
    )
