"""The file that leads from a policy to a newer one: its format. ``policychain.py`` verifies it (docs/protocol.md §18).

[1, "policy_links", [link …], head]
link   [1, header, inclusion, [[name, time_s, signature64] …], [vkey …]]     the next set
link   [2, engine, header, inclusion, [[name, time_s, signature64] …]]       the next ordering engine
head   [checkpoint, header, inclusion, [[key, value] …], proof]              the members as of now
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.assemble import ProvingMap
from taxledger.ledger.checkpoint import decode_note
from taxledger.ledger.errors import FormatError, LimitError
from taxledger.ledger.evidence import decoding
from taxledger.ledger.members import decode_member
from taxledger.ledger.shapes import array, ascending, fixed_bytes, integer, items, text

__all__ = [
    "MEMBERS",
    "Cosigned",
    "EngineLink",
    "Link",
    "PolicyHead",
    "PolicyLinks",
    "SetLink",
    "decode_link",
    "decode_links",
    "encode_link",
    "encode_links",
    "prove_head",
]

MEMBERS = b"\x06"
"""The prefix that the head shows: all members."""

_SET, _ENGINE = 1, 2
"""Types of links: to another set of validators, to another engine. Later types get other numbers; a verifier refuses
what it does not know.
"""
_AUDIT_PATH_MAX = 64
_VKEY_BYTES_MAX = 256
_CONTAINERS_MAX = limits.policy_links_max * (5 + limits.validators_max) + limits.members_max + 8

Cosigned = tuple[str, int, bytes]
"""(member name, seconds, 64-byte signature)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLink:
    """From one set of validators to the next.

    Attributes:
        header: leaf of the last block of the set; it names the next one.
        inclusion: its audit path in the log right after it.
        cosigned: exactly a quorum of the set, ascending by name.
        vkeys: the co-signing keys of the next set, ascending by their bytes.
    """

    header: bytes
    inclusion: tuple[bytes, ...]
    cosigned: tuple[Cosigned, ...]
    vkeys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLink:
    """From one ordering engine to another; the set of validators stays.

    Attributes:
        engine: the next one, the last part of the origin from here on.
        header: leaf of the last block that the former engine decided; ``inclusion`` its audit path.
        cosigned: exactly a quorum of the block's validators, under the *new* origin, ascending by name.
    """

    engine: str
    header: bytes
    inclusion: tuple[bytes, ...]
    cosigned: tuple[Cosigned, ...]


Link = SetLink | EngineLink


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyHead:
    """The members in a state that the newest set certified.

    Attributes:
        checkpoint: the certified note.
        header: leaf of the block, at index size - 1; ``inclusion`` its audit path.
        members: every pair of the state map under ``06``, ascending.
        proof: of the state map, that it is every one.
    """

    checkpoint: bytes
    header: bytes
    inclusion: tuple[bytes, ...]
    members: tuple[tuple[bytes, bytes], ...]
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLinks:
    """A decoded file; only its shape is checked."""

    links: tuple[Link, ...]
    head: PolicyHead


# --- writing ------------------------------------------------------------------------------------


def encode_link(link: SetLink) -> bytes:
    """One link, as it stands in a file."""
    return canonical.encode(_link_value(link))


def _link_value(link: Link) -> list[Any]:
    if isinstance(link, EngineLink):
        cosigned = [list(each) for each in link.cosigned]
        return [_ENGINE, link.engine, link.header, list(link.inclusion), cosigned]
    return [_SET, link.header, list(link.inclusion), [list(each) for each in link.cosigned], list(link.vkeys)]


def encode_links(file: PolicyLinks) -> bytes:
    """The file.

    Raises:
        LimitError: larger than a verifier would read.
    """
    head = file.head
    pairs = [list(pair) for pair in head.members]
    shown = [head.checkpoint, head.header, list(head.inclusion), pairs, head.proof]
    data = canonical.encode([1, "policy_links", [_link_value(link) for link in file.links], shown])
    if len(file.links) > limits.policy_links_max or len(data) > limits.policy_links_bytes_max:
        raise LimitError(
            f"expected at most {limits.policy_links_max} links and {limits.policy_links_bytes_max} bytes, "
            f"got {len(file.links)} and {len(data)}"
        )
    return data


def prove_head(
    view: ProvingMap, *, checkpoint: bytes, header: bytes, inclusion: Sequence[bytes]
) -> PolicyHead:
    """The head of a certified state.

    Args:
        view: the state map after the block.
        checkpoint: the certified note of the log right after the block.
        header: the leaf at index size - 1.
        inclusion: its audit path.
    """
    proven = view.prove([MEMBERS])
    return PolicyHead(
        checkpoint=checkpoint,
        header=header,
        inclusion=tuple(inclusion),
        members=tuple(proven.entries[MEMBERS]),
        proof=proven.proof,
    )


# --- reading ------------------------------------------------------------------------------------


def decode_links(data: bytes) -> PolicyLinks:
    """The content of a file.

    Raises:
        VerificationError: ``malformed`` or ``not_canonical``.
    """
    with decoding():
        decoded = canonical.decode(
            data, bytes_max=limits.policy_links_bytes_max, containers_max=_CONTAINERS_MAX
        )
        version, what, links, head = items(decoded, 4, "policy links")
        if type(version) is not int or [version, what] != [1, "policy_links"]:
            raise FormatError("expected policy links of version 1")
        return PolicyLinks(
            links=tuple(_any_link(each) for each in array(links, 0, limits.policy_links_max, "links")),
            head=_head(head),
        )


def decode_link(data: bytes) -> SetLink:
    """One link. Raises InputError."""
    return _link(canonical.decode(data, bytes_max=limits.leaf_bytes_max))


def _any_link(value: Any) -> Link:
    if type(value) is not list or not value or type(value[0]) is not int or value[0] != _ENGINE:
        return _link(value)
    _type, engine, header, path, cosigned = items(value, 5, "a link")
    return EngineLink(
        engine=text(engine, limits.name_bytes_max, "an engine's name"),
        header=_bytes(header, "a header"),
        inclusion=_path(path),
        cosigned=_each_cosigned(cosigned),
    )


def _link(value: Any) -> SetLink:
    if type(value) is not list or not value or type(value[0]) is not int or value[0] != _SET:
        raise FormatError(f"expected a link of type {_SET} or {_ENGINE}, got {value!r:.20}")
    _type, header, path, cosigned, vkeys = items(value, 5, "a link")
    signed = _each_cosigned(cosigned)
    texts = array(vkeys, 1, limits.validators_max, "keys of the next validators")
    named = tuple(text(each, _VKEY_BYTES_MAX, "a key") for each in texts)
    ascending([each.encode() for each in named], "keys of the next validators")
    return SetLink(header=_bytes(header, "a header"), inclusion=_path(path), cosigned=signed, vkeys=named)


def _each_cosigned(value: Any) -> tuple[Cosigned, ...]:
    return tuple(_cosigned(each) for each in array(value, 1, limits.validators_max, "co-signatures"))


def _cosigned(value: Any) -> Cosigned:
    name, time_s, signature = items(value, 3, "a co-signature")
    return (
        text(name, limits.name_bytes_max, "a member's name"),
        integer(time_s, 0, limits.integer_max, "seconds"),
        fixed_bytes(signature, 64, "a signature"),
    )


def _head(value: Any) -> PolicyHead:
    checkpoint, header, path, pairs, proof = items(value, 5, "a head")
    members = []
    for pair in array(pairs, 1, limits.members_max, "members"):
        key, entry = items(pair, 2, "a member")
        members.append((fixed_bytes(key, 3, "a member's key"), _bytes(entry, "an entry")))
        if key[:1] != MEMBERS:
            raise FormatError("expected members' keys 06 …")
        decode_member(int.from_bytes(key[1:], "big"), entry)
    ascending([key for key, _ in members], "members")
    decode_note(_bytes(checkpoint, "a checkpoint"))
    return PolicyHead(
        checkpoint=checkpoint,
        header=_bytes(header, "a header"),
        inclusion=_path(path),
        members=tuple(members),
        proof=_bytes(proof, "a proof"),
    )


def _path(value: Any) -> tuple[bytes, ...]:
    return tuple(fixed_bytes(each, 32, "a hash") for each in array(value, 0, _AUDIT_PATH_MAX, "hashes"))


def _bytes(value: Any, what: str) -> bytes:
    if type(value) is not bytes:
        raise FormatError(f"expected {what} as bytes")
    return value
