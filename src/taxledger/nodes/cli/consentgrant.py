"""``taxledger consent grant | supersede | hand-in``: what an enterprise agrees to."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger import limits
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
    from taxledger.api.custody import ConsentReceipt
    from taxledger.ledger.consent import Artefact, Detail, PredicateTerms
    from taxledger.nodes.enterprise.terms import Wish

__all__ = ["parse_predicate", "register"]

_DAYS_MAX = 3_650
"""Ten years: no consent is longer (docs/protocol.md §12)."""

ToOption = Annotated[
    str,
    typer.Option("--to", metavar="MEMBER", help="Who may ask: name or number.", show_default=False),
]
KindsOption = Annotated[
    list[str] | None, typer.Option("--kind", metavar="K", help="Kind of record; may be repeated.")
]
FromOption = Annotated[str | None, typer.Option("--from", metavar="YYYY-MM", help="First month.")]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="YYYY-MM", help="Last month.")]
FieldsOption = Annotated[
    str | None,
    typer.Option("--fields", metavar="A,B", help="Only these fields; without it, all.", show_default=False),
]
PredicatesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--predicate",
        metavar="NAME[=ARG]",
        help="Like grade_at_least=B or net_sales_at_least=5000000.00; may be repeated.",
    ),
]
ModeOption = Annotated[
    str | None,
    typer.Option(
        "--mode",
        metavar="proof_only|view|store",
        help="Without it: view, or proof_only where there are predicates alone.",
        show_default=False,
    ),
]
PurposeOption = Annotated[str, typer.Option("--purpose", metavar="CODE")]
UsesOption = Annotated[
    int,
    typer.Option("--uses", metavar="N", min=1, max=limits.consent_uses_max, help="How often it may be used."),
]
DaysOption = Annotated[
    int, typer.Option("--days", metavar="N", min=1, max=_DAYS_MAX, help="For how long, from now.")
]
RetentionOption = Annotated[
    int,
    typer.Option(
        "--retention",
        metavar="DAYS",
        min=0,
        max=_DAYS_MAX,
        help="With --mode store: how long it may be kept.",
    ),
]
OnwardOption = Annotated[str, typer.Option("--onward", metavar="prohibited|regulator")]
PledgeOption = Annotated[bool, typer.Option("--may-pledge", help="Records may be taken as security.")]
RoleOption = Annotated[str, typer.Option("--role", metavar="TEXT", help="Of the person who acts.")]
AuthenticationOption = Annotated[
    str, typer.Option("--authentication", metavar="TEXT", help="How the person was identified.")
]
LanguageOption = Annotated[str, typer.Option("--language", metavar="TAG", help="Of the notice (BCP 47).")]
JurisdictionOption = Annotated[str, typer.Option("--jurisdiction", metavar="TEXT")]
BasisOption = Annotated[str, typer.Option("--legal-basis", metavar="TEXT")]
OutputOption = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="FILE", help="The artefact, for the recipient.", show_default=False
    ),
]
YesOption = Annotated[
    bool, typer.Option("--yes", help="Sign without a question; needed where there is no terminal.")
]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def parse_predicate(text: str) -> PredicateTerms:
    """``name``, ``name=text``, ``name=integer`` or ``name=1234.50`` (money in the main unit). Raises InputError."""
    from taxledger.ledger.consent import PredicateTerms

    name, equals, given = text.partition("=")
    argument: int | str | None = given if equals else None
    if equals and re.fullmatch(r"-?[0-9]{1,18}", given):
        argument = int(given)
    elif equals and re.fullmatch(r"-?[0-9]{1,16}\.[0-9]{2}", given):
        argument = int(given.replace(".", ""))
    if not name or (equals and not given):
        raise InputError(f"expected --predicate NAME or NAME=ARGUMENT, got {text!r}")
    return PredicateTerms(name=name, argument=argument)


def _details(
    kinds: Sequence[str], from_period: str | None, until: str | None, fields: str | None
) -> list[Detail]:
    from taxledger.ledger.consent import Detail
    from taxledger.ledger.kinds import parse_kind

    if not kinds:
        return []
    if from_period is None or until is None:
        raise InputError("expected --from and --until with --kind")
    names = None if fields is None else tuple(sorted({name.strip() for name in fields.split(",")}))
    return [
        Detail(kind=kind, from_period=from_period, to_period=until, fields=names)
        for kind in sorted({parse_kind(each) for each in kinds})
    ]


def _confirm(notice: str, *, yes: bool) -> None:
    """The notice is shown before anything is signed."""
    note(plain(notice))
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(
            "not signed: expected --yes, or a terminal to ask at\n未签署：请在终端确认，或使用 --yes"
        )
    if not typer.confirm("sign 签署", err=True):
        raise InputError("not signed\n未签署")


def _sign_and_hand_in(
    home: Path,
    wallet_path: Path,
    passphrase_file: Path | None,
    wish: Mapping[str, Any],
    *,
    to: str,
    former: str | None,
    output: Path,
    yes: bool,
    as_json: bool,
) -> None:
    from taxledger.ledger.genesis import chain_id
    from taxledger.nodes.enterprise.terms import Wish, make_terms

    opened_home = open_home(home)
    check_writable(output)
    with opened(wallet_path, passphrase_file) as wallet, connect(opened_home) as client:
        members = members_of(client)
        names = {number: member.name for number, member in members.items()}
        custodian = opened_home.config.number
        replaced = None
        if former is not None:
            replaced, kept = find_consent(wallet, former)
            custodian = kept.ids()[replaced]
        complete: Wish = Wish(recipient=member_number(names, to), custodians={custodian: replaced}, **wish)
        terms, notice = make_terms(
            complete,
            subject=wallet.subject,
            subject_secret=wallet.subject_secret,
            chain_id=chain_id(opened_home.genesis()),
            nonce=os.urandom(32),
            now_ms=_now_ms(),
            names=names,
        )
        check_grant(client, members, custodian, terms)
        _confirm(notice, yes=yes)
        # In the wallet, durably, before it is handed on: what is granted can always be revoked.
        artefact = wallet.sign(terms, notice)
        consent = artefact.id(custodian)
        try:
            receipt = client.grant_consent(artefact.raw)
        except (UnavailableError, KeyboardInterrupt):  # not those that say that it was refused
            note(
                f"the artefact is in the wallet: taxledger consent hand-in --consent {consent.hex()} goes on"
            )
            note("授权文件已存入钱包，可用 taxledger consent hand-in 继续提交")
            raise
        wallet.keep_receipt(receipt)
    write_file(output, artefact.raw, private=True)
    _print_granted(artefact, receipt, output, as_json=as_json)


def _print_granted(artefact: Artefact, receipt: ConsentReceipt, output: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(output), "recipient": artefact.terms.recipient, **receipt_as_json(receipt)})
        return
    say_receipt(receipt)
    say(f"{output}: the artefact, for the recipient 授权文件，请交给接收机构")


def grant(
    home: HomeOption,
    wallet: WalletOption,
    to: ToOption,
    output: OutputOption,
    kind: KindsOption = None,
    from_period: FromOption = None,
    until: UntilOption = None,
    fields: FieldsOption = None,
    predicate: PredicatesOption = None,
    mode: ModeOption = None,
    purpose: PurposeOption = "credit_application",
    uses: UsesOption = 1,
    days: DaysOption = 30,
    retention: RetentionOption = 0,
    onward: OnwardOption = "prohibited",
    may_pledge: PledgeOption = False,
    role: RoleOption = "legal_representative",
    authentication: AuthenticationOption = "wallet",
    language: LanguageOption = "zh-CN",
    jurisdiction: JurisdictionOption = "CN",
    legal_basis: BasisOption = "consent",
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Agree that a member may ask the custodian (--home) for records: show the notice, sign, put it on the ledger.

    Example: taxledger consent grant --home net/tax --wallet acme.wallet --to bank1 --kind vat_invoice
    --from 2024-01 --until 2024-12 --fields date,net,tax --uses 3 --days 90 -o acme-bank1.consent
    """
    wish = _wish(
        kind, from_period, until, fields, predicate, mode,
        purpose=purpose, max_uses=uses, days=days, retention_days=retention, onward=onward,
        may_pledge=may_pledge, role=role, authentication=authentication, language=language,
        jurisdiction=jurisdiction, legal_basis=legal_basis,
    )  # fmt: skip
    _sign_and_hand_in(
        home, wallet, passphrase_file, wish, to=to, former=None, output=output, yes=yes, as_json=as_json
    )


def supersede(
    home: HomeOption,
    wallet: WalletOption,
    consent: ConsentOption,
    to: ToOption,
    output: OutputOption,
    kind: KindsOption = None,
    from_period: FromOption = None,
    until: UntilOption = None,
    fields: FieldsOption = None,
    predicate: PredicatesOption = None,
    mode: ModeOption = None,
    purpose: PurposeOption = "credit_application",
    uses: UsesOption = 1,
    days: DaysOption = 30,
    retention: RetentionOption = 0,
    onward: OnwardOption = "prohibited",
    may_pledge: PledgeOption = False,
    role: RoleOption = "legal_representative",
    authentication: AuthenticationOption = "wallet",
    language: LanguageOption = "zh-CN",
    jurisdiction: JurisdictionOption = "CN",
    legal_basis: BasisOption = "consent",
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put another consent in the place of one that is active or paused, in one step.

    Example: taxledger consent supersede --home net/tax --wallet acme.wallet --consent 3f68e4 --to bank1
    --kind vat_invoice --from 2024-07 --until 2024-12 -o acme-bank1-2.consent
    """
    wish = _wish(
        kind, from_period, until, fields, predicate, mode,
        purpose=purpose, max_uses=uses, days=days, retention_days=retention, onward=onward,
        may_pledge=may_pledge, role=role, authentication=authentication, language=language,
        jurisdiction=jurisdiction, legal_basis=legal_basis,
    )  # fmt: skip
    _sign_and_hand_in(
        home, wallet, passphrase_file, wish, to=to, former=consent, output=output, yes=yes, as_json=as_json
    )


def _wish(
    kinds: Sequence[str] | None,
    from_period: str | None,
    until: str | None,
    fields: str | None,
    predicates: Sequence[str] | None,
    mode: str | None,
    **more: Any,
) -> dict[str, Any]:
    details = _details(kinds or (), from_period, until, fields)
    asked = [parse_predicate(each) for each in predicates or ()]
    if not details and not asked:
        raise InputError("expected --kind or --predicate")
    chosen = mode or ("view" if details else "proof_only")
    return {"details": details, "predicates": asked, "mode": chosen, **more}


def hand_in(
    home: HomeOption,
    wallet: WalletOption,
    consent: ConsentOption,
    output: OutputOption,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand a signed artefact to its custodian again: harmless, where a grant was cut off.

    Example: taxledger consent hand-in --home net/tax --wallet acme.wallet --consent 3f68e4 -o acme-bank1.consent
    """
    check_writable(output)
    with opened(wallet, passphrase_file) as held, connect(open_home(home)) as client:
        wanted, kept = find_consent(held, consent)
        receipt: ConsentReceipt | None = None
        try:
            receipt = client.grant_consent(kept.artefact.raw)
            held.keep_receipt(receipt)
        except RefusedError as error:
            if error.code != "consent_exists":
                raise
            # A custodian that had lost the artefact has it back, which is what was wanted; only its grant is old.
        status = _status_now(client, wanted)
    write_file(output, kept.artefact.raw, private=True)
    if receipt is None:
        _print_back(wanted, status, output, as_json=as_json)
        return
    # The receipt is of the grant, which may be long ago: what came of it since must not read as "active".
    _print_granted(kept.artefact, replace(receipt, status=status), output, as_json=as_json)


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


def register(group: typer.Typer) -> None:
    """Add these commands to ``consent``."""
    group.command()(grant)
    group.command()(supersede)
    group.command("hand-in")(hand_in)
