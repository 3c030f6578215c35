"""A home's signing keys, and the moment from which they may be used."""

from __future__ import annotations

from dataclasses import replace

from taxledger.ledger.crypto import Signer
from taxledger.ledger.members import Member
from taxledger.nodes.application import Application, Keys
from taxledger.nodes.home import Home
from taxledger.nodes.identity.birthtokens import (
    JOURNAL_LOST,
    USES,
    fresh_uses,
    has_token,
    may_sign,
    spend_token,
)
from taxledger.nodes.ordering.cometbft.files import state_path

__all__ = ["HomeKeyFinder", "load_keys", "spend_tokens"]

_SIGNING = ("vote", "log", "cosign")


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
    if application.journal_lost is None and _engine_abstains(home):
        return JOURNAL_LOST.format(use="vote")
    return application.journal_lost


def _engine_abstains(home: Home) -> bool:
    """Whether the ordering engine will only follow: it keeps the journal of the vote key, and has lost it."""
    if home.config.engine == "embedded" or not home.has_key("vote"):
        return False
    return not may_sign(home, "vote", state_path(home))


class HomeKeyFinder:
    """``KeyFinder`` over a home: a use's present key, or the next one (``memberkeys.py``)."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def keys_for(self, entry: Member, present: Keys) -> Keys:
        """See ``application.KeyFinder``. Raises InputError for a file that is no key."""
        fresh = set(present.fresh)
        found: dict[str, Signer] = {}
        for use in _SIGNING:
            named = getattr(entry, f"{use}_key")
            # The present one again at the end: the node may move the next one into its place while we look.
            for name in (use, f"{use}.next", use):
                signer = Signer(self._home.key(name)) if self._home.has_key(name) else None
                if signer is not None and signer.public_key == named:
                    found[use] = signer
                    fresh.discard(use)
                    if use in USES and has_token(self._home, name):
                        fresh.add(use)
                    break
        return replace(
            present,
            vote=found.get("vote", present.vote),
            log=found.get("log", present.log),
            cosign=found.get("cosign", present.cosign),
            fresh=frozenset(fresh),
        )

    def begun(self, keys: Keys, uses: frozenset[str]) -> None:
        """See ``application.KeyFinder``. Raises UnavailableError: a token can't be removed."""
        for use in sorted(uses):
            for name in (use, f"{use}.next"):
                signer = keys.cosign if use == "cosign" else keys.vote
                if (
                    signer is not None
                    and self._home.has_key(name)
                    and Signer(self._home.key(name)).public_key == signer.public_key
                ):
                    spend_token(self._home, name)
