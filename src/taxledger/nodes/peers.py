"""Messages between members' nodes: canonical msgpack over HTTP with mutual TLS. The only file that imports
``aiohttp``.

Who a peer is, is decided by its certificate alone: it must be issued, directly, by the TLS authority whose
hash stands in the member's entry on the ledger. That some authority of the bundle signed it is not enough: any
member could then issue itself a certificate in another's name. What a message says of its sender is never
believed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import InputError, RefusedError, TaxledgerError, UnavailableError
from taxledger.nodes.pki import Authorities

__all__ = ["Handler", "PeerClient", "PeerServer", "TlsFiles"]

Handler = Callable[[int, Any], Awaitable[Any]]
"""``(member number of the sender, decoded message) → value to answer with``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of one node: its certificate and key, and the authorities of all members."""

    certificate: Path
    key: Path
    authorities: Path


def _server_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _client_context(files: TlsFiles, authority_pem: str) -> ssl.SSLContext:
    """Trusts one authority only: that of the member we mean to reach."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(cadata=authority_pem)
    return context


class PeerServer:
    """Answers the messages of other members' nodes.

    Args:
        files: TLS material.
        authorities: those of the members that are active in the present state; a new object when that
            changes.
        handlers: one for each verb; each message is ``POST /peer/1/<verb>``.
    """

    def __init__(
        self,
        files: TlsFiles,
        authorities: Callable[[], Authorities],
        handlers: Mapping[str, Handler],
    ) -> None:
        self._files = files
        self._authorities = authorities
        self._known: tuple[Authorities, dict[bytes, int]] | None = None
        self._handlers = dict(handlers)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises UnavailableError when the address cannot be bound."""
        application = web.Application(client_max_size=limits.peer_message_bytes_max)
        application.router.add_post("/peer/1/{verb}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=_server_context(self._files), backlog=64)
        try:
            await site.start()
        except OSError as error:
            raise UnavailableError(f"cannot listen for peers on {host}:{port}: {error.strerror}") from error

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            member = self._sender(request)
        except RefusedError as error:
            return _failure(403, error.code, str(error))
        handler = self._handlers.get(request.match_info["verb"])
        if handler is None:
            return _failure(404, "peer_verb_unknown", f"no verb {request.match_info['verb']!r}")
        try:
            body = await request.read()
            message = canonical.decode(body, bytes_max=limits.peer_message_bytes_max)
            answer = await handler(member, message)
        except RefusedError as error:
            return _failure(409, error.code, str(error))
        except InputError as error:
            return _failure(400, "malformed", str(error))
        except UnavailableError as error:
            return _failure(503, "unavailable", str(error))
        except TaxledgerError as error:
            return _failure(409, getattr(error, "code", "refused"), str(error))
        return web.Response(
            body=answer if type(answer) is bytes else canonical.encode(answer),
            content_type="application/octet-stream",
        )

    def _sender(self, request: web.Request) -> int:
        """The member whose authority issued the connection's certificate; checked once per certificate."""
        transport = request.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        if not certificate:
            raise RefusedError("peer_unknown", "expected the certificate of an active member")
        authorities = self._authorities()
        if self._known is None or self._known[0] is not authorities:
            self._known = (authorities, {})
        found = self._known[1].get(certificate)
        if found is None:
            found = self._known[1][certificate] = authorities.member_of(certificate)
        return found


def _failure(status: int, code: str, text: str) -> web.Response:
    return web.Response(
        status=status,
        body=canonical.encode([1, "error", code, text[:2000]]),
        content_type="application/octet-stream",
    )


class PeerClient:
    """Calls one member's node over a kept connection."""

    def __init__(
        self, *, number: int, name: str, url: str, files: TlsFiles, authorities: Callable[[], Authorities]
    ) -> None:
        self.number = number
        self.name = name
        self._url = url
        self._files = files
        self._authorities = authorities
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            authority = self._authorities().pem_of(self.number)
            connector = aiohttp.TCPConnector(
                ssl=_client_context(self._files, authority), limit=8, keepalive_timeout=120.0
            )
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self._session

    async def call(
        self,
        verb: str,
        message: Any,
        *,
        timeout_ms: int = limits.peer_timeout_ms,
        answer_bytes_max: int = limits.peer_message_bytes_max,
    ) -> bytes:
        """Send one message and return the answer's bytes.

        Raises:
            UnavailableError: no connection, no answer in time, or the peer is not ready.
            RefusedError: the peer refused, with its code.
        """
        body = canonical.encode(message)
        try:
            async with self._open().post(
                f"{self._url}/peer/1/{verb}",
                data=body,
                timeout=aiohttp.ClientTimeout(total=timeout_ms / 1000),
            ) as response:
                data = await _read_bounded(response, answer_bytes_max)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnavailableError(f"{self.name} does not answer: {type(error).__name__}") from error
        if status == 200:
            return data
        code, text = _decode_failure(data, status)
        if status == 503:
            raise UnavailableError(f"{self.name}: {text}")
        raise RefusedError(code, f"{self.name}: {text}")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)


async def _read_bounded(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    async for part in response.content.iter_any():
        total += len(part)
        if total > bytes_max:
            response.close()
            raise UnavailableError(f"an answer of more than {bytes_max} bytes")
        parts.append(part)
    return b"".join(parts)


def _decode_failure(data: bytes, status: int) -> tuple[str, str]:
    try:
        version, what, code, text = canonical.decode(data, bytes_max=8192)
    except (InputError, ValueError, TypeError):
        return "refused", f"HTTP status {status}"
    if version != 1 or what != "error" or type(code) is not str or type(text) is not str:
        return "refused", f"HTTP status {status}"
    return code, text
