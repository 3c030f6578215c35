"""Disclosures as a custodian makes them, each step of which can be falsified; and good files of many sorts.

``forge`` makes a file as a custodian would, and lets each step be falsified: the evidence, the bytes that are
planned (so that the ledger's digest is of the falsified ones), what the ledger says, and the file afterwards.
``disclosurecheats`` has the ways of cheating; shared by tests and vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cheating import edited, put
from consentkit import SUBJECT_KEY, grant_of, make_terms
from world import (
    AGE_MS_MAX,
    FILING,
    INVOICE,
    NOW_MS,
    OTHER_SUBJECT,
    RATING,
    SCHEMAS,
    Spec,
    World,
    ask,
    filing,
    invoice,
    rating,
    seeded,
)

from taxledger.ledger import canonical
from taxledger.ledger.assemble import assemble
from taxledger.ledger.consent import (
    PREDICATE_KIND,
    Artefact,
    CustodianTerms,
    Detail,
    PredicateTerms,
    sign_artefact,
)
from taxledger.ledger.consentscope import opened_fields
from taxledger.ledger.crypto import Signer
from taxledger.ledger.disclosure import Disclosed, evidence_query, use_digest, use_keys, verify_disclosure
from taxledger.ledger.evidence import Evidence
from taxledger.ledger.parts import split_evidence
from taxledger.ledger.policy import Policy, decode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.records import Status, commit
from taxledger.ledger.schemas import Schema

ARTEFACT, CUSTODIAN, SEQUENCE, SALT, FRAME, PARTS, PROOF = range(2, 9)
CHECKPOINT, HEADER, INCLUSION, VALUES, MAP_PROOF = range(5)
KINDS = (FILING, RATING, INVOICE)
QUERY = ask(KINDS, "2024-01", "2024-03")
SPECS: tuple[Spec, ...] = (
    invoice(1, "2024-01-31", 5_000, goods="steel"),
    invoice(2, "2024-01-31", 70),
    invoice(3, "2024-02-01", -5_000, original="00000001"),
    invoice(4, "2024-02-29", 777, direction="purchase"),
    invoice(5, "2024-03-31", status=Status.VOIDED, version=2),
    invoice(6, "2024-03-15", status=Status.ERASED),
    invoice(7, "2024-03-15", subject=OTHER_SUBJECT),
    invoice(8, "2024-04-15"),
    filing("2024-01"),
    filing("2024-02", 70),
    rating(2024, "M"),
)
DETAILS = (
    Detail(kind=FILING, from_period="2023-01", to_period="2024-12", fields=("payable", "tax")),
    Detail(kind=RATING, from_period="2024-01", to_period="2024-12", fields=None),
    Detail(kind=INVOICE, from_period="2024-01", to_period="2024-12", fields=("date", "goods", "net")),
)
"""Of the filings the field of the period stays closed, of the ratings all is open."""
PREDICATES = (
    PredicateTerms(name="filings_complete", argument=None),
    PredicateTerms(name="net_sales_at_least", argument=10_000),
    PredicateTerms(name="rating_is", argument="A"),
)

Edit = Callable[[list[Any]], object]


def terms(**changes: Any) -> Any:
    base = World(specs=()).chain_id
    return make_terms(**{"chain_id": base, "details": DETAILS, **changes})


def artefact_of(key: Signer = SUBJECT_KEY, **changes: Any) -> Artefact:
    return sign_artefact(terms(**changes), key)


ARTEFACT_GIVEN = artefact_of()
PROVES = artefact_of(mode="proof_only", details=(), predicates=PREDICATES, nonce=seeded("proves"))


def predicate(name: str, consent: str, result: bool = True, **more: Any) -> Spec:
    fields = {"name": name, "as_of": "2024-03-31", "result": result, **more}
    return Spec(kind=PREDICATE_KIND, fields=fields, subject=consent)


def answers(artefact: Artefact) -> list[Spec]:
    consent = f"consent:{artefact.id(1).hex()}"
    return [
        predicate("filings_complete", consent),
        predicate("net_sales_at_least", consent, amount=10_000, currency="CNY"),
        predicate("rating_is", consent, result=False, argument="A"),
    ]


def evidence_of(
    world: World, artefact: Artefact, query: Query, scope: Callable[[Schema], Any] | None = None, **note: Any
) -> Evidence:
    sigmas = {(k, year): world.sigma(query.subject, k, year) for k in query.kinds for year in query.years}
    return assemble(
        query,
        view=world.view,
        checkpoint=world.note(**note),
        header=world.leaves[-1],
        inclusion=world.inclusion(),
        sigmas=sigmas,
        schema_document=world.schema_document,
        opener=world.open_records,
        scope=scope or (lambda schema: opened_fields(artefact.terms, QUERY, schema)),
    )


def forge(
    *,
    artefact: Artefact = ARTEFACT_GIVEN,
    specs: Sequence[Spec] = SPECS,
    query: Query = QUERY,
    evidence: Callable[[Evidence], Evidence] | None = None,
    scope: Callable[[Schema], Any] | None = None,
    asked: Query | None = None,
    note: Any = None,
    before: type[World] = World,
    frame: Edit | None = None,
    parts: Callable[[list[Any]], list[Any]] | None = None,
    planned: Callable[[bytes, list[bytes]], tuple[bytes, list[bytes]]] | None = None,
    consent: Edit | None = None,
    use: Edit | None = None,
    holder: Edit | None = None,
    keys: Callable[[list[bytes]], list[bytes]] | None = None,
    after: Any = None,
    proof: Edit | None = None,
    file: Edit | None = None,
    records_max: int = 2,
) -> bytes:
    """The file of the first use of a consent, falsified where told.

    Args:
        evidence, scope, asked, note: other evidence, what is opened, of which question, under which note.
        frame, parts: edits of the decoded frame and list of parts before they are planned; ``planned`` of bytes.
        consent, use, holder, keys: edits of what the ledger has of the consent, and under which keys.
        after: fields of the later world's ``World``; ``proof`` edits the use proof, ``file`` the decoded file.
    """
    world = before(specs=specs)
    question = asked or evidence_query(artefact, query)
    made = evidence_of(world, artefact, question, scope, **(note or {}))
    made = evidence(made) if evidence else made
    frame_bytes, part_bytes = split_evidence(made, records_max=records_max)
    if frame:
        frame_bytes = edited(frame_bytes, frame)
    if parts:
        part_bytes = [canonical.encode(each) for each in parts(list(map(canonical.decode, part_bytes)))]
    if planned:
        frame_bytes, part_bytes = planned(frame_bytes, part_bytes)
    salt, grant = seeded("use salt"), grant_of(artefact)
    count = sum(len(group.ends) for group in made.groups)
    terms_there = [grant.not_before, grant.not_after, grant.max_uses]
    there = [1, grant.digest, 1, *terms_there, 1, grant.revoke_hash]
    begun = [1, use_digest(salt, frame_bytes, part_bytes), count, 4, None, 0, None]
    held = [4]
    for edit, value in ((consent, there), (use, begun), (holder, held)):
        if edit:
            edit(value)
    values = [canonical.encode(each) for each in (there, held, begun)]
    named = use_keys(artefact, 1, 1)
    under = keys(named) if keys else named

    class After(World):
        def _content(self) -> dict[bytes, bytes]:
            return {**super()._content(), **dict(zip(under, values, strict=True))}

    later = After(specs=specs, height=5, **(after or {}))
    shown = [
        later.note(),
        later.leaves[-1],
        later.inclusion(),
        values,
        later.view.prove(sorted(under)).proof,
    ]
    if proof:
        proof(shown)
    items = [1, "disclosure", artefact.raw, 1, 1, salt, frame_bytes, part_bytes, shown]
    if file:
        file(items)
    return canonical.encode(items)


GOOD = forge()
POLICY_BYTES = World(specs=()).policy_bytes


def check(data: bytes, query: Query = QUERY, **changes: Any) -> Disclosed:
    """``verify_disclosure`` under the world's policy, for member 2, now."""
    arguments: dict[str, Any] = {"recipient": 2, "now_ms": NOW_MS, "age_ms_max": AGE_MS_MAX, **changes}
    policy: Policy = arguments.pop("policy", None) or decode_policy(POLICY_BYTES)
    return verify_disclosure(data, policy, query, **arguments)


# --- good files --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A file that is accepted for its question."""

    name: str
    make: Callable[[], bytes]
    query: Query = QUERY

    def __str__(self) -> str:
        return self.name


def with_details(*details: Detail, **changes: Any) -> Artefact:
    return artefact_of(details=details, **changes)


def one_detail(fields: tuple[str, ...] | None, kind: int = INVOICE) -> Detail:
    return Detail(kind=kind, from_period="2024-01", to_period="2024-12", fields=fields)


PROOF_QUERY = ask((PREDICATE_KIND,), "2024-01", "2024-12")


def misfiled() -> bytes:
    """A filing that its issuer attested under another month; the field that would tell stays closed."""
    spec, known = filing("2024-01"), World(specs=())
    key = known.add({}, spec)
    secret, row = known.opened[key, 1]
    moved = key[:20] + b"\x02" + key[21:]

    class Misfiled(World):
        def _content(self) -> dict[bytes, bytes]:
            commitment = commit(SCHEMAS[FILING, 1], self.chain_id, moved, 1, secret, row)
            self.opened[moved, 1] = (secret, row)
            return {**super()._content(), moved: canonical.encode([1, 1, 1, commitment, None, 3])}

    return forge(before=Misfiled, specs=(), query=ask((FILING,)), artefact=ARTEFACT_GIVEN)


def state(number: int, digest: bytes | None, count: int, closed: int | None) -> Edit:
    def edit(value: list[Any]) -> None:
        value[0], value[4:] = number, [digest, count, closed]

    return edit


def two_custodians() -> tuple[CustodianTerms, ...]:
    one = terms().custodians
    return (*one, replace(one[0], member=3, former=bytes(16)))


INVOICES = ask((INVOICE,))
ACCEPTED = [
    Case("some fields of two kinds, all of a third; one record erased", forge),
    Case("all fields", lambda: forge(artefact=with_details(one_detail(None)), query=INVOICES), INVOICES),
    Case(
        "every field by its name, all of them opened",
        lambda: forge(
            artefact=with_details(one_detail(tuple(sorted(SCHEMAS[INVOICE, 1].position)))), query=INVOICES
        ),
        INVOICES,
    ),
    Case(
        "one field that many records do not have",
        lambda: forge(artefact=with_details(one_detail(("goods",))), query=INVOICES),
        INVOICES,
    ),
    Case("no records, so no parts", lambda: forge(specs=()), QUERY),
    Case("all in one part", lambda: forge(records_max=1_000)),
    Case("the field of the period closed, its month the issuer's word", misfiled, ask((FILING,))),
    Case(
        "answers to predicates",
        lambda: forge(artefact=PROVES, query=PROOF_QUERY, specs=answers(PROVES)),
        PROOF_QUERY,
    ),
    Case("no answers to predicates", lambda: forge(artefact=PROVES, query=PROOF_QUERY), PROOF_QUERY),
    Case(
        "the first of two details that cover",
        lambda: forge(
            artefact=with_details(*DETAILS, replace(DETAILS[2], from_period="2024-02", fields=None))
        ),
    ),
    Case("a use that is complete", lambda: forge(use=state(2, seeded("left"), 9, 5))),
    Case("a use of which a part left", lambda: forge(use=state(3, seeded("left"), 0, 5))),
    Case("a use of which nothing left", lambda: forge(use=state(4, None, 0, 5))),
    Case("a consent that was revoked since", lambda: forge(consent=put(0)(3))),
    Case("a consent that is used up", lambda: forge(consent=put(6)(3))),
    Case("two custodians", lambda: forge(artefact=artefact_of(custodians=two_custodians()))),
    Case(
        "a consent to keep what is shown",
        lambda: forge(artefact=artefact_of(mode="store", retention_days=30)),
    ),
]


def body(edit: Edit, key: Signer = SUBJECT_KEY, *, signed: bool = True) -> Edit:
    """The edit that changes the artefact's body, signed anew or not."""

    def change(items: list[Any]) -> None:
        outer = canonical.decode(items[ARTEFACT])
        inner = canonical.decode(outer[2])
        edit(inner)
        outer[2] = canonical.encode(inner)
        if signed:
            outer[3:] = [key.public_key, key.sign(b"taxledger/consent_signature/1" + outer[2])]
        items[ARTEFACT] = canonical.encode(outer)

    return change
