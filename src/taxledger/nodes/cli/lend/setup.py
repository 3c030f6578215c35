"""``taxledger lend init`` and ``lend products``: the lender's folder, and what it lends."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import FormatError, InputError
from taxledger.nodes.cli.lend.opening import lending_folder
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    connect,
    note,
    open_home,
    print_json,
    print_table,
    read_file,
    say,
    write_file,
)

if TYPE_CHECKING:
    from taxledger.lending.products.product import Product
    from taxledger.nodes.home import Home

__all__ = ["make_settings", "product_as_json", "register"]

_FILE_BYTES_MAX = 256 * 1024
_MEMBERS = b"\x06"
"""Prefix of all members in the state map (docs/protocol.md §6)."""

ProductArgument = Annotated[str, typer.Argument(metavar="PRODUCT", help="Id of a product, like invoice.")]
_MaybeHome = Annotated[
    Path | None,
    typer.Option(
        "--home", metavar="DIR", help="The lender's home; left out: what is shipped.", show_default=False
    ),
]


def init(
    home: HomeOption,
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="The bank as payments name it.")] = "",
    bic: Annotated[str, typer.Option("--bic", metavar="BIC", help="Its bank code.")] = "DEMOCNBJXXX",
    account: Annotated[
        str, typer.Option("--account", metavar="ACCOUNT", help="The account that pays out.")
    ] = "1000000000000001",
) -> None:
    """Make the lender's folder: settings, the key that signs contracts. Nothing that exists is changed.

    The issuers are those that the ledger has now, proved under this home's policy; from then on the file counts.

    Example: taxledger lend init --home net/bank1 --name "Demo Bank 1"
    """
    path = make_settings(home, name=name, bic=bic, account=account)
    say(f"settings  {path}")
    say(f"key       {path.parent / 'contract.key'}")
    note(f"next: taxledger lend apply --home {home} --product invoice --wallet FILE")


def make_settings(home: Path, *, name: str, bic: str, account: str) -> Path:
    """The lender's folder of a home: settings, and the key that signs contracts; the path of the settings.

    Raises:
        InputError: there are settings already.
    """
    from taxledger.ledger.kinds import KINDS, kind_name
    from taxledger.lending.settings import decode_settings
    from taxledger.nodes.home import write_secret

    member = open_home(home)
    folder = lending_folder(member.path)
    path = folder / "lending.toml"
    if path.exists():
        raise InputError(f"{path} exists: edit it, or choose another home")
    issuers = _issuers(member)
    lines = [
        "# A lender's settings (docs/lending.md). Whose word counts on which kind of record stands in [issuers].",
        "[bank]",
        f"name = {_quoted(name or member.config.name)}",
        f"bic = {_quoted(bic)}",
        f"account = {_quoted(account)}",
        'time_zone = "Asia/Shanghai"      # of the banking day',
        "",
        "[issuers]",
        *(f"{kind_name(kind)} = {issuer}" for kind, issuer in issuers.items() if kind != KINDS["predicate"]),
        "",
        "[database]",
        'url = "sqlite:///loans.sqlite"   # or postgresql+psycopg://…',
        "",
        "[payments]",
        'outbox = "payments"              # ISO 20022 files for the core banking system',
        "",
        "[evidence]",
        "age_seconds_max = 600            # no older answer is decided upon",
        "wait_seconds_max = 30            # a custodian that is silent longer: the answer is 'incomplete'",
    ]
    data = ("\n".join(lines) + "\n").encode()
    decode_settings(data, folder)  # a wrong name or account is said now, before anything is there
    folder.mkdir(mode=0o700, exist_ok=True)
    if not (folder / "contract.key").exists():
        write_secret(folder / "contract.key", os.urandom(32).hex().encode() + b"\n")
    write_file(path, data, private=True)
    return path


def _quoted(text: str) -> str:
    """As TOML writes a text: JSON's escapes are among its own."""
    return json.dumps(text, ensure_ascii=False)


def _issuers(home: Home) -> dict[int, int]:
    """Kind -> the first member that issues it, proved."""
    from taxledger.ledger.members import decode_member

    found: dict[int, int] = {}
    with connect(home) as client:
        entries = client.state(_MEMBERS).entries[_MEMBERS]
    for key, value in sorted(entries):
        member = decode_member(int.from_bytes(key[1:], "big"), value)
        for kind in member.kinds:
            found.setdefault(kind, member.number)
    return dict(sorted(found.items()))


# --- products -----------------------------------------------------------------------------------


def _source(home: Path | None) -> Any:
    from taxledger.lending.products.catalogue import load_products, shipped_files
    from taxledger.lending.settings import load_settings

    if home is None:
        return shipped_files()
    settings = load_settings(lending_folder(open_home(home).path))
    return shipped_files() if settings.products is None else load_products(settings.products)


def product_as_json(product: Product) -> dict[str, Any]:
    """A product for programs."""
    from taxledger.ledger.kinds import kind_name

    return {
        "id": product.id,
        "version": product.version,
        "title": product.title,
        "title_zh": product.title_zh,
        "digest": product.digest.hex(),
        "currency": product.currency,
        "kinds": {kind_name(kind): months for kind, months in product.months.items()},
        "rules": [
            {
                "id": each.id,
                "feature": each.comparison.feature.id,
                each.comparison.operator: list(each.comparison.thresholds)
                if each.comparison.operator == "one_of"
                else each.comparison.thresholds[0],
                "unit": each.comparison.feature.unit.value,
                "fail": each.fail,
                "undefined": each.undefined,
                "title": each.title,
                "title_zh": each.title_zh,
            }
            for each in product.rules
        ],
        "limit": {
            "feature": product.limit.feature.id,
            "factor_ppm": product.limit.factor_ppm,
            "max": product.limit.max,
            "min": product.limit.min,
            "step": product.limit.step,
        },
        "security": None
        if product.security is None
        else {
            "kind": kind_name(product.security.kind),
            "share_ppm": product.security.share_ppm,
            "required": product.security.required,
        },
    }


def list_products(home: _MaybeHome = None, as_json: JsonOption = False) -> None:
    """The products that there are.

    Example: taxledger lend products list
    """
    from taxledger.ledger.kinds import kind_name

    source = _source(home)
    products = [source.product(id) for id in source.products]
    if as_json:
        print_json([product_as_json(each) for each in products])
        return
    print_table(
        ("product", "version", "title", "标题", "reads", "rules"),
        [
            (
                each.id,
                each.version,
                each.title,
                each.title_zh,
                ", ".join(map(kind_name, each.months)),
                len(each.rules),
            )
            for each in products
        ],
        right=(1, 5),
    )


def show_product(product: ProductArgument, home: _MaybeHome = None, as_json: JsonOption = False) -> None:
    """A product's rules with their thresholds.

    Example: taxledger lend products show invoice
    """
    from taxledger.lending.products.quantities import show_quantity

    chosen = _source(home).product(product)
    if as_json:
        print_json(product_as_json(chosen))
        return
    say(f"{chosen.id}, version {chosen.version}: {chosen.title} {chosen.title_zh}")
    say(f"source: {chosen.source}")
    print_table(
        ("rule", "feature", "", "threshold", "fail", "undefined", "title", "标题"),
        [
            (
                each.id,
                each.comparison.feature.id,
                each.comparison.operator,
                " ".join(
                    show_quantity(one, each.comparison.feature.unit) for one in each.comparison.thresholds
                ),
                each.fail,
                each.undefined,
                each.title,
                each.title_zh,
            )
            for each in chosen.rules
        ],
    )


def check_product(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A product file.")],
) -> None:
    """Say whether a product file is right, or what is wrong and where. Scorecards lie beside it in scorecards/.

    Example: taxledger lend products check products/invoice.toml
    """
    from taxledger.lending.products.catalogue import shipped_files
    from taxledger.lending.products.product import decode_product

    cards = {each.stem: each.read_bytes() for each in sorted((file.parent / "scorecards").glob("*.toml"))}
    try:
        product = decode_product(
            read_file(file, bytes_max=_FILE_BYTES_MAX), cards or shipped_files().scorecards
        )
    except FormatError as error:
        raise FormatError(f"{file}: {error}") from error
    if product.id != file.stem:
        raise FormatError(f"{file}: expected id = {file.stem!r} as the file's name, got {product.id!r}")
    say(
        f"{file}: right; {len(product.rules)} rules, {len(product.features)} features, {product.digest.hex()}"
    )


def export_products(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
) -> None:
    """Write the shipped product and scorecard files to a folder, to be edited there.

    Example: taxledger lend products export products
    """
    from taxledger.lending.products.catalogue import shipped_files

    if directory.exists() and any(directory.iterdir()):
        raise InputError(f"{directory} exists and is not empty: choose another folder")
    (directory / "scorecards").mkdir(parents=True)
    source = shipped_files()
    for folder, files in ((directory, source.products), (directory / "scorecards", source.scorecards)):
        for id, data in files.items():
            write_file(folder / f"{id}.toml", data)
    say(f"{len(source.products)} products and {len(source.scorecards)} scorecards in {directory}")
    note(f'edit them, raise their version, and write products = "{directory}" into lending.toml')


def register(group: typer.Typer) -> None:
    """Add these commands to ``lend``."""
    group.command()(init)
    products = typer.Typer(no_args_is_help=True, help="What is lent, by which rules.")
    products.command("list")(list_products)
    products.command("show")(show_product)
    products.command("check")(check_product)
    products.command("export")(export_products)
    group.add_typer(products, name="products")
