"""From terms to the ledger: shown, signed, kept in the wallet, handed in; and handed in again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import InputError, RefusedError, UnavailableError
from taxledger.nodes.cli.consentcheck import check_grant
from taxledger.nodes.cli.consentkeys import ConsentOption, find_consent, member_number, members_of
from taxledger.nodes.cli.consentshow import receipt_as_json, say_receipt, status_text
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    check_writable,
    connect,
    note,
    open_home,
    plain,
    print_json,
    say,
    write_file,
)
from taxledger.nodes.cli.walletfile import PassphraseOption, WalletOption, opened

if TYPE_CHECKING:
    from taxledger.api.client import Client
    from taxledger.api.custody import ForwardedConsent
    from taxledger.ledger.consent import Artefact
    from taxledger.nodes.enterprise.terms import Wish
    from taxledger.nodes.enterprise.wallet import Wallet

__all__ = ["OutputOption", "confirm_notice", "hand_in", "sign_and_hand_in"]

OutputOption = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="FILE", help="The artefact, for the recipient.", show_default=False
    ),
]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def confirm_notice(notice: str, *, yes: bool) -> None:
    """The notice is shown before anything is signed. Raises InputError: the person did not agree."""
    note(plain(notice))
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(
            "not signed: expected --yes, or a terminal to ask at\n未签署：请在终端确认，或使用 --yes"
        )
    if not typer.confirm("sign 签署", err=True):
        raise InputError("not signed\n未签署")


def _custodians(
    wallet: Wallet, own: int, chosen: Sequence[str] | None, former: str | None, names: Mapping[int, str]
) -> dict[int, bytes | None]:
    """Those named, else those of the former consent, else the home's own member; with the consents superseded."""
    before: dict[int, bytes | None] = {}
    if former is not None:
        _, kept = find_consent(wallet, former)
        before = {member: consent for consent, member in kept.ids().items()}
    if not chosen:
        return before or {own: None}
    numbers = [member_number(names, each) for each in chosen]
    return {number: before.get(number) for number in sorted(set(numbers))}


def sign_and_hand_in(
    home: Path,
    wallet_path: Path,
    passphrase_file: Path | None,
    wish: Mapping[str, Any],
    *,
    to: str,
    custodians: Sequence[str] | None,
    former: str | None,
    output: Path,
    yes: bool,
    as_json: bool,
) -> None:
    """The way of ``consent grant`` and, with a ``former`` consent, of ``consent supersede``."""
    from taxledger.ledger.genesis import chain_id
    from taxledger.nodes.enterprise.terms import Wish, make_terms

    opened_home = open_home(home)
    own = opened_home.config.number
    check_writable(output)
    with opened(wallet_path, passphrase_file) as wallet, connect(opened_home) as client:
        members = members_of(client)
        names = {number: member.name for number, member in members.items()}
        chosen = _custodians(wallet, own, custodians, former, names)
        complete: Wish = Wish(recipient=member_number(names, to), custodians=chosen, **wish)
        terms, notice = make_terms(
            complete,
            subject=wallet.subject,
            subject_secret=wallet.subject_secret,
            chain_id=chain_id(opened_home.genesis()),
            nonce=os.urandom(32),
            now_ms=_now_ms(),
            names=names,
        )
        check_grant(client, members, terms)
        confirm_notice(notice, yes=yes)
        # In the wallet, durably, before it is handed on: what is granted can always be revoked.
        artefact = wallet.sign(terms, notice)
        try:
            made = _hand_in(client, own, artefact)
        except (UnavailableError, KeyboardInterrupt):  # not those that say that it was refused
            consent = next(iter(chosen if own not in chosen else {own: None}))
            note(
                "the artefact is in the wallet: taxledger consent hand-in "
                f"--consent {artefact.id(consent).hex()} goes on"
            )
            note("授权文件已存入钱包，可用 taxledger consent hand-in 继续提交")
            raise
        for receipt in made.receipts:
            wallet.keep_receipt(receipt)
    write_file(output, artefact.raw, private=True)
    _print_granted(artefact, made, output, names, as_json=as_json)


def _hand_in(client: Client, own: int, artefact: Artefact) -> ForwardedConsent:
    """What the custodians said that are reached from this home: itself, or from the recipient's home all of them."""
    from taxledger.api.custody import ForwardedConsent

    if any(each.member == own for each in artefact.terms.custodians):
        return ForwardedConsent(receipts=(client.grant_consent(artefact.raw),), failures=())
    if artefact.terms.recipient == own:
        return client.forward_consent(artefact.raw)
    return ForwardedConsent(receipts=(), failures=())


def _print_granted(
    artefact: Artefact,
    made: ForwardedConsent,
    output: Path,
    names: Mapping[int, str],
    *,
    as_json: bool,
) -> None:
    granted = [each.consent for each in made.receipts]
    why = {each.member: each for each in made.failures}
    pending = [each.member for each in artefact.terms.custodians if artefact.id(each.member) not in granted]
    if as_json:
        rows = [receipt_as_json(each) for each in made.receipts]
        print_json(
            {
                "file": str(output),
                "recipient": artefact.terms.recipient,
                **(rows[0] if rows else {}),
                "receipts": rows,
                "pending": [
                    {
                        "member": each,
                        "consent": artefact.id(each),
                        "code": why[each].code if each in why else None,
                    }
                    for each in pending
                ],
            }
        )
    else:
        for receipt in made.receipts:
            say_receipt(receipt)
        for member in pending:
            name, consent = names.get(member, str(member)), artefact.id(member).hex()
            reason = f": {why[member].code}: {why[member].detail}" if member in why else ""
            say(
                f"consent {consent} is not granted yet at {name}{reason}; see taxledger consent hand-in --help"
            )
            say(f"授权 {consent} 尚未在 {name} 登记")
        say(f"{output}: the artefact, for the recipient 授权文件，请交给接收机构")
    if made.failures:
        raise typer.Exit(1)


def hand_in(
    home: HomeOption,
    wallet: WalletOption,
    consent: ConsentOption,
    output: OutputOption,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand a signed artefact to the custodian whose home is given: harmless where it has it already.

    Where a grant was cut off, or at each further custodian that the artefact names. From the recipient's home it goes
    to all of them.

    Example: taxledger consent hand-in --home net/tax --wallet acme.wallet --consent 3f68e4 -o acme-bank1.consent
    """
    check_writable(output)
    opened_home = open_home(home)
    own = opened_home.config.number
    names = {each.number: each.name for each in opened_home.config.peers}
    with opened(wallet, passphrase_file) as held, connect(opened_home) as client:
        wanted, kept = find_consent(held, consent)
        if own in kept.ids().values():
            wanted = kept.artefact.id(own)
        made, status = None, ""
        try:
            made = _hand_in(client, own, kept.artefact)
        except RefusedError as error:
            if error.code != "consent_exists":
                raise
            # A custodian that had lost the artefact has it back, which is what was wanted; only its grant is old.
            status = _status_now(client, wanted)
        else:
            for receipt in made.receipts:
                held.keep_receipt(receipt)
            # The receipt is of the grant, which may be long ago: what came of it since must not read as "active".
            made = replace(
                made,
                receipts=tuple(
                    replace(each, status=_status_now(client, each.consent)) for each in made.receipts
                ),
            )
    write_file(output, kept.artefact.raw, private=True)
    if made is None:
        _print_back(wanted, status, output, as_json=as_json)
    else:
        _print_granted(kept.artefact, made, output, names, as_json=as_json)


def _print_back(consent: bytes, status: str, output: Path, *, as_json: bool) -> None:
    from taxledger.nodes.enterprise.wording import CONSENT_STATUSES_ZH

    if as_json:
        print_json({"file": str(output), "consent": consent, "status": status})
        return
    say(
        f"consent {consent.hex()} was on the ledger already, and is {status}; its custodian has the artefact again"
    )
    say(f"授权 {consent.hex()} 此前已登记，当前{CONSENT_STATUSES_ZH[status]}；保管机构已重新收到授权文件")


def _status_now(client: Client, consent: bytes) -> str:
    from taxledger.ledger.consentstate import decode_consent_value
    from taxledger.ledger.statekeys import consent_key

    key = consent_key(consent)
    state = client.state(key)
    if not state.entries[key]:
        raise UnavailableError("the node has not seen the consent's block yet: try again")
    return status_text(decode_consent_value(state.entries[key][0][1]), state.header.time_ms)
