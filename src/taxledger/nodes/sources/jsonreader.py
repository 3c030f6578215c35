"""JSON to values: the one reader for every source whose files are JSON.

Numbers with a fraction become ``Decimal``, never a float; NaN, Infinity, a key that stands twice in one object,
more bytes than ``JSON_BYTES_MAX`` and nesting that is too deep are refused. A file may hold several documents
one after another (JSON Lines, or split exports): each is one item of the answer.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources.rows import open_binary

__all__ = ["JSON_BYTES_MAX", "read_json"]

JSON_BYTES_MAX = 32 * 1024 * 1024
"""Local: of one file, unpacked."""

_DEPTH_MAX = 64
_BLANKS = " \t\r\n"


def read_json(document: Path | bytes) -> list[Any]:
    """Every document of a file (plain or gzip) or of bytes; at least one.

    Raises:
        FormatError: not JSON in UTF-8, or beyond a limit; names the file.
    """
    try:
        return _documents(_text_of(document))
    except FormatError as error:
        raise FormatError(f"{document}: {error}" if isinstance(document, Path) else str(error)) from error


def _text_of(document: Path | bytes) -> str:
    data = document if isinstance(document, bytes) else b""
    if isinstance(document, Path):
        try:
            with open_binary(document) as file:
                data = file.read(JSON_BYTES_MAX + 1)
        except (OSError, EOFError) as error:
            raise FormatError(f"can't be read to its end: {error}") from error
    if len(data) > JSON_BYTES_MAX:
        raise FormatError(f"expected at most {JSON_BYTES_MAX:,} bytes of JSON, got more")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"expected text in utf-8: {error}") from error


def _documents(text: str) -> list[Any]:
    decoder = json.JSONDecoder(
        parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_object, strict=True
    )
    documents: list[Any] = []
    at = _after_blanks(text, 0)
    while at < len(text):
        try:
            document, at = decoder.raw_decode(text, at)
        except RecursionError as error:
            raise FormatError(f"expected at most {_DEPTH_MAX} levels of JSON, got more") from error
        except ValueError as error:
            raise FormatError(f"not JSON: {error}") from error
        _check_depth(document)
        documents.append(document)
        at = _after_blanks(text, at)
    if not documents:
        raise FormatError("not JSON: nothing there")
    return documents


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(_DEPTH_MAX):
        level = [
            child
            for each in level
            if isinstance(each, (dict, list))
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise FormatError(f"expected at most {_DEPTH_MAX} levels of JSON, got more")


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r:.40} twice in one object")
    return found
