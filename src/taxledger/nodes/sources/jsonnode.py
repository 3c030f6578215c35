"""A value of a JSON document with its place, so that whatever is wrong with it can be reported where it stands."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

from taxledger.nodes.sources import cells
from taxledger.nodes.sources.rows import BadRow, CellError

__all__ = ["JsonError", "Node"]

T = TypeVar("T")

_DIGITS_MAX = 24
_NAMES: dict[type, str] = {dict: "an object", list: "an array"}


class JsonError(CellError):
    """A part of a document does not hold what it should: a ``CellError`` that knows its place.

    Attributes:
        place: like ``releases[0].awards[1].value.amount``.
        found: what stands there.
    """

    def __init__(self, error: CellError, place: str, found: str) -> None:
        super().__init__(error.code, error.expected, error.expected_zh)
        self.place = place
        self.found = found

    def bad_row(self, line: int) -> BadRow:
        """The row that this part would have been."""
        return self.row(line, self.place, self.found)


class Node:
    """An object, array, text or number of a document.

    Attributes:
        value: as ``read_json`` has it.
        path: from the document, "" for all of it.
    """

    __slots__ = ("path", "value")

    def __init__(self, value: Any, path: str = "") -> None:
        self.value = value
        self.path = path

    def error(self, code: str, expected: str, expected_zh: str) -> JsonError:
        """An error about this node, for a source to raise."""
        return JsonError(CellError(code, expected, expected_zh), self.path, _shown(self.value))

    def _as(self, type_: type, expected_zh: str) -> Any:
        if type(self.value) is not type_:
            raise self.error("value_malformed", _NAMES[type_], expected_zh)
        return self.value

    def get(self, *keys: str) -> Node | None:
        """The node below, by one key after another; None where one is absent or null.

        Raises:
            JsonError: on the way there is no object.
        """
        node = self
        for key in keys:
            value = node._as(dict, "JSON 对象").get(key)
            if value is None:
                return None
            node = Node(value, f"{node.path}.{key}" if node.path else key)
        return node

    def items(self, key: str) -> list[Node]:
        """The nodes of the array under a key; none where it is absent or null. Raises JsonError."""
        node = self.get(key)
        if node is None:
            return []
        return [
            Node(each, f"{node.path}[{at}]")
            for at, each in enumerate(node._as(list, "JSON 数组"))
            if each is not None
        ]

    def read_or_none(self, parse: Callable[[str], T], *keys: str) -> T | None:
        """What ``parse`` makes of the text or number below; None where there is none, or nothing but blanks.

        Raises:
            JsonError: it is another value, or ``parse`` raised CellError.
        """
        node = self.get(*keys)
        if node is None:
            return None
        text = node._scalar()
        if not text:
            return None
        try:
            return parse(text)
        except CellError as error:
            raise JsonError(error, node.path, _shown(node.value)) from None

    def read(self, parse: Callable[[str], T], *keys: str) -> T:
        """As ``read_or_none``. Raises JsonError too where there is nothing."""
        found = self.read_or_none(parse, *keys)
        if found is None:
            place = ".".join((self.path, *keys) if self.path else keys)
            raise JsonError(CellError("value_missing", "a value", "非空值"), place, "")
        return found

    def _scalar(self) -> str:
        """A text without blanks around it, or the plain digits of a number: ``1E+3`` is ``1000``."""
        value = self.value
        if type(value) is str:
            return cells.strip_cell(value)
        if type(value) is int and abs(value) < 10**_DIGITS_MAX:
            return str(value)
        if type(value) is Decimal:
            # What would be written out first: a number may be short and its digits fill the memory.
            _, digits, exponent = value.as_tuple()
            if isinstance(exponent, int) and abs(exponent) <= _DIGITS_MAX and len(digits) <= 2 * _DIGITS_MAX:
                return f"{value:f}"
        raise self.error("value_malformed", "a text or a number", "文本或数字")


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"{len(value)} elements"
    if type(value) is int and abs(value) >= 10**_DIGITS_MAX:
        return "a number of more than 24 digits"
    return str(value)[:80]
