"""The consent that an application needs: exactly what the product asks, signed by the enterprise's wallet."""

from __future__ import annotations

import os
import time
from datetime import date
from typing import TYPE_CHECKING

from taxledger.nodes.cli.consenthandin import confirm_notice

if TYPE_CHECKING:
    from taxledger.ledger.consent import Artefact
    from taxledger.lending.products.product import Product
    from taxledger.lending.settings import LendingSettings
    from taxledger.nodes.enterprise.terms import Wish
    from taxledger.nodes.enterprise.wallet import Wallet
    from taxledger.nodes.home import Home

__all__ = ["product_wish", "sign_consent"]

_CHECKS_AFTER = 24
"""How often the lender may ask again while the loan runs."""
_RETENTION_DAYS = 3_650
"""A loan's archive keeps what it was decided on."""


def product_wish(
    product: Product,
    settings: LendingSettings,
    *,
    subject: str,
    recipient: int,
    as_of: date,
    offers: bool = True,
) -> Wish:
    """What an enterprise agrees to that applies for a product; it lets records be pledged only if it ``offers`` any,
    or the product needs them.

    Raises:
        FormatError: a kind that the lender has no issuer for.
    """
    from taxledger.ledger.consent import Detail
    from taxledger.lending.questions import questions
    from taxledger.nodes.enterprise.terms import Wish

    asked = questions(product, subject, settings.issuers, as_of)
    # The lender looks again after pay-out, and each time at months that are later.
    last = _months_after(as_of, product.terms.months_max + 2)
    most = max(sum(each.issuer == issuer for each in asked) for issuer in {each.issuer for each in asked})
    return Wish(
        recipient=recipient,
        custodians={each.issuer: None for each in asked},
        details=[
            Detail(kind=kind, from_period=each.from_period, to_period=last, fields=None)
            for each in asked
            for kind in each.kinds
        ],
        mode="store",
        max_uses=most * (3 + _CHECKS_AFTER),
        days=31 * (product.terms.months_max + 2),
        retention_days=_RETENTION_DAYS,
        may_pledge=product.security is not None and (offers or product.security.required),
    )


def _months_after(day: date, months: int) -> str:
    at = day.year * 12 + day.month - 1 + months
    return f"{at // 12:04}-{at % 12 + 1:02}"


def sign_consent(wallet: Wallet, home: Home, wish: Wish, *, yes: bool, quiet: bool = False) -> Artefact:
    """Show what is agreed to, ask, sign; the artefact is in the wallet before it is handed on.

    Args:
        wallet: of the enterprise, which keeps the notice beside what it signs.
        home: of a member, that knows the others by name.
        wish: what is agreed to.
        yes: sign without asking.
        quiet: the caller has shown the notice, and asked.

    Raises:
        InputError: the person did not agree, or there is no terminal to ask at.
    """
    from taxledger.ledger.genesis import chain_id
    from taxledger.nodes.enterprise.terms import make_terms

    terms, notice = make_terms(
        wish,
        subject=wallet.subject,
        subject_secret=wallet.subject_secret,
        chain_id=chain_id(home.genesis()),
        nonce=os.urandom(32),
        now_ms=time.time_ns() // 1_000_000,
        names={each.number: each.name for each in home.config.peers},
    )
    if not quiet:
        confirm_notice(notice, yes=yes)
    return wallet.sign(terms, notice)
