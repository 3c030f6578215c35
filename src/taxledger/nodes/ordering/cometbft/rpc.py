"""The engine's own JSON-RPC, asked over its unix socket: nobody but this home's owner reaches it."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx

from taxledger.ledger.errors import RefusedError, UnavailableError

__all__ = ["EngineRpc"]

_ADDRESS_BYTES_MAX = 100
"""Of a socket's path: the kernel takes 108."""
_TIMEOUT_S = 5.0
_KNOWN = "already exists in cache"
_FULL = "mempool is full"


class EngineRpc:
    """Lives on the event loop.

    Args:
        socket: ``rpc.sock`` of the engine's folder; it need not exist yet.
    """

    def __init__(self, socket: Path) -> None:
        self._folder: int | None = None
        address = str(socket)
        if len(os.fsencode(address)) > _ADDRESS_BYTES_MAX:
            self._folder = os.open(socket.parent, os.O_RDONLY | os.O_DIRECTORY)
            address = f"/proc/self/fd/{self._folder}/{socket.name}"
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=address), base_url="http://engine", timeout=_TIMEOUT_S
        )

    async def call(self, method: str, **parameters: Any) -> Any:
        """The result of a call.

        Raises:
            RefusedError: ``engine``: it answered with an error, which is quoted.
            UnavailableError: it does not run, or not answer.
        """
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        try:
            answer = (await self._client.post("/", json=request)).json()
            error = answer.get("error")
        except (httpx.HTTPError, OSError, ValueError, AttributeError) as problem:
            raise UnavailableError(f"the ordering engine does not answer: {problem!r:.200}") from problem
        if error is not None:
            raise RefusedError("engine", f"{error.get('message')}: {str(error.get('data'))[:300]}")
        return answer.get("result")

    async def broadcast(self, raw: bytes) -> None:
        """Put a transaction into the engine's mempool; one that is there already is as good.

        Raises:
            RefusedError: our own ``CheckTx`` refused it; its code is the error's.
            UnavailableError: the mempool is full, or the engine does not run.
        """
        try:
            result = await self.call("broadcast_tx_sync", tx=b64encode(raw).decode())
        except RefusedError as error:
            if _KNOWN in str(error):
                return
            if _FULL in str(error):
                raise UnavailableError(f"too many transactions wait: {error}") from error
            raise UnavailableError(f"the ordering engine does not take it: {error}") from error
        if result["code"]:
            name, _, text = str(result["log"]).partition(": ")
            raise RefusedError(name or "refused", text or "the transaction can't count")

    async def close(self) -> None:
        """No more calls."""
        await self._client.aclose()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None
