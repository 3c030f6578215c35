"""Permits to pledge, from the custodian: peer verb ``permit``.

A recipient gets one for a record only while the consent under which it was shown allows pledging and is in force, and
only for the version that it was shown, if that is still the record's present one and valid. The state that counts is
that of ``consentgate.py``. Nothing is kept: the same question gets the same signed bytes, as long as the issuer's key
is the same; and what a permit is for stands in the book of uses, and on the ledger once it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.consent import Artefact, decode_artefact
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError, RefusedError, UnavailableError
from taxledger.ledger.permit import encode_permit, sign_permit
from taxledger.ledger.records import RecordValue, Status, decode_record_value
from taxledger.ledger.shapes import array, ascending, fixed_bytes, integer, items
from taxledger.ledger.statekeys import RECORD_KEY_BYTES
from taxledger.nodes.custodian.consentgate import ConsentGate
from taxledger.nodes.custodian.custody import CustodyBook, ShownRecord
from taxledger.nodes.logs import get_logger
from taxledger.nodes.replica import CertifiedState

__all__ = ["PERMIT_MS_MAX", "Permitter"]

PERMIT_MS_MAX = 24 * 3_600_000
"""Local: a permit that was given is good until it ends, also after the consent was revoked. So they are short."""


class Permitter:
    """Lives on the event loop.

    Args:
        member: this member's number; ``chain_id`` of its ledger.
        book: consents, uses, and which records they showed.
        gate: the state that counts.
        signer: gives the transaction key that is in force.
        now_ms: milliseconds since 1970.
    """

    def __init__(
        self,
        *,
        member: int,
        chain_id: bytes,
        book: CustodyBook,
        gate: ConsentGate,
        signer: Callable[[], Signer],
        now_ms: Callable[[], int],
    ) -> None:
        self._member = member
        self._chain_id = chain_id
        self._book = book
        self._gate = gate
        self._signer = signer
        self._now_ms = now_ms
        self._log = get_logger("permit")

    async def on_permit(self, member: int, message: Any) -> list[Any]:
        """``[1, "permit", consent16, sequence, [record key37 …], not_after]`` → ``[1, "permit", [permit …]]``, one for
        each record, or a refusal for all of them. Keys ascend. A permit may end earlier than was asked.
        """
        version, what, consent, sequence, keys, not_after = items(message, 6, "a permit message")
        if type(version) is not int or [version, what] != [1, "permit"]:
            raise FormatError("expected a permit message of version 1")
        fixed_bytes(consent, 16, "a consent")
        integer(sequence, 1, 2**32 - 1, "the number of a use")
        for key in array(keys, 1, limits.permits_max, "record keys"):
            fixed_bytes(key, RECORD_KEY_BYTES, "a record key")
        ascending(keys, "record keys")
        integer(not_after, 0, limits.integer_max, "not_after")
        try:
            permits = await asyncio.to_thread(self._permits, member, consent, sequence, keys, not_after)
        except RefusedError as error:
            self._log.warning(
                "permit refused", member=member, consent=consent.hex(), use=sequence, code=error.code
            )
            raise
        self._log.info("permits", member=member, consent=consent.hex(), use=sequence, records=len(permits))
        return [1, "permit", permits]

    def _permits(
        self, member: int, consent: bytes, sequence: int, keys: list[bytes], not_after: int
    ) -> list[bytes]:
        artefact = self._artefact(member, consent)
        use = self._book.use(consent, sequence)
        if use is None or use.member != member:
            raise RefusedError("record_not_disclosed", "no such use of this consent is known here")
        state = self._gate.fresh_state()
        self._gate.check_consent(state, consent, used=True)
        end_ms = min(not_after, artefact.terms.not_after, self._now_ms() + PERMIT_MS_MAX)
        if end_ms <= self._now_ms():
            raise RefusedError("permit_expired", "expected an end after now")
        shown = self._book.shown(consent, sequence, keys)
        records = [self._record(state, key, shown.get(key), pieces=use.may_have_left) for key in keys]
        return self._sign(member, keys, records, end_ms)

    def _artefact(self, member: int, consent: bytes) -> Artefact:
        raw = self._book.artefact(consent)
        if raw is None:
            raise RefusedError("consent_unknown", "this custodian holds no such consent")
        artefact = decode_artefact(raw)
        if artefact.terms.recipient != member:
            raise RefusedError("consent_recipient_mismatch", "the consent is for another recipient")
        if not artefact.terms.may_pledge:
            raise RefusedError(
                "pledge_not_consented", "the consent does not let records be taken as security"
            )
        return artefact

    @staticmethod
    def _record(
        state: CertifiedState, key: bytes, shown: ShownRecord | None, *, pieces: int
    ) -> tuple[int, bytes]:
        """(version, fingerprint) of a record that may be pledged now."""
        if shown is None or shown.piece >= pieces:
            raise RefusedError(
                "record_not_disclosed", f"record {key.hex()} was not shown in this use as one to pledge"
            )
        raw = state.view.get(key)
        value: RecordValue | None = None if raw is None else decode_record_value(raw)
        if value is None or value.fingerprint is None:
            raise RefusedError("record_not_pledgeable", f"record {key.hex()} has no fingerprint now")
        if (value.status, value.version) != (Status.VALID, shown.version):
            raise RefusedError(
                "record_not_valid",
                f"record {key.hex()} is not valid any more as it was shown: ask for it again",
            )
        return value.version, value.fingerprint

    def _sign(
        self, member: int, keys: list[bytes], records: list[tuple[int, bytes]], end_ms: int
    ) -> list[bytes]:
        try:
            signer = self._signer()
        except InputError as error:  # our own key, not what was asked
            raise UnavailableError("the custodian's transaction key is not at hand") from error
        return [
            encode_permit(
                sign_permit(
                    signer,
                    self._chain_id,
                    record_key=key,
                    version=version,
                    fingerprint=fingerprint,
                    lender=member,
                    not_after=end_ms,
                )
            )
            for key, (version, fingerprint) in zip(keys, records, strict=True)
        ]
