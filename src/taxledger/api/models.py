"""The JSON bodies of the API, with OpenAPI's examples. Hashes and keys are hex, longer bytes base64."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from taxledger.ledger import limits

__all__ = [
    "POLICY_EXAMPLE",
    "ConsentId",
    "Digest",
    "DossierRequest",
    "Health",
    "Hex",
    "History",
    "HistoryRequest",
    "Period",
    "ProblemBody",
    "Ready",
    "ReceiptBody",
    "RecordChangeBody",
    "StateBody",
    "StatusBody",
    "StrictModel",
    "TransactionBody",
    "TransactionRequest",
    "example",
]

_HEX = r"^([0-9a-f]{2})*$"
_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_KEY = "01000105" + "aa" * 16 + "07" + "bb" * 16
NOTE_EXAMPLE = (
    "spine.test/0123456789abcdef0123456789abcdef/embedded\n1024\n"
    "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=\n\n— spine.test/0123…/embedded AAAA…\n"
    "— spine.test/bank1 BBBB…\n"
)
POLICY_EXAMPLE = (
    "log spine.test/0123…/embedded+1a2b3c4d+AQ…\nwitness bank1 spine.test/bank1+5e6f7a8b+BA…\n"
    "group validators 3 tax bank1 bank2 bank3\nquorum validators\n"
)

Hex = Annotated[str, Field(pattern=_HEX)]
Digest = Annotated[str, Field(pattern=_HEX, min_length=64, max_length=64)]
ConsentId = Annotated[str, Field(pattern=_HEX, min_length=32, max_length=32)]
Period = Annotated[str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$")]


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


def example(**values: Any) -> ConfigDict:
    return ConfigDict(
        extra="forbid", strict=True, populate_by_name=True, json_schema_extra={"examples": [values]}
    )


class TransactionRequest(StrictModel):
    """A transaction as JSON, for callers that can't send raw bytes."""

    model_config = example(transaction="0oRYcqQBJwN4HWFwcGxpY2F0aW9uL3RheGxlZGdlcittc2dwYWNr…")
    transaction: str = Field(description="base64 of the transaction's bytes", max_length=90_000)


class DossierRequest(StrictModel):
    """What a dossier is asked for. The subject stands in the body, so that no URL or log names it."""

    model_config = example(subject="cumcm:E14", issuer=1, kinds=[5], to="2019-12", **{"from": "2017-01"})
    subject: str = Field(min_length=3, max_length=limits.subject_bytes_max)
    issuer: int = Field(ge=1, le=65_535, description="the issuing member's number")
    kinds: list[Annotated[int, Field(ge=1, le=255)]] = Field(
        min_length=1, max_length=limits.evidence_kinds_max
    )
    from_: Period = Field(alias="from", description="first period, YYYY-MM")
    to: Period = Field(description="last period, YYYY-MM")
    consent: str | None = Field(
        default=None,
        max_length=4 * -(-limits.consent_bytes_max // 3),
        description="base64 of the artefact; without it only an issuer's own node answers, for its own records",
    )


class HistoryRequest(StrictModel):
    """Which record's history is asked for."""

    model_config = example(key=_KEY)
    key: Hex = Field(min_length=74, max_length=74, description="the record's key, 37 bytes as hex")


class ProblemBody(BaseModel):
    """An RFC 9457 problem; docs/api.md lists the codes."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/scope_missing",
                    "title": "The API key does not have the scope",
                    "status": 403,
                    "detail": "this route needs the scope submit",
                    "instance": "urn:taxledger:request:5f2c9d0c1b7e4a36",
                    "code": "scope_missing",
                }
            ]
        },
    )
    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str


class Health(StrictModel):
    """The process answers."""

    model_config = example(status="ok")
    status: Literal["ok"]


class Ready(StrictModel):
    """The node serves answers at this height."""

    model_config = example(ready=True, height=412)
    ready: bool
    height: int


class StatusBody(StrictModel):
    """Where the node stands; ``writes`` is ``ok``, or ``waiting`` for the reason given."""

    model_config = example(
        member="bank1", number=2, role="validator", network="spine.test", chain_id="0123456789abcdef" * 2,
        engine="embedded", height=412, size=1024, log_root=_HASH, state_root=_HASH,
        certified_time_ms=1_767_225_600_000, cosigned_time_ms=1_767_225_601_000, writes="ok", reason=None,
        uncertified_blocks=0, ready=True,
    )  # fmt: skip
    member: str
    number: int
    role: str
    network: str
    chain_id: Hex
    engine: str
    height: int
    size: int
    log_root: Hex
    state_root: Hex
    certified_time_ms: int
    cosigned_time_ms: int | None
    writes: Literal["ok", "waiting"]
    reason: str | None
    uncertified_blocks: int
    ready: bool


class ReceiptBody(StrictModel):
    """What became of a transaction. ``pending``: accepted, the rest is null until it is certified."""

    model_config = example(
        id=_HASH, state="certified", code=0, name="ok", first_refused=None, height=412, index=1022,
        certified_time_ms=1_767_225_600_000, checkpoint=NOTE_EXAMPLE,
    )  # fmt: skip
    id: Hex
    state: Literal["pending", "certified"]
    code: int | None
    name: str | None
    first_refused: int | None
    height: int | None
    index: int | None
    certified_time_ms: int | None
    checkpoint: str | None


class TransactionBody(StrictModel):
    """A certified transaction, with its audit path under ``receipt.checkpoint``."""

    receipt: ReceiptBody
    transaction: str = Field(description="base64 of the leaf")
    inclusion: list[Hex] = Field(description="RFC 6962 audit path, from the leaf upwards")


class PrefixBody(StrictModel):
    """One prefix asked, and all pairs below it: none means that its absence is proved."""

    model_config = example(prefix="060001", pairs=[["060001", "nAGjdGF4…"]])
    prefix: Hex
    pairs: list[tuple[str, str]] = Field(description="[key as hex, value as base64], ascending")


class StateBody(StrictModel):
    """All keys under the prefixes, proved under one checkpoint (docs/protocol.md §6)."""

    checkpoint: str
    header: str = Field(description="base64 of the header leaf, at index size - 1")
    inclusion: list[Hex]
    proof: str = Field(description="base64")
    entries: list[PrefixBody]


class RecordChangeBody(StrictModel):
    """One step in a record's history."""

    model_config = example(
        operation="amend", version=2, status=2, member=1, transaction=_HASH, height=412,
        time_ms=1_767_225_600_000, reason=2, reason_digest=None,
    )  # fmt: skip
    operation: Literal["attest", "amend", "revoke"]
    version: int
    status: int
    member: int
    transaction: Hex
    height: int
    time_ms: int
    reason: int | None
    reason_digest: Hex | None


class History(StrictModel):
    """The certified changes of a record, oldest first."""

    key: Hex
    changes: list[RecordChangeBody]
