"""A home's signing keys, and the moment from which they may be used."""

from __future__ import annotations

from taxledger.ledger.crypto import Signer
from taxledger.nodes.application import Application, Keys
from taxledger.nodes.birthtokens import fresh_uses, spend_token
from taxledger.nodes.home import Home

__all__ = ["load_keys", "spend_tokens"]


def load_keys(home: Home) -> Keys:
    """The keys of a home, and which of them have never signed. Raises InputError for a file that is no key."""

    def optional(use: str) -> Signer | None:
        return Signer(home.key(use)) if home.has_key(use) else None

    return Keys(
        member=home.config.number,
        vote=optional("vote"),
        log=optional("log"),
        cosign=optional("cosign"),
        fresh=fresh_uses(home),
    )


def spend_tokens(home: Home, application: Application) -> str | None:
    """Remove the birth tokens of the keys whose journal the application has begun, durably; nothing was signed yet.

    Returns:
        What to tell the operator of a validator that must not sign, or None.
    """
    for use in sorted(application.may_sign & application.keys.fresh):
        spend_token(home, use)
    return application.journal_lost
