"""Answers to the predicates of a consent: found, or computed from the vault and attested (docs/predicates.md).

The order, under the vault's lock:

    1. what is pending is brought to its end; only then the certified state is looked at
    2. every predicate is computed before anything is written: one without a result stops all
    3. answers whose inputs have changed since are superseded (``superseding.py``)
    4. new records, what they came from, and the signed ``attest`` are durable in one commit
    5. it is certified

A crash after 4 leaves it pending; the next call finds its records and computes nothing again. What happens to
an input after the state that was looked at is the business of ``predicatewatch.py``, also if it happens before 5.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.consent import PREDICATE_KIND, Artefact, PredicateTerms
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.ledger.operations import AttestGroup, encode_attest
from taxledger.ledger.predicates import CURRENCY, Formula, evaluate, find_formula
from taxledger.ledger.records import NO_FINGERPRINT, Status, commit, decode_record_value
from taxledger.ledger.schemas import Row, Schema, Value
from taxledger.ledger.statekeys import month_prefix
from taxledger.nodes.custodian.outbox import STAGE_ATTEST, Outbox, Receipt, Submitter
from taxledger.nodes.custodian.predicatebook import PredicateBook
from taxledger.nodes.custodian.predicateinputs import CertifiedFacts, InputReader
from taxledger.nodes.custodian.superseding import PREDICATE_SCHEMA, is_valid, supersede
from taxledger.nodes.custodian.tags import require_accepted
from taxledger.nodes.custodian.vault import TagEntry, Vault
from taxledger.nodes.identity.memberkeys import TransactionSigner

__all__ = ["CertifiedFacts", "PredicateAnswer", "answer_predicates", "consent_subject"]

_RID_BYTES, _SECRET_BYTES, _NONCE_BYTES = 16, 32, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PredicateAnswer:
    """One answered predicate.

    Attributes:
        key: of its record, 37 bytes.
        terms: which predicate.
        result: the answer.
        computed_height: of the state that it was computed at.
        attested_height: of the block that holds the record; 0 where it was there before.
    """

    key: bytes
    terms: PredicateTerms
    result: bool
    computed_height: int
    attested_height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A predicate of the consent and how it is answered."""

    terms: PredicateTerms
    formula: Formula


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A valid predicate record of the vault."""

    key: bytes
    fields: Mapping[str, Value]

    @property
    def height(self) -> int:
        return int(self.fields["height"] or 0)


def consent_subject(consent: bytes) -> str:
    """The subject of the answers to a consent's predicates; ``consent`` is its id, 16 bytes."""
    return f"consent:{consent.hex()}"


def answer_predicates(
    vault: Vault,
    signer: TransactionSigner,
    submitter: Submitter,
    *,
    certified: Callable[[], CertifiedFacts],
    artefact: Artefact,
    as_of: str,
    schemas: Sequence[Schema] = BUILTIN,
    clock: Callable[[], float] = time.time,
) -> tuple[PredicateAnswer, ...]:
    """Sees to it that every predicate of a consent has a valid record as of a date; blocks until certified.

    A record that is there, and whose inputs have not changed, is kept. Safe to repeat, also after a crash.

    Args:
        vault: the custodian's; it says member and chain.
        signer, submitter: as of ``outbox.Outbox``.
        certified: gives the newest certified state; called again once the vault is locked.
        artefact: the consent. That it is active, and covers the question, is the caller's to check.
        as_of: ``YYYY-MM-DD``.
        schemas: those that input records may name.
        clock: seconds since 1970.

    Returns:
        One answer for each predicate, in the artefact's order.

    Raises:
        RefusedError: ``inputs_incomplete``: a predicate has no result, nothing was attested;
            ``predicate_unknown``, ``predicate_argument_invalid``, ``consent_custodian_mismatch``;
            ``ledger_refused``.
        UnavailableError: not certified in time, or an upload has the vault: try again.
        FormatError: no as-of date.
    """
    artefact.terms.custodian(vault.member)
    asked = [
        _Asked(terms=each, formula=find_formula(each.name, each.argument))
        for each in artefact.terms.predicates
    ]
    consent = consent_subject(artefact.id(vault.member))

    def answering(facts: CertifiedFacts) -> _Answering:
        subject = artefact.terms.subject
        return _Answering(
            vault, consent, InputReader(vault, facts, subject=subject, as_of=as_of, schemas=schemas)
        )

    # A disclosure that is tried again finds its answers, also while an upload has the vault.
    present = answering(certified()).certified_answers(asked)
    if present is not None:
        return present
    with vault.exclusive():
        outbox = Outbox(vault, signer, submitter, clock)
        try:
            settled = outbox.resume()
            require_accepted(settled)
            facts = certified()
            if any(each.receipt.height > facts.height for each in settled):
                raise UnavailableError("what was certified just now is not seen here yet: try again")
            return answering(facts).answer(outbox, asked)
        finally:
            outbox.close()


class _Answering:
    """The predicates of one consent at one certified state."""

    def __init__(self, vault: Vault, consent: str, reader: InputReader) -> None:
        """``consent`` is the subject of the answers."""
        self._vault = vault
        self._consent = consent
        self._reader = reader
        self._as_of = reader.as_of

    def certified_answers(self, asked: Sequence[_Asked]) -> tuple[PredicateAnswer, ...] | None:
        """All answers, when each has a record that the certified state has too; reads only."""
        known = [each for each in self._known() if self._is_certified(each.key)]
        found = [self._fresh(each, known) for each in asked]
        present = tuple(each for each in found if each is not None)
        return present if len(present) == len(asked) else None

    def answer(self, outbox: Outbox, asked: Sequence[_Asked]) -> tuple[PredicateAnswer, ...]:
        """All answers; what is missing is made. Under the vault's lock, when nothing is pending."""
        known = self._known()
        found = [self._fresh(each, known) for each in asked]
        missing = [each for each, answer in zip(asked, found, strict=True) if answer is None]
        results = [self._evaluate(each) for each in missing]
        outdated = [each.key for each in known if any(self._is_of(each, one) for one in missing)]
        supersede(self._vault, outbox, outdated)
        made = iter(self._attest(outbox, missing, results) if missing else ())
        return tuple(next(made) if each is None else each for each in found)

    def _evaluate(self, asked: _Asked) -> bool:
        try:
            inputs = self._reader.inputs(asked.formula)
            return evaluate(asked.formula, asked.terms.argument, self._as_of, inputs)
        except RefusedError as error:
            detail = str(error).removeprefix(f"{error.code}: ")
            raise RefusedError(error.code, f"{asked.terms.name}: {detail}") from error

    # --- what is there ----------------------------------------------------------------------

    def _tag(self) -> TagEntry:
        entry = self._vault.tag(self._consent, PREDICATE_KIND, int(self._as_of[:4]))
        if entry is None:
            # Every formula asks for this year's records, and has refused.
            raise UnavailableError("the vault lacks the keys of the as-of date's year")
        return entry

    def _prefix(self, tag: bytes) -> bytes:
        return month_prefix(self._vault.member, PREDICATE_KIND, tag, int(self._as_of[5:7]))

    def _known(self) -> list[_Known]:
        """The valid predicates of the consent in the as-of date's month, as the vault has them."""
        if self._vault.year(int(self._as_of[:4])) is None:
            return []
        return [
            _Known(key=stored.key, fields=PREDICATE_SCHEMA.named(opened.values))
            for stored, opened in self._vault.newest(self._prefix(self._tag().tag))
            if is_valid(stored)
        ]

    def _is_certified(self, key: bytes) -> bool:
        value = self._reader.facts.view.get(key)
        return value is not None and decode_record_value(value).status == Status.VALID

    def _is_of(self, known: _Known, asked: _Asked) -> bool:
        fields, formula = known.fields, asked.formula
        argument = fields["amount"] if "amount" in fields else fields.get("argument")
        return (
            (fields["name"], argument) == (asked.terms.name, asked.terms.argument)
            and fields["as_of"] == self._as_of
            and (fields["formula"], fields["formula_version"]) == (formula.id, formula.version)
        )

    def _fresh(self, asked: _Asked, known: Sequence[_Known]) -> PredicateAnswer | None:
        """The answer that is there and newer than its inputs, or None."""
        for each in known:
            if self._is_of(each, asked) and self._reader.changed_height(asked.formula) <= each.height:
                return PredicateAnswer(
                    key=each.key,
                    terms=asked.terms,
                    result=bool(each.fields["result"]),
                    computed_height=each.height,
                    attested_height=0,
                )
        return None

    # --- what is made -----------------------------------------------------------------------

    def _row(self, asked: _Asked, result: bool) -> Row:
        facts, formula, argument = self._reader.facts, asked.formula, asked.terms.argument
        query = self._reader.query(formula)
        is_amount = type(argument) is int
        return PREDICATE_SCHEMA.row(
            {
                "name": asked.terms.name,
                "argument": None if is_amount else argument,
                "currency": CURRENCY if is_amount else None,
                "amount": argument if is_amount else None,
                "formula": formula.id,
                "formula_version": formula.version,
                "as_of": self._as_of,
                "result": result,
                "input_kind": formula.kind,
                "input_from": query.from_period,
                "input_to": query.to_period,
                "checkpoint_size": facts.size,
                "checkpoint_root": facts.root.hex(),
                "height": facts.height,
            }
        )

    def _attest(
        self, outbox: Outbox, asked: Sequence[_Asked], results: Sequence[bool]
    ) -> list[PredicateAnswer]:
        entry, schema, vault = self._tag(), PREDICATE_SCHEMA, self._vault
        prefix = self._prefix(entry.tag)
        # Random record ids: nobody looks a predicate up by what it says, and after an erasure no guess of what
        # was asked can be tested against them.
        keys = [prefix + os.urandom(_RID_BYTES) for _ in asked]
        entries, rows, places = [], [], {}
        for key, one, result in zip(keys, asked, results, strict=True):
            values, secret = self._row(one, result), os.urandom(_SECRET_BYTES)
            schema.check_fields(values)
            commitment = commit(schema, vault.chain_id, key, 1, secret, values)
            entries.append(key[-_RID_BYTES:] + commitment + NO_FINGERPRINT)
            sealed = vault.seal_record(key, 1, secret, schema.number, values, "", 0, os.urandom(_NONCE_BYTES))
            rows.append((key, 1, int(Status.VALID), 0, 0, None, os.urandom(_RID_BYTES), 0, sealed))
            places[key] = self._reader.places(one.formula)
        group = AttestGroup(
            tag=entry.tag,
            month=prefix[-1],
            schema=schema.number,
            status=int(Status.VALID),
            entries=b"".join(sorted(entries)),
        )
        payload = encode_attest(PREDICATE_KIND, entry.year, None, [group])
        transaction = outbox.prepare(STAGE_ATTEST, "attest", payload)
        with vault.database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO tags VALUES (?, ?, ?)", vault.tag_row(entry))
            connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            PredicateBook(vault).add(connection, self._reader.facts.height, places)
            outbox.store(connection, [transaction])
        receipt = _accepted(outbox.finish(outbox.start([transaction]))[0].receipt)
        return [
            PredicateAnswer(
                key=key,
                terms=one.terms,
                result=result,
                computed_height=self._reader.facts.height,
                attested_height=receipt.height,
            )
            for key, one, result in zip(keys, asked, results, strict=True)
        ]


def _accepted(receipt: Receipt) -> Receipt:
    if receipt.code:
        raise RefusedError(
            "ledger_refused", f"the ledger refused the predicates with code {receipt.code}; none is attested"
        )
    return receipt
