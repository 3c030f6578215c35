"""``taxledger lend watch | alerts``: looking after loans that are paid out."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.nodes.cli.lend.opening import opened_desk
from taxledger.nodes.cli.output import HomeOption, JsonOption, note, print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taxledger.api.client import Event, EventId
    from taxledger.lending.desk import LendingDesk
    from taxledger.lending.watch import Alert, Courier, Watcher

__all__ = ["catch_up", "register"]


class UntilQuiet:
    """The node's events, until the ledger's newest block is behind: for a look that ends."""

    def __init__(self, desk: LendingDesk) -> None:
        self._desk = desk

    def events(self, after: EventId | None = None) -> Iterator[Event]:
        height = int(self._desk.client.status()["height"])
        if after is None or after.height >= height:
            return
        for event in self._desk.client.events(after):
            yield event
            if event.type == "taxledger.block.certified" and event.id.height >= height:
                return


def catch_up(desk: LendingDesk, watcher: Watcher, courier: Courier) -> None:
    """Look at all that happened until now, and deliver what is due."""
    watcher.run(UntilQuiet(desk), after=desk.watched_from())
    # What events may not have told: a node can leave one out, and time goes by without any.
    watcher.check_all()
    watcher.check_lateness()
    courier.deliver_due()


def watch(
    home: HomeOption,
    once: Annotated[
        bool, typer.Option("--once", help="Catch up with the ledger, deliver what is due, and end.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Follow the ledger's events: look again at borrowers whose records change, raise alerts, deliver them.

    Goes on where it stopped. Ctrl-C ends it.

    Example: taxledger lend watch --home net/bank1 --once
    """
    with opened_desk(home) as desk:
        before = {each.id for each in desk.watch.alerts()}
        watcher, courier = desk.watcher(), desk.courier()
        stop = threading.Event()
        sending = threading.Thread(target=courier.run, args=(stop,), daemon=True)
        try:
            if once:
                catch_up(desk, watcher, courier)
            else:
                sending.start()
                note("watching; Ctrl-C ends it")
                watcher.run(desk.client, after=desk.watched_from())
        finally:
            stop.set()
            if sending.is_alive():
                sending.join(timeout=30)
            courier.close()
            _show([each for each in desk.watch.alerts() if each.id not in before], as_json=as_json)


def alerts(
    home: HomeOption,
    loan: Annotated[
        str | None, typer.Option("--loan", metavar="LOAN", help="Only of this loan.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What the watch has found, oldest first.

    Example: taxledger lend alerts --home net/bank1
    """
    with opened_desk(home) as desk:
        _show(desk.watch.alerts(loan), as_json=as_json)


def _show(found: list[Alert], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(each) for each in found])
        return
    for each in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(each.raised_ms / 1_000))
        say(f"{when} UTC  {each.severity:8} loan {each.loan}  {each.rule}: {each.text} / {each.text_zh}")
    if not found:
        say("no alerts 无预警")


def register(group: typer.Typer) -> None:
    """Add these commands to ``lend``."""
    group.command()(watch)
    group.command()(alerts)
