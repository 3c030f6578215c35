"""Structured logs: one JSON object a line on standard error, with the request's id, without anybody's data.

Invariants:

- An event is a fixed text; what varies stands in named values. Names that could hold a subject, a record's
  fields or a secret are withheld whatever they hold, bytes become their length, long texts are cut.
- An exception is logged as its type and its places in the code. Its message is not: it may quote what a
  person or a peer sent. Only an ``InvariantError``, whose message is our own, keeps it.
- Lines of libraries (uvicorn, aiohttp) take the same way.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, TextIO

import structlog

from taxledger.ledger.errors import InvariantError

__all__ = ["configure_logs", "exception_value", "get_logger", "withhold"]

WITHHELD = frozenset(
    {"api_token", "authorization", "body", "counterparty", "fields", "headers", "key", "params", "path_query"}
    | {
        "payload",
        "private_key",
        "query",
        "raw",
        "row",
        "secret",
        "sigma",
        "subject",
        "token",
        "url",
        "values",
    }
)
"""Names of values that never reach a log."""

_TEXT_CHARACTERS_MAX = 400
_FRAMES_MAX = 12


def get_logger(name: str) -> Any:
    """A logger whose lines name ``taxledger.<name>``."""
    return structlog.get_logger(f"taxledger.{name}")


def configure_logs(level: str = "info", stream: TextIO | None = None) -> None:
    """Send all logs of this process through here.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        stream: where to; standard error by default.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exceptions,
        withhold,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_first_line, *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=_shown),
        ],
        keep_exc_info=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    # fontTools and fpdf list the characters of a report.
    for noisy in ("httpx", "httpcore", "aiohttp.access", "asyncio", "fontTools", "fpdf"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _first_line(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Of a library's text the first line: asyncio, for one, puts an exception's message below it."""
    line["event"] = str(line["event"]).partition("\n")[0]
    return line


def withhold(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out of a line what may be somebody's data."""
    for name, value in line.items():
        if name in WITHHELD:
            line[name] = "withheld"
        elif not name.startswith("_"):  # the formatter's own entries
            line[name] = _bounded(value)
    return line


def _bounded(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    if isinstance(value, str):
        return value if len(value) <= _TEXT_CHARACTERS_MAX else f"{value[:_TEXT_CHARACTERS_MAX]}…"
    if isinstance(value, Mapping):
        return {str(k): "withheld" if str(k) in WITHHELD else _bounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value]
    return value


def _shown(value: Any) -> str:
    """What JSON has no form for: its type only, a repr could hold anything."""
    return f"<{type(value).__name__}>"


def _exceptions(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """``exc_info`` as type and places."""
    info = line.pop("exc_info", None)
    if isinstance(info, BaseException):
        error: BaseException | None = info
    elif isinstance(info, tuple):
        error = info[1]
    else:
        error = sys.exc_info()[1] if info else None
    if error is not None:
        line["exception"] = exception_value(error)
    return line


def exception_value(error: BaseException) -> list[dict[str, Any]]:
    """An exception and what caused it, each as its type and the places it passed, newest last."""
    chain: list[dict[str, Any]] = []
    seen: BaseException | None = error
    while seen is not None and len(chain) < 8:
        entry: dict[str, Any] = {"type": type(seen).__name__, "frames": _frames(seen.__traceback__)}
        if isinstance(seen, InvariantError):
            entry["message"] = str(seen)
        code = getattr(seen, "code", None)
        if isinstance(code, str):
            entry["code"] = code
        chain.append(entry)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return chain


def _frames(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-_FRAMES_MAX:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
