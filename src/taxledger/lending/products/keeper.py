"""The lender's products, and a copy of every file that ever decided: a decision names its files by digest.

<folder>/<SHA-256 in hex>.toml
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from taxledger.ledger.errors import FormatError, UnavailableError
from taxledger.lending.products.catalogue import ProductSource
from taxledger.lending.products.product import Product

__all__ = ["ProductKeeper"]


class ProductKeeper:
    """Products of a source, and the folder of those that decided."""

    def __init__(self, source: ProductSource, folder: Path) -> None:
        self._source = source
        self._folder = folder

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._source.products)

    def product(self, id: str) -> Product:
        """Raises FormatError: there is none, or its file is wrong."""
        return self._source.product(id)

    def keep(self, product: Product) -> None:
        """Keep the files of a product; durable when it returns. Raises UnavailableError."""
        self._write(self._source.products[product.id])
        if product.scorecard is not None:
            self._write(self._source.scorecards[product.scorecard.id])

    def kept(self, digest: bytes) -> bytes:
        """The file of a digest.

        Raises:
            FormatError: it was never kept, or was changed.
        """
        path = self._folder / f"{digest.hex()}.toml"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FormatError(f"{path}: can't be read: {error.strerror or error}") from error
        if hashlib.sha256(data).digest() != digest:
            raise FormatError(f"{path}: expected the file that its name says, got another")
        return data

    def _write(self, data: bytes) -> None:
        path = self._folder / f"{hashlib.sha256(data).hexdigest()}.toml"
        if path.exists():
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, fresh = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(fresh).replace(path)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise UnavailableError(f"{path}: can't be written: {error.strerror or error}") from error
