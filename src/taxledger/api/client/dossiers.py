"""Reading the stream of a dossier: progress, and at the end the file or a problem (docs/api.md). No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from taxledger.api.client.wire import Answer, Request, TryAgainError, error_of
from taxledger.api.custody import DossierProgress
from taxledger.api.problems import PROBLEMS
from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import InputError, VerificationError

__all__ = ["STREAM", "DossierCall", "DossierReader", "OnProgress"]

T = TypeVar("T")
STREAM = "application/vnd.taxledger.dossier-stream"
OnProgress = Callable[[DossierProgress], object]

_FRAME_BYTES_MAX = limits.disclosure_bytes_max + 64
_DETAIL_CHARACTERS_MAX = 500


class DossierReader:
    """Takes the pieces of one stream. Holds at most one frame.

    Args:
        on_progress: called with each progress; None for nobody.
    """

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._buffer = bytearray()
        self._file: bytes | None = None

    def feed(self, piece: bytes) -> None:
        """The next piece.

        Raises:
            VerificationError: ``malformed``.
            RefusedError, UnavailableError: the problem that the stream ends with.
        """
        self._buffer += piece
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > _FRAME_BYTES_MAX:
                raise _malformed(f"a frame of at most {_FRAME_BYTES_MAX} bytes")
            if len(self._buffer) < 4 + size:
                return
            content = bytes(memoryview(self._buffer)[4 : 4 + size])
            del self._buffer[: 4 + size]
            self._take(content)

    def finish(self) -> bytes:
        """The file. Raises TryAgainError when the stream broke off before it."""
        if self._file is None or self._buffer:
            raise TryAgainError("the dossier broke off")
        return self._file

    def _take(self, content: bytes) -> None:
        if self._file is not None:
            raise _malformed("nothing after the file")
        try:
            row = canonical.decode(content, bytes_max=_FRAME_BYTES_MAX)
        except InputError as error:
            raise _malformed("frames in canonical msgpack") from error
        match row:
            case [1, "progress", *numbers] if len(numbers) == len(DossierProgress.__slots__) and all(
                type(each) is int and each >= 0 for each in numbers
            ):
                if self._on_progress is not None:
                    self._on_progress(
                        DossierProgress(**dict(zip(DossierProgress.__slots__, numbers, strict=True)))
                    )
            case [1, "file", bytes(data)]:
                self._file = data
            case [1, "problem", str(code), str(detail)]:
                raise _problem(code, detail)
            case _:
                raise _malformed("a frame of progress, file or problem")


def _problem(code: str, detail: str) -> Exception:
    row = PROBLEMS.get(code)
    body = json.dumps({"code": code, "detail": detail[:_DETAIL_CHARACTERS_MAX]}).encode()
    return error_of(Answer(status=row.status if row else 500, headers={}, body=body))


def _malformed(expected: str) -> VerificationError:
    return VerificationError("malformed", f"the dossier's stream: expected {expected}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DossierCall(Generic[T]):
    """A request whose answer is such a stream, what is told of it meanwhile, and what to make of the file."""

    request: Request
    on_progress: OnProgress | None
    read: Callable[[bytes], T]

    def reader(self) -> DossierReader:
        """One for each attempt."""
        return DossierReader(self.on_progress)

    def check_start(self, headers: Mapping[str, str]) -> None:
        """Raises VerificationError unless an answer of status 200 is a stream of frames."""
        if headers.get("content-type", "").partition(";")[0].strip() != STREAM:
            raise _malformed(f"content of type {STREAM}")
