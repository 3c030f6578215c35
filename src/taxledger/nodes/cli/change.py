"""``taxledger amend | revoke``: an issuer's changes of single records, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.ledger import parse_record_key
from taxledger.nodes.cli.output import HomeOption, JsonOption, missing_package, open_home, print_json, say

if TYPE_CHECKING:
    from taxledger.ledger.schemas import Schema, Value
    from taxledger.nodes.custodian.amend import Amender
    from taxledger.nodes.custodian.outbox import Receipt

__all__ = ["parse_change", "register"]

RecordOption = Annotated[
    str, typer.Option("--record", metavar="KEY", help="As evidence show prints it.", show_default=False)
]
ReasonOption = Annotated[
    str,
    typer.Option("--reason", metavar="TEXT", help="In words; the ledger gets a digest.", show_default=False),
]
_STATUSES = ("valid", "voided", "reversed")


def parse_change(schema: Schema, text: str, currency: str = "CNY") -> tuple[str, Value]:
    """``name=value`` for a field of the schema; an empty value takes the field away.

    Args:
        schema: of the record.
        text: as a person gives it.
        currency: of the record's amounts, which says how many decimal places they have.

    Raises:
        InputError: no such field, or a value that does not fit it.
    """
    from taxledger.nodes.sources import cells
    from taxledger.nodes.sources.currencies import MINOR_DIGITS
    from taxledger.nodes.sources.rows import CellError

    name, equals, value = text.partition("=")
    if not equals or name not in schema.position:
        raise InputError(
            f"expected --set FIELD=VALUE with a field of {', '.join(schema.position)}, got {text!r}"
        )
    if not value:
        return name, None
    type_ = schema.fields[schema.position[name]].type
    try:
        if type_ == "money":
            return name, cells.parse_money(value, MINOR_DIGITS.get(currency, 2))
        if type_ in ("integer", "year"):
            return name, cells.parse_scaled(value, 0)
        if type_ == "ppm":
            return name, cells.parse_scaled(value, 6)
        if type_ == "boolean":
            return name, cells.parse_boolean(value)
    except CellError as error:
        raise InputError(f"--set {name}: expected {error.expected}, got {value!r}") from error
    return name, value


@contextmanager
def _amender(home: Path) -> Iterator[Amender]:
    """The issuer's amender of this home."""
    try:
        from taxledger.nodes.cli.submitting import open_desk
        from taxledger.nodes.custodian.amend import Amender
    except ModuleNotFoundError as error:
        raise missing_package(error.name) from error
    with open_desk(open_home(home)) as desk:
        yield Amender(desk.vault, desk.signer, desk.submitter)


def _schema_of(key: str) -> Schema:
    from taxledger.ledger.builtin import BUILTIN
    from taxledger.ledger.statekeys import split_record_key

    kind = split_record_key(parse_record_key(key))[1]
    known = [each for each in BUILTIN if each.kind == kind]
    if not known:
        raise InputError(f"no schema of kind {kind} is known here")
    return max(known, key=lambda each: each.number)


def _print(what: str, key: str, receipt: Receipt, *, as_json: bool) -> None:
    if as_json:
        print_json({"record": key, "operation": what, "height": receipt.height, "index": receipt.index})
    else:
        say(f"{key}: {what} is certified at height {receipt.height}")


def amend(
    home: HomeOption,
    record: RecordOption,
    reason: ReasonOption,
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            metavar="|".join(_STATUSES),
            help="What it is now. Without it: voided, or with --set the same as before.",
            show_default=False,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A corrected field; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a record's next version: voided, reversed, or with corrected fields.

    Example: taxledger amend --home net/tax --record 010001… --reason "typing error" --set gross=1130.00
    """
    from taxledger.ledger.records import Status

    if status is not None and status not in _STATUSES:
        raise InputError(f"expected --status {'|'.join(_STATUSES)}, got {status!r}")
    schema, key = _schema_of(record), parse_record_key(record)
    chosen = Status[status.upper()] if status else (None if changes else Status.VOIDED)
    given = dict(parse_change(schema, each) for each in changes or () if each.startswith("currency="))
    with _amender(home) as amender:
        # How many decimal places an amount has is said by the record's currency, the new one where it changes.
        currency = str(given.get("currency") or amender.value(key, "currency") or "CNY")
        fields = dict(parse_change(schema, each, currency) for each in changes or ())
        receipt = amender.amend(key, reason=reason, status=chosen, fields=fields)
    _print("amend", record, receipt, as_json=as_json)


def revoke(home: HomeOption, record: RecordOption, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Take back a record that was attested in error; it stays on the ledger as revoked.

    Example: taxledger revoke --home net/tax --record 010001… --reason "another company's invoice"
    """
    key = parse_record_key(record)
    with _amender(home) as amender:
        receipt = amender.revoke(key, reason=reason)
    _print("revoke", record, receipt, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(amend)
    app.command()(revoke)
