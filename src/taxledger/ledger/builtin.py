"""The schemas that every new network starts with: one for each kind of record a lender reads (docs/records.md).

Invariants:

* A schema that stands on a ledger is never changed: another version of a kind gets the next number.
* Versions of a kind have the same unique fields, or one fact would have two identities.
"""

from __future__ import annotations

from taxledger.ledger.fields import ROLE_CONTENT, ROLE_PARTY, Field
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.schemas import Schema

__all__ = ["BUILTIN", "newest"]


def _fields(text: str) -> tuple[Field, ...]:
    """Fields from ``name:type …``; ``a|b`` is a choice, a trailing ``*`` marks a party."""
    fields = []
    for each in text.split():
        name, type_ = each.rstrip("*").split(":")
        choice = tuple(type_.split("|"))
        role = ROLE_PARTY if each.endswith("*") else ROLE_CONTENT
        fields.append(Field(name=name, type=choice if len(choice) > 1 else type_, role=role))
    return tuple(fields)


def _schema(
    name: str,
    fields: str,
    *,
    unique: tuple[str, ...],
    period: tuple[str, str],
    fingerprint: tuple[()] | None = None,
    number: int = 1,
) -> Schema:
    """A schema of a kind's name; ``unique``: alternatives, each the names of fields of any value."""
    return Schema(
        kind=KINDS[name],
        number=number,
        name=name,
        fields=_fields(fields),
        unique=tuple(tuple((field, 0) for field in each.split()) for each in unique),
        fingerprint=fingerprint,
        period=period,
    )


_PREDICATE_IDENTITY = ("formula", "formula_version", "as_of", "checkpoint_size")

BUILTIN: tuple[Schema, ...] = (
    # `period` is the last month that a filing covers and `months` how many it covers; `corrects` names the
    # filing that this one replaces.
    Schema(
        kind=KINDS["tax_filing"],
        number=1,
        name="tax_filing",
        fields=_fields(
            "tax:text period:month months:integer number:text filed:date due:date currency:text sales:money "
            "output_tax:money input_tax:money payable:money paid:money corrects:text"
        ),
        unique=((("tax", 0), ("number", 0)), (("tax", 0), ("period", 0))),
        fingerprint=None,
        period=("month", "period"),
    ),
    Schema(
        kind=KINDS["tax_credit_rating"],
        number=1,
        name="tax_credit_rating",
        fields=_fields("year:year grade:A|B|M|C|D score:integer published:date authority:text"),
        unique=((("year", 0),),),
        fingerprint=None,
        period=("year", "year"),
    ),
    # `original` is the number of the invoice that a red letter reverses.
    Schema(
        kind=KINDS["vat_invoice"],
        number=1,
        name="vat_invoice",
        fields=_fields(
            "direction:sale|purchase code:text number:text date:date counterparty:text* currency:text "
            "net:money tax:money gross:money rate:ppm goods:text original:text"
        ),
        unique=((("number", 20),), (("code", 0), ("number", 0))),
        fingerprint=("direction", "sale"),
        period=("month", "date"),
    ),
    # ``closed`` is absent while it is open; closing it is an amendment.
    Schema(
        kind=KINDS["tax_arrears"],
        number=1,
        name="tax_arrears",
        fields=_fields(
            "category:arrears|violation|audit number:text opened:date closed:date tax:text currency:text "
            "amount:money authority:text"
        ),
        unique=((("category", 0), ("number", 0)),),
        fingerprint=None,
        period=("month", "opened"),
    ),
    # An answer that the custodian computed (docs/predicates.md). Its argument is a text, or an amount of money,
    # or none. The one made after an input changed is a record of its own: it stands at another checkpoint.
    Schema(
        kind=KINDS["predicate"],
        number=1,
        name="predicate",
        fields=_fields(
            "name:text argument:text currency:text amount:money formula:text formula_version:integer as_of:date "
            "result:boolean input_kind:integer input_from:month input_to:month checkpoint_size:integer "
            "checkpoint_root:text height:integer"
        ),
        unique=tuple(
            tuple((name, 0) for name in ("name", *argument, *_PREDICATE_IDENTITY))
            for argument in (("argument",), ("amount",), ())
        ),
        fingerprint=None,
        period=("month", "as_of"),
    ),
    # Version 2 also has what was remitted and when it was paid.
    _schema(
        "tax_filing",
        "tax:text period:month months:integer number:text filed:date due:date currency:text sales:money "
        "output_tax:money input_tax:money relief:money payable:money paid:money paid_on:date corrects:text",
        number=2,
        unique=("tax number", "tax period"),
        period=("month", "period"),
    ),
    # ``until`` is the end of the licence, absent where there is none.
    _schema(
        "business_registration",
        "number:text name:text legal_form:text registered:date until:date state:active|suspended|cancelled|revoked "
        "currency:text capital:money industry:text district:text representative:text* authority:text",
        unique=("number",),
        period=("year", "registered"),
    ),
    # ``register`` names who published it and ``number`` the award there, down to lot and winner; ``winners`` is how
    # many share ``amount``, and ``account`` the one that the buyer pays to. ``paid`` is what the buyer has paid.
    _schema(
        "procurement_award",
        "register:text number:text contract:text lot:text buyer:text* buyer_id:text* buyer_public:boolean "
        "supplier:text title:text awarded:date completes:date state:active|completed|cancelled winners:integer "
        "currency:text amount:money paid:money account:text",
        unique=("register number",),
        fingerprint=(),
        period=("month", "awarded"),
    ),
    # ``certified`` is the work that the owner has confirmed, ``paid`` what it has paid of it, ``overdue`` what is
    # certified, unpaid and past its day; a later state of the contract is an amendment.
    _schema(
        "engineering_contract",
        "number:text owner:text* owner_id:text* owner_public:boolean title:text signed:date completes:date "
        "state:active|completed|terminated currency:text amount:money certified:money paid:money overdue:money "
        "certified_on:date account:text",
        unique=("number",),
        fingerprint=(),
        period=("month", "signed"),
    ),
    # ``usage_wh`` is in watt-hours; ``arrears`` what of ``amount`` is past its day and unpaid.
    _schema(
        "utility_usage",
        "utility:electricity|gas|water|heat meter:text month:month usage_wh:integer peak_w:integer currency:text "
        "amount:money arrears:money tariff:text",
        unique=("utility meter month",),
        period=("month", "month"),
    ),
    # A declaration that was amended is amended here too; one that was cancelled is voided.
    _schema(
        "customs_declaration",
        "direction:import|export number:text declared:date cleared:date state:declared|cleared|rejected "
        "procedure:text country:text counterparty:text* goods:text currency:text value:money duty:money tax:money",
        unique=("number",),
        period=("month", "declared"),
    ),
    # ``valid_until`` is the last day; absent where it does not end.
    _schema(
        "technology_qualification",
        "category:high_tech|specialised|little_giant|invention_patent|utility_model|design_patent|software "
        "number:text title:text issued:date valid_from:date valid_until:date authority:text",
        unique=("category number",),
        period=("month", "issued"),
    ),
    # What lenders elsewhere report on a day; ``first_borrowed`` is absent where nobody ever lent.
    _schema(
        "credit_summary",
        "as_of:date lenders:integer loans_open:integer first_borrowed:date currency:text outstanding:money "
        "overdue:money overdue_days:integer authority:text",
        unique=("as_of",),
        period=("month", "as_of"),
    ),
)
"""The schemas that every new network starts with."""


def newest(kind: int) -> Schema:
    """The newest built-in schema of a kind. Raises KeyError where it has none."""
    known = [each for each in BUILTIN if each.kind == kind]
    if not known:
        raise KeyError(kind)
    return max(known, key=lambda each: each.number)
