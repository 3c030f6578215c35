"""Named ways of cheating with disclosures, each with the code that must come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cheating import OTHER_CHAIN, edited, put
from disclosureforge import (
    ARTEFACT,
    ARTEFACT_GIVEN,
    CHECKPOINT,
    CUSTODIAN,
    DETAILS,
    FRAME,
    GOOD,
    HEADER,
    INCLUSION,
    INVOICES,
    KINDS,
    MAP_PROOF,
    PARTS,
    PREDICATES,
    PROOF,
    PROOF_QUERY,
    PROVES,
    QUERY,
    SALT,
    SEQUENCE,
    SPECS,
    VALUES,
    Edit,
    artefact_of,
    body,
    forge,
    one_detail,
    predicate,
    state,
    with_details,
)
from world import (
    AGE_MS_MAX,
    FILING,
    INVOICE,
    NOW_MS,
    NOW_S,
    OTHER_SUBJECT,
    RATING,
    World,
    ask,
    seeded,
)

from taxledger.ledger import canonical
from taxledger.ledger.consent import PREDICATE_KIND
from taxledger.ledger.consentscope import opened_fields
from taxledger.ledger.crypto import Signer
from taxledger.ledger.disclosure import use_keys
from taxledger.ledger.evidence import Evidence, RecordGroup
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.schemas import Schema

# --- ways of cheating ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A named way of cheating, and the code that must come of it."""

    code: str
    name: str
    make: Callable[[], bytes]
    query: Query = QUERY
    arguments: Any = ()

    def __str__(self) -> str:
        return f"{self.code}: {self.name}"


def lie(code: str, name: str, question: Query = QUERY, **how: Any) -> Fault:
    """A fault of ``forge``'s arguments."""
    return Fault(code, name, lambda: forge(**{"query": question, **how}), question)


def late(code: str, name: str, edit: Edit) -> Fault:
    """A fault of a file that was good: whoever has it in hand can make it."""
    return Fault(code, name, lambda: edited(GOOD, edit))


def asked(code: str, name: str, query: Query = QUERY, **arguments: Any) -> Fault:
    """The good file, used for something else."""
    return Fault(code, name, lambda: GOOD, query, tuple(arguments.items()))


def group_of(kind: int) -> Callable[[Evidence], int]:
    return lambda evidence: next(at for at, each in enumerate(evidence.groups) if each.prefix[3] == kind)


def grouped(kind: int, **changes: Callable[[Any], Any]) -> Callable[[Evidence], Evidence]:
    """Changes columns of the first group of a kind."""

    def edit(evidence: Evidence) -> Evidence:
        groups = list(evidence.groups)
        at = group_of(kind)(evidence)
        groups[at] = replace(
            groups[at], **{name: make(getattr(groups[at], name)) for name, make in changes.items()}
        )
        return replace(evidence, groups=tuple(groups))

    return edit


def first(change: Callable[[Any], Any]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Changes the first of a column."""
    return lambda column: (change(column[0]), *column[1:])


def swapped(a: int, b: int, size: int) -> Callable[[bytes], bytes]:
    """Two pieces of a secret change places."""

    def change(secret: bytes) -> bytes:
        x, y = secret[a : a + size], secret[b : b + size]
        changed = bytearray(secret)
        changed[a : a + size], changed[b : b + size] = y, x
        return bytes(changed)

    return change


def filled(at: int, size: int, value: bytes | None = None) -> Callable[[bytes], bytes]:
    piece = seeded("piece")[:size] if value is None else value
    return lambda secret: secret[:at] + piece + secret[at + size :]


def opening(kind: int, change: Callable[[list[Any]], Any]) -> Edit:
    """Changes what a frame says of the opened fields, in every group of a kind."""

    def edit(items: list[Any]) -> None:
        for group in items[9]:
            if group[0][3] == kind:
                group[3] = change(group[3])

    return edit


def drop_record(evidence: Evidence) -> Evidence:
    groups = list(evidence.groups)
    at = next(at for at, each in enumerate(groups) if len(each.ends) == 2)
    names = ("ends", "values", "secrets", "rows")
    groups[at] = replace(groups[at], **{name: getattr(groups[at], name)[1:] for name in names})
    return replace(evidence, groups=tuple(groups))


def hide_group(evidence: Evidence) -> Evidence:
    return replace(evidence, groups=evidence.groups[:-1])


def double_record(evidence: Evidence) -> Evidence:
    names = ("ends", "values", "secrets", "rows")
    group = evidence.groups[0]
    again = replace(group, **{name: getattr(group, name)[:1] + getattr(group, name) for name in names})
    return replace(evidence, groups=(again, *evidence.groups[1:]))


def without(name: str) -> Callable[[Schema], tuple[int, ...] | None]:
    def scope(schema: Schema) -> tuple[int, ...] | None:
        allowed = opened_fields(ARTEFACT_GIVEN.terms, QUERY, schema)
        return allowed if allowed is None else tuple(at for at in allowed if schema.fields[at].name != name)

    return scope


def also(name: str) -> Callable[[Schema], tuple[int, ...] | None]:
    def scope(schema: Schema) -> tuple[int, ...] | None:
        allowed = opened_fields(ARTEFACT_GIVEN.terms, QUERY, schema)
        if allowed is None or name not in schema.position:
            return allowed
        return tuple(sorted({*allowed, schema.position[name]}))

    return scope


def secrets_moved(parts: list[Any]) -> list[Any]:
    """The first secret of the second part stands at the end of the first."""
    size = len(parts[1][3]) // len(parts[1][4])
    parts[0][3], parts[1][3] = parts[0][3] + parts[1][3][:size], parts[1][3][size:]
    return parts


def renumbered(parts: list[Any]) -> list[Any]:
    return [[*part[:2], number, *part[3:]] for number, part in enumerate(parts, start=1)]


def other_use(**how: Any) -> list[Any]:
    return canonical.decode(forge(**how))  # type: ignore[no-any-return]


def proof_of(**how: Any) -> Edit:
    """The use proof of another file."""
    return lambda items: items.__setitem__(PROOF, other_use(**how)[PROOF])


def revived(items: list[Any]) -> None:
    """The use proof of a revoked consent, with the value that it had before."""
    before = items[PROOF][VALUES][0]
    proof_of(consent=put(0)(3))(items)
    items[PROOF][VALUES][0] = before


def shorter(evidence: Evidence) -> Evidence:
    """The invoices' last field is no field any more, and its digest is gone."""

    def cut(group: RecordGroup) -> RecordGroup:
        if group.prefix[3] != INVOICE or group.opened is None:
            return group
        opened = {number: replace(each, fields=each.fields - 1) for number, each in group.opened.items()}
        return replace(group, secrets=tuple(each[:-32] for each in group.secrets), opened=opened)

    return replace(evidence, groups=tuple(map(cut, evidence.groups)))


OTHER = artefact_of(nonce=seeded("other nonce"))
THIRD = artefact_of(recipient=3)
CHAINLESS = artefact_of(chain_id=bytes(16))
GOODLESS = with_details(*DETAILS[:2], one_detail(("colour", "date", "net")))
MORE = artefact_of(predicates=PREDICATES)
DIRECT = ask((PREDICATE_KIND,), "2024-01", "2024-12", subject=f"consent:{OTHER.id(1).hex()}")
UNNAMED = [predicate("owes_less_than", f"consent:{PROVES.id(1).hex()}", amount=10_000)]
ARGUED = [predicate("net_sales_at_least", f"consent:{PROVES.id(1).hex()}", amount=9_999)]
CLAIMED = [predicate("rating_is", f"consent:{PROVES.id(1).hex()}", argument="B")]
STRANGER = Signer(seeded("stranger key"))
PAST = {"time_s": NOW_S - 601}


def scope_all(_schema: Schema) -> None:
    return None


FAULTS: list[Fault] = [
    # malformed, not_canonical: the file
    late("malformed", "version 2", put(0)(2)),
    late("malformed", "version true", put(0)(True)),
    late("malformed", "another name", put(1)("evidence")),
    late("malformed", "an element more", lambda items: items.append(None)),
    late("malformed", "an element less", lambda items: items.pop()),
    late("malformed", "an artefact as text", put(ARTEFACT)("x")),
    late("malformed", "custodian 0", put(CUSTODIAN)(0)),
    late("malformed", "custodian 65,536", put(CUSTODIAN)(65_536)),
    late("malformed", "sequence 0", put(SEQUENCE)(0)),
    late("malformed", "sequence 1,000,001", put(SEQUENCE)(1_000_001)),
    late("malformed", "a salt of 31 bytes", put(SALT)(bytes(31))),
    late("malformed", "no frame", put(FRAME)(None)),
    late("malformed", "a part that is an array", put(PARTS, 0)([])),
    late("malformed", "parts in a map", put(PARTS)({})),
    late("malformed", "a use proof of four", lambda items: items[PROOF].pop()),
    late("malformed", "65 hashes", put(PROOF, INCLUSION)([bytes(32)] * 65)),
    late("malformed", "a hash of 31 bytes", put(PROOF, INCLUSION, 0)(bytes(31))),
    late("malformed", "two values", lambda items: items[PROOF][VALUES].pop()),
    late(
        "malformed", "a note without signatures", put(PROOF, CHECKPOINT)(lambda note: note.split(b"\n\n")[0])
    ),
    late("malformed", "an artefact for ever", body(lambda inner: inner[12].__setitem__(1, 2**60))),
    late("malformed", "an artefact for another mode", body(put(10)("copy"))),
    late("malformed", "an artefact with a field more", body(lambda inner: inner.append(None))),
    lie("malformed", "consent of status 5", consent=put(0)(5)),
    lie("malformed", "consent used −1 times", consent=put(6)(-1)),
    lie("malformed", "a holder's entry with two heights", holder=lambda value: value.append(4)),
    lie("malformed", "a use of state 0", use=put(0)(0)),
    lie("malformed", "an open use that is closed", use=put(6)(5)),
    lie("malformed", "a closed use that is not", use=put(0)(2)),
    lie("malformed", "an open use of which something left", use=put(5)(1)),
    lie("malformed", "a use of which nothing left, with a digest", use=state(4, bytes(32), 0, 5)),
    lie("malformed", "a partial use without a digest", use=state(3, None, 0, 5)),
    Fault("not_canonical", "a byte behind the file", lambda: GOOD + b"\x00"),
    Fault("not_canonical", "a version in a long form", lambda: b"\x99\xcc\x01" + GOOD[2:]),
    late("not_canonical", "a byte behind the artefact", put(ARTEFACT)(lambda raw: raw + b"\x00")),
    late("not_canonical", "a byte behind the consent", put(PROOF, VALUES, 0)(lambda raw: raw + b"\x00")),
    late(
        "not_canonical",
        "a note's size with a zero before",
        put(PROOF, CHECKPOINT)(lambda n: n.replace(b"\n11\n", b"\n011\n")),
    ),
    # consent_signature_invalid
    late("consent_signature_invalid", "other terms", body(put(5, 0)(3), signed=False)),
    late(
        "consent_signature_invalid",
        "another key",
        lambda i: i.__setitem__(ARTEFACT, edited(i[ARTEFACT], put(3)(STRANGER.public_key))),
    ),
    late(
        "consent_signature_invalid",
        "no signature",
        lambda i: i.__setitem__(ARTEFACT, edited(i[ARTEFACT], put(4)(bytes(64)))),
    ),
    # who, what, when
    asked("consent_recipient_mismatch", "another bank uses the file", recipient=3),
    lie("consent_recipient_mismatch", "a consent to another bank", artefact=THIRD),
    late("consent_custodian_mismatch", "another custodian", put(CUSTODIAN)(2)),
    asked("consent_custodian_mismatch", "another issuer asked", replace(QUERY, issuer=2)),
    Fault(
        "consent_custodian_mismatch",
        "an issuer that the consent does not name",
        lambda: edited(GOOD, put(CUSTODIAN)(2)),
        replace(QUERY, issuer=2, subject=OTHER_SUBJECT),
    ),
    asked("consent_subject_mismatch", "another enterprise", replace(QUERY, subject=OTHER_SUBJECT)),
    asked("consent_kind_exceeded", "another kind", replace(QUERY, kinds=(INVOICE, 7))),
    asked("consent_kind_exceeded", "predicates that were not consented to", PROOF_QUERY),
    lie(
        "consent_kind_exceeded",
        "predicates with others",
        replace(QUERY, kinds=(*KINDS, 12)),
        query=QUERY,
        artefact=MORE,
    ),
    asked("consent_period_exceeded", "an earlier month", replace(QUERY, from_period="2023-12")),
    asked("consent_period_exceeded", "a later month", replace(QUERY, to_period="2025-01")),
    asked(
        "consent_period_exceeded",
        "of the first kind, before another kind",
        replace(QUERY, kinds=(RATING, 9), to_period="2025-01"),
    ),
    lie(
        "consent_period_exceeded",
        "two details that cover together",
        INVOICES,
        scope=scope_all,
        artefact=with_details(
            replace(DETAILS[2], to_period="2024-06"), replace(DETAILS[2], from_period="2024-07")
        ),
    ),
    # the use proof
    asked("policy_mismatch", "a policy of another chain", policy=decode_policy(OTHER_CHAIN)),
    asked("checkpoint_stale", "seen later", now_ms=NOW_MS + AGE_MS_MAX + 1),
    asked("checkpoint_stale", "seen sooner", now_ms=NOW_MS - 60_001),
    late(
        "header_mismatch",
        "the evidence's header",
        lambda i: i[PROOF].__setitem__(HEADER, canonical.decode(i[FRAME])[4]),
    ),
    late("header_mismatch", "no header", put(PROOF, HEADER)(b"")),
    late(
        "header_mismatch",
        "the note of another block",
        lambda i: i[PROOF].__setitem__(CHECKPOINT, canonical.decode(i[FRAME])[3]),
    ),
    late("inclusion_invalid", "no path", put(PROOF, INCLUSION)([])),
    late("inclusion_invalid", "another path", put(PROOF, INCLUSION, 0)(bytes(32))),
    lie("policy_outdated", "others come next", after={"changes": {"next_validators_hash": bytes(32)}}),
    lie("header_mismatch", "a header of another chain", after={"changes": {"chain_id": bytes(16)}}),
    late("map_proof_invalid", "the use proof of another consent", proof_of(artefact=OTHER)),
    lie(
        "map_proof_invalid",
        "under another consent's id",
        keys=lambda keys: [*use_keys(OTHER, 1, 1)[:1], *keys[1:]],
    ),
    lie(
        "map_proof_invalid",
        "of another holder",
        keys=lambda keys: [keys[0], keys[1][:1] + bytes(16) + keys[1][17:], keys[2]],
    ),
    lie(
        "map_proof_invalid",
        "the second use as the first",
        keys=lambda keys: [*keys[:2], use_keys(ARTEFACT_GIVEN, 1, 2)[2]],
    ),
    late("map_proof_invalid", "the first use as the second", put(SEQUENCE)(2)),
    late("map_proof_invalid", "a revoked consent made active", revived),
    late(
        "map_proof_invalid",
        "another count planned",
        put(PROOF, VALUES, 2)(lambda raw: edited(raw, put(2)(8))),
    ),
    late(
        "map_proof_invalid",
        "another height of the holder's entry",
        put(PROOF, VALUES, 1)(canonical.encode([3])),
    ),
    late("map_proof_invalid", "no proof", put(PROOF, MAP_PROOF)(b"")),
    late("map_proof_invalid", "a byte behind the proof", put(PROOF, MAP_PROOF)(lambda raw: raw + b"\x00")),
    late(
        "map_proof_invalid",
        "another artefact of the same subject",
        lambda i: i.__setitem__(ARTEFACT, OTHER.raw),
    ),
    late("map_proof_invalid", "terms signed with another key", body(lambda inner: None, STRANGER)),
    late("map_proof_invalid", "a longer period, signed anew", body(put(7, 2, 2)("2025-12"))),
    # consent_mismatch
    lie("consent_mismatch", "a consent for another chain", artefact=CHAINLESS),
    lie("consent_mismatch", "another digest on the ledger", consent=put(1)(bytes(32))),
    lie("consent_mismatch", "another custodian on the ledger", consent=put(2)(2)),
    lie("consent_mismatch", "an earlier begin on the ledger", consent=put(3)(0)),
    lie("consent_mismatch", "a later end on the ledger", consent=put(4)(2**62)),
    lie("consent_mismatch", "more uses on the ledger", consent=put(5)(9)),
    lie("consent_mismatch", "a revoke hash of the custodian's own", consent=put(7)(bytes(32))),
    # use_mismatch
    late("use_mismatch", "another salt", put(SALT)(bytes(32))),
    late("use_mismatch", "the last part left out", lambda i: i[PARTS].pop()),
    late("use_mismatch", "all parts left out", put(PARTS)([])),
    late("use_mismatch", "parts in another order", put(PARTS)(lambda parts: parts[::-1])),
    late("use_mismatch", "a part twice", put(PARTS)(lambda parts: [*parts, parts[-1]])),
    late(
        "use_mismatch",
        "the parts of a use with all fields",
        lambda i: i.__setitem__(PARTS, other_use(scope=scope_all)[PARTS]),
    ),
    late(
        "use_mismatch",
        "the frame of another question",
        lambda i: i.__setitem__(FRAME, other_use(query=INVOICES)[FRAME]),
    ),
    late("use_mismatch", "a frame that is none", put(FRAME)(b"")),
    lie("use_mismatch", "the digest of other parts", use=put(1)(seeded("other parts"))),
    lie("use_mismatch", "the digest of what closes a use", use=put(1)(seeded("use_close"))),
    lie("use_mismatch", "fewer records planned", use=put(2)(8)),
    lie("use_mismatch", "more records planned", use=put(2)(10)),
    lie("use_mismatch", "none planned", use=put(2)(0)),
    # frame and parts, planned as they are
    lie("malformed", "evidence as a frame", frame=put(1)("evidence")),
    lie("malformed", "a frame with secrets", frame=put(9, 0, 4)(b"")),
    lie("malformed", "a frame with rows", frame=put(9, 0, 5)([])),
    lie("malformed", "openings of no schema", frame=opening(INVOICE, lambda opened: [])),
    lie(
        "malformed", "openings of a schema more", frame=opening(INVOICE, lambda opened: [*opened, [2, 1, []]])
    ),
    lie("malformed", "openings of a schema twice", frame=opening(INVOICE, lambda opened: opened * 2)),
    lie(
        "malformed",
        "a position past the fields",
        frame=opening(INVOICE, lambda opened: [[1, 12, [3, 6, 12]]]),
    ),
    lie("malformed", "positions out of order", frame=opening(INVOICE, lambda opened: [[1, 12, [6, 3, 10]]])),
    lie("malformed", "a position twice", frame=opening(INVOICE, lambda opened: [[1, 12, [3, 3, 10]]])),
    lie("malformed", "65 fields", frame=opening(INVOICE, lambda opened: [[1, 65, [3, 6, 10]]])),
    lie(
        "malformed",
        "a position opened more, without its salt",
        frame=opening(INVOICE, lambda opened: [[1, 12, [3, 6, 8, 10]]]),
    ),
    lie("malformed", "openings called all", frame=opening(INVOICE, lambda opened: None)),
    lie("malformed", "a part left out", parts=lambda parts: parts[:-1]),
    lie("malformed", "the first part left out", parts=lambda parts: renumbered(parts[1:])),
    lie("malformed", "a part twice, and renumbered", parts=lambda parts: renumbered([*parts, parts[-1]])),
    lie("malformed", "parts in another order", parts=lambda parts: parts[::-1]),
    lie(
        "malformed",
        "numbers from 0",
        parts=lambda parts: [[*part[:2], part[2] - 1, *part[3:]] for part in parts],
    ),
    lie("malformed", "number true", parts=lambda parts: [[*parts[0][:2], True, *parts[0][3:]], *parts[1:]]),
    lie("malformed", "a part of nothing", parts=lambda parts: [*parts, [1, "part", len(parts) + 1, b"", []]]),
    lie(
        "malformed", "a part of another name", parts=lambda parts: [[1, "frame", *part[2:]] for part in parts]
    ),
    lie("malformed", "a secret in the part before", parts=secrets_moved),
    lie(
        "malformed",
        "a secret cut",
        parts=lambda parts: [[*parts[0][:3], parts[0][3][:-1], parts[0][4]], *parts[1:]],
    ),
    lie(
        "malformed",
        "a row as text",
        parts=lambda parts: [[*parts[0][:4], ["x"] * len(parts[0][4])], *parts[1:]],
    ),
    lie(
        "malformed",
        "a value that is an array",
        parts=lambda parts: [[*parts[0][:4], [[[1], 2], *parts[0][4][1:]]], *parts[1:]],
    ),
    lie(
        "malformed",
        "65 values",
        parts=lambda parts: [[*parts[0][:4], [[1] * 65, *parts[0][4][1:]]], *parts[1:]],
    ),
    lie("not_canonical", "a byte behind the frame", planned=lambda frame, parts: (frame + b"\x00", parts)),
    lie(
        "not_canonical",
        "a byte behind a part",
        planned=lambda frame, parts: (frame, [parts[0] + b"\x00", *parts[1:]]),
    ),
    lie("not_canonical", "a part that is empty", planned=lambda frame, parts: (frame, [*parts, b""])),
    # the evidence
    lie("query_mismatch", "evidence of fewer months", asked=replace(QUERY, to_period="2024-02")),
    lie("query_mismatch", "evidence of fewer kinds", asked=replace(QUERY, kinds=(FILING, RATING))),
    lie("query_mismatch", "evidence of another subject", asked=replace(QUERY, subject=OTHER_SUBJECT)),
    lie(
        "query_mismatch", "predicates of the subject itself", PROOF_QUERY, artefact=PROVES, asked=PROOF_QUERY
    ),
    lie("query_mismatch", "predicates of another consent", PROOF_QUERY, artefact=PROVES, asked=DIRECT),
    lie("checkpoint_stale", "old evidence under a new use proof", note=PAST),
    lie("quorum_missing", "evidence that too few co-signed", note={"signers": (0, 1)}),
    lie("signer_repeated", "evidence that one co-signed twice", note={"signers": (0, 1, 1)}),
    lie(
        "tag_invalid",
        "another subject's tag",
        evidence=lambda e: replace(
            e, tags={key: World(specs=()).sigma(OTHER_SUBJECT, *key) for key in e.tags}
        ),
    ),
    lie("tag_invalid", "a tag missing", evidence=lambda e: replace(e, tags=dict(list(e.tags.items())[1:]))),
    lie("record_repeated", "a record twice", evidence=double_record),
    lie(
        "record_mismatch",
        "an amount",
        evidence=grouped(INVOICE, rows=first(lambda row: [row[0], 10**9, row[2]])),
    ),
    lie(
        "record_mismatch",
        "a date",
        evidence=grouped(INVOICE, rows=first(lambda row: ["2024-01-30", *row[1:]])),
    ),
    lie(
        "record_mismatch",
        "a date of another month",
        evidence=grouped(INVOICE, rows=first(lambda row: ["2024-02-01", *row[1:]])),
    ),
    lie(
        "record_mismatch",
        "an amount as text",
        evidence=grouped(INVOICE, rows=first(lambda row: [row[0], "5", row[2]])),
    ),
    lie(
        "record_mismatch",
        "values of two fields swapped",
        evidence=grouped(INVOICE, rows=first(lambda row: [row[0], row[2], row[1]])),
    ),
    lie(
        "record_mismatch",
        "a value that is present as absent",
        evidence=grouped(INVOICE, rows=first(lambda row: [row[0], None, row[2]])),
    ),
    lie(
        "record_mismatch",
        "a value that is present as absent, its salt zeros",
        evidence=grouped(
            INVOICE, rows=first(lambda row: [row[0], None, row[2]]), secrets=first(filled(16, 16, bytes(16)))
        ),
    ),
    lie(
        "record_mismatch",
        "a value that is absent made up",
        evidence=grouped(INVOICE, rows=lambda rows: tuple([row[0], row[1], "gold"] for row in rows)),
    ),
    lie(
        "record_mismatch",
        "the date absent",
        evidence=grouped(
            INVOICE, rows=first(lambda row: [None, *row[1:]]), secrets=first(filled(0, 16, bytes(16)))
        ),
    ),
    lie(
        "record_mismatch",
        "a salt for an absent field",
        evidence=grouped(INVOICE, secrets=lambda all_: tuple(filled(32, 16)(each) for each in all_)),
    ),
    lie("record_mismatch", "salts swapped", evidence=grouped(INVOICE, secrets=first(swapped(0, 16, 16)))),
    lie("record_mismatch", "digests swapped", evidence=grouped(INVOICE, secrets=first(swapped(48, 80, 32)))),
    lie("record_mismatch", "another salt", evidence=grouped(INVOICE, secrets=first(filled(0, 16)))),
    lie(
        "record_mismatch",
        "another digest of a closed field",
        evidence=grouped(INVOICE, secrets=first(filled(48, 32))),
    ),
    lie(
        "record_mismatch",
        "a closed field as absent",
        evidence=grouped(INVOICE, secrets=first(filled(48, 32, bytes(32)))),
    ),
    lie(
        "record_mismatch",
        "an absent closed field with a digest",
        evidence=grouped(INVOICE, secrets=first(lambda s: s[:-32] + seeded("original"))),
    ),
    lie(
        "record_mismatch",
        "another field as the opened one",
        frame=opening(INVOICE, lambda opened: [[1, 12, [3, 7, 10]]]),
    ),
    lie(
        "record_mismatch",
        "a field moved to the one before",
        frame=opening(INVOICE, lambda opened: [[1, 12, [2, 6, 10]]]),
    ),
    lie("record_mismatch", "a value too few", evidence=grouped(INVOICE, rows=first(lambda row: row[:-1]))),
    lie(
        "record_mismatch", "a value too many", evidence=grouped(INVOICE, rows=first(lambda row: [*row, None]))
    ),
    lie("record_mismatch", "a field fewer, and its digest", evidence=shorter),
    lie(
        "record_mismatch",
        "no row of a record that is there",
        evidence=grouped(INVOICE, rows=first(lambda row: None)),
    ),
    lie(
        "record_mismatch",
        "all open, a value of a fully open kind",
        evidence=grouped(RATING, rows=first(lambda row: [row[0], "A", *row[2:]])),
    ),
    lie(
        "record_mismatch",
        "another secret of a fully open kind",
        evidence=grouped(RATING, secrets=first(lambda s: bytes(32))),
    ),
    lie("prefix_incomplete", "a record left out", evidence=drop_record),
    lie("prefix_incomplete", "a month left out", evidence=hide_group),
    lie("prefix_incomplete", "all left out", evidence=lambda e: replace(e, groups=())),
    lie(
        "prefix_incomplete",
        "a date of completeness hidden",
        evidence=lambda e: replace(e, entries={k: v for k, v in e.entries.items() if k[:1] != b"\x09"}),
    ),
    lie("map_proof_invalid", "no proof of the records", evidence=lambda e: replace(e, proof=b"")),
    # consent_fields_exceeded
    lie("consent_fields_exceeded", "all fields", scope=scope_all),
    lie("consent_fields_exceeded", "the counterparty too", scope=also("counterparty")),
    lie("consent_fields_exceeded", "the period too", scope=also("period")),
    lie("consent_fields_exceeded", "a field fewer", scope=without("net")),
    lie(
        "consent_fields_exceeded",
        "some of what is all",
        scope=lambda schema: (
            (0, 1) if schema.kind == RATING else opened_fields(ARTEFACT_GIVEN.terms, QUERY, schema)
        ),
    ),
    lie("consent_fields_exceeded", "of an erased record", specs=(SPECS[5],), scope=also("counterparty")),
    lie(
        "consent_fields_exceeded",
        "a field that the schema does not have",
        artefact=GOODLESS,
        scope=without("goods"),
    ),
    lie(
        "consent_fields_exceeded",
        "an answer that was not consented to",
        PROOF_QUERY,
        artefact=PROVES,
        specs=UNNAMED,
    ),
    lie(
        "consent_fields_exceeded", "an answer for another amount", PROOF_QUERY, artefact=PROVES, specs=ARGUED
    ),
    lie("consent_fields_exceeded", "an answer for another text", PROOF_QUERY, artefact=PROVES, specs=CLAIMED),
]
