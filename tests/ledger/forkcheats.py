"""Named lies in fork evidence and in policy links, each with the code that must come of it; for tests and vectors.

A ``Fault`` is a good file with one thing changed; where that is a header or the state, it is signed anew by
validators that lie, so that nothing but the meaning is wrong.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import forkkit
from chainkit import TestChain, signer
from policykit import policy_file
from test_policylinks import TRUST_MS, Handed, handed

from taxledger.ledger import canonical
from taxledger.ledger.checkpoint import (
    Checkpoint,
    cosign,
    cosigner_name,
    encode_note,
    make_origin,
    sign_checkpoint,
    vkey,
)
from taxledger.ledger.forkformat import encode_fork
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.header import decode_header
from taxledger.ledger.members import encode_member, member_of
from taxledger.ledger.merkle import inclusion_root, prove_consistency
from taxledger.ledger.policy import encode_policy
from taxledger.ledger.policydate import with_verified
from taxledger.ledger.policylinks import MEMBERS, encode_links
from taxledger.ledger.statekeys import member_key
from taxledger.ledger.statemap import MapView

AGE_MS_MAX = 60_000
VALIDATORS, NEXT, STATE = 11, 12, 8
"""Places in a header."""


@dataclass(frozen=True)
class Fault:
    """What is asked, and the code that must come of it; ``base`` names the good file that was changed."""

    why: str
    code: str
    base: str
    data: bytes
    policy: bytes | None = None
    now_ms: int | None = None

    def __str__(self) -> str:
        return f"{self.base}, {self.code}: {self.why}"


def edited(data: bytes, path: Sequence[int], change: Callable[[Any], Any] | object) -> bytes:
    """The file with one element, found by indexes, put in or changed."""
    items = canonical.decode(data)
    *way, last = path
    place = items
    for at in way:
        place = place[at]
    place[last] = change(place[last]) if callable(change) else change
    return canonical.encode(items)


def flipped(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


def note_line(number: int, change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Changes what the base64 of a note's signature line holds; 0 is the log's."""

    def apply(note: bytes) -> bytes:
        lines = note.split(b"\n")
        head, _, encoded = lines[4 + number].rpartition(b" ")
        raw = change(base64.b64decode(encoded))
        lines[4 + number] = head + b" " + base64.b64encode(raw)
        return b"\n".join(lines)

    return apply


def note_lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    """Changes the co-signature lines of a note."""
    return lambda note: b"\n".join([*(lines := note.split(b"\n"))[:5], *change(lines[5:-1]), b""])


# --- fork evidence ------------------------------------------------------------------------------


@cache
def fork_policy() -> bytes:
    chain = forkkit.history(1)
    validators = chain.blocks[-1].executed.validators
    return encode_policy(
        origin=chain.origin,
        log_keys=[each.log_key for each in validators],
        witnesses={each.name: each.cosign_key for each in validators},
    )


@cache
def good_forks() -> dict[str, bytes]:
    """Good files by what they show."""
    return {
        "one size": encode_fork(forkkit.same_size()),
        "another beginning": encode_fork(forkkit.other_beginning(2, 3)),
        "two leaves": encode_fork(forkkit.two_leaves()),
        "two engines": encode_fork(forkkit.moved(forkkit.other_beginning(), "cometbft")),
        "votes": encode_fork(forkkit.votes()),
    }


def honest_pair() -> bytes:
    """Two trees of one log: whoever co-signed both did nothing wrong."""
    chain = forkkit.history(1)
    first, second = forkkit.tree(chain, 3), forkkit.tree(chain, 5)
    path = prove_consistency(forkkit.node_of(chain), first.size, second.size)
    shown = forkkit.OtherBeginning(root=first.root, path=tuple(path))
    return encode_fork(forkkit.cosign_fork(first, second, shown, 3))


def cosigned_faults() -> list[Fault]:
    good, strange = good_forks(), encode_fork(forkkit.same_size(8))
    other, last = make_origin("test.net", bytes(16), "embedded"), [-1, 0]
    log_key = vkey(forkkit.history(1).origin, 1, signer(3, "log").public_key)
    rows: list[tuple[str, str, str, Sequence[int], Any]] = [
        ("version 2", "malformed", "one size", [0], 2),
        ("another name", "malformed", "one size", [1], "evidence"),
        ("of neither sort", "malformed", "one size", [2], "blocks"),
        ("the trees change places", "malformed", "another beginning", [3], lambda _: "swap"),
        ("an origin out of form", "malformed", "one size", [3, 0], "test.net/embedded"),
        ("size 0", "malformed", "one size", [3, 1], 0),
        ("a contradiction for one size", "malformed", "one size", [5], ["consistency", bytes(32), []]),
        ("none for two sizes", "malformed", "another beginning", [5], None),
        ("a contradiction of another sort", "malformed", "two leaves", [5, 0], "exclusion"),
        ("65 hashes", "malformed", "another beginning", [5, 2], [bytes(32)] * 65),
        ("no rows", "malformed", "one size", [6], []),
        ("rows that do not ascend", "malformed", "another beginning", [6], lambda rows: rows[::-1]),
        ("a log's key", "malformed", "one size", [6, 0, 0], log_key),
        (
            "a key id of another key",
            "malformed",
            "one size",
            [6, 0, 0],
            lambda key: key.replace("+", "+0", 1),
        ),
        ("seconds below 0", "malformed", "one size", [6, 0, 1], -1),
        ("another network", "policy_mismatch", "one size", [3, 0], lambda text: text.replace("test", "rest")),
        ("another chain", "policy_mismatch", "one size", [4, 0], other),
        ("a root between that is not", "contradiction_invalid", "another beginning", [5, 1], bytes(32)),
        ("a path cut", "contradiction_invalid", "another beginning", [5, 2], lambda path: path[:-1]),
        ("one leaf in both", "contradiction_invalid", "two leaves", [5, 4], "first leaf"),
        ("behind the first tree", "contradiction_invalid", "two leaves", [5, 1], lambda at: at + 1),
        ("the second path is wrong", "contradiction_invalid", "two leaves", [5, 5, 0], flipped),
        ("the first signature", "signature_invalid", "one size", [*last, 2], flipped),
        ("the second signature", "signature_invalid", "one size", [*last, 4], flipped),
        ("another second", "signature_invalid", "two leaves", [*last, 3], lambda time_s: time_s + 1),
        ("one of two rows", "signature_invalid", "another beginning", [6, 1, 4], flipped),
    ]
    found = [
        Fault(why, code, base, _edit(good[base], path, change)) for why, code, base, path, change in rows
    ]
    one = good["one size"]
    return [
        *found,
        Fault("a byte behind", "not_canonical", "one size", one + b"\x00"),
        Fault("cut", "not_canonical", "one size", one[:-1]),
        Fault("a key of nobody in the policy", "signer_unknown", "one size", strange),
        Fault("one log's trees", "contradiction_invalid", "another beginning", honest_pair()),
    ]


def _edit(data: bytes, path: Sequence[int], change: Any) -> bytes:
    items = canonical.decode(data)
    if path == [3] and callable(change):
        items[3], items[4] = items[4], items[3]
        return canonical.encode(items)
    return edited(data, path, items[5][2] if change == "first leaf" else change)


def vote_faults() -> list[Fault]:
    note, header, entry = [8, 0], [8, 1], [8, 3]
    in_header = lambda at: lambda leaf: edited(leaf, [at], bytes(32))  # noqa: E731
    rows: list[tuple[str, str, Sequence[int], Any]] = [
        ("member 0", "malformed", [5], 0),
        ("height 0", "malformed", [4], 0),
        ("the votes change places", "malformed", [7], lambda votes: votes[::-1]),
        ("one vote twice", "malformed", [7], lambda votes: [votes[0], votes[0]]),
        ("a note out of form", "malformed", note, lambda raw: raw[:-1]),
        ("an entry that is no member", "malformed", entry, lambda raw: edited(raw, [3], 4)),
        ("an entry with a byte behind", "not_canonical", entry, lambda raw: raw + b"\x00"),
        ("another chain", "policy_mismatch", [3], bytes(16)),
        ("whose key it is left out", "binding_missing", [8], None),
        ("a header cut", "header_mismatch", header, lambda raw: raw[:-1]),
        ("another set's header", "policy_outdated", header, in_header(VALIDATORS)),
        ("another set next", "policy_outdated", header, in_header(NEXT)),
        ("another log key", "policy_mismatch", note, note_line(0, lambda raw: bytes(4) + raw[4:])),
        ("another co-signer", "signer_unknown", note, note_line(1, lambda raw: bytes(4) + raw[4:])),
        ("a co-signer twice", "signer_repeated", note, note_lines(lambda rows: [*rows[:2], rows[0]])),
        ("two of four", "quorum_missing", note, note_lines(lambda rows: rows[:2])),
        ("a co-signature", "signature_invalid", note, note_line(3, flipped)),
        ("another state", "inclusion_invalid", header, in_header(STATE)),
        ("another member's place", "map_proof_invalid", [5], 2),
        ("an entry of another kind", "map_proof_invalid", entry, lambda raw: edited(raw, [4], [1])),
        ("a proof cut", "map_proof_invalid", [8, 4], lambda raw: raw[:-1]),
        ("another key", "key_mismatch", [6], signer(3, "log").public_key),
        ("another header voted for", "signature_invalid", [7, 1, 0], bytes([255]) * 32),
        ("another height", "signature_invalid", [4], 4),
    ]
    good = good_forks()["votes"]
    return [Fault(why, code, "votes", edited(good, path, change)) for why, code, path, change in rows]


# --- policy links -------------------------------------------------------------------------------


def links_policy() -> bytes:
    """The policy that ``good_links`` leads on, with its line."""
    told = handed()
    plain = encode_policy(
        origin=told.first.origin,
        log_keys=[key.public_key for key in told.first.log_keys],
        witnesses={name: key.public_key for name, key in told.first.witnesses.items()},
    )
    return with_verified(plain, told.verified)


@cache
def good_links() -> bytes:
    return encode_links(handed().parts)


def head_alone() -> bytes:
    """What a node answers to the newest policy."""
    return encode_links(replace(handed().parts, links=()))


def links_now_ms() -> int:
    return handed().chain.time_ms + 2_000


def resigned(at: int, place: int, value: Any, time_s: int | None = None) -> bytes:
    """The links with another header in one of them, signed by its set all the same."""
    told = handed()
    link = told.links[at]
    leaf = edited(link.header, [place], value)
    return encode_links(
        replace(told.parts, links=_put(told, at, _signed(link, leaf, _origin(told, at), time_s)))
    )


def _put(told: Handed, at: int, link: Any) -> tuple[Any, ...]:
    return (*told.links[:at], link, *told.links[at + 1 :])


def _origin(told: Handed, at: int) -> str:
    return told.chain.origin if at else told.first.origin


def _signed(link: Any, leaf: bytes, origin: str, time_s: int | None) -> Any:
    size, head = decode_header(link.header).size, decode_header(leaf)
    root = inclusion_root(log_leaf(leaf), size - 1, size, link.inclusion)
    point = Checkpoint(origin=origin, size=head.size, root=root)
    rows = []
    for name, old_s, _ in link.cosigned:
        moment = old_s if time_s is None else time_s
        rows.append((name, moment, cosign(signer(int(name[1:]), "cosign"), point, moment)))
    return replace(link, header=leaf, cosigned=tuple(rows))


def head_with(*, write: dict[bytes, bytes] | None = None, place: int = STATE, value: Any = None) -> bytes:
    """A head of another state, or with another header, signed by the set that is reached."""
    told = handed()
    chain, head = told.chain, told.parts.head
    view: MapView = chain.view.over(chain.view.apply(write or {}))
    leaf = edited(head.header, [place], view.root if value is None else value)
    size = decode_header(head.header).size
    point = Checkpoint(
        origin=chain.origin,
        size=decode_header(leaf).size,
        root=inclusion_root(log_leaf(leaf), size - 1, size, head.inclusion),
    )
    proven = view.prove([MEMBERS])
    shown = replace(
        head,
        checkpoint=note_of(chain, point),
        header=leaf,
        members=tuple(proven.entries[MEMBERS]),
        proof=proven.proof,
    )
    return encode_links(replace(told.parts, head=shown))


def note_of(chain: TestChain, point: Checkpoint) -> bytes:
    validators, time_s = chain.blocks[-1].executed.validators, chain.time_ms // 1_000 + 1
    lines = []
    for each in validators[: chain.policy().threshold]:
        key = signer(each.number, "cosign")
        lines.append(
            (cosigner_name("test.net", each.name), key.public_key, time_s, cosign(key, point, time_s))
        )
    log = signer(1, "log")
    return encode_note(point, log.public_key, sign_checkpoint(log, point), lines)


def same_log_key(number: int) -> dict[bytes, bytes]:
    present = member_of(handed().chain.view, number)
    assert present is not None
    return {member_key(number): encode_member(replace(present, log_key=signer(1, "log").public_key))}


def without_member(number: int) -> dict[bytes, bytes]:
    present = member_of(handed().chain.view, number)
    assert present is not None
    return {member_key(number): encode_member(replace(present, status=2))}


def link_faults() -> list[Fault]:
    """Of the file over a change of the set, a handover, and another change."""
    good, policy, told = good_links(), links_policy(), handed()
    first = told.links[0]
    base, now_ms, now_s = "handover", links_now_ms(), links_now_ms() // 1_000
    rows: list[tuple[str, str, Sequence[int], Any]] = [
        ("version 2", "malformed", [0], 2),
        ("another name", "malformed", [1], "links"),
        ("a type that is none yet", "malformed", [2, 0, 0], 3),
        ("no co-signatures", "malformed", [2, 0, 3], []),
        ("keys that do not ascend", "malformed", [2, 0, 4], lambda keys: keys[::-1]),
        ("no members", "malformed", [3, 3], []),
        ("a pair that is no member", "malformed", [3, 3, 0, 0], b"\x02\x00\x01"),
        ("an entry that is no member", "malformed", [3, 3, 0, 1], lambda raw: edited(raw, [3], 4)),
        ("the head's note cut", "malformed", [3, 0], lambda note: note[:-1]),
        ("the head of another chain", "policy_mismatch", [3, 0], lambda note: note.replace(b"test", b"rest")),
        ("no header", "header_mismatch", [2, 0, 1], lambda leaf: leaf[:-1]),
        ("another chain's header", "header_mismatch", [2, 0, 1], lambda leaf: edited(leaf, [2], bytes(16))),
        ("a path cut", "inclusion_invalid", [2, 0, 2], lambda path: path[:-1]),
        ("one outside the set", "signer_unknown", [2, 0, 3, 0, 0], "v9"),
        ("one twice", "signer_repeated", [2, 0, 3], lambda rows: [*rows[:2], rows[0]]),
        ("two of four", "quorum_missing", [2, 0, 3], lambda rows: rows[:2]),
        ("names that do not ascend", "malformed", [2, 0, 3], lambda rows: rows[::-1]),
        ("a co-signature", "signature_invalid", [2, 0, 3, 2, 2], flipped),
        ("other keys than are named", "links_broken", [2, 0, 4], lambda keys: keys[1:]),
        ("a link left out", "links_broken", [2], lambda links: links[1:]),
        ("the last link left out", "links_broken", [2], lambda links: links[:2]),
        ("a link twice", "links_broken", [2], lambda links: [links[0], *links]),
        ("the handover left out", "signature_invalid", [2], lambda links: [links[0], links[2]]),
        ("the handover too early", "links_broken", [2], lambda links: [links[1], links[0], links[2]]),
        ("no engine's name", "links_broken", [2, 1, 1], "Comet/BFT"),
        ("the same engine", "links_broken", [2, 1, 1], "embedded"),
        ("another engine", "signature_invalid", [2, 1, 1], "other"),
        (
            "the head under the former origin",
            "policy_mismatch",
            [3, 0],
            lambda n: n.replace(b"cometbft", b"embedded"),
        ),
        ("the head's header", "header_mismatch", [3, 1], lambda leaf: edited(leaf, [7], lambda n: n + 1)),
        ("a log key of nobody", "policy_mismatch", [3, 0], note_line(0, lambda raw: bytes(4) + raw[4:])),
        ("a co-signer of nobody", "signer_unknown", [3, 0], note_line(1, lambda raw: bytes(4) + raw[4:])),
        ("a head of four of six", "quorum_missing", [3, 0], note_lines(lambda rows: rows[:4])),
        ("the head's co-signature", "signature_invalid", [3, 0], note_line(2, flipped)),
        ("the head's path", "inclusion_invalid", [3, 2, 0], flipped),
        ("a member left out", "prefix_incomplete", [3, 3], lambda pairs: pairs[:-1]),
        ("a proof cut", "map_proof_invalid", [3, 4], lambda raw: raw[:-1]),
    ]
    found = [Fault(why, code, base, edited(good, path, change)) for why, code, path, change in rows]
    ahead, old = now_s + 61, now_s - TRUST_MS // 1_000 - 1
    same = decode_header(first.header).validators_hash
    late = now_ms + TRUST_MS + 1_000
    dateless = policy.split(b"\n", 1)[1]
    later = with_verified(policy, replace(told.verified, size=decode_header(first.header).size))
    return [
        *found,
        Fault("a byte behind", "not_canonical", base, good + b"\x00"),
        Fault("a set that is not reached", "links_broken", base, resigned(0, VALIDATORS, bytes(32))),
        Fault("nothing changes", "links_broken", base, resigned(0, NEXT, same)),
        Fault("a handover where the set changes", "links_broken", base, resigned(1, NEXT, bytes(32))),
        Fault("a set named of no keys", "links_broken", base, resigned(0, NEXT, bytes(32))),
        Fault("co-signed in the future", "checkpoint_stale", base, resigned(0, STATE, bytes(32), ahead)),
        Fault("co-signed too long ago", "policy_expired", base, resigned(0, STATE, bytes(32), old)),
        Fault("a policy behind the link", "links_broken", base, good, later),
        Fault("a policy without a line", "policy_expired", base, good, dateless),
        Fault("a policy too old", "policy_expired", base, good, None, late),
        Fault("a policy of tomorrow", "policy_expired", base, good, None, now_ms - 86_400_000),
        Fault("a head too old", "checkpoint_stale", base, good, None, now_ms + AGE_MS_MAX),
        Fault("a head of another set", "links_broken", base, head_with(place=NEXT, value=bytes(32))),
        Fault("two with one log key", "header_mismatch", base, head_with(write=same_log_key(2))),
        Fault("another state signed", "header_mismatch", base, head_with(write=without_member(9))),
    ]


def newest_policy() -> bytes:
    return policy_file(handed().chain)
