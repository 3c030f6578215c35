"""An element of a document, as sources read it: found by paths, its values exact, its errors with their place.

Paths are like ``cac:Party/cbc:ID`` or ``cbc:Amount/@currencyID``, with the prefixes that the source names, never those
of the file. A path that stands twice where one is asked is an error, not a choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from taxledger.nodes.sources import cells
from taxledger.nodes.sources.rows import BadRow, CellError

__all__ = ["Element", "ElementError"]

T = TypeVar("T")


class ElementError(CellError):
    """A part of a document does not hold what it should: a ``CellError`` that knows its place.

    Attributes:
        line: of the file, from 1.
        place: like ``Invoice/LegalMonetaryTotal/TaxInclusiveAmount``.
        found: what stands there.
    """

    def __init__(self, error: CellError, line: int, place: str, found: str) -> None:
        super().__init__(error.code, error.expected, error.expected_zh)
        self.line = line
        self.place = place
        self.found = found

    def bad_row(self) -> BadRow:
        """The row that this document would have been."""
        return self.row(self.line, self.place, self.found)


class Element:
    """One element with its namespaces resolved.

    Attributes:
        namespace: "" where it has none.
        name: without prefix.
        line: of the file, from 1.
        path: from the root, like ``Invoice/InvoiceLine[2]/ID``: for messages.
        attributes: value by name; a name in a namespace is ``{namespace}name``.
        value: the characters directly inside, without the blanks around them.
        children: in order.
    """

    __slots__ = (
        "_above",
        "_prefixes",
        "_step",
        "attributes",
        "children",
        "line",
        "name",
        "namespace",
        "value",
    )

    def __init__(
        self,
        namespace: str,
        name: str,
        attributes: Mapping[str, str],
        line: int,
        place: tuple[str, str],
        prefixes: Mapping[str, str],
    ) -> None:
        self.namespace = namespace
        self.name = name
        self.line = line
        self.attributes = attributes
        self.value = ""
        # No parent: without cycles a document's memory goes when its reader lets go of it.
        self.children: list[Element] = []
        # What is above is one string for all children of an element.
        self._above, self._step = place
        self._prefixes = prefixes

    @property
    def path(self) -> str:
        return f"{self._above}{self._step}"

    # --- elements ---------------------------------------------------------------------------

    def find_all(self, path: str) -> list[Element]:
        """Every element of a path, in order; steps are ``prefix:name``, ``name`` (of the prefix "" of the
        source) or ``*:name`` (of any namespace).
        """
        found = [self]
        for step in path.split("/") if path else ():
            prefix, _, name = step.rpartition(":")
            any_namespace = prefix == "*"
            namespace = (
                "" if any_namespace else self._prefixes[prefix] if prefix else self._prefixes.get("", "")
            )
            found = [
                child
                for each in found
                for child in each.children
                if child.name == name and (any_namespace or child.namespace == namespace)
            ]
        return found

    def first(self, path: str) -> Element | None:
        """The first of a path that may stand several times, or None."""
        found = self.find_all(path)
        return found[0] if found else None

    def find(self, path: str) -> Element | None:
        """The only one of a path, or None. Raises ElementError where there are several."""
        found = self.find_all(path)
        if len(found) > 1:
            error = CellError("element_repeated", f"{path} once", f"{path} 只出现一次")
            raise ElementError(error, found[1].line, found[1].path, f"{len(found)} times")
        return found[0] if found else None

    def one(self, path: str) -> Element:
        """The only one of a path. Raises ElementError where there is none, or several."""
        found = self.find(path)
        if found is None:
            raise self._missing(path)
        return found

    def walk(self) -> Iterator[Element]:
        """This element and all below it, in document order."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting.extend(reversed(element.children))

    # --- values -----------------------------------------------------------------------------

    def read_or_none(self, path: str, parse: Callable[[str], T]) -> T | None:
        """What ``parse`` makes of the text at a path (the last step may be ``@attribute``); None where the path
        is not there or empty.

        Raises:
            ElementError: it stands several times, or ``parse`` raised CellError.
        """
        steps, at, attribute = path.rpartition("@")
        element = self.find(steps.rstrip("/") if at else path)
        if element is None:
            return None
        text = cells.strip_cell(element.attributes.get(attribute, "")) if at else element.value
        if not text:
            return None
        try:
            return parse(text)
        except CellError as error:
            place = f"{element.path}/@{attribute}" if at else element.path
            raise ElementError(error, element.line, place, text) from None

    def read(self, path: str, parse: Callable[[str], T]) -> T:
        """As ``read_or_none``. Raises ElementError too where the path is not there or empty."""
        found = self.read_or_none(path, parse)
        if found is None:
            raise self._missing(path)
        return found

    def text(self, path: str = "") -> str:
        """The text at a path with blanks and line ends joined, one that a record may hold. Raises ElementError."""
        return self.read(path, _line)

    def text_or_none(self, path: str = "") -> str | None:
        """The text at a path, or None where there is none. Raises ElementError."""
        return self.read_or_none(path, _line)

    def amount(self, path: str, currency: str) -> int:
        """The amount at a path in minor units of an ISO 4217 currency, exactly. Raises ElementError."""
        return self.read(path, lambda text: cells.parse_amount(text, currency))

    def amount_or_none(self, path: str, currency: str) -> int | None:
        """As ``amount``, or None where there is none. Raises ElementError."""
        return self.read_or_none(path, lambda text: cells.parse_amount(text, currency))

    def date(self, path: str) -> str:
        """The day of an ISO 8601 date or instant at a path, as ``YYYY-MM-DD``. Raises ElementError."""
        return self.read(path, cells.parse_iso_date)

    def date_or_none(self, path: str) -> str | None:
        """As ``date``, or None where there is none. Raises ElementError."""
        return self.read_or_none(path, cells.parse_iso_date)

    def error(self, code: str, expected: str, expected_zh: str, found: str | None = None) -> ElementError:
        """An error about this element, for a source to raise."""
        return ElementError(
            CellError(code, expected, expected_zh),
            self.line,
            self.path,
            self.value if found is None else found,
        )

    def _missing(self, path: str) -> ElementError:
        error = CellError("value_missing", "a value", "非空值")
        return ElementError(error, self.line, f"{self.path}/{path}" if path else self.path, "")


def _line(text: str) -> str:
    # Line ends and tabs within a name are how the file is laid out.
    return cells.parse_text(" ".join(re.split(r"[ \t\r\n]+", text)))
