"""The parts of a running node that have to do with snapshots and with what is no longer kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn

from taxledger.ledger.pruning import engine_retain_height, prune_blocks
from taxledger.nodes.home import Home
from taxledger.nodes.notes import Notes
from taxledger.nodes.ordering.cometbft.engine import CometBft
from taxledger.nodes.ordering.cometbft.files import read_state_sync, write_state_sync
from taxledger.nodes.ordering.cometbft.statesync import LightServer, Markers, light_servers, on_engine_rpc
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.replica import Replica
from taxledger.nodes.statesync.snapshots import SnapshotKeeper, snapshot_folder

__all__ = ["SnapshotParts"]

_LOOK_S = 2.0
_PRUNE_S = 60.0
_PRUNE_SOON_S = 0.1


class _SocketServer(uvicorn.Server):
    """Serves one application on a socket that this home's owner alone reaches; signals are the node's."""

    def __init__(self, application: LightServer, path: Path) -> None:
        path.unlink(missing_ok=True)
        super().__init__(
            uvicorn.Config(
                application, uds=str(path), log_config=None, access_log=False, lifespan="off", ws="none"
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class SnapshotParts:
    """Made with the node, on its event loop.

    Args:
        home: whose.
        replica, notes: what is taken, and its certified checkpoint.
        peers: of all other members.
        engine: CometBFT, where it orders; else anything.
        blocks: a snapshot is taken every so many blocks.
    """

    def __init__(
        self,
        home: Home,
        *,
        replica: Replica,
        notes: Notes,
        peers: Mapping[int, PeerClient],
        engine: object,
        blocks: int,
    ) -> None:
        self._home = home
        self._replica = replica
        self._peers = peers
        self.keeper = SnapshotKeeper(snapshot_folder(home.path), replica, notes.note, blocks)
        self._engine = engine if isinstance(engine, CometBft) else None
        if self._engine is not None:
            self._engine.snapshots = Markers(replica, self.keeper)
            self._engine.retain_height = self._retain_height

    def handlers(self) -> dict[str, Callable[[int, Any], Awaitable[Any]]]:
        """Peer verbs."""
        found = self.keeper.handlers()
        if self._engine is not None:
            found["engine_rpc"] = on_engine_rpc(self._engine.rpc)
        return found

    def tasks(self) -> dict[str, Awaitable[None]]:
        """What runs as long as the node does."""
        tasks: dict[str, Awaitable[None]] = {"snapshots": self.keeper.run(), "pruning": self._prune()}
        if self._engine is not None:
            tasks["light servers"] = self._serve_light_client()
        return tasks

    async def _prune(self) -> None:
        """Remove what blocks older than the home's policy held, some at a time, so that writes go on between."""
        days = self._home.config.keep_days
        while days is not None:
            chain = self._replica.application.chain
            more = await self._replica.run(prune_blocks, chain, days * 86_400_000)
            await asyncio.sleep(_PRUNE_SOON_S if more else _PRUNE_S)
        await asyncio.Event().wait()

    def _retain_height(self) -> int:
        """For the engine, in its own numbers: what is kept here, and what begins from our snapshots still needs."""
        wanted = engine_retain_height(self._replica.application.chain)
        return min(wanted, self.keeper.engine_height_min or wanted)

    async def _serve_light_client(self) -> None:
        """While the engine begins from a snapshot, give its light client what other members' engines say."""
        wanted = read_state_sync(self._home)
        if wanted is not None:
            validators = [
                self._peers[each.number] for each in self._home.config.others if each.role == "validator"
            ]
            servers = light_servers(self._home.engine_folder, validators)
            running = [
                (server, asyncio.ensure_future(server.serve()))
                for server in (_SocketServer(application, path) for path, application in servers.items())
            ]
            try:
                chain = self._replica.application.chain
                while chain.engine_height() <= wanted.height:  # noqa: ASYNC110 — empty blocks bring no news
                    await asyncio.sleep(_LOOK_S)
            finally:
                for server, _ in running:
                    server.should_exit = True
                await asyncio.gather(*(task for _, task in running), return_exceptions=True)
            write_state_sync(self._home, None)
        await asyncio.Event().wait()
