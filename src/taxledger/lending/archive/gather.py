"""The archive of a loan as the engine has it: its events and files, the products that decided, the payment files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, RefusedError, UnavailableError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.policies import Policies
from taxledger.lending.archive.check import write_archive
from taxledger.lending.archive.format import PaymentDigest, named_files
from taxledger.lending.decision import Decision, decode_decision
from taxledger.lending.loans.history import fold
from taxledger.lending.loans.records import LoanRecords

__all__ = ["gather_archive", "payment_files"]


def gather_archive(
    signer: Signer,
    store: LoanRecords,
    loan: str,
    *,
    policies: Policies,
    products: Mapping[str, bytes],
    scorecards: Mapping[str, bytes],
    payment_file: Callable[[str], bytes],
    alerts: Sequence[str],
    sealed_ms: int,
) -> bytes:
    """The archive of a loan, verified.

    Args:
        signer: the lender's key for contracts.
        store: where the loan is.
        loan: its id.
        policies: the lender's own, present and former.
        products, scorecards: files by id, those that decided among them.
        payment_file: the payment message of a reference.
        alerts: of the watch, as ``encode_alert`` has them.
        sealed_ms: now, milliseconds since 1970.

    Raises:
        RefusedError: ``loan_unknown``.
        FormatError: a product or scorecard that decided is not among the files any more.
        UnavailableError: a payment message can't be read.
        VerificationError: what is stored does not verify.
    """
    events = store.events(loan)
    if not events:
        raise RefusedError("loan_unknown", f"no loan {loan!r:.40}")
    files = [store.file(loan, digest) for digest in named_files(events)]
    decided = [decode_decision(store.file(loan, each.value[1])) for each in events if each.kind == "decided"]
    paid = [(each.number, each.reference) for each in fold(events).draws if each.reference is not None]
    return write_archive(
        signer,
        loan=loan,
        policies=policies,
        sealed_ms=sealed_ms,
        products=_those(products, [each.product_digest for each in decided], "product").values(),
        scorecards=_those(scorecards, _scorecards(decided), "scorecard"),
        files=files,
        events=events,
        payments=[
            PaymentDigest(draw=number, digest=sha256(payment_file(reference))) for number, reference in paid
        ],
        alerts=alerts,
    )


def _scorecards(decided: Sequence[Decision]) -> list[str]:
    return [each.scorecard_digest for each in decided if each.scorecard_digest is not None]


def _those(files: Mapping[str, bytes], digests: Sequence[str], what: str) -> dict[str, bytes]:
    """The files of these digests, by id."""
    found = {id: data for id, data in files.items() if sha256(data).hex() in digests}
    missing = set(digests) - {sha256(data).hex() for data in found.values()}
    if missing:
        raise FormatError(
            f"expected the {what} file that decided, SHA-256 {min(missing)}: it was changed or removed"
        )
    return found


def payment_files(outbox: Path) -> Callable[[str], bytes]:
    """Reads the messages of an outbox folder, whether or not they were taken."""

    def read(reference: str) -> bytes:
        for path in (outbox / f"{reference}.xml", outbox / "taken" / f"{reference}.xml"):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UnavailableError(f"{path}: can't be read: {error.strerror}") from error
        raise UnavailableError(f"{outbox}: no payment file {reference}.xml")

    return read
