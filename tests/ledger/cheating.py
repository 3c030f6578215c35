"""Named ways of cheating with evidence, each with the code that must come of it.

Shared by tests and vectors: ``EVIDENCE`` answers ``ASKED`` in ``WORLD``; a ``Fault`` makes a file (or asks
it in a way) that must be refused.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import world
from world import (
    AGE_MS_MAX,
    FILING,
    INVOICE,
    ISSUER,
    NETWORK,
    NOW_MS,
    NOW_S,
    OTHER_SUBJECT,
    RATING,
    SMALL,
    SUBJECT,
    World,
    ask,
    invoice,
    seeded,
)

from taxledger.ledger import canonical, limits
from taxledger.ledger.checkpoint import (
    cosign,
    cosigner_name,
    encode_note,
    make_origin,
    sign_checkpoint,
)
from taxledger.ledger.crypto import Signer
from taxledger.ledger.hashing import map_leaf
from taxledger.ledger.header import encode_header
from taxledger.ledger.policy import decode_policy, encode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.records import Status, commit
from taxledger.ledger.schemas import encode_schema
from taxledger.ledger.statekeys import attested_through_key, member_key, schema_key, tag_key_key

QUERY, CHECKPOINT, HEADER, INCLUSION, ENTRIES, SCHEMAS, TAGS, RECORDS, PROOF = range(2, 11)
PREFIX, ENDS, VALUES, OPENED, SECRETS, FIELDS = range(6)
WORLD = World()
ASKED = ask((FILING, RATING, INVOICE), "2023-11", "2024-02")
EVIDENCE = WORLD.evidence(ASKED)


def edited(data: bytes, edit: Callable[[list[Any]], object]) -> bytes:
    items = canonical.decode(data)
    edit(items)
    return canonical.encode(items)


@dataclass(frozen=True)
class Fault:
    """A named way of cheating, and the code that must come of it."""

    code: str
    name: str
    forge: Callable[[], bytes]
    query: Query = ASKED
    arguments: Any = ()

    def __str__(self) -> str:
        return f"{self.code}: {self.name}"


def cut(code: str, name: str, edit: Callable[[list[Any]], object], **arguments: Any) -> Fault:
    """A fault that edits the decoded file."""
    return Fault(code, name, lambda: edited(EVIDENCE, edit), arguments=tuple(arguments.items()))


def noted(code: str, name: str, note: Callable[[], bytes], **arguments: Any) -> Fault:
    """A fault with another checkpoint note."""
    return Fault(
        code,
        name,
        lambda: edited(EVIDENCE, lambda items: items.__setitem__(CHECKPOINT, note())),
        arguments=tuple(arguments.items()),
    )


def put(*path: int) -> Callable[[Any], Callable[[list[Any]], object]]:
    """``put(i, j)(value)`` is the edit that sets ``items[i][j]``."""

    def to(value: Any) -> Callable[[list[Any]], object]:
        def edit(items: list[Any]) -> None:
            at: Any = items
            for index in path[:-1]:
                at = at[index]
            at[path[-1]] = value(at[path[-1]]) if callable(value) else value

        return edit

    return to


def entry(key: bytes, value: bytes | None) -> Callable[[list[Any]], object]:
    """The edit that sets, adds or drops an entry."""

    def edit(items: list[Any]) -> None:
        entries = dict(items[ENTRIES])
        entries.pop(key, None)
        if value is not None:
            entries[key] = value
        items[ENTRIES] = [[k, v] for k, v in sorted(entries.items())]

    return edit


def foreign_note() -> bytes:
    """Signed by a log key that is not in the policy."""
    key = Signer(seeded("log", "stranger"))
    names = [cosigner_name(NETWORK, name) for name in WORLD.validators[:3]]
    lines = [
        (name, signer.public_key, NOW_S, cosign(signer, WORLD.checkpoint, NOW_S))
        for name, signer in zip(names, WORLD.cosigners, strict=False)
    ]
    return encode_note(WORLD.checkpoint, key.public_key, sign_checkpoint(key, WORLD.checkpoint), lines)


def stranger_note(name: str) -> bytes:
    """One of three co-signatures is of a key that the policy does not list."""
    key = Signer(seeded("stranger"))
    lines = [
        (cosigner_name(NETWORK, each), signer.public_key, NOW_S, cosign(signer, WORLD.checkpoint, NOW_S))
        for each, signer in ((name, key), *zip(WORLD.validators[1:3], WORLD.cosigners[1:3], strict=True))
    ]
    log = WORLD.logs[0]
    return encode_note(WORLD.checkpoint, log.public_key, sign_checkpoint(log, WORLD.checkpoint), lines)


def flipped_note(line: int, at: int) -> bytes:
    """A note with one bit changed in the base64 content of a line (4: log, 5 …: co-signatures)."""
    lines = WORLD.note().decode().split("\n")
    name, text = lines[line].rsplit(" ", 1)
    content = bytearray(base64.b64decode(text))
    content[at] ^= 1
    lines[line] = f"{name} {base64.b64encode(bytes(content)).decode()}"
    return "\n".join(lines).encode()


def loose_base64() -> bytes:
    """The note's root with the unused bits of its last character set: the same 32 bytes, another text."""
    lines = WORLD.note().split(b"\n")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet.index(lines[2][-2:-1])
    lines[2] = lines[2][:-2] + alphabet[last + 1 : last + 2] + b"="
    return b"\n".join(lines)


def other_world(**changes: Any) -> Callable[[], bytes]:
    """Evidence of a world that differs, signed by the same validators."""
    return lambda: World(**changes).evidence(ASKED)


def old_header(items: list[Any]) -> None:
    """The header of the block before, with its own true inclusion path, under the fresh checkpoint."""
    items[HEADER] = WORLD.leaves[-3]
    items[INCLUSION] = WORLD.inclusion(len(WORLD.leaves) - 3)


def moved_header(items: list[Any]) -> None:
    """An old header that claims to stand where the newest does."""
    items[HEADER] = encode_header(replace(WORLD.header, height=2, state_root=seeded("old")))


def tag_of_other_subject(items: list[Any]) -> None:
    items[TAGS] = [[kind, year, WORLD.sigma(OTHER_SUBJECT, kind, year)] for kind, year, _sigma in items[TAGS]]


def padded_sigma(items: list[Any]) -> None:
    items[TAGS][0][2] = b"\x00" + items[TAGS][0][2]


def drop(items: list[Any], group: int, at: int) -> None:
    """Record ``at`` of a group leaves all columns; the group with its last record."""
    record = items[RECORDS][group]
    ends, values, secrets = columns(record)
    if len(ends) == 1:
        del items[RECORDS][group]
        return
    for column in (ends, values, secrets, record[FIELDS]):
        del column[at]
    record[ENDS], record[VALUES], record[SECRETS] = b"".join(ends), b"".join(values), b"".join(secrets)


def columns(group: list[Any]) -> tuple[list[bytes], list[bytes], list[bytes]]:
    width = 37 - len(group[PREFIX])
    ends = [group[ENDS][at : at + width] for at in range(0, len(group[ENDS]), width)]
    values = [canonical.encode(value) for value in canonical.decode_stream(group[VALUES])]
    secrets = [group[SECRETS][at : at + 32] for at in range(0, len(group[SECRETS]), 32)]
    return ends, values, secrets


def insert(items: list[Any], group: int, at: int, record: tuple[bytes, bytes, bytes, Any]) -> None:
    here = items[RECORDS][group]
    ends, values, secrets = columns(here)
    for column, value in zip((ends, values, secrets, here[FIELDS]), record, strict=True):
        column.insert(at, value)
    here[ENDS], here[VALUES], here[SECRETS] = b"".join(ends), b"".join(values), b"".join(secrets)


def taken(items: list[Any], group: int, at: int) -> tuple[bytes, bytes, bytes, Any]:
    here = items[RECORDS][group]
    return (*(column[at] for column in columns(here)), here[FIELDS][at])


def invented(items: list[Any], group: int) -> tuple[bytes, bytes, bytes, Any]:
    """A made-up record with a good commitment, to stand behind the first of its group."""
    here = items[RECORDS][group]
    end, value, secret, row = taken(items, group, 0)
    end = end[:-1] + bytes([end[-1] ^ 1])
    parts = canonical.decode(value)
    schema = WORLD.schemas[here[PREFIX][3], 1]
    parts[3] = commit(schema, WORLD.chain_id, here[PREFIX] + end, parts[1], secret, row)
    return end, canonical.encode(parts), secret, row


def add_invented(items: list[Any]) -> None:
    record = invented(items, 0)
    insert(items, 0, int(record[0] > taken(items, 0, 0)[0]), record)


def add_unasked_group(items: list[Any]) -> None:
    """A month that was not asked, of a year that was: taken whole from other evidence."""
    more = canonical.decode(WORLD.evidence(ask((FILING, RATING, INVOICE), "2023-11", "2024-12")))
    here = {group[PREFIX][:20] for group in items[RECORDS]}
    december = [
        group for group in more[RECORDS] if group[PREFIX][:20] in here and group[PREFIX][3] == INVOICE
    ]
    key = next(
        (group, at)
        for group in december
        for at, end in enumerate(columns(group)[0])
        if (group[PREFIX] + end)[20] == 12
    )
    end, value, secret, row = taken([0] * RECORDS + [[key[0]]], 0, key[1])
    full = key[0][PREFIX] + end
    items[RECORDS].append([full[:21], full[21:], value, None, secret, [row]])
    items[RECORDS].sort(key=lambda group: group[PREFIX])


def split_group(items: list[Any]) -> None:
    """The same record under its year's prefix and under its month's."""
    end, value, secret, row = taken(items, 0, 0)
    full = items[RECORDS][0][PREFIX] + end
    items[RECORDS].append([full[:20], full[20:], value, None, secret, [row]])
    items[RECORDS].sort(key=lambda group: group[PREFIX])


def long_form(value: bytes) -> bytes:
    """A map value whose status takes two bytes: the same number, not its one form."""
    return value[:1] + b"\xcc" + value[1:]


def value_part(group: int, at: int, change: Any) -> Callable[[list[Any]], object]:
    def edit(items: list[Any]) -> None:
        parts = [canonical.decode(value) for value in columns(items[RECORDS][group])[1]]
        parts[0][at] = change
        items[RECORDS][group][VALUES] = b"".join(canonical.encode(each) for each in parts)

    return edit


def reordered(fields: list[Any]) -> list[Any]:
    return fields[1:] + fields[:1]


def misfiled_world() -> bytes:
    """An issuer that attested an invoice of 2024 under the key of another month, commitment and all."""
    world = World()
    spec = invoice(77, "2024-01-20")
    key = world.add({}, spec)
    secret, row = world.opened[key, 1]
    moved = key[:20] + b"\x02" + key[21:]
    schema = world.schemas[INVOICE, 1]
    value = [1, 1, 1, commit(schema, world.chain_id, moved, 1, secret, row), None, 3]

    class Misfiled(World):
        def _content(self) -> dict[bytes, bytes]:
            return {**super()._content(), moved: canonical.encode(value)}

    misfiled = Misfiled()
    misfiled.opened[moved, 1] = (secret, row)
    return misfiled.evidence(ASKED)


def misregistered_world() -> bytes:
    """A network that registered the filings' schema under the invoices' key."""
    schemas = {**world.SCHEMAS, (INVOICE, 1): world.SCHEMAS[FILING, 1]}
    spec = world.Spec(kind=INVOICE, fields={"tax": "vat", "period": "2024-01"})
    return World(specs=(spec,), schemas=schemas).evidence(ASKED)


def secret_of_erased() -> bytes:
    """32 bytes that nothing else would look at."""
    data = World(specs=(invoice(1, "2024-01-01", status=Status.ERASED),)).evidence(ASKED)
    return edited(data, put(RECORDS, 0, SECRETS)(seeded("secret")))


def parts_of(proof: bytes) -> list[bytes]:
    """The parts of a proof, joined its bytes."""
    parts = []
    while proof:
        length = {0: 33, 1: 3, 2: 33, 4: 1, 5: 1}.get(proof[0], 0)
        if not length:  # a leaf that shows an absence, with n siblings
            count = 1 + 1 + proof[1] + 32
            length = count + 1 + 34 * proof[count]
        parts.append(proof[:length])
        proof = proof[length:]
    return parts


def part(
    operation: int, change: bytes | Callable[[bytes], bytes], number: int = 0
) -> Callable[[Any], object]:
    """The edit that puts something else for one part of the proof: the ``number``-th of its operation."""

    def edit(items: list[Any]) -> None:
        parts = parts_of(items[PROOF])
        at = [at for at, each in enumerate(parts) if each[0] == operation][number]
        parts[at] = change(parts[at]) if callable(change) else change
        items[PROOF] = b"".join(parts)

    return edit


def hash_of_single_key(number: int) -> Callable[[list[Any]], object]:
    """The edit that shows a single key as a part with its hash, which is the right one."""

    def edit(items: list[Any]) -> None:
        key, value = items[ENTRIES][number]
        part(5, b"\x02" + map_leaf(key, value), number)(items)

    return edit


OTHER_CHAIN = encode_policy(
    origin=make_origin(NETWORK, bytes(16), "embedded"),
    log_keys=[each.public_key for each in WORLD.logs],
    witnesses={name: each.public_key for name, each in zip(WORLD.validators, WORLD.cosigners, strict=True)},
)
"""The same validators' policy for another chain."""
THROUGH = attested_through_key(ISSUER, INVOICE)
MODULUS_2023 = canonical.decode(WORLD.content[tag_key_key(ISSUER, 2023)])
INVOICE_SCHEMA = encode_schema(WORLD.schemas[INVOICE, 1])
FUTURE = (NOW_S, NOW_S + 61, NOW_S)

FAULTS = [
    # malformed
    cut("malformed", "version 2", put(0)(2)),
    cut("malformed", "version true", put(0)(True)),
    cut("malformed", "another name", put(1)("evidenced")),
    cut("malformed", "one element more", lambda items: items.append(None)),
    cut("malformed", "one element less", lambda items: items.pop()),
    Fault("malformed", "not an array", lambda: canonical.encode({"a": 1})),
    cut("malformed", "kinds not ascending", put(QUERY, 2)([INVOICE, FILING])),
    cut("malformed", "from after to", put(QUERY, 3)("2024-03")),
    cut("malformed", "no month", put(QUERY, 3)("2023-13")),
    cut("malformed", "a checkpoint that is text", put(CHECKPOINT)("x")),
    cut("malformed", "a note without signatures", put(CHECKPOINT)(lambda note: note.split(b"\n\n")[0])),
    cut("malformed", "a note that is too long", put(CHECKPOINT)(bytes(limits.checkpoint_bytes_max + 1))),
    cut("malformed", "31 bytes in the inclusion path", put(INCLUSION, 0)(bytes(31))),
    cut("malformed", "entries out of order", put(ENTRIES)(lambda entries: entries[::-1])),
    cut("malformed", "an entry twice", put(ENTRIES)(lambda entries: [entries[0], *entries])),
    cut("malformed", "an entry of no single key", entry(b"\x01" + bytes(36), b"\xc0")),
    cut("malformed", "a date that is none", entry(THROUGH, canonical.encode(["2024-02-30", 3]))),
    cut("malformed", "a modulus that is short", entry(tag_key_key(1, 2023), canonical.encode([b"x", 1]))),
    cut("malformed", "a schema's hash that is short", entry(schema_key(5, 1), canonical.encode([b"x", 1]))),
    cut("malformed", "a document too many", put(SCHEMAS)(lambda documents: [*documents, b""])),
    cut("malformed", "a document too few", put(SCHEMAS)(lambda documents: documents[1:])),
    cut("malformed", "tags out of order", put(TAGS)(lambda tags: tags[::-1])),
    cut("malformed", "a tag twice", put(TAGS)(lambda tags: [tags[0], *tags])),
    cut("malformed", "record prefixes out of order", put(RECORDS)(lambda groups: groups[::-1])),
    cut("malformed", "a record prefix twice", put(RECORDS)(lambda groups: [groups[0], *groups])),
    cut("malformed", "no record prefix", put(RECORDS, 0, PREFIX)(bytes(20))),
    cut("malformed", "key ends cut", put(RECORDS, 0, ENDS)(lambda ends: ends[:-1])),
    cut("malformed", "a group without records", put(RECORDS, 0)(lambda g: [g[0], b"", b"", None, b"", []])),
    cut("malformed", "a secret too many", put(RECORDS, 0, SECRETS)(lambda each: each + bytes(32))),
    cut("malformed", "secrets cut", put(RECORDS, 0, SECRETS)(lambda each: each[:-1])),
    cut("malformed", "a map value twice", put(RECORDS, 0, VALUES)(lambda each: each * 2)),
    cut("malformed", "fields too many", put(RECORDS, 0, FIELDS)(lambda rows: [*rows, []])),
    cut("malformed", "fields as a map", put(RECORDS, 0, FIELDS, 0)({})),
    cut("malformed", "some fields opened", put(RECORDS, 0, OPENED)(b"")),
    cut("malformed", "status 7", value_part(0, 0, 7)),
    cut("malformed", "version 0", value_part(0, 1, 0)),
    noted("malformed", "four co-signatures", lambda: WORLD.note(signers=(0, 1, 2, 3))),
    # not_canonical
    Fault("not_canonical", "an empty file", lambda: b""),
    Fault("not_canonical", "a byte behind", lambda: EVIDENCE + b"\x00"),
    Fault("not_canonical", "a longer array header", lambda: b"\xdc\x00\x0b" + EVIDENCE[1:]),
    noted("not_canonical", "base64 with unused bits", loose_base64),
    noted("not_canonical", "a size with a zero before", lambda: WORLD.note().replace(b"\n7\n", b"\n07\n")),
    cut("not_canonical", "a map value in a long form", put(RECORDS, 0, VALUES)(long_form)),
    cut("not_canonical", "an entry's value in a long form", entry(THROUGH, b"\x92\xaa2024-12-31\xcc\x03")),
    # query_mismatch
    Fault("query_mismatch", "another subject", lambda: WORLD.evidence(replace(ASKED, subject=OTHER_SUBJECT))),
    Fault("query_mismatch", "another issuer", lambda: WORLD.evidence(replace(ASKED, issuer=2))),
    Fault("query_mismatch", "fewer kinds", lambda: WORLD.evidence(replace(ASKED, kinds=(INVOICE,)))),
    Fault("query_mismatch", "a later begin", lambda: WORLD.evidence(replace(ASKED, from_period="2023-12"))),
    Fault("query_mismatch", "a later end", lambda: WORLD.evidence(replace(ASKED, to_period="2024-03"))),
    # policy_mismatch
    Fault("policy_mismatch", "another engine asked", lambda: EVIDENCE, arguments=(("engine", "cometbft"),)),
    Fault(
        "policy_mismatch",
        "a policy of another chain",
        lambda: EVIDENCE,
        arguments=(("policy", decode_policy(OTHER_CHAIN)),),
    ),
    noted("policy_mismatch", "a foreign log key", foreign_note),
    # header_mismatch
    cut("header_mismatch", "an old header under a fresh checkpoint", old_header),
    cut("header_mismatch", "a transaction as header", put(HEADER)(WORLD.leaves[-2])),
    cut("header_mismatch", "no header", put(HEADER)(b"")),
    cut("header_mismatch", "a header with a byte behind", put(HEADER)(WORLD.leaves[-1] + b"\x00")),
    Fault("header_mismatch", "a header of another chain", other_world(changes={"chain_id": bytes(16)})),
    Fault("header_mismatch", "a header that stands elsewhere", other_world(changes={"transactions": 2})),
    # policy_outdated
    Fault("policy_outdated", "others co-signed", other_world(changes={"validators_hash": bytes(32)})),
    Fault("policy_outdated", "others come next", other_world(changes={"next_validators_hash": bytes(32)})),
    # signatures
    noted("signer_unknown", "a name nobody knows", lambda: stranger_note("stranger")),
    noted("signer_unknown", "a known name with another key", lambda: stranger_note("tax")),
    noted("signer_repeated", "one co-signer twice", lambda: WORLD.note(signers=(0, 1, 1))),
    noted(
        "signer_repeated",
        "one co-signer twice, at two times",
        lambda: WORLD.note(signers=(0, 1, 1), time_s=(NOW_S, NOW_S, NOW_S - 1)),
    ),
    noted("quorum_missing", "q − 1 co-signatures", lambda: WORLD.note(signers=(0, 1))),
    noted("quorum_missing", "none", lambda: WORLD.note(signers=())),
    noted("signature_invalid", "the log's signature", lambda: flipped_note(4, 20)),
    noted("signature_invalid", "a co-signature", lambda: flipped_note(6, 40)),
    noted("signature_invalid", "a co-signature's time", lambda: flipped_note(6, 11)),
    noted(
        "signature_invalid",
        "signatures of another root",
        lambda: WORLD.note().replace(
            base64.b64encode(WORLD.checkpoint.root), base64.b64encode(seeded("another root"))
        ),
    ),
    # checkpoint_stale
    noted("checkpoint_stale", "a stale checkpoint", lambda: WORLD.note(time_s=NOW_S - 601)),
    noted("checkpoint_stale", "one stale of three", lambda: WORLD.note(time_s=(NOW_S, NOW_S - 601, NOW_S))),
    noted("checkpoint_stale", "one in the future", lambda: WORLD.note(time_s=FUTURE)),
    Fault(
        "checkpoint_stale", "seen later", lambda: EVIDENCE, arguments=(("now_ms", NOW_MS + AGE_MS_MAX + 1),)
    ),
    Fault("checkpoint_stale", "seen sooner", lambda: EVIDENCE, arguments=(("now_ms", NOW_MS - 60_001),)),
    # inclusion_invalid
    cut("inclusion_invalid", "an old header that claims the newest place", moved_header),
    cut("inclusion_invalid", "no path", put(INCLUSION)([])),
    cut("inclusion_invalid", "a path too long", put(INCLUSION)(lambda path: [*path, bytes(32)])),
    cut("inclusion_invalid", "another path", put(INCLUSION, 0)(bytes(32))),
    # tag_invalid
    cut("tag_invalid", "another subject's tag", tag_of_other_subject),
    cut("tag_invalid", "another year's σ", put(TAGS, 0, 2)(WORLD.sigma(SUBJECT, FILING, 2024))),
    cut("tag_invalid", "another kind's σ", put(TAGS, 0, 2)(WORLD.sigma(SUBJECT, INVOICE, 2023))),
    cut(
        "tag_invalid",
        "another year's key",
        put(TAGS, 0, 2)(WORLD.sigma(SUBJECT, FILING, 2023, year_of_key=2024)),
    ),
    cut("tag_invalid", "σ with a zero before", padded_sigma),
    cut("tag_invalid", "σ missing", put(TAGS)(lambda tags: tags[1:])),
    cut("tag_invalid", "all σ missing", put(TAGS)([])),
    cut(
        "tag_invalid",
        "σ of a year not asked",
        put(TAGS)(lambda tags: [*tags, [INVOICE, 2025, WORLD.sigma(SUBJECT, INVOICE, 2025)]]),
    ),
    cut(
        "tag_invalid",
        "σ of a kind not asked",
        put(TAGS)(lambda tags: [*tags, [9, 2024, WORLD.sigma(SUBJECT, 9, 2024)]]),
    ),
    cut("tag_invalid", "a tag key hidden", entry(tag_key_key(ISSUER, 2023), None)),
    cut(
        "tag_invalid", "a tag key exchanged", entry(tag_key_key(ISSUER, 2024), canonical.encode(MODULUS_2023))
    ),
    cut(
        "tag_invalid", "an even modulus", entry(tag_key_key(ISSUER, 2023), canonical.encode([bytes(384), 1]))
    ),
    # record_repeated
    cut("record_repeated", "a record twice", lambda items: insert(items, 0, 0, taken(items, 0, 0))),
    cut("record_repeated", "a record under two prefixes", split_group),
    # record_mismatch
    cut("record_mismatch", "an amount", put(RECORDS, -1, FIELDS, 0, 6)(10**9)),
    cut("record_mismatch", "a field left out", put(RECORDS, -1, FIELDS, 0, 1)(None)),
    cut("record_mismatch", "a field made up", put(RECORDS, -1, FIELDS, 0, 10)("gold")),
    cut("record_mismatch", "a value of another type", put(RECORDS, -1, FIELDS, 0, 6)("5")),
    cut("record_mismatch", "a field value that is an array", put(RECORDS, -1, FIELDS, 0, 1)([1])),
    cut("record_mismatch", "a field too few", put(RECORDS, -1, FIELDS, 0)(lambda row: row[:-1])),
    cut("record_mismatch", "a field too many", put(RECORDS, -1, FIELDS, 0)(lambda row: [*row, None])),
    cut("record_mismatch", "fields in another order", put(RECORDS, -1, FIELDS, 0)(reordered)),
    cut("record_mismatch", "no fields", put(RECORDS, -1, FIELDS, 0)(None)),
    cut("record_mismatch", "another secret", put(RECORDS, -1, SECRETS)(lambda each: bytes(len(each)))),
    cut("record_mismatch", "another version", value_part(0, 1, 2)),
    cut("record_mismatch", "another commitment", value_part(0, 3, bytes(32))),
    cut("record_mismatch", "a schema that is not listed", value_part(0, 2, 9)),
    cut("record_mismatch", "fields of what is called erased", value_part(0, 0, 5)),
    cut(
        "record_mismatch",
        "a key's end changed",
        put(RECORDS, -1, ENDS)(lambda e: e[:-1] + bytes([e[-1] ^ 1])),
    ),
    cut("record_mismatch", "a prefix changed", put(RECORDS, -1, PREFIX)(lambda p: p[:-1] + b"\x0c")),
    cut("record_mismatch", "another document", put(SCHEMAS, -1)(INVOICE_SCHEMA.replace(b"gross", b"grass"))),
    cut(
        "record_mismatch",
        "a document with the same fields and another rule",
        put(SCHEMAS, -1)(INVOICE_SCHEMA.replace(b"\xa6number\x14", b"\xa6number\x13")),
    ),
    Fault("record_mismatch", "a schema registered for another kind", misregistered_world),
    Fault("record_mismatch", "a secret of an erased record", secret_of_erased),
    cut("record_mismatch", "documents swapped", put(SCHEMAS)(lambda documents: documents[::-1])),
    cut(
        "record_mismatch", "the schema hidden", lambda i: (entry(schema_key(5, 1), None)(i), i[SCHEMAS].pop())
    ),
    Fault("record_mismatch", "attested under a wrong month", misfiled_world),
    # prefix_incomplete
    cut("prefix_incomplete", "a record dropped with its group", lambda items: drop(items, -1, 0)),
    cut("prefix_incomplete", "all records dropped", put(RECORDS)([])),
    cut("prefix_incomplete", "a record made up", add_invented),
    cut("prefix_incomplete", "a month that was not asked", add_unasked_group),
    cut("prefix_incomplete", "voided made valid", value_part(-1, 0, 2)),
    cut("prefix_incomplete", "another height", value_part(-1, 5, 1)),
    cut("prefix_incomplete", "a fingerprint dropped", value_part(-1, 4, bytes(16))),
    cut("prefix_incomplete", "the empty map", put(PROOF)(b"\x04")),
    cut("prefix_incomplete", "a date hidden", entry(THROUGH, None)),
    cut(
        "prefix_incomplete", "a date made up", entry(attested_through_key(1, RATING), WORLD.content[THROUGH])
    ),
    cut("prefix_incomplete", "the issuer hidden", entry(member_key(ISSUER), None)),
    cut("prefix_incomplete", "a whole key for what is absent", part(3, b"\x05")),
    cut(
        "prefix_incomplete",
        "the issuer hidden, and shown as a prefix",
        lambda i: (hash_of_single_key(0)(i), entry(member_key(ISSUER), None)(i)),
    ),
    # map_proof_invalid
    cut("map_proof_invalid", "no proof", put(PROOF)(b"")),
    cut("map_proof_invalid", "a proof cut", put(PROOF)(lambda proof: proof[:-1])),
    cut("map_proof_invalid", "a byte behind the proof", put(PROOF)(lambda proof: proof + b"\x00")),
    cut("map_proof_invalid", "an unknown part", put(PROOF)(lambda proof: b"\x06" + proof[1:])),
    cut(
        "map_proof_invalid",
        "another sibling",
        part(0, lambda aside: aside[:1] + bytes([aside[1] ^ 1]) + aside[2:]),
    ),
    cut("map_proof_invalid", "a whole key shown as a prefix", hash_of_single_key(0)),
    cut("map_proof_invalid", "the last whole key shown as a prefix", hash_of_single_key(-1)),
    cut("map_proof_invalid", "a whole key with a hash behind", part(5, b"\x05" + bytes(32))),
    cut("map_proof_invalid", "a whole key left aside", part(5, bytes(33))),
    cut("map_proof_invalid", "a whole key for a prefix with one record", part(2, b"\x05")),
    cut("map_proof_invalid", "a whole key for a prefix with two records", part(2, b"\x05", 5)),
    cut("map_proof_invalid", "a whole key for a part left aside", part(0, b"\x05")),
    cut("map_proof_invalid", "a later date", entry(THROUGH, canonical.encode(["2025-12-31", 3]))),
    cut(
        "map_proof_invalid",
        "a later date, shown as a prefix with its hash",
        lambda i: (entry(THROUGH, canonical.encode(["2025-12-31", 3]))(i), hash_of_single_key(5)(i)),
    ),
    cut(
        "map_proof_invalid",
        "another member's entry",
        entry(member_key(ISSUER), WORLD.content[member_key(2)]),
    ),
    cut("map_proof_invalid", "an entry not asked", entry(member_key(2), WORLD.content[member_key(2)])),
    cut(
        "map_proof_invalid",
        "a state without somebody else's record",
        put(PROOF)(canonical.decode(World(specs=(*SMALL[:5], *SMALL[6:])).evidence(ASKED))[PROOF]),
    ),
]
