"""The product files that are shipped, and those of a lender's own folder."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.lending.products.product import Product, decode_product

__all__ = ["ProductSource", "load_products", "shipped_files"]


class ProductSource:
    """Product and scorecard files by id.

    Attributes:
        products, scorecards: id -> bytes of the file.
    """

    def __init__(self, products: Mapping[str, bytes], scorecards: Mapping[str, bytes]) -> None:
        self.products = dict(sorted(products.items()))
        self.scorecards = dict(sorted(scorecards.items()))

    def product(self, id: str) -> Product:
        """Raises FormatError: there is none, or its file is wrong."""
        data = self.products.get(id)
        if data is None:
            raise FormatError(f"expected a product of {', '.join(self.products)}, got {id!r}")
        try:
            product = decode_product(data, self.scorecards)
        except FormatError as error:
            raise FormatError(f"product {id}: {error}") from error
        if product.id != id:
            raise FormatError(f"product {id}: expected id = {id!r} as the file's name, got {product.id!r}")
        return product


def shipped_files() -> ProductSource:
    """The reference products (docs/products.md)."""
    root = resources.files("taxledger.lending.products")
    return ProductSource(
        {each.name[:-5]: each.read_bytes() for each in root.iterdir() if each.name.endswith(".toml")},
        {
            each.name[:-5]: each.read_bytes()
            for each in (root / "scorecards").iterdir()
            if each.name.endswith(".toml")
        },
    )


def load_products(folder: Path) -> ProductSource:
    """Files of a folder like the shipped one: ``*.toml`` and ``scorecards/*.toml``.

    Raises:
        FormatError: it can't be read, or has no product.
    """
    try:
        products = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.toml"))}
        scorecards = {path.stem: path.read_bytes() for path in sorted((folder / "scorecards").glob("*.toml"))}
    except OSError as error:
        raise FormatError(f"{folder}: can't be read: {error.strerror or error}") from error
    if not products:
        raise FormatError(f"{folder}: expected product files *.toml")
    return ProductSource(products, scorecards)
