"""A signed artefact handed on to every custodian it names: the recipient's side of the peer verb ``grant``.

The artefact is the subject's word, and each custodian checks it as if the subject had brought it. All are asked at
once; one that is down, or refuses, stops none of the others. The same artefact again gets the same receipts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from taxledger.api.custody import ConsentReceipt, ForwardedConsent, GrantFailure
from taxledger.ledger import canonical, limits
from taxledger.ledger.consent import Artefact, decode_artefact
from taxledger.ledger.errors import InputError, RefusedError, UnavailableError, VerificationError
from taxledger.ledger.shapes import fixed_bytes, integer, items
from taxledger.nodes.peering.transport import PeerClient

__all__ = ["forward_artefact"]

_TRY_MS = 40_000
"""A desk waits 30 s for its grant to be certified, then says that it goes on."""
_ANSWER_BYTES_MAX = 512
_TEXT_MAX = 300
_CODES = frozenset(
    {
        *("consent_key_unknown", "consent_chain_mismatch", "consent_custodian_mismatch", "consent_exists"),
        *("consent_fields_exceeded", "consent_kind_exceeded", "consent_signature_invalid", "consent_unknown"),
        *("consent_terms_invalid", "predicate_unknown", "predicate_argument_invalid"),
    }
)
"""What a custodian may say; anything else is its refusal."""


async def forward_artefact(
    peers: Mapping[int, PeerClient], artefact: bytes, *, member: int
) -> ForwardedConsent:
    """What became of an artefact at each custodian. ``member`` is the recipient that hands it on.

    Raises:
        RefusedError: ``consent_signature_invalid``, ``consent_recipient_mismatch``: nobody was asked.
        InputError: no artefact.
    """
    try:
        opened = decode_artefact(artefact)
    except VerificationError as error:
        raise RefusedError(error.code, "the artefact is not signed by the key it names") from error
    if opened.terms.recipient != member:
        raise RefusedError("consent_recipient_mismatch", "the consent is for another recipient")
    custodians = [each.member for each in opened.terms.custodians]
    outcomes = await asyncio.gather(*(_hand_in(peers.get(each), opened, each) for each in custodians))
    return ForwardedConsent(
        receipts=tuple(each for each in outcomes if isinstance(each, ConsentReceipt)),
        failures=tuple(each for each in outcomes if isinstance(each, GrantFailure)),
    )


async def _hand_in(
    peer: PeerClient | None, artefact: Artefact, custodian: int
) -> ConsentReceipt | GrantFailure:
    if peer is None:
        return GrantFailure(member=custodian, code="issuer_unknown", detail="it has no node here")
    try:
        answer = await peer.call(
            "grant", [1, "grant", artefact.raw], timeout_ms=_TRY_MS, answer_bytes_max=_ANSWER_BYTES_MAX
        )
        return _read_receipt(answer, artefact.id(custodian))
    except UnavailableError as error:
        return GrantFailure(member=custodian, code="unavailable", detail=_plain(str(error)))
    except RefusedError as error:
        code = error.code if error.code in _CODES else "custodian_refused"
        return GrantFailure(
            member=custodian, code=code, detail=_plain(str(error).removeprefix(f"{error.code}: "))
        )
    except InputError as error:
        detail = f"its answer can't be read: {error}"
        return GrantFailure(member=custodian, code="custodian_refused", detail=_plain(detail))


def _plain(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text[:_TEXT_MAX])


def _read_receipt(answer: bytes, expected: bytes) -> ConsentReceipt:
    value = items(canonical.decode(answer, bytes_max=_ANSWER_BYTES_MAX), 8, "an answer to a grant")
    version, what, consent, status, transaction, height, index, time_ms = value
    known = ("active", "paused", "revoked", "superseded")
    if type(version) is not int or [version, what, consent] != [1, "grant", expected]:
        raise InputError("expected an answer of version 1 about this consent")
    if type(status) is not str or status not in known:
        raise InputError(f"expected a status of {', '.join(known)}")
    return ConsentReceipt(
        consent=expected,
        status=status,
        transaction=fixed_bytes(transaction, 32, "a transaction's id"),
        height=integer(height, 0, limits.integer_max, "a height"),
        index=integer(index, 0, limits.integer_max, "an index"),
        time_ms=integer(time_ms, 0, limits.integer_max, "a time"),
    )
