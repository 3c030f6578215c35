"""A second verifier of permits and pledge proofs, from docs/protocol.md §15 and §16 alone; the rest as in §10."""

# ruff: noqa: F403, F405
from disclosures import *

KEY37 = lambda key: like(key, 37) and key[0] == 1 and key[20] <= 16  # noqa: E731
PERMIT = [(1, 1), "permit", KEY37, (1, U32), 16, MEMBER, TIME, 16, 64]
PLEDGE = [16, MEMBER, (10_000, 1_000_000), {NIL, TIME}]
PLEDGES = [KEY37, (0, 3), [PLEDGE, ...]]
PLEDGE_FILE = [(1, 1), "pledges", [[MEMBER, 16], ...], bytes, bytes, [32, ...], [{NIL, bytes}, ...], bytes]


def read_permit(raw, chain, key):
    """The permit's terms: record key, version, fingerprint, lender, not_after; the issuer's key is ``key``."""
    need(len(raw) <= 256, "malformed", "too large")
    permit = Reader(raw).whole()
    need(like(permit, PERMIT), "malformed", "the shape")
    *terms, named, signature = permit[2:]
    need(named == sha(key)[:16], "permit_invalid", "another key")
    message = encode(["taxledger/permit/1", chain, *terms])
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        raise Refused("permit_invalid") from None
    return terms


def read_pledges(raw):
    need(len(raw) <= 1_024, "malformed", "an entry too large")
    entry = Reader(raw).whole()
    need(like(entry, PLEDGES) and len(entry[2]) <= 16, "malformed", "an entry")
    need(len({each[0] for each in entry[2]}) == len(entry[2]), "malformed", "a pledge twice")
    return entry


def verify_pledges(data, policy, keys, now_ms, age_ms_max):
    """For each key (issuer, fingerprint): record key, marks and open pledges, or None where nothing is pledged."""
    policy = read_policy(policy)
    need(len(data) <= 32 << 20, "malformed", "too large")
    reader = Reader(data)
    f = reader.whole()
    need(like(f, PLEDGE_FILE) and reader.containers <= 10_004, "malformed", "the shape")
    _, _, named, note, header, path, values, proof = f
    good = rises(named) and 1 <= len(named) == len(values) <= 10_000 and len(path) <= 64
    need(good, "malformed", "keys, values or the path")
    entries, noted = [None if raw is None else read_pledges(raw) for raw in values], read_note(note)
    need(named == sorted(map(list, set(keys))), "query_mismatch")
    h, age = certified(noted, header, path, policy, now_ms, age_ms_max)
    places = [b"\x05" + issuer.to_bytes(2) + fingerprint for issuer, fingerprint in named]
    listed = {place: [(place, raw)] for place, raw in zip(places, values, strict=True) if raw is not None}
    need(proof_root(proof, places, listed) == h[8], "map_proof_invalid", "another root")
    states = {}
    for (issuer, fingerprint), entry in zip(named, entries, strict=True):
        now = [each for each in (entry or [0, 0, []])[2] if each[3] is None or h[4] < each[3]]
        states[issuer, fingerprint] = (*entry[:2], now) if now else None
    return {"states": states, "age_ms": age, "size": noted[2], "height": h[3]}
