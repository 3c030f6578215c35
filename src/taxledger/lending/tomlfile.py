"""TOML files that people write: read strictly, with errors that name the place."""

from __future__ import annotations

import tomllib
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from taxledger.ledger.errors import FormatError

__all__ = ["Shape", "read_toml"]

_BYTES_MAX = 256 * 1024
_SECRET = frozenset({"secret", "url"})
"""Values that no message shows: webhooks' secrets, and addresses that may hold a password."""


class Shape(BaseModel):
    """What a file or a part of it may say: anything else is an error, and no value is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


F = TypeVar("F", bound=Shape)


def read_toml(data: bytes, shape: type[F]) -> F:
    """The file of these bytes.

    Raises:
        FormatError: too large, not UTF-8, not TOML, or not of the shape; the message names the place.
    """
    if len(data) > _BYTES_MAX:
        raise FormatError(f"expected at most {_BYTES_MAX} bytes, got {len(data)}")
    try:
        document: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise FormatError(f"expected UTF-8, got other bytes at {error.start}") from error
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise FormatError(f"not TOML: {error}") from error
    try:
        return shape.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part + 1) if type(part) is int else str(part) for part in first["loc"])
        said = f"{place or 'the file'}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        if first["loc"] and first["loc"][-1] in _SECRET:
            raise FormatError(said) from None  # the cause would show what was found
        found = first["input"] if type(first["input"]) in (str, int, bool) else type(first["input"]).__name__
        raise FormatError(f"{said}, got {found!r:.60}") from error
