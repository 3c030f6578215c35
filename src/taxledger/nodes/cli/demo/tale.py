"""What the demo tells: numbered steps, each timed, on the screen and in ``demo.json``."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taxledger import __version__
from taxledger.ledger.errors import VerificationError
from taxledger.nodes.cli.output import say, write_file

__all__ = ["Tale", "tell"]

_FORMAT = "taxledger/demo/1"


def tell(text: str) -> None:
    """A line of a step."""
    say(f"  {text}")


class Tale:
    """The steps as they are told.

    Attributes:
        data: what ``demo.json`` says beside the steps.
    """

    def __init__(self, steps: int, **data: Any) -> None:
        """``steps``: how many there will be."""
        self._count = steps
        self._begin = time.monotonic()
        self._steps: list[dict[str, Any]] = []
        self.data: dict[str, Any] = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {
                "taxledger": __version__,
                "python": platform.python_version(),
                "system": f"{platform.system()} {platform.machine()}",
            },
            **data,
        }

    @contextmanager
    def step(self, title: str, title_zh: str) -> Iterator[dict[str, Any]]:
        """A step; what it puts into the mapping stands in ``demo.json``."""
        number = len(self._steps) + 1
        say(f"\n[{number}/{self._count}] {title} {title_zh}")
        found: dict[str, Any] = {}
        entry = {"step": number, "title": title, "title_zh": title_zh, "outcome": "failed", "facts": found}
        self._steps.append(entry)
        begin = time.monotonic()
        try:
            yield found
            entry["outcome"] = "as told"
        finally:
            entry["seconds"] = round(time.monotonic() - begin, 3)
            tell(f"({entry['seconds']:.1f} s)")

    def expect(self, what: str, got: object, wanted: object) -> None:
        """Stop the demo where something is not as it is told."""
        if got != wanted:
            raise VerificationError("not_as_told", what, expected=wanted, got=got)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begin

    def write(self, path: Path, error: BaseException | None) -> None:
        """``demo.json``: also of a demo that was not as told."""
        whole = [each["outcome"] for each in self._steps] == ["as told"] * self._count and error is None
        body = {
            "format": _FORMAT,
            "as_told": whole,
            "error": None if error is None else f"{type(error).__name__}: {error}",
            "seconds": round(self.seconds, 3),
            **self.data,
            "steps": self._steps,
        }
        text = json.dumps(body, ensure_ascii=False, indent=2, default=_plain) + "\n"
        write_file(path, text.encode(), private=True)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
