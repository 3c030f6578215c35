"""Messages between members' nodes: canonical msgpack over HTTP with mutual TLS. The only file that imports
``aiohttp``.

Who a peer is, is decided by its certificate alone: it must be issued, directly, by the TLS authority whose hash
stands in the member's entry on the ledger. That some authority of the bundle signed it is not enough: any
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
from taxledger.ledger.errors import (
    InputError,
    InvariantError,
    LimitError,
    RefusedError,
    TaxledgerError,
    UnavailableError,
)
from taxledger.nodes.pki import Authorities

__all__ = ["Handler", "PeerClient", "PeerServer", "TlsFiles"]

_MESSAGE_BYTES_MAX = {"step": limits.peer_message_bytes_max, "submit": limits.leaf_bytes_max + 64}
_SMALL_BYTES_MAX = 8_192
"""Of a message of any other verb: nobody makes us decode megabytes to learn that they are no co-signature."""
_CERTIFICATES_KNOWN_MAX = 1_024
"""A member can issue itself any number of certificates."""

Handler = Callable[[int, Any], Awaitable[Any]]
"""``(member number of the sender, decoded message) → value to answer with``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of one node: its key and certificate in one file, and the authorities of all members."""

    node: Path
    authorities: Path


def _server_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.node)
    context.load_verify_locations(files.authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _client_context(files: TlsFiles, authority_pem: str) -> ssl.SSLContext:
    """Trusts one authority only: that of the member we mean to reach."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.node)
    context.load_verify_locations(cadata=authority_pem)
    return context


class PeerServer:
    """Answers the messages of other members' nodes.

    Args:
        files: TLS material.
        authorities: those of the members that are active in the present state; a new object when that
            changes.
        handlers: one for each verb; each message is ``POST /peer/1/<verb>``.
        on_invariant: ends the process after an ``InvariantError``.
    """

    def __init__(
        self,
        files: TlsFiles,
        authorities: Callable[[], Authorities],
        handlers: Mapping[str, Handler],
        on_invariant: Callable[[InvariantError], None],
    ) -> None:
        self._files = files
        self._context = _server_context(files)
        self._authorities = authorities
        self._known: tuple[Authorities, dict[bytes, int]] | None = None
        self._handlers = dict(handlers)
        self._on_invariant = on_invariant
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises UnavailableError when the address cannot be bound."""
        application = web.Application()
        application.router.add_post("/peer/1/{verb}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=self._context, backlog=64)
        try:
            await site.start()
        except OSError as error:
            raise UnavailableError(f"cannot listen for peers on {host}:{port}: {error.strerror}") from error

    @property
    def port(self) -> int:
        """Where it listens, once started (port 0 lets the system choose)."""
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            member = self._sender(request)
        except RefusedError as error:
            return _failure(403, error.code, str(error))
        verb = request.match_info["verb"]
        handler = self._handlers.get(verb)
        if handler is None:
            return _failure(404, "peer_verb_unknown", f"no verb {verb!r}")
        try:
            body = await _read_bounded(request.content, _MESSAGE_BYTES_MAX.get(verb, _SMALL_BYTES_MAX))
            answer = await handler(member, canonical.decode(body))
        except InvariantError as error:
            self._on_invariant(error)
            raise
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
            self._context.load_verify_locations(self._files.authorities)  # a new member's may be among them
        known = self._known[1]
        found = known.get(certificate)
        if found is None:
            if len(known) >= _CERTIFICATES_KNOWN_MAX:
                known.clear()
            found = known[certificate] = authorities.member_of(certificate)
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
        self._trusted: str | None = None  # the authority that the session was opened for

    async def _open(self) -> aiohttp.ClientSession:
        """A session for the authority that the member has now: none when it is suspended, a new one when it
        changed its authority.
        """
        authority = self._authorities().pem_of(self.number)
        if authority != self._trusted:
            await self.close()
        if self._session is None or self._session.closed:
            # No limit of connections: a submission waits long for its certificate, and what others ask
            # meanwhile must not wait behind it. How many there are is limited where they come from.
            connector = aiohttp.TCPConnector(
                ssl=_client_context(self._files, authority), limit=0, keepalive_timeout=120.0
            )
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
            self._trusted = authority
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
            session = await self._open()
            async with session.post(
                f"{self._url}/peer/1/{verb}",
                data=body,
                timeout=aiohttp.ClientTimeout(total=timeout_ms / 1000),
                allow_redirects=False,  # a peer must not have us send its messages elsewhere
            ) as response:
                status = response.status
                bytes_max = answer_bytes_max if status == 200 else _SMALL_BYTES_MAX
                data = await _read_bounded(response.content, bytes_max)
        except LimitError as error:
            raise UnavailableError(f"the answer of {self.name} is too large: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnavailableError(f"{self.name} does not answer: {type(error).__name__}") from error
        if status == 200:
            return data
        code, text = _decode_failure(data, status)
        if status == 503:
            raise UnavailableError(f"{self.name}: {text}")
        raise RefusedError(code, f"{self.name}: {text}")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            await asyncio.sleep(0)


async def _read_bounded(content: aiohttp.StreamReader, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    async for part in content.iter_any():
        total += len(part)
        if total > bytes_max:
            raise LimitError(f"expected at most {bytes_max} bytes")
        parts.append(part)
    return b"".join(parts)


def _decode_failure(data: bytes, status: int) -> tuple[str, str]:
    try:
        version, what, code, text = canonical.decode(data)
    except (InputError, ValueError, TypeError):
        return "refused", f"HTTP status {status}"
    if version != 1 or what != "error" or type(code) is not str or type(text) is not str:
        return "refused", f"HTTP status {status}"
    return code, text
