"""A second verifier of disclosures, from docs/protocol.md §12 and §13 alone; what it shares with evidence is there."""

# ruff: noqa: E731, F403, F405
from verifier import *


def text(size):
    clean = re.compile("[^\0-\x1f\x7f]+")
    return lambda value: type(value) is str and len(value.encode()) <= size and bool(clean.fullmatch(value))


def row(value):
    short = type(value) is list and len(value) <= 64
    return value is None or (short and not any(type(each) in (list, dict) for each in value))


T64, T512, TIME, MEMBER, USES, COUNT = text(64), text(512), (0, U63), (1, 65535), (1, 1_000_000), (0, 200_000)
NAMES = lambda f: f is None or (like(f, [text(32), ...]) and 0 < len(f) <= 64 and rises(f))
ARGUMENT = lambda value: value is None or type(value) is int or T64(value)
OPENED = lambda o: o is None or like(o, [[(1, 255), (1, 64), [(0, 63), ...]], ...])
PARTIES = [[SUBJECT, T64, T64], [[MEMBER, 32, {NIL, 16}], ...], [MEMBER, 16]]
MAY = [[[(1, 255), MONTH, MONTH, NAMES], ...], [[T64, ARGUMENT], ...], bool, "proof_only|view|store"]
UNTIL = [["once|periodic", USES], [TIME, TIME], [(0, 3660), "erase", "prohibited|regulator"]]
BODY = [(1, 1), 16, 32, *PARTIES, [T64, 32, T64], *MAY, *UNTIL, [T512, T512], TIME]
PROOF = [bytes, bytes, [32, ...], [bytes, bytes, bytes], bytes]
FILE = [(1, 1), "disclosure", bytes, MEMBER, USES, 32, bytes, [bytes, ...], PROOF]
CONSENT = [(1, 4), 32, MEMBER, TIME, TIME, USES, (0, 1_000_000), 32]
USE = [(1, 4), 32, COUNT, TIME, {NIL, 32}, COUNT, {NIL, TIME}]
GROUPS = [[bytes, bytes, bytes, OPENED, NIL, NIL], ...]
FRAME = [(1, 1), "frame", QUERY, bytes, bytes, [32, ...], ENTRIES, [bytes, ...], TAGS, GROUPS, bytes]
PART = [(1, 1), "part", (1, 200_000), bytes, [row, ...]]


def read_artefact(raw):
    """The body, and what remains to be done: to look at the signature."""
    need(len(raw) <= 16_384, "malformed", "too large")
    outer = Reader(raw).whole()
    need(like(outer, [(1, 1), "consent", bytes, 32, 64]), "malformed", "an artefact")
    body = Reader(outer[2]).whole()
    need(like(body, BODY), "malformed", "the body")
    details, predicates, mode, (often, uses), (begin, end) = *body[7:9], body[10], *body[11:13]
    good = len(body[3][0].encode()) <= 256 and 1 <= len(body[4]) <= 16
    good = good and rises([each[0] for each in body[4]]) and rises([each[:2] for each in details])
    good = good and len(details) <= 16 and len(predicates) <= 32 and bool(details or predicates)
    good = good and rises([(name, encode(argument)) for name, argument in predicates])
    for kind, first, last, _ in details:
        good = (
            good and kind != 12 and "1990" <= first <= last < "2201" and int(last[:4]) - int(first[:4]) < 30
        )
    good = good and (often != "once" or uses == 1) and begin < end <= begin + 10 * 366 * 86_400_000
    good = good and (mode == "store") == (body[13][0] > 0) and (mode == "proof_only") == (not details)
    need(good, "malformed", "the terms")
    return body, outer


def read_file(data):
    """File, artefact's body, the use proof's note, consent and use; the artefact is signed by the key that it names."""
    need(len(data) <= 72 << 20, "malformed", "too large")
    f = Reader(data).whole()
    need(like(f, FILE) and len(f[7]) <= 200_000 and len(f[8][2]) <= 64, "malformed", "the shape")
    need(sum(map(len, f[6:7] + f[7])) <= 70 << 20, "malformed", "frame and parts too large")
    noted, (consent, holder, use) = read_note(f[8][0]), [Reader(raw).whole() for raw in f[8][3]]
    good = like(consent, CONSENT) and like(holder, [TIME]) and like(use, USE)
    good = good and (use[0] == 1) == (use[6] is None) and (use[0] in (1, 4)) == (use[4] is None)
    need(good and (use[4] or not use[5]), "malformed", "a value")
    body, (_, _, signed, key, signature) = read_artefact(f[2])
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, b"taxledger/consent_signature/1" + signed)
    except InvalidSignature:
        raise Refused("consent_signature_invalid") from None
    return f, body, noted, consent, use


def cover(body, query):
    """Kind -> names of the fields that are open, None for all."""
    subject, _, kinds, begin, end = query
    need(subject == body[3][0], "consent_subject_mismatch")
    opened = {}
    for kind in kinds:
        if kind == 12 and body[8]:
            continue
        need(any(each[0] == kind for each in body[7]), "consent_kind_exceeded")
        fields = [each[3] for each in body[7] if each[0] == kind and each[1] <= begin and end <= each[2]]
        need(fields, "consent_period_exceeded")
        opened[kind] = fields[0]
    need(12 not in kinds or len(kinds) == 1, "consent_kind_exceeded", "predicates with others")
    return opened


def certified(noted, header, path, policy, now_ms, age_ms_max):
    """The header under a note, and the note's age (§10)."""
    origin, chain, logs, witnesses, trusted, q = policy
    signed, note_origin, size, root, [(log, signature), *cosigned] = noted
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
    lines = [(logs[log], signature, signed)]
    for (name, raw), moment in zip(cosigned, times, strict=True):
        lines.append((witnesses[name], raw[8:], f"cosignature/v1\ntime {moment}\n".encode() + signed))
    try:
        for key, signature, message in lines:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        raise Refused("signature_invalid") from None
    age, node = max(0, now_ms - 1000 * min(times)), sha(b"\x00", header)
    need(age <= age_ms_max and 1000 * max(times) <= now_ms + 60_000, "checkpoint_stale")
    for left in path:
        node = sha(b"\x01", left, node)
    need(len(path) == (size - 1).bit_count() and node == root, "inclusion_invalid")
    return h, age


def read_records(group):
    """(prefix, key, value, its bytes, opened) of every record of a frame's group."""
    prefix, ends, values, opened = group[:4]
    width, reader, records = 37 - len(prefix), Reader(values), []
    good = width in (16, 17) and prefix[0] == 1 and ends and len(ends) % width == 0
    need(
        good and (opened is None or rises([each[0] for each in opened])), "malformed", "a prefix or its keys"
    )
    good = all(rises(each[2]) and (each[2] or [0])[-1] < each[1] for each in opened or [])
    need(good, "malformed", "positions")
    by_schema = None if opened is None else {schema: (count, at) for schema, count, at in opened}
    for at in range(0, len(ends), width):
        start, value = reader.at, reader.item()
        need(like(value, VALUE), "malformed", "a record's value")
        shown = None if by_schema is None else by_schema.get(value[2])
        records.append((prefix, prefix + ends[at : at + width], value, values[start : reader.at], shown))
    named = {record[2][2] for record in records}
    need(
        reader.at == len(values)
        and named == (by_schema if by_schema is not None else dict.fromkeys(named)).keys(),
        "malformed",
        "values",
    )
    return records


def read_evidence(frame, parts):
    """The frame, its entries by key, and ``read_records`` with secret and fields of every record."""
    need(len(frame) <= 64 << 20, "malformed", "too large")
    reader = Reader(frame)
    e = reader.whole()
    need(reader.containers <= 300_000 and like(e, FRAME), "malformed", "the frame")
    (subject, _, kinds, begin, end), pairs, entries = e[2], e[6], {}
    good = len(subject.encode()) <= 256 and rises(kinds) and 1 <= len(kinds) <= 16
    good = good and "1990" <= begin <= end < "2201" and int(end[:4]) - int(begin[:4]) < 30
    good = good and all(rises([each[0] for each in some]) for some in (pairs, e[9]))
    need(good and rises([each[:2] for each in e[8]]), "malformed", "the query or the order")
    for key, raw in pairs:
        need(key[:1] in (b"\x06", b"\x08", b"\x09", b"\x0a") and len(raw) < 65536, "malformed", "an entry")
        entries[key] = Reader(raw).whole()
        need(like(entries[key], ENTRY[key[0]]), "malformed", "an entry's value")
    need(sum(key[0] == 8 for key in entries) == len(e[7]), "malformed", "schemas")
    records, shown = [record for group in e[9] for record in read_records(group)], []
    for number, raw in enumerate(parts, start=1):
        need(len(raw) <= 4 << 20, "malformed", "a part too large")
        part = Reader(raw).whole()
        good = like(part, PART) and type(part[2]) is int and part[2] == number and 1 <= len(part[4]) <= 1000
        need(good and len(shown) + len(part[4]) <= len(records), "malformed", "a part")
        at = 0
        for row in part[4]:
            opened = records[len(shown)][4]
            size = 32 if opened is None else 16 * len(opened[1]) + 32 * (opened[0] - len(opened[1]))
            shown.append((part[3][at : at + size], row))
            at += size
        need(at == len(part[3]), "malformed", "a part's secrets")
    need(len(shown) == len(records) <= 200_000, "malformed", "parts left out")
    return e, entries, [(*record, *own) for record, own in zip(records, shown, strict=True)]


def open_partly(chain, key, value, opened, secret, row, schema):
    """The opened fields that are present: they and the others' digests give the commitment."""
    need(opened is None or opened[0] == len(schema[5]), "record_mismatch", "the number of fields")
    if row is None:
        return need(not any(secret), "record_mismatch", "a secret of what is erased")
    if opened is None:
        return open_record(chain, key, value, secret, row, schema)[0]
    n, fields = len(opened[1]), {}
    digests = [secret[at : at + 32] for at in range(16 * n, len(secret), 32)]
    need(len(row) == n, "record_mismatch", "opened fields")
    for number, (position, content) in enumerate(zip(opened[1], row, strict=True)):
        (name, kind, _), salt = schema[5][position], secret[16 * number :][:16]
        good = content is None or (
            content in kind if type(kind) is list else like(content, TYPES.get(kind, (-U63, U63)))
        )
        need(good and (content is not None or not any(salt)), "record_mismatch", name)
        fields |= {} if content is None else {name: content}
        digests.insert(
            position,
            sha(b"taxledger/field/1", salt, encode([name, content])) if name in fields else bytes(32),
        )
    dated = [each[0] for each in schema[5]].index(schema[8][1])
    good = dated not in opened[1] or schema[8][1] in fields
    commitment = sha(b"taxledger/commitment/1", chain, key, value[1].to_bytes(4), *digests)
    need(good and commitment == value[3], "record_mismatch", "the commitment")
    return fields


def answer(e, entries, records, policy, query, now_ms, age_ms_max):
    """§10's table from the evidence's note on; (kind, schema, opened, fields) of every record, erased ones too."""
    (_, _, asked, note, header, path, pairs, documents, tags, groups, proof), chain = e, policy[1]
    noted, (subject, issuer, kinds, begin, end) = read_note(note), query
    need(asked == [subject, issuer, list(kinds), begin, end], "query_mismatch")
    h, age = certified(noted, header, path, policy, now_ms, age_ms_max)
    who, first, last, prefixes = issuer.to_bytes(2), int(begin[:4]), int(end[:4]), {}
    keys = {year: b"\x0a" + who + year.to_bytes(2) for year in range(first, last + 1)}
    due = [[kind, year] for kind in kinds for year in keys if keys[year] in entries]
    need([tag[:2] for tag in tags] == due, "tag_invalid", "kinds and years")
    for kind, year, sigma in tags:
        message = encode(["taxledger/tag/1", chain, subject, kind, year])
        need(tag_holds(entries[keys[year]][0], message, sigma), "tag_invalid")
        prefix = b"\x01" + who + bytes([kind]) + sha(b"taxledger/tag/1", sigma)[:16]
        low, high = int(begin[5:]) if year == first else 1, int(end[5:]) if year == last else 12
        months = [0, *range(low, high + 1), *range(13 + (low - 1) // 3, 14 + (high - 1) // 3)]
        prefixes.update({prefix + (bytes([month]) if len(months) < 17 else b""): year for month in months})
    need(len({record[1] for record in records}) == len(records), "record_repeated")
    schemas, found = {}, []
    for key, document in zip([key for key in entries if key[0] == 8], documents, strict=True):
        schema = schemas[key] = Reader(document, "record_mismatch").whole()
        good = like(schema, SCHEMA) and bytes([8, *schema[2:4]]) == key and sha(document) == entries[key][0]
        need(good, "record_mismatch", "a schema or its hash")
        dated = {name: kind for name, kind, _ in schema[5]}.get(schema[8][1])
        need(dated in ("date", "month") or [dated, schema[8][0]] == ["year", "year"], "record_mismatch")
    listed = {key: [(key, raw)] for key, raw in pairs}
    singles = {b"\x06" + who, *keys.values(), *(b"\x09" + who + bytes([kind]) for kind in kinds)}
    for prefix, key, value, raw, opened, secret, row in records:
        name, year = bytes([8, key[3], value[2]]), prefixes.get(prefix)
        good = name in schemas and key[20] <= 16 and (row is None) == (value[0] == 5)
        need(good, "record_mismatch", "schema, month or erasure")
        singles.add(name)
        listed.setdefault(prefix, []).append((key, raw))
        unit, dated = schemas[name][8]
        fields = open_partly(chain, key, value, opened, secret, row, schemas[name])
        if fields and dated in fields:  # else year and month are the issuer's word
            period = f"{fields[dated]:04}" if type(fields[dated]) is int else fields[dated]
            month = 0 if unit == "year" else int(period[5:7])
            month = 13 + (month - 1) // 3 if unit == "quarter" else month
            good = year in (None, int(period[:4])) and month == key[20]
            need(good, "record_mismatch", "the period")
        head = {"kind": key[3], "year": year, "month": key[20], "status": value[0], "version": value[1]}
        found.append((schemas[name], opened, {**head, "fields": fields}))
    need(all(group[0] in prefixes for group in groups), "prefix_incomplete", "no record prefix")
    need(proof_root(proof, [*singles, *prefixes], listed) == h[8], "map_proof_invalid", "another root")
    need(set(entries) <= singles, "map_proof_invalid", "an entry that is no single key")
    last, begun = f"{end}-{monthrange(*map(int, end.split('-')))[1]}", set(keys.values()) <= set(entries)
    through = {kind: entries.get(b"\x09" + who + bytes([kind]), [None])[0] for kind in kinds}
    complete = {kind: begun and date is not None and date >= last for kind, date in through.items()}
    return found, {"through": through, "complete": complete, "age_ms": age, "size": noted[2], "height": h[3]}


def verify(data, policy, query, recipient, now_ms, age_ms_max):
    """The answer that the disclosure proves, or Refused."""
    policy = read_policy(policy)
    (
        (_, _, raw, custodian, sequence, salt, frame, parts, (_, header, path, values, proof)),
        body,
        noted,
        consent,
        use,
    ) = read_file(data)
    subject, issuer, kinds, begin, end = query
    need(body[5][0] == recipient, "consent_recipient_mismatch")
    own = [each for each in body[4] if each[0] == custodian == issuer]
    need(own, "consent_custodian_mismatch")
    opened, who = cover(body, query), custodian.to_bytes(2)
    h, _ = certified(noted, header, path, policy, now_ms, age_ms_max)
    digest = sha(b"taxledger/consent/1", who, raw)
    name = sha(b"taxledger/consent_id/1", who, digest)[:16]
    keys = [b"\x02" + name, b"\x03" + body[5][1] + name, b"\x04" + name + sequence.to_bytes(4)]
    listed = {key: [(key, value)] for key, value in zip(keys, values, strict=True)}
    need(proof_root(proof, keys, listed) == h[8], "map_proof_invalid", "another root")
    given = [digest, custodian, *body[12], body[11][1], own[0][1]]
    need(body[1] == policy[1] and given == [*consent[1:6], consent[7]], "consent_mismatch")
    need(sha(b"taxledger/use/1", salt, *map(sha, [frame, *parts])) == use[1], "use_mismatch", "the digest")
    asked = [f"consent:{name.hex()}" if kinds == [12] else subject, issuer, kinds, begin, end]
    records, told = answer(*read_evidence(frame, parts), policy, asked, now_ms, age_ms_max)
    need(len(records) == use[2], "use_mismatch", "the count")
    for schema, shown, record in records:
        names, fields = [each[0] for each in schema[5]], record["fields"] or {}
        wanted = names if opened.get(schema[2]) is None else opened[schema[2]]
        visible = names if shown is None else [names[at] for at in shown[1]]
        said = [fields.get("name"), fields.get("amount", fields.get("argument"))]
        good = sorted(wanted) == sorted(visible) and (schema[2] != 12 or not fields or said in body[8])
        need(good, "consent_fields_exceeded")
    shown = [record for *_, record in records if record["fields"] is not None]
    return {**told, "records": shown, "erased": len(records) - len(shown), "use": use[:3], "consent": name}
