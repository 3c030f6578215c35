"""Certified events as server-sent events: gapless, bounded, ending when the node does.

The stream is *pulled*: a block's events are read from the ledger when the consumer has taken those before,
so a slow consumer costs one block of memory, and one that takes nothing for ``send_timeout_s`` is cut off.
Ids come from the ledger (``<height>-<number>``), so a consumer goes on at the same place after a restart of
the node, and at any other node of the network.

An own response class instead of ``sse-starlette``: that one replaces a method of uvicorn for the whole
process and polls for its end, and three fields a line are not much to write.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from taxledger.api.events import Event, EventId, cloud_event, events_of_block
from taxledger.api.reader import NodeReader
from taxledger.ledger.errors import UnavailableError

__all__ = ["EventStream", "StreamSlots", "encode_event", "first_height", "follow"]

_RETRY_MS = 1_000
_T = TypeVar("_T")


class StreamSlots:
    """How many streams may be open at once."""

    def __init__(self, streams_max: int) -> None:
        self._free = streams_max

    @property
    def exhausted(self) -> bool:
        return self._free <= 0

    def __enter__(self) -> None:
        self._free -= 1

    def __exit__(self, *_: object) -> None:
        self._free += 1


def encode_event(event: Event, source: str) -> bytes:
    """One event in the wire format of the HTML standard §9.2; the data is ASCII on one line."""
    data = json.dumps(cloud_event(event, source), separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n".encode("ascii")


def first_height(after: EventId) -> int:
    """The first block in which there may be events after an id."""
    ended = after == EventId.after_block(after.height)
    return max(after.height + 1 if ended else after.height, 1)


async def follow(
    reader: NodeReader, source: str, after: EventId, closing: asyncio.Event, keepalive_s: float
) -> AsyncIterator[bytes]:
    """The events after an id, one piece a block, for ever; ends when ``closing`` is set or the node stops."""
    # An id without data: a consumer that loses the connection before the first event still resumes from here.
    yield f"retry: {_RETRY_MS}\nid: {after}\n\n".encode("ascii")
    height = first_height(after)
    while not closing.is_set():
        try:
            block = await reader.block(height)
            if block is None:
                newest = await _unless(closing, reader.wait_certified(height, keepalive_s))
                if newest is None:
                    return
                if newest < height:
                    seen = max(after, EventId.after_block(height - 1))
                    yield f": keep-alive\nid: {seen}\n\n".encode("ascii")
                continue
        except UnavailableError:
            return
        events = events_of_block(block.height, block.time_ms, block.leaves, block.results)
        fresh = [event for event in events if event.id > after]
        if fresh:
            yield b"".join(encode_event(event, source) for event in fresh)
        height += 1
        await asyncio.sleep(0)  # a long way to catch up must not starve other requests


async def _unless(closing: asyncio.Event, work: Awaitable[_T]) -> _T | None:
    """The result of ``work``, or None as soon as ``closing`` is set."""
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, stop):
            each.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


class EventStream(StreamingResponse):
    """A stream that holds a slot while it is open and gives up on a consumer that takes nothing."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], slots: StreamSlots, send_timeout_s: float) -> None:
        super().__init__(content, headers={"X-Accel-Buffering": "no"})
        self._slots = slots
        self._send_timeout_s = send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_soon(message: Message) -> None:
            async with asyncio.timeout(self._send_timeout_s):
                await send(message)

        with self._slots:
            await super().__call__(scope, receive, send_soon)
