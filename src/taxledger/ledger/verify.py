"""The pure verifier of evidence: bytes, a policy and a question in, an answer or one refusal out.

Invariants (docs/protocol.md §10, which has the table of refusals):

* Subject, issuer, kinds and range are arguments; nothing is taken from the file.
* Every byte of the file is hashed, covered by a signature, or compared with an argument.
* Checks run in the order of the table, so every file has one code.
* No clock, no network, no state: the same arguments always give the same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taxledger.ledger.answer import (
    Answer,
    AnsweredRecord,
    column_bytes,
    read_schemas,
    read_through,
    record_order,
    show_evidence,
    totals,
)
from taxledger.ledger.canonical import decode
from taxledger.ledger.checkpoint import SignedCheckpoint, decode_note, parse_origin
from taxledger.ledger.crypto import verify_tag_signature
from taxledger.ledger.errors import FormatError, InputError, VerificationError
from taxledger.ledger.evidence import Evidence, Opening, RecordGroup, decode_evidence
from taxledger.ledger.hashing import log_leaf, sha256
from taxledger.ledger.header import Header, header_of_chain
from taxledger.ledger.members import Member, decode_member
from taxledger.ledger.merkle import verify_inclusion
from taxledger.ledger.policy import Policy, check_origin, verify_signatures
from taxledger.ledger.query import Query, record_prefixes, single_keys
from taxledger.ledger.records import (
    ABSENT_DIGEST,
    RecordValue,
    Status,
    commit,
    commit_digests,
    field_digest,
    record_period,
    tag_message,
    tag_of,
)
from taxledger.ledger.schemas import Row, Schema, Value
from taxledger.ledger.statekeys import member_key, split_record_key, tag_key_key
from taxledger.ledger.statemap.proof import verify_prefixes

__all__ = [
    "Answer",
    "AnsweredRecord",
    "show_evidence",
    "totals",
    "verify_decoded",
    "verify_evidence",
    "verify_header",
]


def verify_evidence(
    data: bytes,
    policy: Policy,
    query: Query,
    *,
    now_ms: int,
    age_ms_max: int,
    engine: str | None = None,
    height_min: int = 0,
) -> Answer:
    """What the evidence says, once everything about it is verified.

    Args:
        data: the file.
        policy: whom to trust; never from the node that gave the file.
        query: what was asked.
        now_ms: the present instant, milliseconds since 1970.
        age_ms_max: how old the oldest co-signature may be, milliseconds.
        engine: the ordering engine that the chain must have, or None for any.
        height_min: the answer must not be of an earlier block: of one that the caller knows to have changed it.

    Raises:
        VerificationError: with the first code of §10's table that fits, ``expected`` and ``got``.
    """
    return verify_decoded(
        decode_evidence(data),
        policy,
        query,
        now_ms=now_ms,
        age_ms_max=age_ms_max,
        file_bytes=len(data),
        engine=engine,
        height_min=height_min,
    )


def verify_decoded(
    evidence: Evidence,
    policy: Policy,
    query: Query,
    *,
    now_ms: int,
    age_ms_max: int,
    file_bytes: int,
    engine: str | None = None,
    height_min: int = 0,
) -> Answer:
    """``verify_evidence`` of a file of ``file_bytes`` bytes that is decoded."""
    note = decode_note(evidence.checkpoint)
    if evidence.query != query:
        raise VerificationError(
            "query_mismatch", "another question", expected=query.as_list(), got=evidence.query.as_list()
        )
    header = verify_header(evidence.header, policy, note, engine)
    age_ms = verify_signatures(policy, note, now_ms=now_ms, age_ms_max=age_ms_max)
    if header.height < height_min:
        raise VerificationError(
            "checkpoint_stale", "height of the answer", expected=f"{height_min} or more", got=header.height
        )
    size = note.checkpoint.size
    verify_inclusion(log_leaf(evidence.header), size - 1, size, evidence.inclusion, note.checkpoint.root)
    tags = _verify_tags(evidence, query, header.chain_id)
    prefixes = record_prefixes(query, tags)
    records = _verify_records(evidence, header.chain_id, prefixes)
    _verify_map(evidence, query, header, prefixes)
    return Answer(
        query=query,
        checkpoint=note,
        header=header,
        age_ms=age_ms,
        records=tuple(sorted(records, key=record_order)),
        through=read_through(evidence, query),
        issuer=_issuer(evidence, query),
        keyed_years=frozenset(y for y in query.years if tag_key_key(query.issuer, y) in evidence.entries),
        file_bytes=file_bytes,
        column_bytes=column_bytes(evidence),
    )


def _issuer(evidence: Evidence, query: Query) -> Member | None:
    """Who the issuer is, by its proved entry: a number alone says nothing to the reader of an answer."""
    entry = evidence.entries.get(member_key(query.issuer))
    try:
        return None if entry is None else decode_member(query.issuer, entry)
    except InputError:
        return None


def verify_header(leaf: bytes, policy: Policy, note: SignedCheckpoint, engine: str | None = None) -> Header:
    """The header, if it is of the policy's chain, ends the checkpoint's log and names the policy's witnesses.

    Raises:
        VerificationError: ``policy_mismatch``, ``header_mismatch``, ``policy_outdated``.
    """
    check_origin(policy, note)
    origin = parse_origin(policy.origin)
    if engine is not None and origin.engine != engine:
        raise VerificationError("policy_mismatch", "the chain's engine", expected=engine, got=origin.engine)
    header = header_of_chain(leaf, origin.chain_id)
    if header.size != note.checkpoint.size:
        raise VerificationError(
            "header_mismatch",
            "the log's size after the header",
            expected=note.checkpoint.size,
            got=header.size,
        )
    trusted = policy.validators_hash
    for named in (header.validators_hash, header.next_validators_hash):
        if named != trusted:
            raise VerificationError(
                "policy_outdated",
                "the validators are not the policy's: taxledger policy update follows them, unless this is "
                "older than the policy",
                expected=trusted.hex(),
                got=named.hex(),
            )
    return header


def _verify_tags(evidence: Evidence, query: Query, chain_id: bytes) -> dict[tuple[int, int], bytes]:
    """(kind, year) -> tag, for every kind asked and year that has a tag key, and no other."""
    keys = {year: evidence.entries.get(tag_key_key(query.issuer, year)) for year in query.years}
    expected = [(kind, year) for kind in query.kinds for year in query.years if keys[year] is not None]
    if list(evidence.tags) != expected:
        raise VerificationError(
            "tag_invalid", "kinds and years with a tag", expected=expected, got=list(evidence.tags)
        )
    tags: dict[tuple[int, int], bytes] = {}
    for (kind, year), sigma in evidence.tags.items():
        modulus = decode(keys[year] or b"")[0]
        try:
            verify_tag_signature(modulus, sigma, tag_message(chain_id, query.subject, kind, year))
        except FormatError as error:
            raise VerificationError("tag_invalid", f"the tag key of {year}: {error}") from error
        tags[kind, year] = tag_of(sigma)
    return tags


def _mismatch(key: bytes, message: str, *, expected: Any = None, got: Any = None) -> VerificationError:
    return VerificationError("record_mismatch", f"record {key.hex()}: {message}", expected=expected, got=got)


def _verify_records(
    evidence: Evidence, chain_id: bytes, prefixes: Mapping[bytes, tuple[int, int]]
) -> list[AnsweredRecord]:
    keys = [group.prefix + end for group in evidence.groups for end in group.ends]
    if len(set(keys)) != len(keys):
        raise VerificationError("record_repeated", "one record twice", expected=len(set(keys)), got=len(keys))
    schemas = _verify_schemas(evidence)
    records: list[AnsweredRecord] = []
    for group in evidence.groups:
        records.extend(_verify_group(group, chain_id, schemas, prefixes.get(group.prefix)))
    return records


def _verify_schemas(evidence: Evidence) -> dict[tuple[int, int], Schema]:
    keys = [key for key in evidence.entries if key[:1] == b"\x08"]
    for key, document in zip(keys, evidence.schemas, strict=True):
        registered = decode(evidence.entries[key])[0]
        if sha256(document) != registered:
            raise VerificationError(
                "record_mismatch",
                f"the document of schema {key.hex()}",
                expected=registered.hex(),
                got=sha256(document).hex(),
            )
    try:
        schemas = read_schemas(evidence)
    except InputError as error:
        raise VerificationError("record_mismatch", f"no schema: {error}") from error
    for (kind, number), schema in schemas.items():
        if (schema.kind, schema.number) != (kind, number):
            raise VerificationError(
                "record_mismatch", "kind and number of a schema", expected=(kind, number), got=schema.name
            )
    return schemas


def _verify_group(
    group: RecordGroup,
    chain_id: bytes,
    schemas: Mapping[tuple[int, int], Schema],
    asked: tuple[int, int] | None,
) -> list[AnsweredRecord]:
    found: list[AnsweredRecord] = []
    for end, (_raw, value), secret, row in zip(
        group.ends, group.values, group.secrets, group.rows, strict=True
    ):
        key = group.prefix + end
        try:
            _issuer, kind, _tag, month, _rid = split_record_key(key)
        except FormatError as error:
            raise _mismatch(key, str(error)) from error
        schema = schemas.get((kind, value.schema))
        if schema is None:
            raise _mismatch(key, "its schema is not listed", expected=(kind, value.schema), got=list(schemas))
        if (row is None) != (value.status is Status.ERASED):
            given = "no fields" if row is None else "fields"
            raise _mismatch(key, "fields", expected=f"as status {value.status.name} has them", got=given)
        opening = None if group.opened is None else group.opened[value.schema]
        if opening is not None and opening.fields != len(schema.fields):
            raise _mismatch(key, "fields of its schema", expected=len(schema.fields), got=opening.fields)
        values: Row | None = None
        if row is None:
            if any(secret):
                raise _mismatch(key, "an erased record's secret", expected="zeros", got="other bytes")
        elif opening is None:
            _verify_row(key, schema, chain_id, value, secret, row, asked)
            values = row
        else:
            values = _verify_partly(key, schema, chain_id, value, opening, secret, row, asked)
        # A group that nobody asked for is refused by _verify_map; until then its year is unknown.
        found.append(
            AnsweredRecord(
                kind=kind,
                year=asked[1] if asked else 0,
                month=month,
                status=value.status,
                version=value.version,
                key=key,
                height=value.height,
                fingerprint=value.fingerprint,
                schema=schema,
                values=values,
                opened=None if opening is None else opening.positions,
            )
        )
    return found


def _verify_row(
    key: bytes,
    schema: Schema,
    chain_id: bytes,
    value: RecordValue,
    secret: bytes,
    row: Row,
    asked: tuple[int, int] | None,
) -> None:
    try:
        schema.check_fields(row)
    except FormatError as error:
        raise _mismatch(key, str(error)) from error
    _verify_period(key, schema, row, asked)
    _verify_commitment(key, value, commit(schema, chain_id, key, value.version, secret, row))


def _verify_period(key: bytes, schema: Schema, row: Row, asked: tuple[int, int] | None) -> None:
    period = record_period(schema, row)
    if asked is not None and period != (asked[1], key[20]):
        raise _mismatch(key, "year and month byte of its period", expected=(asked[1], key[20]), got=period)


def _verify_commitment(key: bytes, value: RecordValue, commitment: bytes) -> None:
    if commitment != value.commitment:
        raise _mismatch(key, "its commitment", expected=value.commitment.hex(), got=commitment.hex())


def _verify_partly(
    key: bytes,
    schema: Schema,
    chain_id: bytes,
    value: RecordValue,
    opening: Opening,
    secret: bytes,
    row: Row,
    asked: tuple[int, int] | None,
) -> Row:
    """The row with None where a field is closed: the opened fields and the others' digests give the commitment.

    Where the field of the period is closed, year and month are those of tag and key alone.
    """
    n, fields = len(opening.positions), len(schema.fields)
    if len(row) != n:
        raise _mismatch(key, "values of the opened fields", expected=n, got=len(row))
    values: list[Value] = [None] * fields
    digests = [secret[at : at + 32] for at in range(16 * n, len(secret), 32)]
    for number, (position, each) in enumerate(zip(opening.positions, row, strict=True)):
        salt = secret[16 * number : 16 * number + 16]
        if each is None:
            if any(salt):
                raise _mismatch(key, "the salt of an absent field", expected="zeros", got="other bytes")
            digest = ABSENT_DIGEST
        else:
            try:
                schema.check_value(position, each)
            except FormatError as error:
                raise _mismatch(key, str(error)) from error
            digest = field_digest(salt, schema.packed_names[position], each)
        values[position] = each
        digests.insert(position, digest)
    if schema.position[schema.period[1]] in opening.positions:
        _verify_opened_period(key, schema, values, asked)
    _verify_commitment(key, value, commit_digests(chain_id, key, value.version, digests))
    return values


def _verify_opened_period(key: bytes, schema: Schema, values: Row, asked: tuple[int, int] | None) -> None:
    try:
        _verify_period(key, schema, values, asked)
    except FormatError as error:
        raise _mismatch(key, str(error)) from error


def _verify_map(
    evidence: Evidence, query: Query, header: Header, prefixes: Mapping[bytes, tuple[int, int]]
) -> None:
    proved: dict[bytes, list[tuple[bytes, bytes]]] = {prefix: [] for prefix in prefixes}
    named = set()
    for group in evidence.groups:
        if group.prefix not in proved:
            raise VerificationError("prefix_incomplete", "a prefix not asked for", got=group.prefix.hex())
        for end, (raw, value) in zip(group.ends, group.values, strict=True):
            proved[group.prefix].append((group.prefix + end, raw))
            named.add((group.prefix[3], value.schema))
    singles = single_keys(query, named)
    listed = evidence.entries
    proved.update({key: [(key, listed[key])] if key in listed else [] for key in singles})
    verify_prefixes(header.state_root, proved, evidence.proof)
    unasked = [key for key in listed if key not in proved]
    if unasked:
        raise VerificationError("map_proof_invalid", "a key not asked for", got=unasked[0].hex())
