"""Offer, acceptance and contract: the bytes that lender and enterprise sign (docs/lending.md).

    offer        [1, "loan_offer", …]                          unsigned; named by H("loan_offer", bytes)
    acceptance   [1, "loan_acceptance", body, key, signature]  signed by the enterprise; body names the offer's digest
    contract     [1, "loan_contract", body, key, signature]    signed by the lender; body = [1, offer, acceptance, when]

Invariants:

* The enterprise's key is the one that signed its consent; the lender's is a key for contracts and nothing else.
* A ``Contract`` only comes out of ``verify_contract``: both signatures hold, and what was accepted lies within what
  was offered, while it was offered.
* Amounts are integers of minor units.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.crypto import Signer, check_subject_key
from taxledger.ledger.errors import FormatError, RefusedError, VerificationError
from taxledger.ledger.hashing import domain_hash
from taxledger.ledger.records import check_subject
from taxledger.ledger.shapes import fixed_bytes, integer, items, text
from taxledger.ledger.signedbody import decode_signed_body, encode_signed_body, verify_signed_body
from taxledger.lending.loans.interest import InterestTerms
from taxledger.lending.payments.port import AMOUNT_MINOR_MAX, Account, account_as_list, decode_account

__all__ = [
    "Acceptance",
    "Contract",
    "Offer",
    "check_loan_id",
    "contract_digest",
    "decode_acceptance",
    "decode_offer",
    "encode_offer",
    "offer_digest",
    "sign_acceptance",
    "sign_contract",
    "verify_acceptance",
    "verify_contract",
]

_VERSION = 1
_OFFER, _ACCEPTANCE, _CONTRACT = "loan_offer", "loan_acceptance", "loan_contract"
_NAME_BYTES_MAX = 64
_LOAN = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,27}")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a lender offers.

    Attributes:
        chain_id: of the ledger whose member the lender is, 16 bytes.
        loan: the lender's id of the loan, 1 to 28 letters, digits and hyphens.
        lender: its member number.
        subject: the enterprise.
        product, product_version: of the product file.
        decision: SHA-256 of the decision.
        currency: ISO 4217; ``limit`` in its minor units.
        interest: rate, day count and rounding.
        term_months_max: the longest term.
        revolving: whether it may be drawn again, up to the limit, until the term ends.
        account: the only account that may receive it; None: one in the enterprise's name, which it chooses.
        offered_ms, valid_until_ms: milliseconds since 1970; it can be accepted before the latter.
    """

    chain_id: bytes
    loan: str
    lender: int
    subject: str
    product: str
    product_version: int
    decision: bytes
    currency: str
    limit: int
    interest: InterestTerms
    term_months_max: int
    revolving: bool
    account: Account | None
    offered_ms: int
    valid_until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What the enterprise chose; its signature has verified.

    Attributes:
        raw: the bytes.
        offer: digest of the offer, 32 bytes.
        amount: paid out first, minor units; of a revolving line the rest of the limit stays open.
        term_months: from pay-out.
        account: where the money goes.
        accepted_ms: when it was signed, by the enterprise's clock.
        public_key: who signed, 32 bytes.
    """

    raw: bytes
    offer: bytes
    amount: int
    term_months: int
    account: Account
    accepted_ms: int
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What both signed, verified.

    Attributes:
        raw: the bytes.
        offer: what was offered, ``offer_raw`` its bytes.
        acceptance: what was chosen.
        signed_ms: when the lender signed, milliseconds since 1970.
        public_key: the lender's key, 32 bytes.
    """

    raw: bytes
    offer: Offer
    offer_raw: bytes
    acceptance: Acceptance
    signed_ms: int
    public_key: bytes

    @property
    def digest(self) -> bytes:
        return contract_digest(self.raw)

    @property
    def line(self) -> int:
        """What may be owed at a time, minor units: the limit where it revolves, else the amount."""
        return self.offer.limit if self.offer.revolving else self.acceptance.amount


def offer_digest(raw: bytes) -> bytes:
    """``H("loan_offer", offer)``: what an acceptance names."""
    return domain_hash(_OFFER, raw)


def contract_digest(raw: bytes) -> bytes:
    """``H("loan_contract_digest", contract)``: what a draw order names."""
    return domain_hash("loan_contract_digest", raw)


def check_loan_id(loan: Any) -> str:
    """Raises FormatError unless this is an id of a loan: 1 to 28 letters, digits and hyphens."""
    if type(loan) is not str or not _LOAN.fullmatch(loan):
        raise FormatError(f"expected a loan's id of 1 to 28 letters, digits and hyphens, got {loan!r:.50}")
    return loan


# --- the offer --------------------------------------------------------------------------------


def encode_offer(offer: Offer) -> bytes:
    """The bytes of an offer. Raises FormatError for one that no reader would take."""
    raw = canonical.encode(
        [
            _VERSION,
            _OFFER,
            offer.chain_id,
            offer.loan,
            offer.lender,
            offer.subject,
            [offer.product, offer.product_version, offer.decision],
            [offer.currency, offer.limit],
            [offer.interest.rate_ppm, offer.interest.day_count, offer.interest.rounding],
            [offer.term_months_max, offer.revolving],
            None if offer.account is None else account_as_list(offer.account),
            [offer.offered_ms, offer.valid_until_ms],
        ]
    )
    decode_offer(raw)
    return raw


def decode_offer(raw: bytes) -> Offer:
    """An offer of its bytes.

    Raises:
        LimitError, EncodingError, FormatError: not an offer in its one form.
    """
    value = items(canonical.decode(raw, bytes_max=limits.loan_offer_bytes_max), 12, "an offer")
    version, what, chain_id, loan, lender, subject, product, money, interest, term, account, window = value
    if type(version) is not int or [version, what] != [_VERSION, _OFFER]:
        raise FormatError("expected an offer of version 1")
    check_subject(subject)
    name, product_version, decision = items(product, 3, "a product")
    currency, limit = items(money, 2, "a limit")
    months, revolving = items(term, 2, "a term")
    offered, until = items(window, 2, "the time of an offer")
    if type(currency) is not str or not _CURRENCY.fullmatch(currency) or type(revolving) is not bool:
        raise FormatError("expected a currency of three letters, and whether the line revolves")
    offer = Offer(
        chain_id=fixed_bytes(chain_id, 16, "a chain id"),
        loan=check_loan_id(loan),
        lender=integer(lender, 1, 65_535, "a lender"),
        subject=subject,
        product=text(name, _NAME_BYTES_MAX, "a product"),
        product_version=integer(product_version, 1, limits.integer_max, "a product's version"),
        decision=fixed_bytes(decision, 32, "a decision's digest"),
        currency=currency,
        limit=integer(limit, 1, AMOUNT_MINOR_MAX, "a limit in minor units"),
        interest=_interest(interest),
        term_months_max=integer(months, 1, limits.loan_term_months_max, "a term in months"),
        revolving=revolving,
        account=None if account is None else decode_account(account),
        offered_ms=integer(offered, 0, limits.integer_max, "offered"),
        valid_until_ms=integer(until, 0, limits.integer_max, "valid until"),
    )
    if offer.offered_ms >= offer.valid_until_ms:
        raise FormatError("expected an offer that is valid for some time")
    return offer


def _interest(value: Any) -> InterestTerms:
    rate, day_count, rounding = items(value, 3, "terms of interest")
    if type(day_count) is not int or type(rounding) is not str:
        raise FormatError("expected a day count and a rounding")
    return InterestTerms(rate_ppm=rate, day_count=day_count, rounding=rounding)


# --- the acceptance ---------------------------------------------------------------------------


def sign_acceptance(
    signer: Signer, offer_raw: bytes, *, amount: int, term_months: int, account: Account, accepted_ms: int
) -> bytes:
    """The enterprise's acceptance of an offer.

    Args:
        signer: the key that signed the consent.
        offer_raw: the offer's bytes, as they were received.
        amount, term_months, account: what it chose.
        accepted_ms: milliseconds since 1970.

    Raises:
        FormatError: what no reader would take. What lies outside the offer is signed all the same: the lender refuses.
    """
    value = [_VERSION, offer_digest(offer_raw), amount, term_months, account_as_list(account), accepted_ms]
    raw = encode_signed_body(_ACCEPTANCE, _ACCEPTANCE, value, signer)
    decode_acceptance(raw)
    return raw


def decode_acceptance(raw: bytes) -> Acceptance:
    """An acceptance whose form and signature are right; whose key it is remains to be checked.

    Raises:
        LimitError, EncodingError, FormatError: not an acceptance in its one form.
        VerificationError: ``acceptance_signature_invalid``.
    """
    signed = decode_signed_body(raw, _ACCEPTANCE, bytes_max=limits.loan_contract_bytes_max)
    check_subject_key(signed.public_key)
    version, offer, amount, months, account, accepted = items(signed.value, 6, "an acceptance")
    integer(version, _VERSION, _VERSION, "version of the acceptance")
    acceptance = Acceptance(
        raw=raw,
        offer=fixed_bytes(offer, 32, "an offer's digest"),
        amount=integer(amount, 1, AMOUNT_MINOR_MAX, "an amount in minor units"),
        term_months=integer(months, 1, limits.loan_term_months_max, "a term in months"),
        account=decode_account(account),
        accepted_ms=integer(accepted, 0, limits.integer_max, "accepted"),
        public_key=signed.public_key,
    )
    verify_signed_body(signed, _ACCEPTANCE, "acceptance_signature_invalid")
    return acceptance


def verify_acceptance(raw: bytes, offer_raw: bytes, *, borrower_key: bytes, now_ms: int) -> Acceptance:
    """An acceptance of this offer by this enterprise, within its terms.

    Args:
        raw, offer_raw: the bytes.
        borrower_key: the key that signed the consent, 32 bytes.
        now_ms: when the lender takes it, by its own clock.

    Raises:
        LimitError, EncodingError, FormatError, VerificationError: as ``decode_acceptance``.
        VerificationError: ``acceptance_key_mismatch``, ``acceptance_offer_mismatch``.
        RefusedError: ``offer_expired``, ``amount_outside_offer``, ``term_outside_offer``, ``account_outside_offer``.
    """
    offer, acceptance = decode_offer(offer_raw), decode_acceptance(raw)
    if acceptance.public_key != borrower_key:
        raise VerificationError("acceptance_key_mismatch", "not signed by the key that signed the consent")
    if acceptance.offer != offer_digest(offer_raw):
        raise VerificationError("acceptance_offer_mismatch", "it names another offer")
    if now_ms >= offer.valid_until_ms:
        raise RefusedError("offer_expired", f"expected it before {offer.valid_until_ms}, got it at {now_ms}")
    if acceptance.amount > offer.limit:
        raise RefusedError(
            "amount_outside_offer", f"expected at most {offer.limit} minor units, got {acceptance.amount}"
        )
    if acceptance.term_months > offer.term_months_max:
        raise RefusedError(
            "term_outside_offer",
            f"expected at most {offer.term_months_max} months, got {acceptance.term_months}",
        )
    if offer.account is not None and acceptance.account != offer.account:
        raise RefusedError("account_outside_offer", "expected the receiving account that the offer names")
    return acceptance


# --- the contract -----------------------------------------------------------------------------


def sign_contract(
    signer: Signer, offer_raw: bytes, acceptance_raw: bytes, *, borrower_key: bytes, signed_ms: int
) -> Contract:
    """The contract, signed by the lender.

    Args:
        signer: the lender's key for contracts.
        offer_raw, acceptance_raw: the bytes.
        borrower_key: the key that signed the consent, 32 bytes.
        signed_ms: milliseconds since 1970.

    Raises:
        InputError, VerificationError, RefusedError: as ``verify_acceptance``; nothing is signed then.
    """
    verify_acceptance(acceptance_raw, offer_raw, borrower_key=borrower_key, now_ms=signed_ms)
    raw = encode_signed_body(_CONTRACT, _CONTRACT, [_VERSION, offer_raw, acceptance_raw, signed_ms], signer)
    return verify_contract(raw, borrower_key=borrower_key, lender_key=signer.public_key)


def verify_contract(raw: bytes, *, borrower_key: bytes, lender_key: bytes) -> Contract:
    """A contract between these two: both signatures hold, and what was accepted lies within the offer.

    Args:
        raw: the bytes.
        borrower_key: the key that signed the consent, 32 bytes.
        lender_key: the lender's key for contracts, 32 bytes.

    Raises:
        LimitError, EncodingError, FormatError: not a contract in its one form.
        VerificationError: ``contract_signature_invalid``, ``contract_key_mismatch``, or as ``verify_acceptance``.
        RefusedError: as ``verify_acceptance``, at the instant the lender signed.
    """
    signed = decode_signed_body(raw, _CONTRACT, bytes_max=limits.loan_contract_bytes_max)
    if signed.public_key != lender_key:
        raise VerificationError("contract_key_mismatch", "not signed by the lender's key for contracts")
    verify_signed_body(signed, _CONTRACT, "contract_signature_invalid")
    version, offer_raw, acceptance_raw, signed_ms = items(signed.value, 4, "a contract")
    integer(version, _VERSION, _VERSION, "version of the contract")
    integer(signed_ms, 0, limits.integer_max, "signed")
    acceptance = verify_acceptance(acceptance_raw, offer_raw, borrower_key=borrower_key, now_ms=signed_ms)
    return Contract(
        raw=raw,
        offer=decode_offer(offer_raw),
        offer_raw=offer_raw,
        acceptance=acceptance,
        signed_ms=signed_ms,
        public_key=signed.public_key,
    )
