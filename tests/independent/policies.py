"""A second follower of policies, from docs/protocol.md §18 alone; what it shares with the others is there."""

# ruff: noqa: E731, F403, F405
from datetime import UTC, datetime

from forks import *

LINE = re.compile(
    r"# taxledger policy: verified ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z) size (0|[1-9][0-9]{0,18})"
)
ENGINE = re.compile("[a-z][a-z0-9-]{0,31}")
SIGNED = lambda value: like(value, [[text(32), TIME, 64], ...]) and 1 <= len(value) <= 32
CHANGED, HANDED = [(1, 1), bytes, PATH, SIGNED, [text(256), ...]], [(2, 2), text(32), bytes, PATH, SIGNED]
LINK = lambda value: like(value, CHANGED) or like(value, HANDED)
LINKS = [(1, 1), "policy_links", [LINK, ...], [bytes, bytes, PATH, [[bytes, bytes], ...], bytes]]


def verified_line(policy):
    """Seconds and size of the policy's line, or None."""
    found = [
        LINE.fullmatch(line) for line in policy.decode().split("\n") if line.startswith("# taxledger policy:")
    ]
    if not found:
        return None
    if len(found) > 1 or not found[0]:
        raise ValueError("no policy for this verifier")
    moment = datetime.strptime(found[0][1], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return int(moment.timestamp()), int(found[0][2])


def set_hash(vkeys):
    return sha(b"taxledger/validators/1", encode(sorted(vkeys, key=str.encode)))


def vkey(name, what, key):
    raw = bytes([what]) + key
    identifier = sha(name.encode(), b"\n", raw)[:4].hex()
    return f"{name}+{identifier}+{base64.b64encode(raw).decode()}"


def header_of(raw, chain):
    h = Reader(raw, "header_mismatch").whole()
    need(like(h, HEADER) and h[2] == chain, "header_mismatch")
    return h


def next_set(vkeys, wanted, network):
    """Member name -> key of the set of which the keys are."""
    need(set_hash(vkeys) == wanted, "links_broken", "other keys")
    found = {}
    for text in vkeys:
        try:
            name, _, raw = read_vkey(text)
        except Refused:
            raise Refused("links_broken", "no vkey") from None
        member = name.removeprefix(network + "/")
        need(name != member and re.fullmatch(NAME, member), "links_broken", "a name")
        need(len(raw) == 33 and raw[0] == 4 and member not in found, "links_broken", "a key")
        found[member] = raw[1:]
    need(1 <= len(found) <= 32 and len({*found.values()}) == len(found), "links_broken", "keys")
    return found


def follow(link, reached, chain, network, now_ms, trust_ms):
    """Origin, set (member name -> key) and size behind a link."""
    origin, members, size = reached
    present = set_hash([vkey(f"{network}/{name}", 4, key) for name, key in members.items()])
    (header, path, rows), moves = link[-3:] if link[0] == 2 else link[1:4], link[0] == 2
    h = header_of(header, chain)
    here, (before, _, engine) = h[6] + h[7] + 1, origin.rpartition("/")
    need(h[11] == present, "links_broken", "another set")
    if moves:
        good = ENGINE.fullmatch(link[1]) and link[1] != engine and here >= size and h[12] == present
        need(good, "links_broken", "engine, set or size")
        origin = f"{before}/{link[1]}"
    else:
        need(h[12] != present and here > size, "links_broken", "nothing changes, or the size")
    node = sha(b"\x00", header)
    for left in path:
        node = sha(b"\x01", left, node)
    need(len(path) == (here - 1).bit_count(), "inclusion_invalid")
    names, q = [row[0] for row in rows], 2 * len(members) // 3 + 1
    need(all(name in members for name in names), "signer_unknown")
    need(len({*names}) == len(names), "signer_repeated")
    need(len(names) >= q, "quorum_missing")
    need(len(names) == q and rises(names), "malformed", "more than q, or the order")
    text = f"{origin}\n{here}\n{base64.b64encode(node).decode()}\n"
    for name, moment, signature in rows:
        signed_by(members[name], signature, f"cosignature/v1\ntime {moment}\n{text}".encode())
    times = [1000 * row[1] for row in rows]
    need(max(times) <= now_ms + 60_000, "checkpoint_stale")
    need(min(times) >= now_ms - trust_ms, "policy_expired")
    return origin, members if moves else next_set(link[4], h[12], network), here


def read_links(data):
    """The file, the head's note and the members of the head by number."""
    need(len(data) <= 16 << 20, "malformed", "too large")
    f = Reader(data).whole()
    need(like(f, LINKS) and len(f[2]) <= 1_024, "malformed", "the shape")
    good = all(rises(link[4]) and 1 <= len(link[4]) <= 32 for link in f[2] if link[0] == 1)
    need(good, "malformed", "keys")
    noted, pairs = read_note(f[3][0]), f[3][3]
    good = (
        1 <= len(pairs) <= 1_024
        and rises([key for key, _ in pairs])
        and all(len(key) == 3 and key[0] == 6 for key, _ in pairs)
    )
    need(good, "malformed", "keys of members")
    return f, noted, [read_member(raw) for _, raw in pairs]


def verify_links(data, policy, now_ms, trust_ms, age_ms_max):
    """Origin, log keys, witnesses (member name -> key), second and size of the policy that is reached."""
    line, (origin, chain, _, witnesses, _, _) = verified_line(policy), read_policy(policy)
    network = origin.partition("/")[0]
    good = line is not None and now_ms - trust_ms <= 1000 * line[0] <= now_ms + 60_000
    need(good, "policy_expired")
    f, noted, members = read_links(data)
    match = ORIGIN.fullmatch(noted[1])
    need(match and match.groups() == (network, chain.hex()), "policy_mismatch")
    reached = origin, {name.partition("/")[2]: key for (name, _), key in witnesses.items()}, line[1]
    for link in f[2]:
        reached = follow(link, reached, chain, network, now_ms, trust_ms)
    return arrive(f[3], noted, members, reached, chain, network, now_ms, age_ms_max)


def arrive(head, noted, members, reached, chain, network, now_ms, age_ms_max):
    (_, header, path, pairs, proof), (origin, present, size) = head, reached
    need(noted[1] == origin, "policy_mismatch", "the origin")
    h, active = header_of(header, chain), [entry for entry in members if entry[2:4] == [1, 1]]
    need(h[6] + h[7] == noted[2] - 1, "header_mismatch")
    names = {f"{network}/{name}": key for name, key in present.items()}
    trusted = set_hash([vkey(name, 4, key) for name, key in names.items()])
    need(h[11] == h[12] == trusted and noted[2] >= size, "links_broken", "the head's set or size")
    logs = {(origin, read_vkey(vkey(origin, 1, entry[7]))[1]): entry[7] for entry in active}
    signers = {(name, read_vkey(vkey(name, 4, key))[1]): key for name, key in names.items()}
    q = 2 * len(present) // 3 + 1
    policy = origin, chain, logs, signers, trusted, q
    certified(noted, header, path, policy, now_ms, age_ms_max)
    listed = {b"\x06": [tuple(pair) for pair in pairs]}
    need(proof_root(proof, [b"\x06"], listed) == h[8], "map_proof_invalid", "another root")
    need({entry[1]: entry[8] for entry in active} == present, "header_mismatch", "the members' keys")
    keys = [*present.values(), *(entry[7] for entry in active)]
    need(len({*keys}) == len(keys), "header_mismatch", "a key twice")
    oldest = min(int.from_bytes(raw[:8]) for _, raw in noted[4][1:])
    return {
        "origin": origin,
        "logs": [entry[7] for entry in active],
        "witnesses": present,
        "time_s": oldest,
        "size": noted[2],
    }
