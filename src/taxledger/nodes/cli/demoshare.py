"""The part of ``taxledger demo`` that shares data: wallet, consent, disclosure, revocation, the enterprise's list."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taxledger.ledger import limits
from taxledger.ledger.errors import RefusedError, VerificationError
from taxledger.nodes.cli.output import connect, open_home, say, write_file

if TYPE_CHECKING:
    from taxledger.api.custody import DossierProgress
    from taxledger.ledger.consent import Artefact
    from taxledger.ledger.disclosure import Disclosed
    from taxledger.ledger.query import Query
    from taxledger.nodes.enterprise.wallet import Wallet

__all__ = ["Sharing", "disclose", "give_consent", "revoke", "show_uses", "verify_file"]

_USES = 3
_DAYS = 90
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What an enterprise has agreed to.

    Attributes:
        wallet: of the enterprise.
        artefact: what it signed; ``consent`` the id at the custodian, 16 bytes.
        recipient: number of the bank.
    """

    wallet: Wallet
    artefact: Artefact
    consent: bytes
    recipient: int


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def give_consent(custodian: Path, recipient: Path, query: Query, folder: Path) -> Sharing:
    """A wallet, its key registered at the custodian, and a consent that covers the question.

    Args:
        custodian, recipient: homes.
        folder: the wallet and the artefact are left there.
    """
    from taxledger.ledger.consent import Detail
    from taxledger.ledger.genesis import chain_id
    from taxledger.nodes.enterprise.terms import Wish, make_terms
    from taxledger.nodes.enterprise.wallet import create_wallet

    office, bank = open_home(custodian), open_home(recipient).config
    name = query.subject.partition(":")[2]
    wallet = create_wallet(folder / f"{name}.wallet", query.subject)
    say(f"  {query.subject} has a wallet: {name}.wallet, its key and everything it signs")
    details = [
        Detail(kind=kind, from_period=query.from_period, to_period=query.to_period, fields=None)
        for kind in query.kinds
    ]
    wish = Wish(
        recipient=bank.number,
        custodians={office.config.number: None},
        details=details,
        max_uses=_USES,
        days=_DAYS,
    )
    terms, notice = make_terms(
        wish,
        subject=wallet.subject,
        subject_secret=wallet.subject_secret,
        chain_id=chain_id(office.genesis()),
        nonce=os.urandom(32),
        now_ms=_now_ms(),
        names={office.config.number: office.config.name, bank.number: bank.name},
    )
    with connect(office) as client:
        number = client.register_subject(
            wallet.subject, wallet.public_key, authentication="identity card, at the counter"
        )
        say(f"  {office.config.name} identifies the person and registers key {number} of the enterprise")
        artefact = wallet.sign(terms, notice)
        receipt = client.grant_consent(artefact.raw)
    wallet.keep_receipt(receipt)
    write_file(folder / f"{name}.consent", artefact.raw, private=True)
    say(
        f"  {bank.name} may ask {_USES} times within {_DAYS} days, view and not store; what was signed says so:"
    )
    say("".join(f"    {line}\n" for line in notice.splitlines() if line.startswith("Scope")).rstrip())
    say(f"  consent {receipt.consent.hex()} is {receipt.status}, certified at height {receipt.height}")
    return Sharing(wallet=wallet, artefact=artefact, consent=receipt.consent, recipient=bank.number)


def disclose(recipient: Path, query: Query, sharing: Sharing, path: Path) -> None:
    """The bank asks through its own node; the file is left at ``path``."""

    def tell(progress: DossierProgress) -> None:
        say(
            f"  use {progress.sequence}: piece {progress.pieces_done} of {progress.pieces}, "
            f"{progress.records_done:,} of {progress.records:,} records"
        )

    with connect(open_home(recipient)) as client:
        data = client.disclosure(query, sharing.artefact.raw, on_progress=tell)
    write_file(path, data, private=True)


def verify_file(path: Path, policy: bytes, query: Query, recipient: int) -> Disclosed:
    """What the file says, offline. Raises VerificationError."""
    from taxledger.ledger.disclosure import verify_disclosure
    from taxledger.ledger.policy import decode_policy

    return verify_disclosure(
        path.read_bytes(),
        decode_policy(policy),
        query,
        recipient=recipient,
        now_ms=_now_ms(),
        age_ms_max=limits.answer_age_ms_default,
    )


def revoke(custodian: Path, recipient: Path, query: Query, sharing: Sharing) -> None:
    """The enterprise takes its consent back; then the bank asks, and has to be refused."""
    with connect(open_home(custodian)) as client:
        receipt = client.instruct(sharing.wallet.order(sharing.consent, "revoke", now_ms=_now_ms()).raw)
    sharing.wallet.keep_receipt(receipt)
    say(f"  the enterprise revokes: consent {receipt.status}, certified at height {receipt.height}")
    with connect(open_home(recipient)) as client:
        try:
            client.disclosure(query, sharing.artefact.raw)
        except RefusedError as refusal:
            if refusal.code != "consent_revoked":
                raise
            say(f"  the bank asks again and is refused: {refusal.code}")
            return
    raise VerificationError("consent_mismatch", "a revoked consent was used")


def show_uses(home: Path, sharing: Sharing) -> None:
    """The enterprise's list through any member's node, proved to be complete; it has to be what happened."""
    end = time.monotonic() + _PATIENCE_S
    with connect(open_home(home)) as client:
        while True:
            found = client.consents(sharing.wallet.subject_secret)
            uses = [use for each in found.consents for use in each.uses.values()]
            if all(use.closed_height for use in uses) or time.monotonic() > end:
                break
            time.sleep(0.1)
    for each in found.consents:
        name = found.members[each.recipient].name
        count = f"{each.value.uses} of {each.value.max_uses}"
        say(f"  {each.consent.hex()}  to {name}  {each.value.status.name.lower()}  used {count} times")
        for number, use in each.uses.items():
            say(
                f"    use {number}: {use.state.name.lower()}, {use.count:,} of {use.planned_count:,} records, "
                f"blocks {use.opened_height} to {use.closed_height}"
            )
    if [each.consent for each in found.consents] != [sharing.consent] or len(uses) != 1:
        raise VerificationError("consent_mismatch", "the list is not what happened")
    members = len(found.looked_at)
    say(
        f"  verified: all {len(found.consents)} consents to all {members} members, as of height {found.height}"
    )
