"""One answer for one Idempotency-Key (in the manner of the IETF draft ``idempotency-key-header``).

The same key with the same body gets the same answer; with another body it is refused; while the first
request is under way, repetitions wait for it. What is kept is bounded by number, bytes and age, in memory:
after a restart the key is forgotten, and what protects then is that every POST is harmless to repeat by
itself — a transaction is named by its bytes and counts once, a dossier and a history only read. Answers
that are no success, or not the last word (202), are not kept, so a repetition tries again.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from taxledger.api.problems import ProblemError

__all__ = ["Answer", "IdempotencyStore", "check_key"]

_KEY_CHARACTERS_MAX = 128
_FORGET_STEP = 16
"""Entries looked at a call: more than one, so that the store shrinks again after it was full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A finished answer: status, media type, body."""

    status: int
    media_type: str
    body: bytes


@dataclass(slots=True)
class _Entry:
    digest: bytes
    begun_s: float
    done: asyncio.Event
    answer: Answer | None = None


def check_key(value: str) -> str:
    """The key, or a problem when it is not 1 to 128 printable ASCII characters."""
    if not 1 <= len(value) <= _KEY_CHARACTERS_MAX or not value.isascii() or not value.isprintable():
        raise ProblemError(
            "idempotency_key_invalid", f"expected 1 to {_KEY_CHARACTERS_MAX} printable characters"
        )
    return value


class IdempotencyStore:
    """Answers by (API key, route, Idempotency-Key), the least recently used dropped first.

    Args:
        clock: monotonic seconds.
        age_s_max: how long an answer is kept.
        entries_max: how many are kept.
        bytes_max: bodies of all of them together; a larger single body is not kept.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        age_s_max: float = 3_600,
        entries_max: int = 4_096,
        bytes_max: int = 32 * 1024 * 1024,
    ) -> None:
        self._clock = clock
        self._age_s_max = age_s_max
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: OrderedDict[tuple[str, str, str], _Entry] = OrderedDict()

    async def run(
        self, name: tuple[str, str, str], body: bytes, work: Callable[[], Awaitable[Answer]]
    ) -> tuple[Answer, bool]:
        """The answer under a name, worked out at most once at a time; True when it is a repetition.

        Raises:
            ProblemError: ``idempotency_mismatch``; and whatever ``work`` raises.
        """
        digest = hashlib.sha256(body).digest()
        while True:
            self._forget()
            entry = self._entries.get(name)
            if entry is None or self._is_old(entry):
                return await self._first(name, digest, work), False
            if entry.digest != digest:
                raise ProblemError("idempotency_mismatch", "this key came with another body before")
            self._entries.move_to_end(name)
            if entry.answer is not None:
                return entry.answer, True
            await entry.done.wait()
            if entry.answer is not None:
                return entry.answer, True
            # The first one failed or was given up: this one takes its turn.

    async def _first(
        self, name: tuple[str, str, str], digest: bytes, work: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        self._drop(name)
        entry = _Entry(digest, self._clock(), asyncio.Event())
        self._entries[name] = entry
        try:
            answer = await work()
            if answer.status < 400 and answer.status != 202:
                entry.answer = answer
            return answer
        finally:
            entry.done.set()
            if entry.answer is None or len(entry.answer.body) > self._bytes_max // 8:
                self._entries.pop(name, None)
            else:
                self._bytes += len(entry.answer.body)

    def _is_old(self, entry: _Entry) -> bool:
        return entry.answer is not None and entry.begun_s < self._clock() - self._age_s_max

    def _drop(self, name: tuple[str, str, str]) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None and entry.answer is not None:
            self._bytes -= len(entry.answer.body)

    def _forget(self) -> None:
        """Drop what is too old or too much, the least recently used first; never one that is under way."""
        for name, entry in list(itertools.islice(self._entries.items(), _FORGET_STEP)):
            full = len(self._entries) >= self._entries_max or self._bytes > self._bytes_max
            if entry.answer is not None and (full or self._is_old(entry)):
                self._drop(name)
