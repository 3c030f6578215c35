"""``taxledger wallet`` and ``taxledger subject``: an enterprise's key and secret, and its key's registration."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    connect,
    open_home,
    print_json,
    read_file,
    say,
)

if TYPE_CHECKING:
    from taxledger.nodes.enterprise.wallet import Wallet

__all__ = ["PassphraseOption", "WalletOption", "opened", "register"]

_VARIABLE = "TAXLEDGER_WALLET_PASSPHRASE"
_PASSPHRASE_BYTES_MAX = 4_096

WalletOption = Annotated[
    Path, typer.Option("--wallet", metavar="FILE", help="The enterprise's wallet.", show_default=False)
]
WalletArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The wallet.", show_default=False)]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help=f"Holds the wallet's passphrase; without it {_VARIABLE} in the environment, or a question.",
        show_default=False,
    ),
]


def _passphrase(file: Path | None) -> str | None:
    if file is not None:
        text = read_file(file, bytes_max=_PASSPHRASE_BYTES_MAX).decode("utf-8", "replace").rstrip("\r\n")
    else:
        text = os.environ.get(_VARIABLE, "")
    return text or None


@contextmanager
def opened(path: Path, passphrase_file: Path | None) -> Iterator[Wallet]:
    """The wallet; asks for its passphrase at a terminal where none is given. Raises InputError."""
    from taxledger.nodes.enterprise.wallet import is_sealed, open_wallet

    passphrase = _passphrase(passphrase_file)
    if passphrase is None and sys.stdin.isatty() and is_sealed(path):
        passphrase = typer.prompt("passphrase 口令", hide_input=True, err=True)
    with open_wallet(path, passphrase=passphrase) as wallet:
        yield wallet


def create(
    file: WalletArgument,
    subject: Annotated[
        str,
        typer.Option("--subject", metavar="S", help="Credit code, or scheme:identifier.", show_default=False),
    ],
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a wallet: a new key, a new secret. A passphrase, where one is given, seals both.

    Keep a copy of the file: whoever has neither it nor a copy can no longer list its consents by itself.

    Example: taxledger wallet create acme.wallet --subject 91110101MA00000005
    """
    from taxledger.nodes.enterprise.wallet import create_wallet

    wallet = create_wallet(file, subject, passphrase=_passphrase(passphrase_file))
    if as_json:
        print_json(_as_json(file, wallet))
        return
    sealed = "under a passphrase" if wallet.is_sealed else "no passphrase, mode 0600"
    say(f"{file}: wallet of {wallet.subject} ({sealed})")
    say(f"public key 公钥 {wallet.public_key.hex()}")
    say("keep a copy of the file: the secret in it can't be made again\n请另存副本：其中的密钥无法重新生成")


def _as_json(file: Path, wallet: Wallet) -> dict[str, object]:
    return {
        "wallet": str(file),
        "subject": wallet.subject,
        "public_key": wallet.public_key.hex(),
        "former_keys": [each.hex() for each in wallet.former_keys],
        "sealed": wallet.is_sealed,
        "consents": [consent.hex() for kept in wallet.consents for consent in kept.ids()],
    }


def show(file: WalletArgument, as_json: JsonOption = False) -> None:
    """Show whose wallet it is, its public key and its consents; no secret, so no passphrase either.

    Example: taxledger wallet show acme.wallet
    """
    from taxledger.nodes.enterprise.wallet import open_wallet

    with open_wallet(file) as wallet:
        if as_json:
            print_json(_as_json(file, wallet))
            return
        say(f"subject 企业      {wallet.subject}")
        say(f"public key 公钥   {wallet.public_key.hex()}")
        for former in wallet.former_keys:
            say(f"former key 旧公钥 {former.hex()}")
        for kept in wallet.consents:
            for consent in kept.ids():
                say(f"consent 授权      {consent.hex()}  to member {kept.artefact.terms.recipient}")


def renew(
    file: WalletArgument, passphrase_file: PassphraseOption = None, as_json: JsonOption = False
) -> None:
    """Replace a lost or exposed key by a new one; the secret stays, and so do all consents.

    The custodian has to register it, with the reason: taxledger subject register … --reason.

    Example: taxledger wallet renew acme.wallet
    """
    with opened(file, passphrase_file) as wallet:
        fresh = wallet.renew()
    if as_json:
        print_json({"wallet": str(file), "public_key": fresh.hex()})
        return
    say(f"public key 公钥 {fresh.hex()}")
    say("the custodian has to register it: taxledger subject register --wallet … --reason …")
    say("请到数据保管机构登记新公钥，并说明更换理由")


def register_key(
    home: HomeOption,
    wallet: Annotated[
        Path | None,
        typer.Option("--wallet", metavar="FILE", help="Takes subject and key from it.", show_default=False),
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="S", help="Without a wallet.", show_default=False)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="HEX", help="Its Ed25519 public key, 64 hex digits.", show_default=False
        ),
    ] = None,
    authentication: Annotated[
        str, typer.Option("--authentication", metavar="TEXT", help="How the person was identified.")
    ] = "counter",
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="Why another key is replaced.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """At the custodian's desk: register an enterprise's key, after the person who brings it was identified.

    Example: taxledger subject register --home net/tax --wallet acme.wallet --authentication tax_portal_login
    """
    from taxledger.ledger.records import parse_subject
    from taxledger.nodes.enterprise.wallet import open_wallet

    if (wallet is None) == (subject is None and key is None) or (subject is None) != (key is None):
        raise InputError("expected either --wallet FILE, or --subject and --key")
    if wallet is not None:
        with open_wallet(wallet) as opened_wallet:
            whose, public_key = opened_wallet.subject, opened_wallet.public_key
    else:
        whose, public_key = parse_subject(subject or ""), _public_key(key or "")
    with connect(open_home(home)) as client:
        number = client.register_subject(whose, public_key, authentication=authentication, reason=reason)
    if as_json:
        print_json({"subject": whose, "public_key": public_key.hex(), "key": number})
    else:
        say(f"{whose}: key {number} is registered\n{whose}：第 {number} 把公钥已登记")


def _public_key(text: str) -> bytes:
    from taxledger.ledger.crypto import check_subject_key

    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise InputError("expected --key as 64 hex digits")
    check_subject_key(key)
    return key


def register(app: typer.Typer) -> None:
    """Add the commands ``wallet …`` and ``subject …``."""
    wallet = typer.Typer(no_args_is_help=True, help="An enterprise's key and secret. 企业钱包")
    for command in (create, show, renew):
        wallet.command()(command)
    app.add_typer(wallet, name="wallet")
    subject = typer.Typer(no_args_is_help=True, help="Enterprises at their custodian's desk. 企业公钥登记")
    subject.command("register")(register_key)
    app.add_typer(subject, name="subject")
