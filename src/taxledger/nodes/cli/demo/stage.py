"""Where the demo plays: its folder, eight members, each a process of its own with its own keys."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taxledger.ledger.errors import InputError, UnavailableError
from taxledger.ledger.kinds import KINDS
from taxledger.nodes.cli.output import open_home

if TYPE_CHECKING:
    from taxledger.nodes.local.control import NodeFacts

__all__ = ["ISSUES", "OBSERVERS", "VALIDATORS", "Stage", "prepare", "running", "wait_for"]

VALIDATORS = ("tax", "bank1", "bank2", "bank3")
OBSERVERS = ("procurement", "electricity", "customs", "platform")
_ISSUED = {
    "tax": (
        *("vat_invoice", "tax_filing", "tax_credit_rating", "tax_arrears", "business_registration"),
        *("technology_qualification", "credit_summary"),
    ),
    "procurement": ("procurement_award", "engineering_contract"),
    "electricity": ("utility_usage",),
    "customs": ("customs_declaration",),
}
ISSUES = {name: tuple(KINDS[kind] for kind in kinds) for name, kinds in _ISSUED.items()}
"""Numbers of the kinds that each issuer attests."""

_MARKER = ".taxledger-demo"
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The demo's folder."""

    folder: Path

    @property
    def network(self) -> Path:
        return self.folder / "network"

    @property
    def policy(self) -> Path:
        """The trust root of every verifier."""
        return self.network / "policy.txt"

    def shown(self, path: Path) -> str:
        """A path as a person types it here."""
        here = Path.cwd()
        return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

    def home(self, member: str) -> Path:
        return self.network / member

    def number(self, member: str) -> int:
        """The member's number on the ledger."""
        return open_home(self.home(member)).config.number

    def issuer(self, kind: str) -> str:
        """Who attests a kind."""
        return next(name for name, kinds in ISSUES.items() if KINDS[kind] in kinds)

    def facts(self, member: str) -> NodeFacts:
        """What the member's node says of itself."""
        from taxledger.nodes.local.control import network_status

        return next(each for each in network_status(self.network) if each.name == member)


def prepare(folder: Path) -> Stage:
    """An empty folder; one that an earlier demo left is cleared, anything else is kept.

    Raises:
        InputError: it holds something else.
    """
    from taxledger.nodes.local.control import stop_network

    if (folder / _MARKER).exists():
        if (folder / "network" / "policy.txt").exists():
            stop_network(folder / "network")
        shutil.rmtree(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} exists and is not an earlier demo: choose another with --dir")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).write_text("A folder of `taxledger demo`; the next demo replaces it.\n", "utf-8")
    return Stage(folder=folder)


@contextmanager
def running(stage: Stage) -> Iterator[None]:
    """The network runs inside, and never outlives it."""
    from taxledger.nodes.local.control import start_network, stop_network

    try:
        start_network(stage.network)
        yield
    finally:
        stop_network(stage.network)


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Return when it holds. Raises UnavailableError: it takes too long."""
    end = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise UnavailableError(f"{what} did not happen within {_PATIENCE_S:.0f} s")
        time.sleep(0.1)
