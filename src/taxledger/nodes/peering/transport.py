"""Messages between members' nodes: canonical msgpack over HTTP with mutual TLS. The only file that imports
``aiohttp``.

Who a peer is, is decided by its certificate alone: it must be issued, directly, by the TLS authority whose hash
stands in the member's entry on the ledger. That some authority of the bundle signed it is not enough: any
member could then issue itself a certificate in another's name. What a message says of its sender is never
believed.

A certificate counts between its dates only: TLS checks them when a connection is made, both sides check the end
again with each message. A node that renews its own breaks no connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
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
from taxledger.nodes.identity.pki import Authorities, Validity, validity_of_der
from taxledger.nodes.identity.tls import TlsFiles, client_context, server_context

__all__ = ["Handler", "PeerClient", "PeerServer", "TlsFiles"]

_MESSAGE_BYTES_MAX = {
    "step": limits.peer_message_bytes_max,
    "submit": limits.leaf_bytes_max + 64,
    "grant": limits.consent_bytes_max + 64,
    "permit": 40 * limits.permits_max + 64,
    "erase_notice": 40 * limits.notice_records_max + 64,
}
_SMALL_BYTES_MAX = 8_192
"""Of a message of any other verb: nobody makes us decode megabytes to learn that they are no co-signature."""
_CERTIFICATES_KNOWN_MAX = 1_024  # a member can issue itself any number of certificates
_LINE_S_MAX = 3_600  # a connection in use never sees that the peer renewed its certificate

_NOT_READ = ("peer_unknown", "peer_expired")
"""Codes that say who we are not, and nothing of the message."""

Handler = Callable[[int, Any], Awaitable[Any]]
"""``(member number of the sender, decoded message) → value to answer with``."""


class PeerServer:
    """Answers the messages of other members' nodes.

    Args:
        files: TLS material.
        authorities: those of the members that are active in the present state; a new object when that
            changes.
        handlers: one for each verb; each message is ``POST /peer/1/<verb>``.
        on_invariant: ends the process after an ``InvariantError``.
        now: seconds since 1970.

    Attributes:
        seen: validity of the certificate that each member's node showed last.
    """

    def __init__(
        self,
        files: TlsFiles,
        authorities: Callable[[], Authorities],
        handlers: Mapping[str, Handler],
        on_invariant: Callable[[InvariantError], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.seen: dict[int, Validity] = {}
        self._now = now
        self._files = files
        self._context = server_context(files)
        self._authorities = authorities
        self._known: tuple[Authorities, dict[bytes, tuple[int, Validity]]] | None = None
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

    def use(self, node: Path) -> None:
        """Show another certificate from the next handshake on; connections that stand are left alone.

        Raises:
            OSError: the file can't be read, or holds no matching key and certificate; nothing changed.
        """
        server_context(
            TlsFiles(node=node, authorities=self._files.authorities)
        )  # a half-written one raises here
        self._context.load_cert_chain(node)

    def refresh(self) -> None:
        """Read the file of authorities again: one was added that some member's entry names."""
        self._context.load_verify_locations(self._files.authorities)

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
        """The member whose authority issued the connection's certificate; looked up once per certificate.

        TLS checks the dates when a connection is made. It may be in use for longer than the certificate lives.
        """
        transport = request.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        if not certificate:
            raise RefusedError("peer_unknown", "expected the certificate of an active member")
        authorities = self._authorities()
        if self._known is None or self._known[0] is not authorities:
            self._known = (authorities, {})
            self.refresh()
        known = self._known[1]
        found = known.get(certificate)
        if found is None:
            if len(known) >= _CERTIFICATES_KNOWN_MAX:
                known.clear()
            found = known[certificate] = authorities.member_of(certificate), validity_of_der(certificate)
        member, validity = found
        self.seen[member] = validity
        if self._now() >= validity.end_s:
            raise RefusedError("peer_expired", "the certificate of this connection has expired")
        return member


def _failure(status: int, code: str, text: str) -> web.Response:
    return web.Response(
        status=status,
        body=canonical.encode([1, "error", code, text[:2000]]),
        content_type="application/octet-stream",
    )


class _Response(aiohttp.ClientResponse):
    """Remembers whose certificate the connection has that it came over."""

    peer_certificate: bytes | None = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        tls = connection.transport.get_extra_info("ssl_object") if connection.transport else None
        self.peer_certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        return await super().start(connection)


class _Line:
    """One session with its connections. A retired one is closed when the last call that uses it has ended."""

    def __init__(self, session: aiohttp.ClientSession, authorities: tuple[str, ...], opened_s: float) -> None:
        self.session = session
        self.authorities = authorities
        self.opened_s = opened_s
        self.shown: set[bytes] = set()  # certificates of the peer on its connections
        self.ends_s: float | None = None  # when the first of them expires
        self._calls = 0
        self._retired = False

    def enter(self) -> None:
        self._calls += 1

    async def leave(self) -> None:
        self._calls -= 1
        if self._retired and not self._calls:
            await self.session.close()

    async def retire(self) -> None:
        self._retired = True
        if not self._calls:
            await self.session.close()


class PeerClient:
    """Calls one member's node over kept connections.

    Attributes:
        seen: validity of the certificate that the member's node showed last; None before its first answer.
        shown: files of our own certificates, the first one first.
    """

    def __init__(
        self,
        *,
        number: int,
        name: str,
        url: str,
        files: TlsFiles,
        authorities: Callable[[], Authorities],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.number = number
        self.name = name
        self.seen: Validity | None = None
        self._url = url
        self.shown = (files.node, *files.others)  # the first that is not refused
        self._authorities = authorities
        self._now = now
        self._line: _Line | None = None

    async def move(self, url: str) -> None:
        """Call the node at another address from the next call on."""
        self._url = url
        await self._retire()

    async def use(self, nodes: tuple[Path, ...]) -> None:
        """Show another certificate from the next call on; calls under way are left to end.

        Args:
            nodes: files of key and certificate; each after the first for peers that refuse those before.
        """
        self.shown = nodes
        await self._retire()

    async def _open(self) -> _Line:
        """A line for the authority that the member has now: none when it is suspended, a new one when it changed
        its authority, when a certificate shown on it has expired, and now and then, so that renewed ones are
        shown and seen in time.
        """
        try:
            authorities = self._authorities().pems_of(self.number)
        except UnavailableError:
            await self.close()
            raise
        line = self._line
        if line is not None:
            expired = line.ends_s is not None and self._now() >= line.ends_s
            if expired or not set(line.authorities) <= set(authorities):
                await self.close()
            elif line.authorities != authorities or self._now() - line.opened_s >= _LINE_S_MAX:
                await self._retire()
        if self._line is None or self._line.session.closed:
            # No limit of connections: a submission waits long for its certificate, and what others ask
            # meanwhile must not wait behind it. How many there are is limited where they come from.
            context = client_context(self.shown[0], authorities)
            connector = aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=120.0)
            session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                response_class=_Response,
            )
            self._line = _Line(session, authorities, self._now())
        return self._line

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
            return await self._exchange(verb, body, timeout_ms, answer_bytes_max)
        except RefusedError as error:
            if error.code not in _NOT_READ or not await self._try_another():
                raise
        return await self._exchange(verb, body, timeout_ms, answer_bytes_max)

    async def _exchange(self, verb: str, body: bytes, timeout_ms: int, answer_bytes_max: int) -> bytes:
        try:
            line = await self._open()
            line.enter()
            try:
                async with line.session.post(
                    f"{self._url}/peer/1/{verb}",
                    data=body,
                    timeout=aiohttp.ClientTimeout(total=timeout_ms / 1000),
                    allow_redirects=False,  # a peer must not have us send its messages elsewhere
                ) as response:
                    self._note(line, response)
                    status = response.status
                    bytes_max = answer_bytes_max if status == 200 else _SMALL_BYTES_MAX
                    data = await _read_bounded(response.content, bytes_max)
            finally:
                await line.leave()
        except LimitError as error:
            raise UnavailableError(f"the answer of {self.name} is too large: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if not isinstance(error, TimeoutError):
                await self._try_another()
            raise UnavailableError(f"{self.name} does not answer: {type(error).__name__}") from error
        if status == 200:
            return data
        code, text = _decode_failure(data, status)
        if status == 503:
            raise UnavailableError(f"{self.name}: {text}")
        raise RefusedError(code, f"{self.name}: {text}")

    def _note(self, line: _Line, response: aiohttp.ClientResponse) -> None:
        certificate = response.peer_certificate if isinstance(response, _Response) else None
        if certificate is None or certificate in line.shown:
            return
        line.shown.add(certificate)
        self.seen = validity_of_der(certificate)
        line.ends_s = self.seen.end_s if line.ends_s is None else min(line.ends_s, self.seen.end_s)

    async def _try_another(self) -> bool:
        """The next call shows our next certificate: the peer's ledger may name another authority of ours. False
        when there is no other.
        """
        if len(self.shown) < 2:
            return False
        self.shown = (*self.shown[1:], self.shown[0])
        await self._retire()
        return True

    async def _retire(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.retire()

    async def close(self) -> None:
        """End all connections, also those in use."""
        line, self._line = self._line, None
        if line is not None:
            await line.session.close()
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
