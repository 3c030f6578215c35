"""The questions about permits and pledges, as ``Call``s. No I/O."""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from taxledger.api.client import reading
from taxledger.api.client.reading import get, integer, malformed, read_base64, read_hex
from taxledger.api.client.wire import Answer, Call, Request, answer_call
from taxledger.api.pledging import PledgeReceipt
from taxledger.ledger import limits
from taxledger.ledger.errors import InputError
from taxledger.ledger.permit import decode_permit
from taxledger.ledger.pledgeproof import PledgeKey, VerifiedPledges, verify_pledges
from taxledger.ledger.policy import Policy

__all__ = ["PledgeCalls"]

_JSON = "application/json"


class PledgeCalls(ABC):
    """A part of ``ClientCore``."""

    policy: Policy
    _new_key: Callable[[], str]

    @abstractmethod
    def _post(self, path: str, content: bytes, media_type: str, **more: Any) -> Request:
        """A ``POST`` with its Idempotency-Key."""

    @abstractmethod
    def _times(self, age_ms_max: int | None) -> dict[str, int]:
        """``now_ms`` and ``age_ms_max`` of a verification."""

    def _question(
        self, path: str, body: dict[str, Any], request_key: str | None = None, **more: Any
    ) -> Request:
        made = self._post(path, json.dumps(body).encode(), _JSON, **more)
        if request_key is None:
            return made
        return replace(made, headers={**made.headers, "Idempotency-Key": request_key})

    def request_permits(
        self, consent: bytes, sequence: int, records: Sequence[bytes], not_after: int
    ) -> Call[list[bytes]]:
        body = {
            "consent": consent.hex(),
            "sequence": sequence,
            "records": [each.hex() for each in records],
            "not_after": not_after,
        }
        return answer_call(self._question("/v1/permits", body), lambda answer: _read_permits(answer, records))

    def place_pledge(
        self,
        permit: bytes,
        ppm: int,
        not_after: int | None,
        request_key: str | None,
        nonce: bytes | None = None,
    ) -> Call[PledgeReceipt]:
        body: dict[str, Any] = {
            "permit": base64.b64encode(permit).decode(),
            "ppm": ppm,
            "not_after": not_after,
        }
        if nonce is not None:
            body["nonce"] = nonce.hex()
        return answer_call(self._question("/v1/pledges", body, request_key), _read_receipt)

    def confirm_pledge(self, pledge: bytes) -> Call[PledgeReceipt]:
        return answer_call(self._question(f"/v1/pledges/{pledge.hex()}/confirm", {}), _read_receipt)

    def release_pledge(self, pledge: bytes) -> Call[PledgeReceipt]:
        return answer_call(self._question(f"/v1/pledges/{pledge.hex()}/release", {}), _read_receipt)

    def transfer_pledge(self, pledge: bytes, permit: bytes) -> Call[PledgeReceipt]:
        body = {"permit": base64.b64encode(permit).decode()}
        return answer_call(self._question(f"/v1/pledges/{pledge.hex()}/transfer", body), _read_receipt)

    def pledge_proof(self, keys: Iterable[PledgeKey]) -> Call[bytes]:
        rows = [{"issuer": issuer, "fingerprint": each.hex()} for issuer, each in sorted(set(keys))]
        request = self._question("/v1/pledges/proof", {"keys": rows}, bytes_max=limits.pledge_proof_bytes_max)
        return answer_call(request, lambda answer: answer.body)

    def verified_pledges(self, keys: Iterable[PledgeKey], age_ms_max: int | None) -> Call[VerifiedPledges]:
        asked = tuple(sorted(set(keys)))

        def read(answer: Answer) -> VerifiedPledges:
            times = self._times(age_ms_max)
            return verify_pledges(
                answer.body,
                self.policy,
                asked,
                now_ms=times["now_ms"],
                age_ms_max=times["age_ms_max"],
            )

        return answer_call(self.pledge_proof(asked).request, read)


# --- answers --------------------------------------------------------------------------------


def _read_permits(answer: Answer, records: Sequence[bytes]) -> list[bytes]:
    rows = get(reading.read_object(answer), "permits", list)
    permits = [read_base64(each, "permits") for each in rows]
    try:
        opened = [decode_permit(each) for each in permits]
    except InputError as error:
        raise malformed(f"permits: {error}") from error
    if [each.record_key for each in opened] != list(records):
        raise malformed("one permit for each record, in their order")
    return permits


def _read_receipt(answer: Answer) -> PledgeReceipt:
    body = reading.read_object(answer)
    return PledgeReceipt(
        pledge=read_hex(body.get("pledge"), "pledge"),
        operation=get(body, "operation", str),
        transaction=read_hex(body.get("transaction"), "transaction"),
        height=integer(body, "height"),
        index=integer(body, "index"),
        time_ms=integer(body, "time_ms"),
    )
