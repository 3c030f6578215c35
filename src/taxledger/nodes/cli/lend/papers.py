"""``taxledger lend report | archive | verify-archive``: what an officer reads, and what an auditor checks."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError, UnavailableError, VerificationError
from taxledger.ledger.policies import decode_policies
from taxledger.nodes.cli.lend.opening import LoanArgument, opened_desk
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    check_writable,
    money,
    note,
    print_json,
    read_file,
    say,
    write_file,
)

__all__ = ["register"]

_KEY = re.compile(r"[0-9a-f]{64}")
_LANGUAGES = ("zh", "en")


def report(
    loan: LoanArgument,
    home: HomeOption,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="*.html or *.pdf.", show_default=False),
    ],
    language: Annotated[str, typer.Option("--language", metavar="zh|en", help="Of the report.")] = "zh",
) -> None:
    """The portrait of an enterprise from verified evidence, with every rule and verdict: one page, or a PDF.

    Example: taxledger lend report L3f68e4a1b2c3 --home net/bank1 -o acme.html
    """
    if language not in _LANGUAGES:
        raise InputError(f"expected --language zh or en, got {language!r:.20}")
    if output.suffix not in (".html", ".pdf"):
        raise InputError(f"expected a file *.html or *.pdf, got {output.name!r}")
    check_writable(output)
    with opened_desk(home) as desk:
        data = desk.report(loan, language="zh" if language == "zh" else "en", pdf=output.suffix == ".pdf")
    write_file(output, data, private=True)
    say(f"{output}: {len(data):,} bytes")


def archive(
    loan: LoanArgument,
    home: HomeOption,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The archive.", show_default=False)
    ],
) -> None:
    """Everything of a loan in one sealed file: decision, evidence, contract, events, alerts.

    Example: taxledger lend archive L3f68e4a1b2c3 --home net/bank1 -o acme.loan
    """
    check_writable(output)
    with opened_desk(home) as desk:
        data = desk.archive(loan)
        key = desk.contract_key.public_key.hex()
    write_file(output, data, private=True)
    say(f"{output}: {len(data):,} bytes, sealed by {key}")
    note(f"check it: taxledger lend verify-archive {output} --policy FILE --lender-key {key}")


def verify_archive(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive.", show_default=False)],
    policy: Annotated[
        list[Path],
        typer.Option(
            "--policy",
            metavar="FILE",
            help="A policy file of your own; the present one first, then those of former validators.",
            show_default=False,
        ),
    ],
    lender_key: Annotated[
        str | None,
        typer.Option(
            "--lender-key",
            metavar="HEX",
            help="The lender's key for contracts; left out, the answer names the one that sealed.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a loan's archive offline: evidence, decision, contract, every amount. Exit status 0 verified, 1 refused.

    Example: taxledger lend verify-archive acme.loan --policy net/policy.txt
    Example: taxledger lend verify-archive acme.loan --policy policy.txt --policy policy.3f9a01c2.txt
    """
    try:
        from taxledger.lending import archive as archives
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"this command needs {error.name}: pip install 'taxledger[lending]' installs it"
        ) from error
    if lender_key is not None and not _KEY.fullmatch(lender_key):
        raise InputError("expected --lender-key as 64 lower-case hex digits")
    # First: what is wrong with one's own policy files is no fault of the archive.
    present, *former = (read_file(each, bytes_max=limits.policy_bytes_max) for each in policy)
    policies = decode_policies(present, former)
    data = read_file(file, bytes_max=limits.loan_archive_bytes_max)
    try:
        found = archives.verify_archive(
            data, policies, None if lender_key is None else bytes.fromhex(lender_key)
        )
    except InputError as error:
        raise VerificationError("archive_malformed", str(error)) from error
    shown: dict[str, Any] = asdict(found)
    if as_json:
        print_json({"verified": True, **shown})
        return
    say(f"verified 已验证: loan {found.loan} of {found.subject}, product {found.product}, {found.state}")
    for (outcome, as_of), names in zip(found.decisions, found.validators, strict=True):
        say(f"  decision as of {as_of}: {outcome}, recomputed from the evidence to the same bytes")
        if names != tuple(policies.present.witnesses):
            say(f"    certified by the validators of that time: {', '.join(names)}")
    if found.amount is not None and found.rate_ppm is not None:
        say(
            f"  contract: {money(found.amount)} of at most {money(found.limit or 0)} {found.currency}, "
            f"{found.rate_ppm / 10_000:g} % a year, {found.term_months} months"
        )
    say(
        f"  paid {money(found.paid)}, repaid {money(found.repaid_principal)} + interest "
        f"{money(found.repaid_interest)}, owed {money(found.principal)}"
    )
    say(f"  {found.events} events, {found.files} files, {found.alerts} alerts")
    if lender_key is None:
        say(f"  sealed by {found.lender_key.hex()}: compare it with the lender's")


def register(group: typer.Typer) -> None:
    """Add these commands to ``lend``."""
    group.command()(report)
    group.command()(archive)
    group.command("verify-archive")(verify_archive)
