"""Where a bank's alerts go: a receiver of webhooks on this machine, that checks every signature."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from taxledger.ledger.errors import VerificationError

__all__ = ["Receiver", "receiving"]

_BODY_BYTES_MAX = 1024 * 1024


class Receiver:
    """Where the bank's alerts go: what a bank's own system would be.

    Attributes:
        secret: that signs; ``url`` the address.
        got: the deliveries whose signature held, in order.
    """

    def __init__(self) -> None:
        self.secret = f"whsec_{base64.b64encode(os.urandom(32)).decode()}"
        self.url = ""
        self.got: list[dict[str, Any]] = []

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Check and keep a delivery; the status to answer."""
        from taxledger.lending.watch.webhooks import read_delivery

        try:
            self.got.append(read_delivery(self.secret, headers, body))
        except VerificationError:
            return 400
        return 204


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on this machine, for as long as it lasts."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = min(int(self.headers.get("content-length", "0")), _BODY_BYTES_MAX)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(receiver.take(headers, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: the demo tells what came."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/alerts"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
