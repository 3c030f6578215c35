"""CometBFT's side of beginning from a snapshot (``nodes/statesync/fetching.py`` brings the ledger's).

The ledger's snapshot lies in the store before the engine starts, of the block that the engine's block E made. What the
engine lacks is its own state at E, and it has one way to get it: its state sync. So our nodes offer it *markers*: one
for each snapshot, with a single chunk that means nothing. A joining node takes the marker of its own E, where the
engine's light client found the app hash that is its log root, and refuses every other.

The light client needs two servers of the engine's JSON-RPC. They are sockets in the joining home's engine folder;
the node passes four read-only calls on to two other members' nodes, over mutual TLS. The block that the light client
trusts was named by more members than can lie, and its app hash is the root under a checkpoint that the policy vouches
for.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.errors import (
    FormatError,
    RefusedError,
    TaxledgerError,
    UnavailableError,
    VerificationError,
)
from taxledger.ledger.snapshotinstall import VerifiedManifest
from taxledger.nodes.ordering.cometbft import messages as abci
from taxledger.nodes.ordering.cometbft.rpc import EngineRpc
from taxledger.nodes.ordering.cometbft.settings import StateSync
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.replica import Replica
from taxledger.nodes.statesync.snapshots import SnapshotKeeper

__all__ = ["SERVERS", "Markers", "on_engine_rpc", "trusted_block"]

SERVERS = ("unix://light1.sock", "unix://light2.sock")
"""As the engine names them, from its own folder."""

_FORMAT = 1
_CHUNK = b"+"
_CALLS = ("status", "commit", "validators", "consensus_params")
_PARAMETERS = ("height", "page", "per_page")
_ANSWER_BYTES_MAX = 4 * 1024 * 1024
_ASK_MS = 10_000


class Markers:
    """What the engine asks of the application about snapshots. See the module text."""

    def __init__(self, replica: Replica, keeper: SnapshotKeeper) -> None:
        self._replica = replica
        self._keeper = keeper

    async def list_snapshots(self, _request: abci.ListSnapshotsRequest) -> abci.ListSnapshotsResponse:
        """Those of which the light client can find all it needs: two more blocks of the engine."""
        engine_height = self._replica.application.chain.engine_height()
        found = []
        for each in await asyncio.to_thread(self._keeper.manifests):
            if 0 < each.engine_height <= engine_height - 2:
                found.append(
                    abci.Snapshot(
                        height=each.engine_height,
                        format=_FORMAT,
                        chunks=1,
                        hash=each.height.to_bytes(32, "big"),
                        metadata=b"",
                    )
                )
        return abci.ListSnapshotsResponse(snapshots=tuple(found))

    async def offer_snapshot(self, request: abci.OfferSnapshotRequest) -> abci.OfferSnapshotResponse:
        result = abci.OfferSnapshotResult.REJECT
        chain, offered = self._replica.application.chain, request.snapshot
        if (
            offered is not None
            and offered.format == _FORMAT
            and 0 < offered.height == chain.engine_height()
            and request.app_hash == chain.tip.frontier.root
        ):
            result = abci.OfferSnapshotResult.ACCEPT
        return abci.OfferSnapshotResponse(result=result)

    async def load_snapshot_chunk(
        self, _request: abci.LoadSnapshotChunkRequest
    ) -> abci.LoadSnapshotChunkResponse:
        return abci.LoadSnapshotChunkResponse(chunk=_CHUNK)

    async def apply_snapshot_chunk(
        self, _request: abci.ApplySnapshotChunkRequest
    ) -> abci.ApplySnapshotChunkResponse:
        return abci.ApplySnapshotChunkResponse(result=abci.ApplySnapshotChunkResult.ACCEPT)


# --- calls of the light client --------------------------------------------------------------------------


def on_engine_rpc(rpc: EngineRpc) -> Callable[[int, Any], Awaitable[bytes]]:
    """Peer verb ``engine_rpc``: a read-only call of this member's engine, ``[1, "engine_rpc", call, parameters]``."""

    async def handle(_member: int, message: Any) -> bytes:
        if type(message) is not list or len(message) != 4 or message[:2] != [1, "engine_rpc"]:
            raise FormatError('expected [1, "engine_rpc", call, {parameter: text}]')
        call, parameters = message[2:]
        if call not in _CALLS or type(parameters) is not dict:
            raise RefusedError("engine_rpc", f"expected a call out of {', '.join(_CALLS)}")
        if not all(
            name in _PARAMETERS and type(value) is str and value.isdecimal()
            for name, value in parameters.items()
        ):
            raise RefusedError("engine_rpc", f"expected parameters out of {', '.join(_PARAMETERS)}, numbers")
        return json.dumps(await rpc.call(call, **parameters)).encode()

    return handle


async def ask_engine(peer: PeerClient, call: str, **parameters: str) -> Any:
    """The result of a call of another member's engine.

    Raises:
        UnavailableError, RefusedError: no answer, or that of the engine.
    """
    data = await peer.call(
        "engine_rpc",
        [1, "engine_rpc", call, parameters],
        timeout_ms=_ASK_MS,
        answer_bytes_max=_ANSWER_BYTES_MAX,
    )
    try:
        return json.loads(data)
    except ValueError as error:
        raise UnavailableError(f"{peer.name}: the engine's answer is no JSON") from error


async def trusted_block(
    verified: VerifiedManifest, validators: Mapping[int, PeerClient], *, count: int
) -> StateSync:
    """The engine block after the snapshot's, as more members than can lie name it.

    Args:
        verified: the snapshot; its engine height is believed only because of what is found here.
        validators: clients of the validators' nodes, by number.
        count: how many validators there are.

    Raises:
        UnavailableError: not yet: the engine has not gone on far enough, or too few answer.
        VerificationError: ``snapshot_invalid``: its app hash is not the snapshot's log root.
    """
    height = verified.manifest.engine_height
    needed = (count - 1) // 3 + 1
    said = await asyncio.gather(*(_block_of(peer, height + 1) for peer in validators.values()))
    counted = Counter(each for each in said if each is not None)
    for (block_hash, app_hash), members in counted.most_common():
        if members < needed:
            break
        if app_hash != verified.root.hex():
            raise VerificationError(
                "snapshot_invalid",
                f"the app hash after the engine's block {height} is not the snapshot's log root",
                expected=verified.root.hex(),
                got=app_hash,
            )
        return StateSync(servers=SERVERS, height=height + 1, block_hash=block_hash)
    raise UnavailableError(
        f"expected {needed} validators to name the engine's block {height + 1} and to have gone on by one more, "
        f"got {max(counted.values(), default=0)}: wait for the next transaction and try again"
    )


async def _block_of(peer: PeerClient, height: int) -> tuple[str, str] | None:
    """(block hash, app hash before it) of an engine block that another one follows."""
    try:
        await ask_engine(peer, "commit", height=str(height + 1))
        answer = await ask_engine(peer, "commit", height=str(height))
        header, commit = answer["signed_header"]["header"], answer["signed_header"]["commit"]
        return commit["block_id"]["hash"].lower(), header["app_hash"].lower()
    except (TaxledgerError, KeyError, TypeError, AttributeError):
        return None


class LightServer:
    """One of the two servers, as an ASGI application: JSON-RPC calls, each passed on to the first peer that answers.

    Args:
        peers: in the order in which they are asked.
    """

    def __init__(self, peers: Sequence[PeerClient]) -> None:
        self._peers = tuple(peers)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        more = True
        while more and len(body) <= limits.leaf_bytes_max:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        answer = json.dumps(await self._answer(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, body: bytes) -> dict[str, Any]:
        try:
            request = json.loads(body)
            number, call, parameters = request["id"], request["method"], request.get("params") or {}
            given = {name: str(value) for name, value in parameters.items() if value is not None}
        except (ValueError, KeyError, TypeError, AttributeError):
            return _error(-1, -32600, "expected a JSON-RPC request")
        error = "no peer"
        for peer in self._peers:
            try:
                result = await ask_engine(peer, call, **given)
            except TaxledgerError as problem:
                error = str(problem)
                continue
            return {"jsonrpc": "2.0", "id": number, "result": result}
        return _error(number, -32603, error)


def _error(number: Any, code: int, text: str) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": number,
        "error": {"code": code, "message": "Internal error", "data": text[:500]},
    }


def light_servers(folder: Path, peers: Sequence[PeerClient]) -> dict[Path, LightServer]:
    """The two servers by their sockets: each begins with another peer."""
    turned = [*peers[1:], *peers[:1]]
    names = [name.removeprefix("unix://") for name in SERVERS]
    return {folder / names[0]: LightServer(peers), folder / names[1]: LightServer(turned)}
