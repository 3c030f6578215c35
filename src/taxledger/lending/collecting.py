"""Collecting evidence under one signed consent from several custodians, through the lender's own node.

Invariants:

* What comes back is bytes and a reason for each custodian that gave none: it is verified when it is decided upon,
  and again whenever it is read.
* A retry of one attempt asks with the same request keys, so it is the same use of the consent and the same bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Protocol

from taxledger.ledger.errors import (
    InputError,
    RefusedError,
    TaxledgerError,
    UnavailableError,
    VerificationError,
)
from taxledger.ledger.query import Query
from taxledger.lending.decision import Reason
from taxledger.lending.evidence import EvidenceFile

__all__ = ["Collected", "DisclosureClient", "collect_evidence", "reason_of"]


class DisclosureClient(Protocol):
    """What is needed of ``api.client.Client``."""

    def disclosure(self, query: Query, consent: bytes, *, request_key: str | None = None) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What came: files in the order of the questions, and why others did not."""

    files: tuple[EvidenceFile, ...]
    reasons: tuple[Reason, ...]


def collect_evidence(
    client: DisclosureClient, asked: Sequence[Query], artefact: bytes, *, request: str, wait_s_max: float
) -> Collected:
    """Ask every question, side by side; returns when all are answered or the time is over.

    Args:
        client: of the lender's own node.
        asked: the questions.
        artefact: the signed consent.
        request: names this attempt, printable ASCII, at most 100 characters.
        wait_s_max: seconds; a custodian that is silent longer counts as silent.
    """
    started = [
        _start(client, each, artefact, request_key=f"{request}/{number}") for number, each in enumerate(asked)
    ]
    wait(started, timeout=wait_s_max)
    files, reasons = [], []
    for query, future in zip(asked, started, strict=True):
        if not future.done():
            reasons.append(_silent(query.issuer))
            continue
        error = future.exception()
        if error is None:
            files.append(EvidenceFile(query=query, data=future.result()))
        elif isinstance(error, TaxledgerError):
            reasons.append(reason_of(error, query.issuer))
        else:
            raise error
    return Collected(files=tuple(files), reasons=tuple(reasons))


def _start(client: DisclosureClient, query: Query, artefact: bytes, *, request_key: str) -> Future[bytes]:
    """Ask one question in a thread of its own. A daemon: a process that has decided does not wait at its end for a
    custodian that is silent, as it would for a pool's threads. There are as many as a product has questions.
    """
    future: Future[bytes] = Future()

    def ask() -> None:
        try:
            future.set_result(client.disclosure(query, artefact, request_key=request_key))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=ask, name="collect", daemon=True).start()
    return future


def _silent(issuer: int) -> Reason:
    return Reason(
        code="custodian_silent",
        text=f"custodian {issuer} did not answer in time",
        text_zh=f"数据机构 {issuer} 未在时限内答复",
    )


def reason_of(error: TaxledgerError, issuer: int) -> Reason:
    """Why a custodian's evidence is missing, as a reason of an incomplete decision."""
    match error:
        case UnavailableError():
            return _silent(issuer)
        case RefusedError() | VerificationError():
            return Reason(
                code=error.code,
                text=f"custodian {issuer}: {error}"[:400],
                text_zh=f"数据机构 {issuer} 拒绝提供或证据未通过验证（{error.code}）",
            )
        case InputError():
            return Reason(
                code="evidence_malformed",
                text=f"custodian {issuer}: {error}"[:400],
                text_zh=f"数据机构 {issuer} 的证据格式有误",
            )
        case _:
            return _silent(issuer)
