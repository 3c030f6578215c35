"""Following events: the wire format of server-sent events, and the place to resume from. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from taxledger.api.client.wire import Request
from taxledger.api.events import Event, EventId
from taxledger.ledger.errors import InputError, VerificationError

__all__ = ["EventCursor"]

_EVENT_BYTES_MAX = 1024 * 1024
_SILENCE_S_MAX = 60.0
"""The node sends a comment every 15 s; after this long the connection is dead."""
_LINE_END = re.compile(rb"\r\n|\n")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _malformed(expected: str) -> VerificationError:
    return VerificationError("malformed", f"the node's events: expected {expected}")


class EventCursor:
    """Where a consumer stands in the stream of events. Feed it bytes, take events, ask it how to go on.

    Ids rise strictly, so what comes twice after a reconnection is dropped and nothing is lost.

    Args:
        origin: of the policy; events of another chain are refused.
        after: begin after this event, or None for now.
    """

    def __init__(self, origin: str, after: EventId | None) -> None:
        self._origin = origin
        self.after = after
        self._buffer = b""
        self._id = ""
        self._data: list[str] = []

    def request(self) -> Request:
        """The request that opens the stream at this place; forgets a half-read event."""
        self._buffer, self._id, self._data = b"", "", []
        headers = {"Accept": "text/event-stream"}
        if self.after is not None:
            headers["Last-Event-ID"] = str(self.after)
        return Request(method="GET", path="/v1/events", headers=headers, timeout_s=_SILENCE_S_MAX)

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that are complete with this piece.

        Raises:
            VerificationError: ``malformed``, or ``policy_mismatch`` for an event of another chain.
        """
        self._buffer += piece
        if len(self._buffer) > _EVENT_BYTES_MAX:
            raise _malformed(f"a line of at most {_EVENT_BYTES_MAX} bytes")
        *lines, self._buffer = _LINE_END.split(self._buffer)
        for line in lines:
            event = self._line(line)
            if event is not None:
                yield event

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"id":
            self._id = text
        elif name == b"data":
            self._data.append(text)
            if sum(map(len, self._data)) > _EVENT_BYTES_MAX:
                raise _malformed(f"an event of at most {_EVENT_BYTES_MAX} bytes")
        return None

    def _dispatch(self) -> Event | None:
        data, self._data = "\n".join(self._data), []
        if not self._id:
            return None
        place, self._id = _place(self._id), ""
        if self.after is not None and place <= self.after:
            return None
        # An id without data only says how far the stream has come.
        event = _event(data, place, self._origin) if data else None
        self.after = place
        return event


def _place(text: str) -> EventId:
    try:
        return EventId.parse(text)
    except InputError as error:
        raise _malformed("an id <height>-<number>") from error


def _event(text: str, place: EventId, origin: str) -> Event:
    try:
        body: Any = json.loads(text)
        instant = datetime.fromisoformat(body["time"])
        kind, subject, data, source, name = (body[key] for key in ("type", "subject", "data", "source", "id"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _malformed("a CloudEvent") from error
    if not (type(kind) is type(subject) is str and isinstance(data, dict) and name == str(place)):
        raise _malformed("type, subject, data and id of an event")
    if instant.tzinfo is None:
        raise _malformed("a time with its zone")
    if source != origin:
        raise VerificationError("policy_mismatch", "events of another chain", expected=origin, got=source)
    time_ms = (instant - _EPOCH) // timedelta(milliseconds=1)
    return Event(id=place, type=kind, time_ms=time_ms, subject=subject, data=data)
