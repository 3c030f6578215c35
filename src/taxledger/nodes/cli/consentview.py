"""``taxledger consent list | uses | receipt | show``: what an enterprise sees, each proved by the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import RefusedError
from taxledger.nodes.cli.consentkeys import ConsentOption, find_consent
from taxledger.nodes.cli.consentshow import (
    print_terms,
    scope_text,
    status_text,
    terms_as_json,
    use_as_json,
    use_rows,
)
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    connect,
    open_home,
    print_json,
    print_table,
    say,
    write_file,
)
from taxledger.nodes.cli.walletfile import PassphraseOption, WalletOption, opened

if TYPE_CHECKING:
    from taxledger.api.client import Client, VerifiedConsent, VerifiedConsents
    from taxledger.nodes.enterprise.wallet import KeptConsent, Wallet

__all__ = ["register"]


def _kept(wallet: Wallet) -> dict[bytes, KeptConsent]:
    return {consent: kept for kept in wallet.consents for consent in kept.ids()}


def _as_json(each: VerifiedConsent, kept: KeptConsent | None, found: VerifiedConsents) -> dict[str, Any]:
    return {
        "consent": each.consent,
        "custodian": each.value.custodian,
        "recipient": each.recipient,
        "recipient_name": found.members[each.recipient].name,
        "status": status_text(each.value, found.time_ms),
        "granted_height": each.granted_height,
        "not_before_ms": each.value.not_before,
        "not_after_ms": each.value.not_after,
        "uses": each.value.uses,
        "max_uses": each.value.max_uses,
        "uses_list": [use_as_json(number, use) for number, use in each.uses.items()],
        "in_wallet": kept is not None,
        "terms": None if kept is None else terms_as_json(kept.artefact),
    }


def list_all(
    home: HomeOption,
    wallet: WalletOption,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all consents, through any member's node: proved to be complete, with the uses of each. 全部授权

    Example: taxledger consent list --home net/bank2 --wallet acme.wallet
    """
    with opened(wallet, passphrase_file) as held, connect(open_home(home)) as client:
        found = client.consents(held.subject_secret)
        kept = _kept(held)
    if as_json:
        rows = [_as_json(each, kept.get(each.consent), found) for each in found.consents]
        print_json({**_basis(found), "consents": rows, "not_listed": list(_not_listed(found, kept))})
        return
    print_table(
        ("consent 授权", "recipient 接收", "status 状态", "uses 次数", "granted 区块", "scope 范围"),
        _consent_rows(found, kept),
    )
    _say_basis(found, len(found.consents))
    if others := len(_not_listed(found, kept)):
        say(
            f"{others} more in this wallet: not handed in, refused, recovered after a loss, or of another ledger"
        )
        say(f"本钱包另有 {others} 项不在上述清单中：未提交、未被接受、遗失后找回，或属于另一账本")


def _not_listed(found: VerifiedConsents, kept: Iterable[bytes]) -> tuple[bytes, ...]:
    """Consents of the wallet that the ledger does not have under its secret: complete, and still not all it holds."""
    listed = [each.consent for each in found.consents]
    return tuple(each for each in kept if each not in listed)


def _consent_rows(found: VerifiedConsents, kept: dict[bytes, KeptConsent]) -> Iterable[tuple[object, ...]]:
    from taxledger.nodes.enterprise.wording import CONSENT_STATUSES_ZH

    for each in found.consents:
        status = status_text(each.value, found.time_ms)
        held = kept.get(each.consent)
        yield (
            each.consent.hex(),
            found.members[each.recipient].name,
            f"{status} {CONSENT_STATUSES_ZH[status]}",
            f"{each.value.uses} of {each.value.max_uses}",
            each.granted_height,
            "(not in this wallet 不在本钱包中)" if held is None else scope_text(held.artefact.terms),
        )


def _basis(found: VerifiedConsents) -> dict[str, Any]:
    return {"verified": True, "height": found.height, "age_ms": found.age_ms, "members": found.looked_at}


def _say_basis(found: VerifiedConsents, count: int) -> None:
    members = len(found.looked_at)
    say(f"verified: all {count} consents to all {members} members, as of height {found.height}")
    say(f"已核验：截至区块 {found.height}，对全部 {members} 家成员共 {count} 项授权，无遗漏")


def uses(
    home: HomeOption,
    wallet: WalletOption,
    consent: Annotated[
        str | None,
        typer.Option("--consent", metavar="ID", help="Of this one alone.", show_default=False),
    ] = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List every use of every consent, or of one: who was shown how much, and when; proved to be complete. 使用记录

    Example: taxledger consent uses --home net/bank2 --wallet acme.wallet
    """
    with opened(wallet, passphrase_file) as held, connect(open_home(home)) as client:
        chosen = None if consent is None else find_consent(held, consent)
        members = None if chosen is None else [chosen[1].artefact.terms.recipient]
        found = client.consents(held.subject_secret, members)
    shown = [each for each in found.consents if chosen is None or each.consent == chosen[0]]
    if chosen is not None and not shown:
        raise RefusedError("consent_unknown", "the ledger has no such consent under this wallet's secret")
    if as_json:
        rows = [
            {"consent": each.consent, "recipient": each.recipient, **use_as_json(number, use)}
            for each in shown
            for number, use in each.uses.items()
        ]
        print_json({**_basis(found), "uses": rows})
        return
    head = (
        "consent 授权",
        "recipient 接收",
        "use 序号",
        "state 状态",
        "planned",
        "disclosed 已披露",
        "opened",
        "closed",
    )
    table = [
        (each.consent.hex()[:12], found.members[each.recipient].name, *row)
        for each in shown
        for row in use_rows(each.uses)
    ]
    print_table(head, table, right=(2, 4, 5, 6, 7))
    say(f"verified: all {len(table)} uses of {len(shown)} consents, as of height {found.height}")
    say(f"已核验：截至区块 {found.height}，{len(shown)} 项授权共使用 {len(table)} 次，无遗漏")


def receipt(
    home: HomeOption,
    wallet: WalletOption,
    consent: ConsentOption,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Without it, on stdout.", show_default=False),
    ] = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Make a consent's receipt in the shape of ISO/IEC TS 27560, over the proved state. 授权回执

    Example: taxledger consent receipt --home net/bank2 --wallet acme.wallet --consent 3f68e4 -o receipt.json
    """
    with opened(wallet, passphrase_file) as held, connect(open_home(home)) as client:
        wanted, kept = find_consent(held, consent)
        document = _receipt_document(client, wanted, kept)
    if output is None:
        print_json(document)
        return
    write_file(output, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(), private=True)
    say(f"{output}: receipt of consent {wanted.hex()} 授权回执")


def _receipt_document(client: Client, wanted: bytes, kept: KeptConsent) -> dict[str, Any]:
    from taxledger.api.consentreceipt import StatusChange, receipt_document
    from taxledger.ledger.consentstate import decode_consent_value, decode_use_value
    from taxledger.ledger.members import decode_member
    from taxledger.ledger.statekeys import consent_key, uses_prefix

    # By its id, not by the secret: the receipt of a recovered consent can be made too.
    key, below, all_members = consent_key(wanted), uses_prefix(wanted), b"\x06"
    state = client.state(key, below, all_members)
    if not state.entries[key]:
        raise RefusedError("consent_unknown", "the ledger has no such consent")
    names = {}
    for name, value in state.entries[all_members]:
        number = int.from_bytes(name[1:], "big")
        names[number] = decode_member(number, value).name
    return receipt_document(
        kept.artefact,
        custodian=kept.ids()[wanted],
        value=decode_consent_value(state.entries[key][0][1]),
        uses={
            int.from_bytes(name[len(below) :], "big"): decode_use_value(value)
            for name, value in state.entries[below]
        },
        height=state.header.height,
        time_ms=state.header.time_ms,
        names=names,
        changes=[
            StatusChange(
                status=each.status, height=each.height, time_ms=each.time_ms, transaction=each.transaction
            )
            for each in kept.receipts
            if each.consent == wanted
        ],
        notice=kept.notice,
    )


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An artefact.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show what an artefact says; its signature is checked, the ledger is not asked. 查看授权文件

    Example: taxledger consent show acme-bank1.consent
    """
    from taxledger.nodes.cli.disclosed import read_artefact

    artefact = read_artefact(file)
    if as_json:
        print_json(terms_as_json(artefact))
    else:
        print_terms(artefact, {})


def register(group: typer.Typer) -> None:
    """Add these commands to ``consent``."""
    group.command("list")(list_all)
    for command in (uses, receipt, show):
        group.command()(command)
