"""What can be known to be refused before an enterprise signs: nobody shall sign for nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from taxledger.ledger.errors import InputError, RefusedError

if TYPE_CHECKING:
    from taxledger.api.client import Client
    from taxledger.ledger.consent import ConsentTerms
    from taxledger.ledger.members import Member

__all__ = ["check_grant"]


def check_grant(client: Client, members: Mapping[int, Member], terms: ConsentTerms) -> None:
    """Returns when no custodian will find anything wrong with these terms themselves; each checks them again.

    Args:
        client: of any member's node; what it says is verified.
        members: all, by number.
        terms: before they are signed.

    Raises:
        InputError: terms that no reader would take, a recipient that has the records already.
        RefusedError: ``not_custodian``, ``consent_kind_exceeded``, ``predicate_unknown``,
            ``predicate_argument_invalid``, ``consent_fields_exceeded``.
    """
    from taxledger.ledger.consent import sign_artefact
    from taxledger.ledger.crypto import Signer
    from taxledger.ledger.predicates import check_predicates

    custodians = [each.member for each in terms.custodians]
    for number in custodians:
        if not members[number].kinds:
            issuers = ", ".join(each.name for each in members.values() if each.kinds)
            raise RefusedError(
                "not_custodian",
                f"expected the home of a member that attests records ({issuers}), got {members[number].name}",
            )
    if terms.recipient in custodians:
        raise InputError("expected another recipient than the custodian, which has the records already")
    # Under a key that is thrown away: the form is checked where it is read, and the wallet's key signs nothing yet.
    sign_artefact(terms, Signer(os.urandom(32)))
    check_predicates(terms)
    _check_kinds({number: members[number] for number in custodians}, terms)
    _check_fields(client, terms)


def _check_kinds(custodians: Mapping[int, Member], terms: ConsentTerms) -> None:
    """Each kind has its issuer among the custodians, and each custodian has a kind to show."""
    from taxledger.ledger.consent import PREDICATE_KIND
    from taxledger.ledger.kinds import kind_name

    kinds = {each.kind for each in terms.details} | ({PREDICATE_KIND} if terms.predicates else set())
    for member in custodians.values():
        if not kinds.intersection(member.kinds):
            raise RefusedError(
                "consent_kind_exceeded", f"{member.name} issues none of the kinds that are named"
            )
    for kind in sorted(kinds):
        if all(kind not in member.kinds for member in custodians.values()):
            raise RefusedError(
                "consent_kind_exceeded", f"no custodian named issues records of {kind_name(kind)}"
            )


def _check_fields(client: Client, terms: ConsentTerms) -> None:
    """Against the built-in schemas that stand on the ledger; of others, only the custodian has the documents."""
    from taxledger.ledger import canonical
    from taxledger.ledger.builtin import BUILTIN
    from taxledger.ledger.hashing import sha256
    from taxledger.ledger.kinds import kind_name
    from taxledger.ledger.schemas import encode_schema

    prefixes = {bytes([8, each.kind]): each for each in terms.details if each.fields is not None}
    if not prefixes:
        return
    entries = client.state(*prefixes).entries
    for prefix, detail in prefixes.items():
        digests = [canonical.decode(value)[0] for _key, value in entries[prefix]]
        for schema in BUILTIN:
            if sha256(encode_schema(schema)) not in digests:
                continue
            known = [each.name for each in schema.fields]
            if missing := [name for name in detail.fields or () if name not in known]:
                raise RefusedError(
                    "consent_fields_exceeded",
                    f"expected fields of {kind_name(detail.kind)}, among {', '.join(known)}, got {missing[0]!r:.40}",
                )
