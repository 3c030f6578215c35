"""A second verifier of fork evidence, from docs/protocol.md §17 alone; what it shares with the others is there."""

# ruff: noqa: E731, F403, F405
from disclosures import *

ORIGIN = re.compile("([a-z][a-z0-9.-]{0,62})/([0-9a-f]{32})/[a-z][a-z0-9-]{0,31}")
VKEY = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")
PATH = lambda value: like(value, [32, ...]) and len(value) <= 64
SIZE, BEGINNING, LEAVES = (1, U63), ["consistency", 32, PATH], ["inclusion", (0, U63), 32, PATH, 32, PATH]
SHOWN = lambda value: value is None or like(value, BEGINNING) or like(value, LEAVES)
TREE, ROW = [str, SIZE, 32], [str, TIME, 64, TIME, 64]
COSIGNED = [(1, 1), "fork_evidence", "cosignatures", TREE, TREE, SHOWN, [ROW, ...]]
BOUND = lambda value: value is None or like(value, [bytes, bytes, PATH, bytes, bytes])
VOTES = [(1, 1), "fork_evidence", "votes", 16, (1, U63), MEMBER, 32, [[32, 64], [32, 64]], BOUND]
NAME = "(?!(?:none|validators)$)[a-z][a-z0-9-]{0,31}"
KEY = lambda value: value is None or like(value, 32)
KINDS = lambda value: like(value, [(1, 255), ...]) and rises(value)
ENTRY7 = [(1, 1), NAME, (1, 3), (1, 3), KINDS, 32, KEY, KEY, KEY, KEY, KEY, TIME]


def read_vkey(text):
    """Name, key id and raw key (type and public key) of a vkey."""
    match = VKEY.fullmatch(text)
    need(match, "malformed", "a vkey")
    raw = base64_bytes(match[3])
    need(len(raw) == 33 and sha(match[1].encode(), b"\n", raw)[:4].hex() == match[2], "malformed", "a key id")
    return match[1], bytes.fromhex(match[2]), raw


def read_member(raw):
    """A member's entry (§7)."""
    entry = Reader(raw).whole()
    good = like(entry, ENTRY7) and all((key is not None) == (entry[3] == 1) for key in entry[6:9])
    need(good, "malformed", "a member")
    return entry


def signed_by(key, signature, message):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        raise Refused("signature_invalid") from None


def path_root(index, size, leaf, path):
    """The root that an audit path leads to (RFC 6962 §2.1.1), or None for a path of another length."""
    if size == 1:
        return None if path or index else leaf
    if not path or index >= size:
        return None
    half = 1 << (size - 1).bit_length() - 1
    *path, last = path
    if index < half:
        below = path_root(index, half, leaf, path)
        return below and sha(b"\x01", below, last)
    below = path_root(index - half, size - half, leaf, path)
    return below and sha(b"\x01", last, below)


def consistent_roots(old, new, root, path, whole=True):
    """Both trees' roots from a consistency proof (RFC 6962 §2.1.2), or None; ``whole``: SUBPROOF's b."""
    if old == new:
        if whole:
            return None if path else (root, root)
        return (path[0], path[0]) if len(path) == 1 else None
    if not path:
        return None
    half = 1 << (new - 1).bit_length() - 1
    *path, last = path
    if old <= half:
        below = consistent_roots(old, half, root, path, whole)
        return below and (below[0], sha(b"\x01", below[1], last))
    below = consistent_roots(old - half, new - half, root, path, False)
    return below and (sha(b"\x01", last, below[0]), sha(b"\x01", last, below[1]))


def contradicted(first, second, shown):
    (_, size, root), (_, other_size, other_root) = first, second
    if shown is None:
        return True  # the same size, and the roots ascend
    if shown[0] == "consistency":
        found = consistent_roots(size, other_size, shown[1], shown[2])
        return shown[1] != root and found == (shown[1], other_root)
    _, index, leaf, path, other, other_path = shown
    good = index < size and leaf != other and path_root(index, size, leaf, path) == root
    return good and path_root(index, other_size, other, other_path) == other_root


def verify_forks(data, policy):
    """The names of the members that the file convicts."""
    policy = read_policy(policy)
    need(len(data) <= 65_536, "malformed", "too large")
    f = Reader(data).whole()
    need(like(f, COSIGNED) or like(f, VOTES), "malformed", "the shape")
    return (cosigned_twice if f[2] == "cosignatures" else voted_twice)(f, policy)


def cosigned_twice(f, policy):
    (_, _, _, first, second, shown, rows), (origin, _, _, witnesses, _, _) = f, policy
    good = first[1:] < second[1:] and (shown is None) == (first[1] == second[1])
    good = good and 1 <= len(rows) <= 32 and rises([row[0] for row in rows])
    need(good and all(ORIGIN.fullmatch(tree[0]) for tree in (first, second)), "malformed", "trees or rows")
    keys = [read_vkey(row[0]) for row in rows]
    need(all(raw[0] == 4 for *_, raw in keys), "malformed", "a key of another sort")
    ours = ORIGIN.fullmatch(origin).groups()
    need(all(ORIGIN.fullmatch(tree[0]).groups() == ours for tree in (first, second)), "policy_mismatch")
    for name, identifier, raw in keys:
        need(witnesses.get((name, identifier)) == raw[1:], "signer_unknown", name)
    need(contradicted(first, second, shown), "contradiction_invalid")
    notes = [f"{where}\n{size}\n{base64.b64encode(root).decode()}\n" for where, size, root in (first, second)]
    for (_, _, raw), (_, *signed) in zip(keys, rows, strict=True):
        for text, moment, signature in zip(notes, signed[::2], signed[1::2], strict=True):
            signed_by(raw[1:], signature, f"cosignature/v1\ntime {moment}\n{text}".encode())
    return sorted(name.partition("/")[2] for name, _, _ in keys)


def voted_twice(f, policy):
    chain, height, member, key, votes, binding = f[3:]
    need(rises([header for header, _ in votes]), "malformed", "the headers")
    if binding is not None:
        noted, entry = read_note(binding[0]), read_member(binding[3])
    need(chain == policy[1], "policy_mismatch")
    need(binding is not None, "binding_missing")
    h, _ = certified(noted, binding[1], binding[2], policy, 1 << 80, 1 << 81)
    place = b"\x06" + member.to_bytes(2)
    root = proof_root(binding[4], [place], {place: [(place, binding[3])]})
    need(root == h[8], "map_proof_invalid", "another root")
    need(entry[6] == key, "key_mismatch")
    for header, signature in votes:
        signed_by(key, signature, b"taxledger/vote/1" + chain + height.to_bytes(8) + header)
    return [entry[1]]
