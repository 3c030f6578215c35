"""Consents and disclosures in words, for an enterprise or a credit officer: English, and Chinese beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from taxledger.nodes.cli.output import say

if TYPE_CHECKING:
    from taxledger.api.custody import ConsentReceipt
    from taxledger.ledger.consent import Artefact, ConsentTerms
    from taxledger.ledger.consentstate import ConsentValue, UseValue
    from taxledger.ledger.disclosure import Disclosed

__all__ = [
    "print_terms",
    "receipt_as_json",
    "say_receipt",
    "say_use",
    "scope_text",
    "status_text",
    "terms_as_json",
    "use_as_json",
    "use_rows",
]


def status_text(value: ConsentValue, time_ms: int) -> str:
    """What a consent is at an instant: its status, or why nothing can be used of an active one."""
    refusal = value.refusal(time_ms)
    return "active" if refusal is None else refusal.removeprefix("consent_")


def scope_text(terms: ConsentTerms) -> str:
    """Kinds, periods and predicates on one line."""
    from taxledger.ledger.kinds import kind_name

    parts = []
    for each in terms.details:
        fields = "" if each.fields is None else f" ({len(each.fields)} fields)"
        parts.append(f"{kind_name(each.kind)} {each.from_period}…{each.to_period}{fields}")
    for predicate in terms.predicates:
        argument = "" if predicate.argument is None else f"={predicate.argument}"
        parts.append(f"{predicate.name}{argument}")
    return ", ".join(parts)


def terms_as_json(artefact: Artefact) -> dict[str, Any]:
    """An artefact as JSON: all that was agreed, and the consent's id at each custodian."""
    terms = artefact.terms
    return {
        "subject": terms.subject,
        "public_key": artefact.public_key.hex(),
        "consents": {str(each.member): artefact.id(each.member).hex() for each in terms.custodians},
        "chain_id": terms.chain_id.hex(),
        "role": terms.role,
        "authentication": terms.authentication,
        "recipient": terms.recipient,
        "purpose": terms.purpose,
        "notice_sha256": terms.notice_digest.hex(),
        "language": terms.language,
        "details": [
            {"kind": each.kind, "from": each.from_period, "to": each.to_period, "fields": each.fields}
            for each in terms.details
        ],
        "predicates": [{"name": each.name, "argument": each.argument} for each in terms.predicates],
        "may_pledge": terms.may_pledge,
        "mode": terms.mode,
        "frequency": terms.frequency,
        "max_uses": terms.max_uses,
        "not_before_ms": terms.not_before,
        "not_after_ms": terms.not_after,
        "retention_days": terms.retention_days,
        "retention_end": terms.retention_end,
        "onward": terms.onward,
        "jurisdiction": terms.jurisdiction,
        "legal_basis": terms.legal_basis,
        "issued_ms": terms.issued,
    }


def print_terms(artefact: Artefact, names: Mapping[int, str]) -> None:
    """An artefact for people: the notice's lines, and what only the artefact has."""
    from taxledger.nodes.enterprise.wording import notice_text

    say(notice_text(artefact.terms, names).rstrip("\n"))
    say("")
    for member in artefact.terms.custodians:
        say(f"consent 授权编号 {artefact.id(member.member).hex()} at member {member.member}")
    say(f"signed by 签名公钥 {artefact.public_key.hex()}")


def use_as_json(number: int, use: UseValue) -> dict[str, Any]:
    """A use as JSON."""
    return {
        "sequence": number,
        "state": use.state.name.lower(),
        "planned": use.planned_count,
        "count": use.count,
        "opened_height": use.opened_height,
        "closed_height": use.closed_height,
    }


def use_rows(uses: Mapping[int, UseValue]) -> Iterator[tuple[object, ...]]:
    """Uses as rows of a table."""
    from taxledger.nodes.enterprise.wording import USE_STATES_ZH

    for number, use in sorted(uses.items()):
        state = use.state.name.lower()
        closed = "-" if use.closed_height is None else use.closed_height
        yield (
            number,
            f"{state} {USE_STATES_ZH[state]}",
            use.planned_count,
            use.count,
            use.opened_height,
            closed,
        )


def say_use(disclosed: Disclosed) -> None:
    """Under which consent a verified disclosure was made."""
    terms = disclosed.terms
    left = disclosed.consent_value.max_uses - disclosed.consent_value.uses
    say(
        f"disclosed under consent {disclosed.consent.hex()}, use {disclosed.sequence}; "
        f"purpose {terms.purpose}, mode {terms.mode}; {left} uses left"
    )
    say(f"依据授权 {disclosed.consent.hex()} 第 {disclosed.sequence} 次披露，剩余 {left} 次")


def receipt_as_json(receipt: ConsentReceipt) -> dict[str, Any]:
    """What became of a consent, as JSON."""
    return {name: getattr(receipt, name) for name in type(receipt).__slots__}


def say_receipt(receipt: ConsentReceipt) -> None:
    """What became of a consent, for people."""
    from taxledger.nodes.enterprise.wording import CONSENT_STATUSES_ZH

    zh = CONSENT_STATUSES_ZH[receipt.status]
    say(f"consent {receipt.consent.hex()} is {receipt.status}, certified at height {receipt.height}")
    say(f"授权 {receipt.consent.hex()} {zh}，已登记于区块 {receipt.height}")
