"""Writes the test vectors: python tests/vectors/generate.py [--check]

Each ``make_*.py`` beside this file has a dict ``VECTORS``: file name -> function without arguments whose
result is written as JSON. Keys and instants are fixed, so writing again changes nothing; ``--check`` only
says whether it would.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


def makers() -> dict[str, Callable[[], Any]]:
    """All vector files there are, by name, in the order of the names."""
    found: dict[str, Callable[[], Any]] = {}
    for path in sorted(FOLDER.glob("make_*.py")):
        for name, maker in runpy.run_path(str(path))["VECTORS"].items():
            if name in found:
                raise SystemExit(f"{path.name}: {name} is made elsewhere too")
            found[name] = maker
    return dict(sorted(found.items()))


def rendered(content: Any) -> str:
    """The text of a vector file: bytes must be hex strings already."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Writes (or with --check compares) every file; 1 when a file differs from what would be written."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    differing = 0
    for name, maker in makers().items():
        path, text = FOLDER / name, rendered(maker())
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        differing += 1
        print(f"{name}: {'differs' if arguments else 'written'}")
        if not arguments:
            path.write_text(text, encoding="utf-8")
    return 1 if arguments and differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
