"""``taxledger consent``: what an enterprise agrees to, sees, and takes back.

Granting is in ``consentgrant.py``, seeing in ``consentview.py``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.nodes.cli import consentgrant, consentview
from taxledger.nodes.cli.consentkeys import ConsentOption, find_consent
from taxledger.nodes.cli.consentshow import receipt_as_json, say_receipt
from taxledger.nodes.cli.output import HomeOption, JsonOption, connect, open_home, print_json, say
from taxledger.nodes.cli.walletfile import PassphraseOption, WalletOption, opened

if TYPE_CHECKING:
    from taxledger.api.custody import ConsentReceipt

__all__ = ["register"]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _instruct(
    action: str, home: Path, wallet: Path, consent: str, passphrase_file: Path | None, *, as_json: bool
) -> None:
    with opened(wallet, passphrase_file) as held, connect(open_home(home)) as client:
        wanted, _ = find_consent(held, consent)
        receipt = client.instruct(held.order(wanted, action, now_ms=_now_ms()).raw)
        held.keep_receipt(receipt)
    _print_changed(receipt, as_json=as_json)


def _print_changed(receipt: ConsentReceipt, *, as_json: bool) -> None:
    if as_json:
        print_json(receipt_as_json(receipt))
    else:
        say_receipt(receipt)


def pause(
    home: HomeOption,
    wallet: WalletOption,
    consent: ConsentOption,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let nothing be used of a consent until it is resumed. 暂停授权

    Example: taxledger consent pause --home net/tax --wallet acme.wallet --consent 3f68e4
    """
    _instruct("pause", home, wallet, consent, passphrase_file, as_json=as_json)


def resume(
    home: HomeOption,
    wallet: WalletOption,
    consent: ConsentOption,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a paused consent go on. 恢复授权

    Example: taxledger consent resume --home net/tax --wallet acme.wallet --consent 3f68e4
    """
    _instruct("resume", home, wallet, consent, passphrase_file, as_json=as_json)


def revoke(
    home: HomeOption,
    wallet: WalletOption,
    consent: ConsentOption,
    by_preimage: Annotated[
        bool, typer.Option("--by-preimage", help="Through any member's home, without the custodian.")
    ] = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a consent for good, at its custodian or, by its preimage, through any other member. 撤回授权

    Example: taxledger consent revoke --home net/tax --wallet acme.wallet --consent 3f68e4

    Example: taxledger consent revoke --home net/bank2 --wallet acme.wallet --consent 3f68e4 --by-preimage
    """
    if not by_preimage:
        _instruct("revoke", home, wallet, consent, passphrase_file, as_json=as_json)
        return
    with opened(wallet, passphrase_file) as held, connect(open_home(home)) as client:
        wanted, _ = find_consent(held, consent)
        receipt = client.revoke_consent(wanted, held.preimage(wanted))
        held.keep_receipt(receipt)
    _print_changed(receipt, as_json=as_json)


def recover(
    home: HomeOption,
    wallet: WalletOption,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back into a new wallet the artefacts that the custodian has; its new key has to be registered.

    They can be paused and revoked again, at the custodian. The lost wallet's secret stays lost: these consents
    are not in the new wallet's complete list, and can't be revoked by preimage.

    Example: taxledger consent recover --home net/tax --wallet acme-new.wallet
    """
    from taxledger.ledger.consent import decode_artefact
    from taxledger.nodes.enterprise.wording import CONSENT_STATUSES_ZH

    with opened(wallet, passphrase_file) as held, connect(open_home(home)) as client:
        entries = client.consents_of(held.subject)
        fresh = [entry for entry in entries if held.adopt(decode_artefact(entry.artefact))]
    if as_json:
        print_json(
            {"consents": [each.consent for each in entries], "recovered": [each.consent for each in fresh]}
        )
        return
    say(f"{len(entries)} consents at this custodian, {len(fresh)} of them new in the wallet")
    say(f"该机构共有 {len(entries)} 项授权，其中 {len(fresh)} 项已找回")
    for entry in entries:
        status = f"{entry.status} {CONSENT_STATUSES_ZH[entry.status]}"
        say(
            f"{entry.consent.hex()}  {status}  to member {entry.recipient}, {entry.uses} of {entry.max_uses} uses"
        )


def register(app: typer.Typer) -> None:
    """Add the commands ``consent …``."""
    group = typer.Typer(no_args_is_help=True, help="What an enterprise agrees to, and takes back. 授权管理")
    consentgrant.register(group)
    for command in (pause, resume, revoke, recover):
        group.command()(command)
    consentview.register(group)
    app.add_typer(group, name="consent")
