"""The watch inside the service: goes on after trouble, ends without waiting for an event that may never come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from taxledger.api.events import Event, EventId
from taxledger.ledger.errors import InvariantError, TaxledgerError, UnavailableError, VerificationError
from taxledger.lending.service.minding import Minder
from taxledger.lending.watch import Courier, Watcher


class Silent:
    """A node whose stream stays open and says nothing."""

    def __init__(self) -> None:
        self.asked: list[EventId | None] = []
        self.reached, self.end = threading.Event(), threading.Event()

    def events(self, after: EventId | None = None) -> Iterator[Event]:
        self.asked.append(after)
        self.reached.set()
        self.end.wait(60)
        return iter(())


class Looks:
    """A watcher that notes its calls, and fails as often as it is told."""

    def __init__(self, *errors: TaxledgerError | Exception) -> None:
        self.errors, self.calls = list(errors), [""]
        self.daily = threading.Event()

    def run(self, source: Any, after: EventId | None = None) -> None:
        self.calls.append("run")
        if self.errors:
            raise self.errors.pop(0)
        for _event in source.events(after):
            pass

    def check_enrolled(self) -> None:
        self.calls.append("enrolled")

    def check_lateness(self) -> None:
        self.calls.append("late")

    def check_all(self) -> None:
        self.calls.append("all")
        self.daily.set()


class Carries:
    closed = False

    def run(self, stop: threading.Event) -> None:
        stop.wait(60)

    def close(self) -> None:
        self.closed = True


def minder(
    looks: Looks, node: Silent, carries: Carries, on_invariant: Callable[[InvariantError], None]
) -> Minder:
    return Minder(
        cast(Watcher, looks),
        cast(Courier, carries),
        node,
        begin=lambda: EventId.after_block(7),
        on_invariant=on_invariant,
        again_s=0.01,
    )


def test_it_goes_on_after_trouble_and_ends_at_once() -> None:
    looks = Looks(UnavailableError("nobody"), VerificationError("malformed", "lies"), ValueError("a bug"))
    node, carries, broken = Silent(), Carries(), list[InvariantError]()
    mind = minder(looks, node, carries, broken.append)
    mind.start()
    assert node.reached.wait(60)
    assert looks.daily.wait(60)
    assert looks.calls.count("run") == 4
    assert node.asked == [EventId.after_block(7)]
    begun = time.monotonic()
    mind.stop(grace_s=50)
    assert time.monotonic() - begun < 40  # it has not waited for the silent node
    assert carries.closed
    assert not broken
    node.end.set()
    assert looks.calls.count("all") == looks.calls.count("late") == 1


def test_a_broken_invariant_is_handed_on() -> None:
    looks, node, carries, broken = Looks(InvariantError("two truths")), Silent(), Carries(), []
    told = threading.Event()

    def note(error: InvariantError) -> None:
        broken.append(error)
        told.set()

    mind = minder(looks, node, carries, note)
    mind.start()
    assert told.wait(60)
    mind.stop()
    assert looks.calls.count("run") == len(broken) == 1
