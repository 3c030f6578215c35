"""XML to elements: the one reader for every source whose files are XML, or hold XML inside a zip.

Whoever writes a file chooses every byte of it, so here is refused, while reading and before memory is spent:

* a DOCTYPE, and with it every entity but the five of XML, and every address that could be fetched
* more bytes, elements, attributes, depth, or longer names and attribute values than ``LIMITS`` allow
* encodings other than ``ENCODINGS``, bytes that are not of the one declared, and two that contradict

What was read is ``xmlelement.Element``.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

from defusedxml.common import DTDForbidden
from defusedxml.ElementTree import XMLParser

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources import cells
from taxledger.nodes.sources.rows import open_binary
from taxledger.nodes.sources.xmlelement import Element, ElementError

__all__ = ["ENCODINGS", "LIMITS", "Element", "ElementError", "Limits", "Root", "read_root", "read_xml"]


class Limits(NamedTuple):
    """Local: what one document may cost. Real documents of all sources stay below a tenth of each."""

    bytes_max: int = 32 * 1024 * 1024
    elements_max: int = 200_000
    depth_max: int = 64
    attributes_max: int = 64
    """Of one element."""
    attribute_bytes_max: int = 64 * 1024
    """Of one value: a signature fits."""
    name_bytes_max: int = 512
    """Of a name with its namespace."""
    path_characters_max: int = 400
    """Of a path in messages; a longer one begins with ``…``."""


LIMITS = Limits()

ENCODINGS = {
    "utf-8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "utf-16": "utf-16",
    "iso-8859-1": "iso-8859-1",
    "windows-1252": "windows-1252",
    "gb18030": "gb18030",
    "gbk": "gb18030",
    "gb2312": "gb18030",
}
"""Python's codec by the name that a file declares, in small letters."""

_DECLARED = re.compile(rb"""<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Root(NamedTuple):
    """The first element of a document: what its format is told from."""

    namespace: str
    name: str


class _RootFound(Exception):
    pass


class _Open(NamedTuple):
    """An element whose end has not come yet, how often each name stands in it, what it says, and where."""

    element: Element
    counts: dict[str, int]
    parts: list[str]
    above: str


class _Builder:
    """Takes the parser's events; raises FormatError at the first one beyond a limit."""

    def __init__(self, prefixes: Mapping[str, str], limits: Limits, *, root_only: bool = False) -> None:
        self.line: Callable[[], int] = _no_line
        self.root: Element | None = None
        self._prefixes = prefixes
        self._limits = limits
        self._root_only = root_only
        self._open: list[_Open] = []
        self._names: dict[str, tuple[str, str]] = {}
        self._elements = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        limits = self._limits
        self._elements += 1
        self._require("elements", self._elements, limits.elements_max)
        self._require("levels", len(self._open) + 1, limits.depth_max)
        self._require("attributes of one element", len(attributes), limits.attributes_max)
        self._require("bytes of a name", len(tag), limits.name_bytes_max)
        for name, value in attributes.items():
            self._require("bytes of a name", len(name), limits.name_bytes_max)
            self._require("characters of an attribute", len(value), limits.attribute_bytes_max)
        # A name is one string however often it stands: a short file could say a long one many times.
        known = self._names.get(tag)
        if known is None:
            namespace, _, name = tag.rpartition("}")
            known = self._names[tag] = (namespace[1:], name)
        above, step = "", known[1]
        if self._open:
            parent = self._open[-1]
            above = parent.above
            count = parent.counts[tag] = parent.counts.get(tag, 0) + 1
            step = step if count == 1 else f"{step}[{count}]"
        element = Element(*known, attributes or _NO_ATTRIBUTES, self.line(), (above, step), self._prefixes)
        if self._open:
            parent.element.children.append(element)
        else:
            self.root = element
            if self._root_only:
                raise _RootFound
        below = f"{above}{step}/"
        if len(below) > limits.path_characters_max:
            below = "…/"
        self._open.append(_Open(element, {}, [], below))

    def data(self, text: str) -> None:
        if self._open:
            self._open[-1].parts.append(text)

    def end(self, tag: str) -> None:
        closed = self._open.pop()
        closed.element.value = cells.strip_cell("".join(closed.parts))

    def close(self) -> Element | None:
        return self.root

    def _require(self, what: str, n: int, n_max: int) -> None:
        if n > n_max:
            raise FormatError(f"line {self.line()}: expected at most {n_max:,} {what}, got more")


def _bytes_of(document: Path | bytes, limits: Limits) -> bytes:
    if isinstance(document, bytes):
        data = document
    else:
        try:
            with open_binary(document) as file:
                data = file.read(limits.bytes_max + 1)
        except (OSError, EOFError) as error:
            raise FormatError(f"can't be read to its end: {error}") from error
    if len(data) > limits.bytes_max:
        raise FormatError(f"expected at most {limits.bytes_max:,} bytes of XML, got more")
    return data


def _as_utf8(data: bytes) -> bytes:
    """The document in UTF-8, so that the parser never chooses an encoding itself."""
    mark = next((codec for bom, codec in _BOMS if data.startswith(bom)), None)
    head = data[:512].replace(b"\x00", b"") if mark == "utf-16" else data[:512]
    match = _DECLARED.search(head)
    name = match[1].decode().lower() if match else None
    declared = ENCODINGS.get(name) if name else None
    if name and declared is None:
        raise FormatError(f"expected an encoding of {', '.join(ENCODINGS)}, got {name!r}")
    if (mark and declared and mark != declared) or (declared == "utf-16" and not mark):
        raise FormatError(f"expected the declared encoding {name}, got the first bytes of another")
    codec = mark or declared or "utf-8"
    try:
        text = data.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeError as error:
        raise FormatError(f"expected text in {codec}: {error}") from error
    if "\x00" in text:
        # Also because the parser takes zeros for UTF-16, whatever it was told.
        raise FormatError("not well-formed XML: a zero character")
    return text.encode()


def _parse(data: bytes, builder: _Builder) -> Element:
    parser: Any = XMLParser(target=builder, encoding="utf-8", forbid_dtd=True)
    builder.line = lambda: parser.parser.CurrentLineNumber
    try:
        # In one piece: a parser that is fed a long token in small pieces reads it again with each.
        parser.feed(_as_utf8(data))
        root: Element | None = parser.close()
    except _RootFound:
        root = builder.root
    except DTDForbidden as error:
        raise FormatError(
            f"line {builder.line()}: expected no DOCTYPE, got one of {error.name!r:.40}"
        ) from error
    except ParseError as error:
        raise FormatError(f"not well-formed XML: {error}") from error.with_traceback(None)
    finally:
        # Parser and handlers refer to each other, as ParseError and its traceback do: memory that only a
        # collection gives back may have to wait for one.
        vars(parser).clear()
        builder.line = _no_line
    if root is None:
        raise FormatError("not well-formed XML: no element")
    return root


def _no_line() -> int:
    return 0


def read_xml(
    document: Path | bytes, prefixes: Mapping[str, str] | None = None, *, limits: Limits = LIMITS
) -> Element:
    """The root element of a whole document.

    Args:
        document: a file (plain or gzip) or its bytes.
        prefixes: namespace by the prefix that paths use; "" for steps without one.
        limits: what it may cost.

    Raises:
        FormatError: not well-formed, of another encoding, with a DOCTYPE, or beyond a limit; names the file.
    """
    try:
        return _parse(_bytes_of(document, limits), _Builder(prefixes or {}, limits))
    except FormatError as error:
        raise FormatError(f"{document}: {error}" if isinstance(document, Path) else str(error)) from error


def read_root(document: Path | bytes, *, limits: Limits = LIMITS) -> Root:
    """Namespace and name of the root element; nothing after its start tag is read. Raises FormatError."""
    root = _parse(_bytes_of(document, limits), _Builder({}, limits, root_only=True))
    return Root(root.namespace, root.name)
