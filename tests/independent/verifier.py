"""A second verifier of evidence, written from docs/protocol.md alone: nothing of the project is imported."""

import base64
import hashlib
import hmac
import math
import re
from calendar import monthrange
from itertools import pairwise

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Refused(Exception):
    """The evidence is not to be believed: one of §10's codes, and what is wrong."""

    code = property(lambda self: self.args[0])


def need(condition, code, message=""):
    if not condition:
        raise Refused(code, message)


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def rises(values):
    return all(a < b for a, b in pairwise(values))


# Heads of msgpack: the first with the count in it, and how many there are; the first before it, and how wide.
HEAD = {dict: (128, 16, 0xDE, 2), list: (144, 16, 0xDC, 2), str: (160, 32, 0xD9, 1), bytes: (0, 0, 0xC4, 1)}
WIDE = {first + n: (what, width << n) for what, (*_, first, width) in HEAD.items() for n in range(4 - width)}


def encode(value):
    """The one canonical form of a value."""
    what, raw = type(value), value
    if value is None or what is bool:
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if what is int and -32 <= value < 128:
        return bytes([value & 255])
    if what is int:
        power = next(power for power in range(4) if -(1 << (8 << power) - 1) <= value < 1 << (8 << power))
        return bytes([(0xCC if value > 0 else 0xD0) + power]) + value.to_bytes(1 << power, signed=value < 0)
    if what is str:
        value = raw = value.encode()
    if what is list:
        raw = b"".join(map(encode, value))
    if what is dict:
        raw = b"".join(encode(key) + encode(value[key]) for key in sorted(value, key=str.encode))
    first, room, sized, width = HEAD[what]
    if len(value) < room:
        return bytes([first + len(value)]) + raw
    power = next(power for power in range(3) if len(value) < 1 << (8 * width << power))
    return bytes([sized + power]) + len(value).to_bytes(width << power) + raw


class Reader:
    """Bytes that are read from the front; ``code`` is for those that can't be."""

    def __init__(self, data, code="not_canonical"):
        self.data, self.code, self.at, self.containers = data, code, 0, 0

    def take(self, count):
        self.at += count
        need(self.at <= len(self.data), self.code, "cut")
        return self.data[self.at - count : self.at]

    def number(self, width, signed=False):
        return int.from_bytes(self.take(width), signed=signed)

    def loose_item(self, levels):
        head = self.number(1)
        if head < 0x80 or head >= 0xE0:
            return head if head < 0x80 else head - 256
        if 0xC0 <= head <= 0xC3:
            return (None, None, False, True)[head & 3]  # no item begins with C1: not the one form of None
        if 0xCC <= head <= 0xD3:
            return self.number(1 << (head & 3), signed=head >= 0xD0)
        if head < 0xC0:
            what = (dict, list, str, str)[head - 0x80 >> 4]
            count = head - HEAD[what][0]
        else:
            need(head in WIDE, self.code, "a float or ext type")
            what, width = WIDE[head]
            count = self.number(width)
        if what in (bytes, str):
            raw = self.take(count)
            return raw if what is bytes else raw.decode(errors="replace")
        need(levels < 16, self.code, "too deep")
        self.containers += 1
        values = [self.loose_item(levels + 1) for _ in range(count << (what is dict))]
        keys = values[::2] if what is dict else []
        need(all(type(key) is str for key in keys), self.code, "a key that is no text")
        return values if what is list else dict(zip(keys, values[1::2], strict=True))

    def item(self):
        start, value = self.at, self.loose_item(0)
        need(encode(value) == self.data[start : self.at], self.code, "not the one form")
        return value

    def whole(self):
        value = self.item()
        need(self.at == len(self.data), self.code, "bytes after the item")
        return value


def like(value, pattern):
    """A list is an array of just that, or of any number if ``...`` follows; a tuple a range; a set a choice;
    a number the length of bytes; a text a regular expression; the rest are types and tests."""
    if type(pattern) is list and type(value) is list:
        wanted = pattern[:1] * len(value) if pattern[-1] is ... else pattern
        return len(value) == len(wanted) and all(map(like, value, wanted))
    if type(pattern) is set:
        return any(like(value, each) for each in pattern)
    if type(pattern) is tuple:
        return type(value) is int and pattern[0] <= value <= pattern[1]
    if type(pattern) is int:
        return type(value) is bytes and len(value) == pattern
    if type(pattern) is str:
        return type(value) is str and re.fullmatch(pattern, value) is not None
    if isinstance(pattern, type):
        return isinstance(value, pattern)
    return type(pattern) is not list and pattern(value)


def is_date(day):
    return like(day, MONTH + "-[0-9]{2}") and 0 < int(day[8:]) <= monthrange(int(day[:4]), int(day[5:7]))[1]


DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
U32, U63, NIL = (1 << 32) - 1, (1 << 63) - 1, type(None)
MONTH, SUBJECT = "(?!0000)[0-9]{4}-(0[1-9]|1[0-2])", "[a-z][a-z0-9-]{0,31}:(?! )[^\x00-\x1f\x7f]+(?<! )"
TYPES = {"date": is_date, "month": MONTH, "year": (1, 9999), "boolean": bool}
TYPES["text"] = lambda value: type(value) is str and len(value.encode()) <= 1024
QUERY = [SUBJECT, (1, 65535), [(1, 255), ...], MONTH, MONTH]
TAGS = [[(1, 255), (0, 65535), bytes], ...]
GROUPS = [[bytes, bytes, bytes, NIL, bytes, [{NIL, list}, ...]], ...]
ENTRIES = [[bytes, bytes], ...]
EVIDENCE = [(1, 1), "evidence", QUERY, bytes, bytes, [32, ...], ENTRIES, [bytes, ...], TAGS, GROUPS, bytes]
VALUE = [(1, 6), (1, U32), (1, 255), 32, {NIL, 16}, (0, U63)]
FIELDS, PERIOD = [[str, {str, list}, (0, 1)], ...], ["month|quarter|year", str]
SCHEMA = [(1, 1), "schema", (1, 255), (1, 255), str, FIELDS, [object, ...], object, PERIOD]
ENTRY = {6: list, 8: [32, (0, U63)], 9: [is_date, (0, U63)], 10: [384, (0, U63)]}
HEADER = [(1, 1), "block", 16, (1, U63), (0, U63), 32, (1, U63), (0, 512), 32, (0, U63), 32, 32, 32, (1, 1)]
LOG = "^log (([a-z][a-z0-9.-]{0,62})/([0-9a-f]{32})/[a-z][a-z0-9-]{0,31})[+]"
MEMBER = "(?!(?:none|validators) )([a-z][a-z0-9-]{0,31})"
SIGNER = rf"^(?:log|witness {MEMBER}) ([^ +]+)\+([0-9a-f]{{8}})\+([A-Za-z0-9+/]{{44}})(?: [^ ]+)?$"
NOTE = "(([^\0-\x1f]+)\n([^\0-\x1f]*)\n([^\0-\x1f]*)\n)\n((?:[^\0-\x1f]*\n)+)"


def base64_bytes(text):
    good = re.fullmatch("[A-Za-z0-9+/]*={0,2}", text) and len(text) % 4 == 0
    need(good and base64.b64encode(base64.b64decode(text)).decode() == text, "not_canonical", "base64")
    return base64.b64decode(text)


def read_policy(data):
    """The parts of a policy. One that can't be used is the caller's mistake, no code of §10: ValueError."""
    lines = [re.sub("[ \t]+", " ", line).strip(" ") for line in data.decode(errors="replace").split("\n")]
    lines = [line for line in lines if line and not line.startswith("#")]
    logs = [line for line in lines if line.startswith("log ")]
    *witnesses, group, quorum = [line for line in lines if not line.startswith("log ")]
    good = len(data) <= 65536 and data.endswith(b"\n") and not re.search(b"[\x00-\x08\x0b-\x1f\x7f]", data)
    good = good and 1 <= len(logs) <= 32 and 1 <= len(witnesses) <= 32 and quorum == "quorum validators"
    [(origin, network, chain)], keys = re.findall(LOG, logs[0]), ({}, {})
    for line in logs + witnesses:
        [(member, name, identifier, encoded)] = re.findall(SIGNER, line)
        raw = base64.b64decode(encoded)
        good = good and (name, raw[0]) == ((f"{network}/{member}", 4) if member else (origin, 1))
        good = good and sha(name.encode(), b"\n", raw)[:4].hex() == identifier
        keys[bool(member)][name, bytes.fromhex(identifier)] = raw[1:]
    members, vkeys = zip(*(line.split(" ")[1:3] for line in witnesses), strict=True)
    q, n, (word, name, threshold, *grouped) = 2 * len(members) // 3 + 1, len(members), group.split(" ")
    good = good and len({*keys[0].values(), *keys[1].values()}) == len(logs + witnesses)
    good = good and {"any": 1, "all": n, str(q): q}.get(threshold) == q and len(set(members)) == n
    if not good or [word, name, *sorted(grouped)] != ["group", "validators", *sorted(members)]:
        raise ValueError("no policy for this verifier")
    return origin, bytes.fromhex(chain), *keys, sha(b"taxledger/validators/1", encode(sorted(vkeys))), q


def read_note(note):
    """Text, origin, size, root and the signature lines: ((name, key id), the rest)."""
    text = note.decode(errors="replace")
    match = re.fullmatch(NOTE, text)
    need(match and text.encode() == note and len(note) <= 16384, "malformed", "the checkpoint")
    signed, origin, size, root, lines = match.groups()
    need(re.fullmatch("0|[1-9][0-9]*", size), "not_canonical", "the size")
    need(len(size) < 20 and int(size) <= U63, "malformed", "the size")
    root, signatures = base64_bytes(root), []
    need(len(root) == 32, "malformed", "the root")
    for number, line in enumerate(lines[:-1].split("\n")):
        match, length = re.fullmatch(r"— ([^\s+]+) ([^ ]*)", line), 76 if number else 68
        need(match, "malformed", "a signature line")
        raw = base64_bytes(match[2])
        need(len(raw) == length and (not number or raw[4] < 128), "malformed", "a signature or its time")
        signatures.append(((match[1], raw[:4]), raw[4:]))
    return signed.encode(), origin, int(size), root, signatures


def tag_holds(modulus, message, sigma):
    n, s = int.from_bytes(modulus), int.from_bytes(sigma)
    padded = b"\x00\x01" + b"\xff" * 330 + b"\x00" + DIGEST_INFO + sha(message)
    proper = len(sigma) == 384 and n >> 3071 == 1 and n & 1 and s < n and math.gcd(s, n) == 1
    return proper and pow(s, 65537, n).to_bytes(384) == padded


def open_record(chain, key, value, secret, row, schema):
    """The fields that are present, their year and month, if they are what the commitment says."""
    need(len(row) == len(schema[5]), "record_mismatch", "fields")
    digests, fields, (unit, dated) = [], {}, schema[8]
    for number, ((name, kind, _role), content) in enumerate(zip(schema[5], row, strict=True)):
        salt = hmac.digest(secret, b"taxledger/salt/1" + number.to_bytes(2), "sha256")[:16]
        if content is not None:
            good = content in kind if type(kind) is list else like(content, TYPES.get(kind, (-U63, U63)))
            need(good, "record_mismatch", name)
            fields[name] = content
        digest = sha(b"taxledger/field/1", salt, encode([name, content]))
        digests.append(bytes(32) if content is None else digest)
    commitment = sha(b"taxledger/commitment/1", chain, key, value[1].to_bytes(4), *digests)
    need(commitment == value[3] and dated in fields, "record_mismatch", "the commitment")
    period = f"{fields[dated]:04}" if type(fields[dated]) is int else fields[dated]
    month = 0 if unit == "year" else int(period[5:7])
    return fields, int(period[:4]), 13 + (month - 1) // 3 if unit == "quarter" else month


def bit_of(key, bit):
    return key[bit >> 3] >> (7 - bit % 8) & 1 if bit >> 3 < len(key) else 0


def split(a, b):
    """The first bit in which two keys differ, both as if filled up with zeros; 2048 if there is none."""
    return 2048 - (int.from_bytes(a.ljust(256, b"\0")) ^ int.from_bytes(b.ljust(256, b"\0"))).bit_length()


def part_root(pairs):
    """The root over ascending keys and their values."""
    waiting = []  # (bit, hash of its left side), rising
    for (key, value), after in zip(pairs, [*pairs[1:], None], strict=True):
        node, bit = sha(b"\x00", sha(key), sha(value)), split(key, after[0]) if after else -1
        while waiting and waiting[-1][0] > bit:
            bit_above, left = waiting.pop()
            node = sha(b"\x01", bit_above.to_bytes(2), left, node)
        waiting.append((bit, node))
    return waiting[0][1]


def proof_root(proof, prefixes, listed):
    """The root that the proof leads to, every prefix having exactly the pairs that ``listed`` has for it."""
    reader = Reader(proof, "map_proof_invalid")

    def part(possible, above):
        what, present = reader.number(1), [p for p in possible if p in listed]
        need((what == 0) == (not possible), reader.code, "left aside, or not")
        if what == 0:
            return reader.take(32)
        if what == 1:
            bit = reader.number(2)
            need(above[-1] < bit < 8 * max(map(len, possible)), reader.code, "a bit")
            sides = [[p for p in possible if bit_of(p, bit) == side] for side in (0, 1)]
            return sha(b"\x01", bit.to_bytes(2), *[part(side, [*above, bit]) for side in sides])
        if what in (2, 5):
            given = reader.take(32) if what == 2 else None
            need(len(present) == 1, "prefix_incomplete", "not one prefix in a part")
            keys, node = [key for key, _ in listed[present[0]]], part_root(listed[present[0]])
            need(above[-1] < 8 * len(present[0]) and (keys == present) == (what == 5), reader.code, "a form")
            need(rises(keys) and given in (None, node), "prefix_incomplete")
            return node
        need(what == 3 or (what == 4 and len(above) == 1), reader.code, "no such part")
        need(not present, "prefix_incomplete", "keys of an absent prefix")
        if what == 4:
            return sha(b"")
        key = reader.take(reader.number(1))
        node = sha(b"\x00", sha(key), reader.take(32))
        steps = [(reader.number(2), reader.take(32)) for _ in range(reader.number(1))]
        bits = [bit for bit, _ in steps]
        need(rises([above[-1], *bits]), reader.code, "bits that do not rise")
        for p in possible:
            other, here = split(key, p), all(bit_of(key, bit) == bit_of(p, bit) for bit in above[1:])
            need(here and other < 8 * len(p) and other not in bits, reader.code, "not absent")
        for bit, sibling in reversed(steps):
            node = sha(b"\x01", bit.to_bytes(2), *((sibling, node) if bit_of(key, bit) else (node, sibling)))
        return node

    root = part(prefixes, [-1])
    need(reader.at == len(proof), reader.code, "bytes after the proof")
    return root


def read(data):
    """The file, its entries by key, and (prefix, key, value, its bytes, secret, fields) of every record."""
    need(len(data) <= 64 << 20, "malformed", "too large")
    reader = Reader(data)
    e = reader.whole()
    need(reader.containers <= 300_000 and like(e, EVIDENCE), "malformed", "the shape")
    (subject, _, kinds, begin, end), pairs, entries, records = e[2], e[6], {}, []
    good = len(subject.encode()) <= 256 and rises(kinds) and 1 <= len(kinds) <= 16
    good = good and "1990" <= begin <= end < "2201" and int(end[:4]) - int(begin[:4]) < 30
    good = good and all(rises([each[0] for each in part]) for part in (pairs, e[9]))
    need(good, "malformed", "the query or the order")
    for key, raw in pairs:
        need(key[:1] in (b"\x06", b"\x08", b"\x09", b"\x0a") and len(raw) < 65536, "malformed", "an entry")
        entries[key] = Reader(raw).whole()
        need(like(entries[key], ENTRY[key[0]]), "malformed", "an entry's value")
    good = sum(key[0] == 8 for key in entries) == len(e[7]) and rises([each[:2] for each in e[8]])
    need(good, "malformed", "schemas or tags")
    for prefix, ends, values, _, secrets, rows in e[9]:
        width, n, reader = 37 - len(prefix), len(rows), Reader(values)
        good = width in (16, 17) and prefix[0] == 1 and n and len(ends) == n * width
        need(good and len(secrets) == 32 * n, "malformed", "a prefix, its keys or secrets")
        for i, row in enumerate(rows):
            start, value = reader.at, reader.item()
            need(like(value, VALUE), "malformed", "a record's value")
            key, secret = prefix + ends[i * width : (i + 1) * width], secrets[32 * i : 32 * i + 32]
            records.append((prefix, key, value, values[start : reader.at], secret, row))
        need(reader.at == len(values), "malformed", "values left over")
    need(len(records) <= 200_000, "malformed", "records")
    return e, entries, records


def verify(data, policy, query, now_ms, age_ms_max):
    """The answer that the file proves, or Refused."""
    origin, chain, logs, witnesses, trusted, q = read_policy(policy)
    e, entries, records = read(data)
    _, _, asked, note, header, path, pairs, documents, tags, groups, proof = e
    text, note_origin, size, root, [(log, signed), *cosigned] = read_note(note)
    subject, issuer, kinds, begin, end = query
    need(asked == [subject, issuer, list(kinds), begin, end], "query_mismatch")
    need(note_origin == origin, "policy_mismatch", "the origin")
    h = Reader(header, "header_mismatch").whole()
    need(like(h, HEADER) and h[2] == chain and h[6] + h[7] == size - 1, "header_mismatch")
    need(h[11] == h[12] == trusted, "policy_outdated")
    names, times = [name for name, _ in cosigned], [int.from_bytes(raw[:8]) for _, raw in cosigned]
    need(log in logs, "policy_mismatch", "the log's key")
    need(all(name in witnesses for name in names), "signer_unknown")
    need(len(set(names)) == len(names), "signer_repeated")
    need(len(names) >= q, "quorum_missing")
    need(len(names) == q, "malformed", "more than q co-signatures")
    try:
        Ed25519PublicKey.from_public_bytes(logs[log]).verify(signed, text)
        for (name, raw), moment in zip(cosigned, times, strict=True):
            message = f"cosignature/v1\ntime {moment}\n".encode() + text
            Ed25519PublicKey.from_public_bytes(witnesses[name]).verify(raw[8:], message)
    except InvalidSignature:
        raise Refused("signature_invalid") from None
    age = max(0, now_ms - 1000 * min(times))
    need(age <= age_ms_max and 1000 * max(times) <= now_ms + 60_000, "checkpoint_stale")
    # The last leaf is a right child wherever it has a sibling: one for every bit set in its index.
    node = sha(b"\x00", header)
    for left in path:
        node = sha(b"\x01", left, node)
    need(len(path) == (size - 1).bit_count() and node == root, "inclusion_invalid")

    who, (first, last) = issuer.to_bytes(2), (int(begin[:4]), int(end[:4]))
    keys = {year: b"\x0a" + who + year.to_bytes(2) for year in range(first, last + 1)}
    due = [[kind, year] for kind in kinds for year in keys if keys[year] in entries]
    need([tag[:2] for tag in tags] == due, "tag_invalid", "kinds and years")
    prefixes = {}
    for kind, year, sigma in tags:
        message = encode(["taxledger/tag/1", chain, subject, kind, year])
        need(tag_holds(entries[keys[year]][0], message, sigma), "tag_invalid")
        prefix = b"\x01" + who + bytes([kind]) + sha(b"taxledger/tag/1", sigma)[:16]
        low, high = int(begin[5:]) if year == first else 1, int(end[5:]) if year == last else 12
        months = [0, *range(low, high + 1), *range(13 + (low - 1) // 3, 14 + (high - 1) // 3)]
        ends = [b""] if len(months) == 17 else [bytes([month]) for month in months]
        prefixes.update({prefix + end: year for end in ends})

    need(len({record[1] for record in records}) == len(records), "record_repeated")
    schemas = {}
    for key, document in zip([key for key in entries if key[0] == 8], documents, strict=True):
        schema = schemas[key] = Reader(document, "record_mismatch").whole()
        good = like(schema, SCHEMA) and bytes([8, *schema[2:4]]) == key
        need(good and sha(document) == entries[key][0], "record_mismatch", "a schema or its hash")
        dated = {name: kind for name, kind, _role in schema[5]}.get(schema[8][1])
        need(dated in ("date", "month") or [dated, schema[8][0]] == ["year", "year"], "record_mismatch")
    listed, found = {key: [(key, raw)] for key, raw in pairs}, []
    singles = {b"\x06" + who, *keys.values(), *(b"\x09" + who + bytes([kind]) for kind in kinds)}
    for prefix, key, value, raw, secret, row in records:
        name = bytes([8, key[3], value[2]])
        good = name in schemas and key[20] <= 16 and (row is None) == (value[0] == 5)
        need(good and (row is not None or secret == bytes(32)), "record_mismatch", "schema, month or erasure")
        singles.add(name)
        listed.setdefault(prefix, []).append((key, raw))
        if row is not None:
            fields, year, month = open_record(chain, key, value, secret, row, schemas[name])
            need(prefixes.get(prefix, year) == year and month == key[20], "record_mismatch", "the period")
            head = {"kind": key[3], "year": year, "month": month, "status": value[0], "version": value[1]}
            found.append({**head, "fields": fields})
    need(all(group[0] in prefixes for group in groups), "prefix_incomplete", "no record prefix")
    need(proof_root(proof, [*singles, *prefixes], listed) == h[8], "map_proof_invalid", "another root")
    need(set(entries) <= singles, "map_proof_invalid", "an entry that is no single key")
    last, begun = f"{end}-{monthrange(*map(int, end.split('-')))[1]}", set(keys.values()) <= set(entries)
    through = {kind: entries.get(b"\x09" + who + bytes([kind]), [None])[0] for kind in kinds}
    complete = {kind: begun and date is not None and date >= last for kind, date in through.items()}
    answer = {"records": found, "erased": len(records) - len(found), "through": through, "complete": complete}
    return {**answer, "age_ms": age, "size": size, "height": h[3]}
