"""A second verifier of evidence, written from docs/protocol.md alone: nothing of the project is imported."""

import base64
import hashlib
import hmac
import math
import re
from calendar import monthrange
from datetime import date
from itertools import pairwise

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

U63 = (1 << 63) - 1
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


class Refused(Exception):
    """The evidence is not to be believed; ``code`` is one of §10's."""

    def __init__(self, code, message=""):
        super().__init__(f"{code}: {message}")
        self.code = code


def need(condition, code, message=""):
    if not condition:
        raise Refused(code, message)


def form(condition, message):
    need(condition, "malformed", message)


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def tagged(what, *parts):
    return sha(f"taxledger/{what}/1".encode(), *parts)


def item(data, at, levels=0):
    """The item that begins at ``at``, and where it ends."""

    def take(count):
        nonlocal at
        need(at + count <= len(data), "not_canonical", "cut")
        at += count
        return data[at - count : at]

    def number(width, least):
        value = int.from_bytes(take(width))
        need(value >= least, "not_canonical", "not the shortest header")
        return value

    head = take(1)[0]
    if head < 0x80 or head >= 0xE0:
        return (head if head < 0x80 else head - 256), at
    if head in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[head], at
    if 0xCC <= head <= 0xCF:
        return number(1 << head - 0xCC, (128, 1 << 8, 1 << 16, 1 << 32)[head - 0xCC]), at
    if 0xD0 <= head <= 0xD3:
        value = int.from_bytes(take(1 << head - 0xD0), signed=True)
        need(value < (-32, -128, -(1 << 15), -(1 << 31))[head - 0xD0], "not_canonical", "a long integer")
        return value, at
    if 0xC4 <= head <= 0xC6:
        return take(number(1 << head - 0xC4, (0, 1 << 8, 1 << 16)[head - 0xC4])), at
    if 0xA0 <= head < 0xC0 or 0xD9 <= head <= 0xDB:
        width = head - 0xD9
        raw = take(head & 31 if head < 0xC0 else number(1 << width, (32, 1 << 8, 1 << 16)[width]))
        try:
            return raw.decode(), at
        except UnicodeDecodeError:
            raise Refused("not_canonical", "no UTF-8") from None
    need((head < 0xA0 or head >= 0xDC) and levels < 16, "not_canonical", "a float, ext type, or too deep")
    values, is_map = [], head < 0x90 or head >= 0xDE
    count = head & 15 if head < 0xA0 else number(4, 1 << 16) if head & 1 else number(2, 16)
    for _ in range(count << is_map):
        value, at = item(data, at, levels + 1)
        values.append(value)
    if is_map:
        need(all(type(key) is str for key in values[::2]), "not_canonical", "a key that is no text")
        need(rises([key.encode() for key in values[::2]]), "not_canonical", "keys that do not ascend")
        return dict(zip(values[::2], values[1::2], strict=True)), at
    return values, at


def decode(data, code="not_canonical"):
    try:
        value, end = item(data, 0)
    except Refused as error:
        raise Refused(code, str(error)) from None
    need(end == len(data), code, "bytes after the item")
    return value


def encode(value):
    """What gets hashed here: scalars, and arrays of them, none of them long."""
    if value is None or type(value) is bool:
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if type(value) is int:
        if -32 <= value < 128:
            return bytes([value & 255])
        power = next(power for power in range(4) if -(1 << (8 << power) - 1) <= value < 1 << (8 << power))
        return bytes([(0xCC if value > 0 else 0xD0) + power]) + value.to_bytes(1 << power, signed=value < 0)
    n = len(value.encode() if type(value) is str else value)
    if type(value) is list:
        return (bytes([0x90 + n]) if n < 16 else b"\xdc" + n.to_bytes(2)) + b"".join(map(encode, value))
    if type(value) is str and n < 32:
        return bytes([0xA0 + n]) + value.encode()
    wide = n > 255
    head = bytes([(0xD9 if type(value) is str else 0xC4) + wide]) + n.to_bytes(1 + wide)
    return head + (value.encode() if type(value) is str else value)


def like(value, pattern):
    """A list is an array of exactly that, a tuple a range, a number the length of bytes, a function a test."""
    if callable(pattern):
        return pattern(value)
    if type(pattern) is list:
        return type(value) is list and len(value) == len(pattern) and all(map(like, value, pattern))
    if type(pattern) is tuple:
        return type(value) is int and pattern[0] <= value <= pattern[1]
    if type(pattern) is int:
        return type(value) is bytes and len(value) == pattern
    return type(value) is type(pattern) and value == pattern


def containers(value):
    inside = value.values() if type(value) is dict else value if type(value) is list else None
    return 0 if inside is None else 1 + sum(map(containers, inside))


def every(pattern):
    return lambda value: type(value) is list and all(like(each, pattern) for each in value)


def rises(values):
    return all(a < b for a, b in pairwise(values))


def of(kind):
    return lambda value: type(value) is kind


binary, text = of(bytes), of(str)


def is_date(text):
    try:
        found = type(text) is str and re.fullmatch("([0-9]{4})-([0-9]{2})-([0-9]{2})", text)
        return bool(found and date(*map(int, found.groups())))
    except ValueError:
        return False


def is_month(text):
    return type(text) is str and bool(re.fullmatch("(?!0000)[0-9]{4}-(0[1-9]|1[0-2])", text))


def base64_bytes(text):
    good = re.fullmatch("[A-Za-z0-9+/]*={0,2}", text) and len(text) % 4 == 0
    need(good and base64.b64encode(base64.b64decode(text)).decode() == text, "not_canonical", "base64")
    return base64.b64decode(text)


def read_policy(data):
    """The parts of a policy. One that can't be used is the caller's mistake, no code of §10: ValueError."""

    def good(condition):
        if not condition:
            raise ValueError("no policy for this verifier")

    found, keys = {"log": [], "witness": [], "group": [], "quorum": []}, set()
    good(len(data) <= 65536 and data.endswith(b"\n") and not re.search(b"[\x00-\x08\x0b-\x1f\x7f]", data))
    for line in data.decode(errors="replace").replace("\t", " ").split("\n"):
        what, *words = [word for word in line.split(" ") if word] or ["#"]
        if what.startswith("#"):
            continue
        good(what in found and not (what == "witness" and found["group"]))
        good(what != "quorum" or found["group"])
        if what in ("log", "witness"):
            at = int(what == "witness")
            good(len(words) - at in (1, 2))
            name, identifier, encoded = words[at].split("+", 2)
            raw = base64.b64decode(encoded, validate=True)
            good(base64.b64encode(raw).decode() == encoded and len(raw) == 33 and raw[0] == (1, 4)[at])
            good(sha(name.encode(), b"\n", raw)[:4].hex() == identifier and raw[1:] not in keys)
            keys.add(raw[1:])
            words = [words[0], words[at], (name, bytes.fromhex(identifier)), raw[1:]]
        found[what].append(words)
    logs, witnesses = found["log"], found["witness"]
    good(1 <= len(logs) <= 32 and 1 <= len(witnesses) <= 32 and found["quorum"] == [["validators"]])
    members, origin, q = [each[0] for each in witnesses], logs[0][2][0], 2 * len(witnesses) // 3 + 1
    form = "([a-z][a-z0-9.-]{0,62})/([0-9a-f]{32})/[a-z][a-z0-9-]{0,31}"
    good(all(each[2][0] == origin for each in logs) and re.fullmatch(form, origin))
    network, chain = re.fullmatch(form, origin).groups()
    good(all(re.fullmatch("(?!(none|validators)$)[a-z][a-z0-9-]{0,31}", name) for name in members))
    good(len(set(members)) == len(members) and all(w[2][0] == f"{network}/{w[0]}" for w in witnesses))
    (name, threshold, *grouped), *more = found["group"]
    good(name == "validators" and sorted(grouped) == sorted(members) and not more)
    good({"any": 1, "all": len(members), str(q): q}.get(threshold) == q)
    trusted = tagged("validators", encode(sorted(each[1] for each in witnesses)))
    logs, witnesses = ({each[2]: each[3] for each in part} for part in (logs, witnesses))
    return origin, bytes.fromhex(chain), logs, witnesses, trusted, q


def read_note(note):
    """Text, origin, size, root and the signature lines: ((name, key id), the rest)."""
    try:
        lines = note.decode().split("\n")
    except UnicodeDecodeError:
        raise Refused("malformed", "the checkpoint is no text") from None
    form(len(note) <= 16384 and not re.search(b"[\x00-\x09\x0b-\x1f]", note), "the checkpoint")
    form(len(lines) > 5 and lines[0] and not lines[3] and not lines[-1], "the lines of the checkpoint")
    need(re.fullmatch("0|[1-9][0-9]*", lines[1]), "not_canonical", "the size")
    form(len(lines[1]) < 20 and int(lines[1]) <= U63, "the size")
    root, signatures = base64_bytes(lines[2]), []
    form(len(root) == 32, "the root")
    for number, line in enumerate(lines[4:-1]):
        match = re.fullmatch(r"— ([^\s+]+) ([^ ]*)", line)
        form(match, "a signature line")
        raw = base64_bytes(match[2])
        form(len(raw) == (76 if number else 68) and (not number or raw[4] < 128), "a signature or its time")
        signatures.append(((match[1], raw[:4]), raw[4:]))
    return "\n".join(lines[:3]).encode() + b"\n", lines[0], int(lines[1]), root, signatures


def verify_note(policy, text, signatures, now_ms, age_ms_max):
    """The age of the checkpoint; its origin is the policy's."""
    _origin, _chain, logs, witnesses, _hash, q = policy
    (log, signed), cosigned = signatures[0], signatures[1:]
    names = [name for name, _ in cosigned]
    need(log in logs, "policy_mismatch", "the log's key")
    need(all(name in witnesses for name in names), "signer_unknown")
    need(len(set(names)) == len(names), "signer_repeated")
    need(len(names) >= q, "quorum_missing")
    form(len(names) == q, "more than q co-signatures")
    times = [int.from_bytes(raw[:8]) for _, raw in cosigned]
    try:
        Ed25519PublicKey.from_public_bytes(logs[log]).verify(signed, text)
        for (name, raw), moment in zip(cosigned, times, strict=True):
            message = f"cosignature/v1\ntime {moment}\n".encode() + text
            Ed25519PublicKey.from_public_bytes(witnesses[name]).verify(raw[8:], message)
    except InvalidSignature:
        raise Refused("signature_invalid") from None
    age = max(0, now_ms - 1000 * min(times))
    need(age <= age_ms_max and 1000 * max(times) <= now_ms + 60_000, "checkpoint_stale")
    return age


def tag_holds(modulus, message, sigma):
    n, s = int.from_bytes(modulus), int.from_bytes(sigma)
    padded = b"\x00\x01" + b"\xff" * 330 + b"\x00" + DIGEST_INFO + sha(message)
    proper = len(sigma) == 384 and n >> 3071 == 1 and n & 1 and s < n and math.gcd(s, n) == 1
    return proper and pow(s, 65537, n).to_bytes(384) == padded


TYPES = {"date": is_date, "month": is_month, "year": (1, 9999), "boolean": of(bool)}
TYPES["text"] = lambda v: text(v) and len(v.encode()) <= 1024


def open_record(chain, key, value, secret, row, schema):
    """The fields that are present and their period, if they are what the commitment says."""
    need(len(row) == len(schema[5]), "record_mismatch", "fields")
    digests, fields = b"", {}
    for number, ((name, kind, _role), content) in enumerate(zip(schema[5], row, strict=True)):
        salt = hmac.digest(secret, b"taxledger/salt/1" + number.to_bytes(2), "sha256")[:16]
        if content is not None:
            good = content in kind if type(kind) is list else like(content, TYPES.get(kind, (-U63, U63)))
            need(good, "record_mismatch", name)
            fields[name] = content
        digests += bytes(32) if content is None else tagged("field", salt, encode([name, content]))
    expected = tagged("commitment", chain, key, value[1].to_bytes(4), digests)
    unit, field = schema[8]
    need(expected == value[3] and field in fields, "record_mismatch", "the commitment")
    text = f"{fields[field]:04}" if type(fields[field]) is int else fields[field]
    month = 0 if unit == "year" else int(text[5:7])
    return fields, int(text[:4]), 13 + (month - 1) // 3 if unit == "quarter" else month


def bit_of(key, bit):
    return key[bit >> 3] >> (7 - bit % 8) & 1 if bit >> 3 < len(key) else 0


def split(a, b):
    """The first bit in which two keys differ, both as if filled up with zeros; 2048 if there is none."""
    both = int.from_bytes(a.ljust(256, b"\0")) ^ int.from_bytes(b.ljust(256, b"\0"))
    return 2048 - both.bit_length()


def inner(bit, left, right):
    return sha(b"\x01", bit.to_bytes(2), left, right)


def part_root(pairs):
    """The root over ascending keys and their values."""
    waiting = []  # (bit, hash of its left side), rising
    for (key, value), after in zip(pairs, [*pairs[1:], None], strict=True):
        node, bit = sha(b"\x00", sha(key), sha(value)), split(key, after[0]) if after else -1
        while waiting and waiting[-1][0] > bit:
            node = inner(*waiting.pop(), node)
        waiting.append((bit, node))
    return waiting[0][1]


def proof_root(proof, prefixes, listed):
    """The root that the proof leads to, every prefix having exactly the pairs that ``listed`` has for it."""
    at = 0

    def take(count):
        nonlocal at
        need(at + count <= len(proof), "map_proof_invalid", "cut")
        at += count
        return proof[at - count : at]

    def number(width):
        return int.from_bytes(take(width))

    def part(possible, above):
        what = number(1)
        need((what == 0) == (not possible), "map_proof_invalid", "left aside, or not")
        if what == 0:
            return take(32)
        present = [p for p in possible if p in listed]
        if what == 1:
            bit = number(2)
            need(above[-1] < bit < 8 * max(map(len, possible)), "map_proof_invalid", "a bit")
            sides = [[p for p in possible if bit_of(p, bit) == side] for side in (0, 1)]
            return inner(bit, *[part(side, [*above, bit]) for side in sides])
        if what == 2:
            given = take(32)
            need(len(present) == 1, "prefix_incomplete", "not one prefix in a part")
            need(above[-1] < 8 * len(present[0]), "map_proof_invalid", "a part of a prefix")
            pairs = listed[present[0]]
            need(rises([key for key, _ in pairs]) and part_root(pairs) == given, "prefix_incomplete")
            return given
        need(what == 3 or (what == 4 and len(above) == 1), "map_proof_invalid", "no such part")
        need(not present, "prefix_incomplete", "keys of an absent prefix")
        if what == 4:
            return sha(b"")
        key = take(number(1))
        node = sha(b"\x00", sha(key), take(32))
        steps = [(number(2), take(32)) for _ in range(number(1))]
        bits = [bit for bit, _ in steps]
        need(rises([above[-1], *bits]), "map_proof_invalid", "bits that do not rise")
        for p in possible:
            other, here = split(key, p), all(bit_of(key, bit) == bit_of(p, bit) for bit in above[1:])
            need(here and other < 8 * len(p) and other not in bits, "map_proof_invalid", "not absent")
        for bit, sibling in reversed(steps):
            node = inner(bit, sibling, node) if bit_of(key, bit) else inner(bit, node, sibling)
        return node

    root = part(prefixes, [-1])
    need(at == len(proof), "map_proof_invalid", "bytes after the proof")
    return root


QUERY = [text, (1, 65535), every((1, 255)), is_month, is_month]
SUBJECT = re.compile("[a-z][a-z0-9-]{0,31}:(?! )[^\x00-\x1f\x7f]+(?<! )")
TAGS = every([(1, 255), (0, 65535), binary])
GROUP = [binary, binary, binary, None, binary, every(lambda v: v is None or type(v) is list)]
BINS = [every(32), every([binary, binary]), every(binary)]
EVIDENCE = [(1, 1), "evidence", QUERY, binary, binary, *BINS, TAGS, every(GROUP), binary]
VALUE = [(1, 5), (1, (1 << 32) - 1), (1, 255), 32, lambda v: v is None or like(v, 16), (0, U63)]
FIELD, ANY = [text, lambda v: type(v) in (str, list), (0, 1)], lambda v: True
PERIOD = [lambda v: v in ("month", "quarter", "year"), text]
SCHEMA = [(1, 1), "schema", (1, 255), (1, 255), text, every(FIELD), every(ANY), ANY, PERIOD]
ENTRY = {6: every(lambda v: True), 8: [32, (0, U63)], 9: [is_date, (0, U63)], 10: [384, (0, U63)]}
HEADER = [(1, 1), "block", 16, (1, U63), (0, U63), 32, (1, U63), (0, 512), 32, (0, U63), 32, 32, 32, (1, 1)]


def month_bytes(begin, end, year):
    """The month bytes that a range has of a year; the empty string for all of them."""
    first = int(begin[5:]) if int(begin[:4]) == year else 1
    last = int(end[5:]) if int(end[:4]) == year else 12
    months = [0, *range(first, last + 1), *range(13 + (first - 1) // 3, 14 + (last - 1) // 3)]
    return [b""] if len(months) == 17 else [bytes([month]) for month in months]


def read(data):
    """The file, its entries by key, and (prefix, key, value, its bytes, secret, fields) of every record."""
    form(len(data) <= 64 << 20, "too large")
    e = decode(data)
    form(containers(e) <= 300_000 and like(e, EVIDENCE), "the shape")
    (subject, _, kinds, begin, end), pairs, entries, records = e[2], e[6], {}, []
    form(SUBJECT.fullmatch(subject) and len(subject.encode()) <= 256, "the subject")
    form(rises(kinds) and 1 <= len(kinds) <= 16 and "1990" <= begin <= end < "2201", "the query")
    form(int(end[:4]) - int(begin[:4]) < 30, "the years")
    form(all(rises([each[0] for each in part]) for part in (pairs, e[9])), "the order")
    for key, raw in pairs:
        form(key[:1] in (b"\x06", b"\x08", b"\x09", b"\x0a") and len(raw) < 65536, "an entry")
        entries[key] = decode(raw)
        form(like(entries[key], ENTRY[key[0]]), "an entry's value")
    form(sum(key[0] == 8 for key in entries) == len(e[7]) and rises([t[:2] for t in e[8]]), "schemas, tags")
    for prefix, ends, values, _, secrets, rows in e[9]:
        length, n, at = 37 - len(prefix), len(rows), 0
        form(length in (16, 17) and prefix[0] == 1 and n and len(ends) == n * length, "a prefix or its keys")
        form(len(secrets) == 32 * n, "secrets")
        for i, row in enumerate(rows):
            start, (value, at) = at, item(values, at)
            form(like(value, VALUE), "a record's value")
            key = prefix + ends[i * length : (i + 1) * length]
            records.append((prefix, key, value, values[start:at], secrets[32 * i : 32 * i + 32], row))
        form(at == len(values), "values left over")
    form(len(records) <= 200_000, "records")
    return e, entries, records


def read_schemas(entries, documents):
    """Schema key -> decoded document."""
    found = {}
    for key, document in zip([key for key in entries if key[0] == 8], documents, strict=True):
        need(sha(document) == entries[key][0], "record_mismatch", "the hash of a schema")
        schema = found[key] = decode(document, "record_mismatch")
        good = like(schema, SCHEMA) and bytes([8, *schema[2:4]]) == key
        types = {name: kind for name, kind, _role in schema[5]} if good else {}
        dated = ("date", "month", "year") if good and schema[8][0] == "year" else ("date", "month")
        need(good and types.get(schema[8][1]) in dated, "record_mismatch", "no schema")
    return found


def verify(data, policy, query, now_ms, age_ms_max):
    """The answer that the file proves, or Refused."""
    trusted = read_policy(policy)
    e, entries, records = read(data)
    _, _, asked, note, header, path, pairs, documents, tags, groups, proof = e
    text, origin, size, root, signatures = read_note(note)
    subject, issuer, kinds, begin, end = query
    need(asked == [subject, issuer, list(kinds), begin, end], "query_mismatch")
    need(origin == trusted[0], "policy_mismatch", "the origin")
    chain, who = trusted[1], issuer.to_bytes(2)
    h = decode(header, "header_mismatch")
    need(like(h, HEADER) and h[2] == chain and h[6] + h[7] == size - 1, "header_mismatch")
    need(h[11] == h[12] == trusted[4], "policy_outdated")
    age = verify_note(trusted, text, signatures, now_ms, age_ms_max)
    # The last leaf is a right child wherever it has a sibling: one for every bit set in its index.
    node = sha(b"\x00", header)
    for left in path:
        node = sha(b"\x01", left, node)
    need(len(path) == (size - 1).bit_count() and node == root, "inclusion_invalid")

    keys = {year: b"\x0a" + who + year.to_bytes(2) for year in range(int(begin[:4]), int(end[:4]) + 1)}
    due = [[kind, year] for kind in kinds for year in keys if keys[year] in entries]
    need([tag[:2] for tag in tags] == due, "tag_invalid", "kinds and years")
    prefixes = {}
    for kind, year, sigma in tags:
        message = encode(["taxledger/tag/1", chain, subject, kind, year])
        need(tag_holds(entries[keys[year]][0], message, sigma), "tag_invalid")
        prefix = b"\x01" + who + bytes([kind]) + tagged("tag", sigma)[:16]
        prefixes.update({prefix + month: year for month in month_bytes(begin, end, year)})

    need(len({record[1] for record in records}) == len(records), "record_repeated")
    schemas = read_schemas(entries, documents)
    listed, found = {key: [(key, raw)] for key, raw in pairs}, []
    singles = {b"\x06" + who, *keys.values(), *(b"\x09" + who + bytes([kind]) for kind in kinds)}
    for prefix, key, value, raw, secret, row in records:
        name = bytes([8, key[3], value[2]])
        need(name in schemas and key[20] <= 16, "record_mismatch", "a schema or month")
        need((row is None) == (value[0] == 5), "record_mismatch", "fields of an erased record, or none")
        singles.add(name)
        listed.setdefault(prefix, []).append((key, raw))
        if row is None:
            need(secret == bytes(32), "record_mismatch", "an erased record's secret")
            continue
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
