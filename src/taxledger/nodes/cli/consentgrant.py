"""``taxledger consent grant | supersede``: what an enterprise agrees to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.consenthandin import OutputOption, hand_in, sign_and_hand_in
from taxledger.nodes.cli.consentkeys import ConsentOption
from taxledger.nodes.cli.output import HomeOption, JsonOption
from taxledger.nodes.cli.walletfile import PassphraseOption, WalletOption

if TYPE_CHECKING:
    from taxledger.ledger.consent import Detail, PredicateTerms

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
CustodiansOption = Annotated[
    list[str] | None,
    typer.Option(
        "--custodian",
        metavar="MEMBER",
        help="Who may disclose: name or number; may be repeated. Without it, the home's own member.",
        show_default=False,
    ),
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
YesOption = Annotated[
    bool, typer.Option("--yes", help="Sign without a question; needed where there is no terminal.")
]


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


def grant(
    home: HomeOption,
    wallet: WalletOption,
    to: ToOption,
    output: OutputOption,
    custodian: CustodiansOption = None,
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

    Example: taxledger consent grant --home net/tax --wallet acme.wallet --to bank1 --custodian tax
    --custodian procurement --kind vat_invoice --kind procurement_award --from 2024-01 --until 2024-12
    -o acme-bank1.consent
    """
    wish = _wish(
        kind, from_period, until, fields, predicate, mode,
        purpose=purpose, max_uses=uses, days=days, retention_days=retention, onward=onward,
        may_pledge=may_pledge, role=role, authentication=authentication, language=language,
        jurisdiction=jurisdiction, legal_basis=legal_basis,
    )  # fmt: skip
    sign_and_hand_in(
        home, wallet, passphrase_file, wish,
        to=to, custodians=custodian, former=None, output=output, yes=yes, as_json=as_json,
    )  # fmt: skip


def supersede(
    home: HomeOption,
    wallet: WalletOption,
    consent: ConsentOption,
    to: ToOption,
    output: OutputOption,
    custodian: CustodiansOption = None,
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
    """Put another consent in the place of one that is active or paused, in one step, at each of its custodians.

    Example: taxledger consent supersede --home net/tax --wallet acme.wallet --consent 3f68e4 --to bank1
    --kind vat_invoice --from 2024-07 --until 2024-12 -o acme-bank1-2.consent
    """
    wish = _wish(
        kind, from_period, until, fields, predicate, mode,
        purpose=purpose, max_uses=uses, days=days, retention_days=retention, onward=onward,
        may_pledge=may_pledge, role=role, authentication=authentication, language=language,
        jurisdiction=jurisdiction, legal_basis=legal_basis,
    )  # fmt: skip
    sign_and_hand_in(
        home, wallet, passphrase_file, wish,
        to=to, custodians=custodian, former=consent, output=output, yes=yes, as_json=as_json,
    )  # fmt: skip


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


def register(group: typer.Typer) -> None:
    """Add these commands to ``consent``."""
    group.command()(grant)
    group.command()(supersede)
    group.command("hand-in")(hand_in)
