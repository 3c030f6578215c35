"""Seeing to it that an engine which lost its connections ends: whoever started it starts it anew only then.

It stops by itself, and not always: one that waits for an answer when its connections end may wait for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct

from taxledger.nodes.logs import get_logger

__all__ = ["end_process", "hold_peer"]

ENDS_S = 5.0
_CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid."""


def hold_peer(connection: int) -> int | None:
    """A file descriptor of the process at the other end of a unix socket: unlike its number it never comes to mean
    another process. None where the system has no such thing, or the process is this one.

    Args:
        connection: the socket's file descriptor.
    """
    if not hasattr(os, "pidfd_open") or not hasattr(socket, "SO_PEERCRED"):
        return None  # not Linux: a stuck engine has to be ended by hand
    with socket.socket(fileno=os.dup(connection)) as channel:
        data = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid = _CREDENTIALS.unpack(data)[0]
    if pid == os.getpid():
        return None
    with contextlib.suppress(OSError):
        return os.pidfd_open(pid)
    return None


async def end_process(held: int) -> None:
    """Return when the process is gone; it is killed when it does not end by itself. Closes the descriptor."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(held, gone.set)
    try:
        async with asyncio.timeout(ENDS_S):
            await gone.wait()
    except TimeoutError:
        get_logger("engine").warning("the engine does not end by itself: killed")
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(held, signal.SIGKILL)
    finally:
        loop.remove_reader(held)
        os.close(held)
