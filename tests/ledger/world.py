"""A small world for tests: four validators, one certified block, records in the map, evidence for any query.

Everything follows from seeds, so two runs give the same bytes. ``World`` takes the map implementation from
``taxledger.ledger.statemap``; nothing else of a node is needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from taxledger.ledger import canonical, merkle
from taxledger.ledger.assemble import assemble
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.checkpoint import (
    Checkpoint,
    cosign,
    cosigner_name,
    encode_note,
    make_origin,
    sign_checkpoint,
)
from taxledger.ledger.crypto import Signer, TagSigner
from taxledger.ledger.evidence import encode_evidence
from taxledger.ledger.hashing import log_leaf, sha256
from taxledger.ledger.header import Header, encode_header
from taxledger.ledger.members import Member, encode_member
from taxledger.ledger.policy import Policy, decode_policy, encode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.records import (
    RecordValue,
    Status,
    commit,
    encode_record_value,
    fingerprint,
    identity,
    record_id,
    record_period,
    tag_message,
    tag_of,
)
from taxledger.ledger.schemas import KINDS, Schema, encode_schema
from taxledger.ledger.statekeys import (
    attested_through_key,
    member_key,
    record_key,
    schema_key,
    tag_key_key,
)
from taxledger.ledger.statemap import MapView
from taxledger.ledger.store import MemoryStore
from taxledger.ledger.verify import Answer, verify_evidence

NOW_S = 1_750_000_000
NOW_MS = NOW_S * 1_000
AGE_MS_MAX = 600_000
NETWORK = "testnet"
ENGINE = "embedded"
NAMES = ("tax", "bank1", "bank2", "bank3")
ISSUER = 1
SUBJECT = "uscc:91110101MA00000005"
OTHER_SUBJECT = "cumcm:E14"
INVOICE = KINDS["vat_invoice"]
FILING = KINDS["tax_filing"]
RATING = KINDS["tax_credit_rating"]
SCHEMAS: dict[tuple[int, int], Schema] = {(each.kind, each.number): each for each in BUILTIN}
TAG_KEYS = Path(__file__).parents[1] / "vectors" / "tag_keys.txt"


def seeded(*parts: object) -> bytes:
    """32 bytes that follow from the parts."""
    return sha256("/".join(str(part) for part in parts).encode())


@lru_cache
def tag_signers() -> tuple[TagSigner, ...]:
    lines = TAG_KEYS.read_text().splitlines()
    return tuple(TagSigner(bytes.fromhex(line)) for line in lines if not line.startswith("#"))


@lru_cache(maxsize=4096)
def _sigma(signer: int, message: bytes) -> bytes:
    return tag_signers()[signer].sign(message)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A record to be: its fields by name, and what became of it."""

    kind: int = INVOICE
    fields: Mapping[str, Any]
    status: Status = Status.VALID
    version: int = 1
    subject: str = SUBJECT


def invoice(serial: int, date: str, net: int = 100_000, *, direction: str = "sale", **more: Any) -> Spec:
    """A vat_invoice with 13 % tax; ``more`` are fields, or status, version, subject."""
    fields = {
        "direction": direction,
        "code": "011002200111",
        "number": f"{serial:08}",
        "date": date,
        "counterparty": f"cumcm:B{serial % 97}",
        "currency": "CNY",
        "net": net,
        "tax": net * 13 // 100,
        "gross": net + net * 13 // 100,
        "rate": 130_000,
    }
    outer = {name: more.pop(name) for name in ("status", "version", "subject") if name in more}
    return Spec(fields={**fields, **more}, **outer)


def filing(period: str, payable: int = 5_000, *, tax: str = "vat", **more: Any) -> Spec:
    fields = {"tax": tax, "period": period, "currency": "CNY", "payable": payable}
    return Spec(kind=FILING, fields=fields, **more)


def rating(year: int, grade: str = "A", **more: Any) -> Spec:
    return Spec(kind=RATING, fields={"year": year, "grade": grade}, **more)


SMALL: tuple[Spec, ...] = (
    invoice(1, "2023-11-05"),
    invoice(2, "2024-01-31", 5_000),
    invoice(3, "2024-02-01", -5_000, original="00000002"),
    invoice(4, "2024-02-29", 777, direction="purchase", goods="钢材"),
    invoice(5, "2024-12-31", status=Status.VOIDED, version=2),
    invoice(6, "2024-03-15", subject=OTHER_SUBJECT),
    filing("2024-01"),
    filing("2024-02", 70),
    rating(2023, "B"),
    rating(2024, "M"),
)


@dataclass
class World:
    """Records of one issuer in one certified block.

    Attributes:
        specs: the records.
        tag_years: years in which the issuer has a tag key.
        through: kind -> attested through.
        height: of the block; the log has two leaves for each earlier block.
        validators: member names of the validators.
        schemas: (kind, number) -> schema, all registered.
    """

    specs: Sequence[Spec] = SMALL
    tag_years: Sequence[int] = (2023, 2024)
    through: Mapping[int, str] = field(default_factory=lambda: {INVOICE: "2024-12-31", FILING: "2024-02-29"})
    height: int = 3
    validators: Sequence[str] = NAMES
    schemas: Mapping[tuple[int, int], Schema] = field(default_factory=lambda: SCHEMAS)
    changes: Mapping[str, Any] = field(default_factory=dict)  # of header fields, for hostile worlds

    def __post_init__(self) -> None:
        self.genesis = canonical.encode([1, "genesis", NETWORK, ENGINE, 0, [], [1, [], []]])
        self.chain_id = sha256(self.genesis)[:16]
        self.origin = make_origin(NETWORK, self.chain_id, ENGINE)
        self.logs = [Signer(seeded("log", name)) for name in self.validators]
        self.cosigners = [Signer(seeded("cosign", name)) for name in self.validators]
        self.policy_bytes = encode_policy(
            origin=self.origin,
            log_keys=[each.public_key for each in self.logs],
            witnesses={
                name: each.public_key for name, each in zip(self.validators, self.cosigners, strict=True)
            },
        )
        self.policy: Policy = decode_policy(self.policy_bytes)
        self.opened: dict[tuple[bytes, int], tuple[bytes, tuple[Any, ...]]] = {}
        self.content = self._content()
        empty = MapView.open(MemoryStore())
        self.view = empty.over(empty.apply(self.content))
        self.header = self._header(self.view)
        self.leaves = self._leaves()
        self.frontier, self.nodes = merkle.EMPTY.extended([log_leaf(leaf) for leaf in self.leaves])
        self.checkpoint = Checkpoint(origin=self.origin, size=self.frontier.size, root=self.frontier.root)

    # --- the state -------------------------------------------------------------------------

    def sigma(self, subject: str, kind: int, year: int, *, year_of_key: int | None = None) -> bytes:
        """The issuer's tag signature, with the key of the year (or of another one)."""
        signer = (year_of_key or year) % len(tag_signers())
        return _sigma(signer, tag_message(self.chain_id, subject, kind, year))

    def add(self, content: dict[bytes, bytes], spec: Spec) -> bytes:
        """Put a record into the map's content; returns its key."""
        schema = self.schemas[spec.kind, 1]
        row = schema.row(spec.fields)
        schema.check_fields(row)
        year, month = record_period(schema, row)
        tag = tag_of(self.sigma(spec.subject, spec.kind, year))
        identified = identity(schema, row)
        year_secret = seeded("year", year)
        key = record_key(ISSUER, spec.kind, tag, month, record_id(year_secret, spec.kind, tag, identified))
        secret = seeded("record", key.hex(), spec.version)
        value = RecordValue(
            status=spec.status,
            version=spec.version,
            schema=schema.number,
            commitment=commit(schema, self.chain_id, key, spec.version, secret, row),
            fingerprint=fingerprint(year_secret, schema, row, identified),
            height=self.height,
        )
        content[key] = encode_record_value(value)
        self.opened[key, spec.version] = (secret, row)
        return key

    def _content(self) -> dict[bytes, bytes]:
        content = {
            schema_key(*key): canonical.encode([sha256(encode_schema(schema)), 0])
            for key, schema in self.schemas.items()
        }
        for number, name in enumerate(self.validators, start=1):
            keys = {
                f"{purpose}_key": Signer(seeded(purpose, name)).public_key
                for purpose in ("transaction", "vote", "log", "cosign")
            }
            kinds = (FILING, RATING, INVOICE) if number == ISSUER else ()
            member = Member(number=number, name=name, status=1, role=1, kinds=kinds, **keys)
            content[member_key(number)] = encode_member(member)
        for kind, date in self.through.items():
            content[attested_through_key(ISSUER, kind)] = canonical.encode([date, self.height])
        for year in self.tag_years:
            modulus = tag_signers()[year % len(tag_signers())].modulus
            content[tag_key_key(ISSUER, year)] = canonical.encode([modulus, 1])
        for spec in self.specs:
            self.add(content, spec)
        return content

    # --- the log ---------------------------------------------------------------------------

    def _header(self, view: MapView) -> Header:
        header = Header(
            chain_id=self.chain_id,
            height=self.height,
            time_ms=NOW_MS - 5_000,
            previous_header_hash=seeded("previous"),
            first_index=1 + 2 * (self.height - 1),
            transactions=1,
            state_root=view.root,
            state_count=view.count,
            results_root=seeded("results"),
            validators_hash=self.policy.validators_hash,
            next_validators_hash=self.policy.validators_hash,
        )
        return replace(header, **self.changes)

    def _leaves(self) -> list[bytes]:
        leaves = [self.genesis]
        for height in range(1, self.height + 1):
            leaves.append(b"\xd2" + height.to_bytes(4, "big"))
            old = replace(self.header, height=height, first_index=1 + 2 * (height - 1))
            leaves.append(encode_header(self.header if height == self.height else old))
        return leaves

    def note(
        self,
        *,
        signers: Sequence[int] | None = None,
        time_s: int | Sequence[int] = NOW_S,
        log: int = 0,
        checkpoint: Checkpoint | None = None,
    ) -> bytes:
        """A note with the co-signatures of these validators (by index; the first q if not named)."""
        checkpoint = checkpoint or self.checkpoint
        chosen = range(self.policy.threshold) if signers is None else signers
        times = [time_s] * len(chosen) if isinstance(time_s, int) else time_s
        lines = [
            (
                cosigner_name(NETWORK, self.validators[index]),
                self.cosigners[index].public_key,
                time,
                cosign(self.cosigners[index], checkpoint, time),
            )
            for index, time in zip(chosen, times, strict=True)
        ]
        key = self.logs[log]
        return encode_note(checkpoint, key.public_key, sign_checkpoint(key, checkpoint), lines)

    def inclusion(self, index: int | None = None) -> list[bytes]:
        size = self.checkpoint.size
        position = size - 1 if index is None else index
        return merkle.prove_inclusion(lambda level, at: self.nodes[level, at], position, size)

    # --- evidence --------------------------------------------------------------------------

    def open_records(self, asked: list[tuple[bytes, RecordValue]]) -> list[tuple[bytes, Any] | None]:
        """The opener that ``assemble`` needs."""
        return [self.opened.get((key, value.version)) for key, value in asked]

    def schema_document(self, kind: int, number: int) -> bytes:
        return encode_schema(self.schemas[kind, number])

    def evidence(self, query: Query, **note: Any) -> bytes:
        """Evidence for a query; ``note`` goes to ``note()``."""
        sigmas = {
            (kind, year): self.sigma(query.subject, kind, year)
            for kind in query.kinds
            for year in query.years
        }
        return encode_evidence(
            assemble(
                query,
                view=self.view,
                checkpoint=self.note(**note),
                header=self.leaves[-1],
                inclusion=self.inclusion(),
                sigmas=sigmas,
                schema_document=self.schema_document,
                opener=self.open_records,
            )
        )

    def verify(self, data: bytes, query: Query, **changes: Any) -> Answer:
        """``verify_evidence`` under this world's policy, now."""
        arguments: dict[str, Any] = {"now_ms": NOW_MS, "age_ms_max": AGE_MS_MAX, **changes}
        policy = arguments.pop("policy", self.policy)
        return verify_evidence(data, policy, query, **arguments)

    def expected(self, query: Query) -> dict[tuple[int, str], list[Mapping[str, Any]]]:
        """(kind, status) -> fields of the records that a query must find, straight from the specs."""
        found: dict[tuple[int, str], list[Mapping[str, Any]]] = defaultdict(list)
        for spec in self.specs:
            if spec.subject != query.subject or spec.kind not in query.kinds:
                continue
            period = str(spec.fields.get("date") or spec.fields.get("period") or spec.fields.get("year"))
            width = min(len(period), 7)
            if query.from_period[:width] <= period[:width] <= query.to_period[:width]:
                found[spec.kind, spec.status.name].append(spec.fields)
        return found


def ask(
    kinds: Sequence[int] = (INVOICE,),
    from_period: str = "2024-01",
    to_period: str = "2024-12",
    *,
    subject: str = SUBJECT,
    issuer: int = ISSUER,
) -> Query:
    """A query, by default for the invoices of 2024."""
    return Query(
        subject=subject,
        issuer=issuer,
        kinds=tuple(kinds),
        from_period=from_period,
        to_period=to_period,
    )
