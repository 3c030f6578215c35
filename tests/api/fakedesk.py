"""Custody and Disclosures over the test chain: what is granted, changed and used is on it. No node, no vault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import chainkit
from fakenode import FakeNode

from taxledger.api.custody import (
    ConsentEntry,
    ConsentReceipt,
    DossierProgress,
    ErasureNotice,
    ErasureReceipt,
    ForwardedConsent,
    GrantFailure,
    StoredDisclosure,
    UseEntry,
)
from taxledger.ledger.consent import Artefact, decode_artefact
from taxledger.ledger.consentoperations import (
    ConsentChange,
    ConsentGrant,
    ConsentOperation,
    ConsentRevoke,
    ConsentUse,
    ConsentUseClose,
)
from taxledger.ledger.consentstate import consent_of, use_of
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.instruction import decode_instruction
from taxledger.ledger.operations import encode_consent
from taxledger.ledger.query import Query
from taxledger.ledger.rules import decode_result

CUSTODIAN = chainkit.ISSUER


class FakeDesk:
    """Implements ``Custody`` and ``Disclosures``. ``failure`` is raised by every method when it is set."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.failure: Exception | None = None
        self.keys: dict[str, list[bytes]] = {}
        self.reasons: list[str | None] = []
        self.artefacts: dict[bytes, Artefact] = {}
        self.granted: dict[bytes, int] = {}
        self.erased: list[tuple[Query, str]] = []
        self.asked: list[tuple[Query, bytes, bytes]] = []
        self.answers: list[DossierProgress | bytes | Exception] = []
        self.closed = 0
        self.failures: list[GrantFailure] = []
        self.kept: dict[tuple[bytes, int], bytes] = {}
        self.discarded: list[str] = []

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _put(self, operation: ConsentOperation, member: int = CUSTODIAN) -> tuple[bytes, int, int, int]:
        raw = self.node.chain.sign(encode_consent(operation), member)
        await self.node.grow(raw)
        executed = self.node.chain.blocks[-1].executed
        result = decode_result(executed.results[0])
        if result.code:
            raise RefusedError(result.name, "a rule refused it")
        header = executed.header
        return log_leaf(executed.leaves[0]), header.height, header.first_index, header.time_ms

    async def _receipt(
        self, consent: bytes, operation: ConsentOperation, member: int = CUSTODIAN
    ) -> ConsentReceipt:
        transaction, height, index, time_ms = await self._put(operation, member)
        if isinstance(operation, ConsentGrant):
            self.granted[consent] = height
        value = consent_of(self.node.chain.view, consent)
        assert value is not None
        return ConsentReceipt(
            consent=consent,
            status=value.status.name.lower(),
            transaction=transaction,
            height=height,
            index=index,
            time_ms=time_ms,
        )

    async def register_subject(
        self, subject: str, public_key: bytes, *, authentication: str, reason: str | None
    ) -> int:
        self._check()
        keys = self.keys.setdefault(subject, [])
        if public_key not in keys:
            if keys and reason is None:
                raise RefusedError("subject_key_exists", "say why")
            keys.append(public_key)
            self.reasons.append(reason)
        return keys.index(public_key) + 1

    async def grant(self, artefact: bytes) -> ConsentReceipt:
        self._check()
        given = decode_artefact(artefact)
        terms, consent = given.terms, given.id(CUSTODIAN)
        if given.public_key not in self.keys.get(terms.subject, []):
            raise RefusedError("consent_key_unknown", "not registered")
        part = terms.custodian(CUSTODIAN)
        self.artefacts[consent] = given
        return await self._receipt(
            consent,
            ConsentGrant(
                digest=given.digest(CUSTODIAN),
                holder=terms.holder,
                not_before=terms.not_before,
                not_after=terms.not_after,
                max_uses=terms.max_uses,
                revoke_hash=part.revoke_hash,
                former=part.former,
            ),
        )

    async def instruct(self, instruction: bytes) -> ConsentReceipt:
        self._check()
        order = decode_instruction(instruction).order
        operation: ConsentOperation
        if order.action == "revoke":
            operation = ConsentRevoke(consent=order.consent, preimage=None)
        else:
            operation = ConsentChange(consent=order.consent, resume=order.action == "resume")
        return await self._receipt(order.consent, operation)

    async def use(self, consent: bytes, sequence: int, records: int, *, close: bool = True) -> None:
        digest = chainkit.digest("use", sequence)
        await self._put(ConsentUse(consent=consent, sequence=sequence, digest=digest, count=records))
        if close:
            await self._put(
                ConsentUseClose(consent=consent, sequence=sequence, outcome=2, digest=digest, count=records)
            )

    def _uses(self, consent: bytes, count: int) -> tuple[UseEntry, ...]:
        rows = []
        for sequence in range(1, count + 1):
            use = use_of(self.node.chain.view, consent, sequence)
            assert use is not None
            rows.append(
                UseEntry(
                    sequence=sequence,
                    state=use.state.name.lower(),
                    planned=use.planned_count,
                    count=use.count,
                    opened_height=use.opened_height,
                    closed_height=use.closed_height,
                )
            )
        return tuple(rows)

    async def consents(self, subject: str) -> Sequence[ConsentEntry]:
        self._check()
        rows = []
        for consent, given in self.artefacts.items():
            value = consent_of(self.node.chain.view, consent)
            if given.terms.subject == subject and value is not None:
                rows.append(
                    ConsentEntry(
                        consent=consent,
                        artefact=given.raw,
                        status=value.status.name.lower(),
                        uses=value.uses,
                        max_uses=value.max_uses,
                        granted_height=self.granted[consent],
                        recipient=given.terms.recipient,
                        subject_key=given.public_key,
                        uses_list=self._uses(consent, value.uses),
                    )
                )
        return rows

    async def erase(self, query: Query, *, reason: str) -> ErasureReceipt:
        self._check()
        self.erased.append((query, reason))
        notices = (ErasureNotice(member=2, confirmed=True), ErasureNotice(member=3, confirmed=False))
        return ErasureReceipt(records=2, transactions=(bytes(32),), notices=notices)

    async def dossier(
        self, query: Query, artefact: bytes, request: bytes
    ) -> AsyncIterator[DossierProgress | bytes]:
        try:
            self._check()
            self.asked.append((query, artefact, request))
            for item in self.answers:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed += 1

    async def forward(self, artefact: bytes) -> ForwardedConsent:
        self._check()
        return ForwardedConsent(receipts=(await self.grant(artefact),), failures=tuple(self.failures))

    async def revoke(self, consent: bytes, preimage: bytes) -> ConsentReceipt:
        self._check()
        return await self._receipt(
            consent, ConsentRevoke(consent=consent, preimage=preimage), chainkit.CLIENT
        )

    async def stored(self) -> Sequence[StoredDisclosure]:
        self._check()
        return [
            StoredDisclosure(
                consent=consent,
                sequence=sequence,
                custodian=CUSTODIAN,
                subject="cumcm:E14",
                records=3,
                file_bytes=len(data),
                stored_ms=7,
                erase_after_ms=8,
            )
            for (consent, sequence), data in self.kept.items()
        ]

    async def load(self, consent: bytes, sequence: int) -> bytes:
        self._check()
        if (consent, sequence) not in self.kept:
            raise RefusedError("disclosure_unknown", "none")
        return self.kept[consent, sequence]

    async def discard(self, consent: bytes, sequence: int, *, reason: str) -> bytes:
        await self.load(consent, sequence)
        del self.kept[consent, sequence]
        self.discarded.append(reason)
        return chainkit.digest("erased")


def progress(pieces_done: int) -> DossierProgress:
    return DossierProgress(
        sequence=1, pieces=3, pieces_done=pieces_done, records=25, records_done=10 * pieces_done
    )


def make_desk(node: FakeNode) -> tuple[FakeDesk, dict[str, Any]]:
    """A desk, and the arguments that give it to an application."""
    desk = FakeDesk(node)
    node.number = CUSTODIAN
    return desk, {"custody": desk, "disclosures": desk}
