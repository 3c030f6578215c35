"""Serving the application: where it may listen, and ending without waiting for event streams."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from taxledger.api.app import begin_shutdown
from taxledger.ledger.errors import InputError

__all__ = ["ApiServer", "check_bind"]

_SHUTDOWN_S = 5
_CONNECTIONS_MAX = 512


def check_bind(host: str, certificate: Path | None) -> None:
    """Returns when the API may listen there: on loopback, or anywhere with a certificate.

    Without TLS an API key would cross the network in the clear.

    Raises:
        InputError: any other address without a certificate; also a name other than ``localhost``, because
        what it
            resolves to can change.
    """
    if certificate is not None or host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InputError(f"the API listens on loopback only, unless given a certificate; got host {host!r}")


class ApiServer(uvicorn.Server):
    """uvicorn with our limits, which ends the event streams when it shuts down.

    Args:
        app: of ``create_app``.
        host, port: where to listen; port 0 lets the system choose (see ``bound_port``).
        certificate, private_key: PEM files for TLS, both or neither.
        on_shutdown: ends what the application's open requests wait for.

    Attributes:
        ready: set when it listens.

    Raises:
        InputError: see ``check_bind``; or only one of the two files.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        host: str,
        port: int,
        certificate: Path | None = None,
        private_key: Path | None = None,
        on_shutdown: Callable[[FastAPI], None] = begin_shutdown,
    ) -> None:
        check_bind(host, certificate)
        if (certificate is None) != (private_key is None):
            raise InputError("expected a certificate and its private key, got only one of them")
        self._app, self._on_shutdown = app, on_shutdown
        self.ready = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                ssl_certfile=certificate,
                ssl_keyfile=private_key,
                log_config=None,  # nodes/logs.py has configured logging
                access_log=False,  # uvicorn's would hold paths and query strings
                server_header=False,
                date_header=True,
                proxy_headers=False,
                ws="none",
                limit_concurrency=_CONNECTIONS_MAX,
                timeout_graceful_shutdown=_SHUTDOWN_S,
            )
        )

    @property
    def bound_port(self) -> int:
        """The port it listens on, once ``started``."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the node's: it ends the server by setting ``should_exit``."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_shutdown(self._app)
        await super().shutdown(sockets)
