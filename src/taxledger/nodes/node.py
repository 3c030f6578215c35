"""A member's node: ``python -m taxledger.nodes.node --home DIR``.

One process, one event loop, one ledger thread, one vault thread. This module puts the parts together and
ends them in order; like ``nodes/cli`` it may import everything.

    peers (mutual TLS) ──▶ engine ──▶ replica ──▶ certified state ──▶ answers ──▶ query API (loopback)
                                                      ▲ co-signatures
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from taxledger.api.app import create_app
from taxledger.api.auth import KeyFile
from taxledger.api.server import ApiServer
from taxledger.ledger.errors import (
    InputError,
    RefusedError,
    TaxledgerError,
    UnavailableError,
)
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.members import member_of
from taxledger.ledger.rules import RESULT_NAMES, decode_result
from taxledger.ledger.statemap import PageCache
from taxledger.nodes.answers import Answers
from taxledger.nodes.application import Application
from taxledger.nodes.backup import check_not_moved
from taxledger.nodes.custodian.dossier import Custodian
from taxledger.nodes.forks.files import ForkFiles
from taxledger.nodes.forks.halting import HALTED_EXIT_STATUS, read_halt, write_halt
from taxledger.nodes.home import Home, host_port
from taxledger.nodes.identity.certificates import TlsIdentity
from taxledger.nodes.identity.memberkeys import KeyInForce
from taxledger.nodes.identity.signingkeys import HomeKeyFinder, load_keys, spend_tokens
from taxledger.nodes.identity.trust import Trust
from taxledger.nodes.identity.upkeep import Upkeep
from taxledger.nodes.local.enginecheck import check_engine
from taxledger.nodes.local.lifeline import bind_to_parent
from taxledger.nodes.logs import configure_logs, get_logger
from taxledger.nodes.metrics import IdentityMetrics, NodeMetrics
from taxledger.nodes.opening import open_chain
from taxledger.nodes.ordering.cometbft.engine import CometBft
from taxledger.nodes.ordering.embedded.follower import Follower
from taxledger.nodes.ordering.embedded.sequencer import Sequencer
from taxledger.nodes.peering.table import PeerTable
from taxledger.nodes.peering.transport import PeerClient, PeerServer
from taxledger.nodes.replica import FATAL_EXIT_STATUS, CertifiedState, Replica
from taxledger.nodes.sealed.homekeys import has_key_provider, open_key_provider
from taxledger.nodes.settings import NodeSettings
from taxledger.nodes.sharing import Sharing
from taxledger.nodes.statesync.parts import SnapshotParts

__all__ = ["Node", "main"]

_OBSERVE_S = 1.0
_SETTLE_S = 3.0
"""A node that hears nobody is as far as it can be after this."""
_WARN_AGAIN_S = 60.0
"""A member that goes on sending what is wrong must not fill the log."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Node:
    """A running node. Make it on the event loop, then ``run``."""

    def __init__(self, home: Home, settings: NodeSettings) -> None:
        self.home = home
        self.settings = settings
        self.log = get_logger("node")
        config = home.config
        cache = PageCache(settings.page_cache_bytes)
        store = LevelStore(home.store_path)
        check_not_moved(home)  # while we hold the store's lock, as the one who moves it did
        chain = open_chain(home, store, cache)
        check_engine(home, chain)
        self.application = Application(chain, load_keys(home), _now_ms, HomeKeyFinder(home))
        if lost := spend_tokens(home, self.application):
            self.log.error("this node does not sign", reason=lost)
        self.replica = Replica(self.application)
        self.replica.on_halt = self._halted
        self.transaction_key = KeyInForce(home, self._transaction_public_key)
        self.trust = Trust(home.tls_folder, lambda: self.replica.certified)
        self.metrics = NodeMetrics()
        self.upkeep = Upkeep(
            home=home,
            identity=TlsIdentity(home, hours=settings.tls_certificate_hours, now=time.time),
            trust=self.trust,
            replica=self.replica,
            metrics=IdentityMetrics(self.metrics.registry),
            hears=lambda: self.engine.hears,
            on_rotated=self._rotated,
        )
        self._files = self.upkeep.prepare()
        self.table = PeerTable(
            home,
            files=self._files,
            authorities=self.trust.authorities,
            state=lambda: self.replica.certified.view,
        )
        self.peers = self.table.clients
        self.custodian = (
            Custodian(
                home.vault_path,
                open_key_provider(home),
                chain_id=chain.chain_id,
                member=config.number,
                genesis=chain.genesis,
            )
            if has_key_provider(home)
            else None
        )
        self.answers = Answers(
            config=config,
            replica=self.replica,
            keys=lambda: self.application.keys,
            policy=home.policy,
            custodian=self.custodian,
            peers=self.peers,
            is_ready=self.is_ready,
        )
        self._started = asyncio.get_running_loop().time()
        self.engine: Sequencer | Follower | CometBft
        if config.engine == "cometbft":
            self.engine = CometBft(
                self.replica,
                folder=home.engine_folder,
                peers=self.peers,
                on_dropped=self.answers.dropped,
                on_release=self._release,
                on_broken=self._broken,
                admits=self.table.admits,
            )
            self.engine.on_misbehaviour = self.metrics.count_misbehaviour
        elif config.is_sequencer:
            self.engine = Sequencer(self.replica, list(self.peers.values()), self.answers.dropped)
        else:
            self.engine = Follower(
                self.replica,
                sequencer=self.peers[config.sequencer],
                others=list(self.peers.values()),
            )
        if not isinstance(self.engine, CometBft):  # that one looks at the table each time
            self.table.on_new = self.engine.add_peer
        self.answers.engine = self.engine
        self.sharing = Sharing(
            home,
            custodian=self.custodian,
            replica=self.replica,
            answers=self.answers,
            peers=self.peers,
            transaction_key=self.transaction_key,
            is_current=lambda: self.engine.current and self.engine.hears,
            idle_ms=settings.disclosure_idle_ms,
            sweep_s=settings.sweep_ms / 1000,
        )
        self.snapshots = SnapshotParts(
            home,
            replica=self.replica,
            notes=self.answers.notes,
            peers=self.peers,
            engine=self.engine,
            blocks=settings.snapshot_blocks,
        )
        if not isinstance(self.engine, Follower):
            self.engine.on_timing = self.metrics.observe_timing
        self._cache = cache
        self._stop = asyncio.Event()
        self.forks = ForkFiles(home.path, self.replica, self.answers.notes)
        self._warned_at: dict[int, float] = {}  # member → when we last complained of it

    # --- parts --------------------------------------------------------------------------------

    def _transaction_public_key(self) -> bytes:
        member = member_of(self.replica.certified.view, self.home.config.number)
        if member is None:
            raise InputError(f"member {self.home.config.number} is not on this ledger")
        return member.transaction_key

    def _rotated(self, use: str) -> None:
        """A key has moved into place. An engine that votes with it reads it when it starts, and not again."""
        if use == "vote" and isinstance(self.engine, CometBft):
            self.engine.restart()

    def is_ready(self) -> bool:
        """It has caught up as far as it can: with whom it hears, or alone after a short while."""
        if self.replica.certified.height and self.engine.current:
            return True
        settled = asyncio.get_running_loop().time() - self._started > _SETTLE_S
        return settled and not self.engine.catching_up

    def _peer_server(self) -> PeerServer:
        handlers: dict[str, Any] = {
            "authority": self.trust.on_authority,
            "cosign": self._on_cosign,
            "log_signature": self.answers.notes.on_log_signature,
            **self.table.handlers(),
            **self.sharing.handlers(),
            **self.snapshots.handlers(),
            **self.engine.handlers(),
        }
        if isinstance(self.engine, Sequencer):
            handlers["submit"] = partial(self.engine.on_submit, wait=self._submit_and_wait)
        return PeerServer(self._files, self.trust.authorities, handlers, self._broken)

    def _broken(self, error: BaseException) -> None:
        """A peer's or the engine's message met a bug of ours: nothing we would still write can be trusted."""
        self.log.critical("invariant broken", exc_info=error)
        os._exit(FATAL_EXIT_STATUS)

    def _halted(self, reason: str) -> None:
        """It signs nothing any more; now it stops, and stays so until somebody has looked (``halting.py``)."""
        self.log.critical("halted", reason=write_halt(self.home.path, reason))
        os._exit(HALTED_EXIT_STATUS)

    async def _submit_and_wait(self, raw: bytes) -> None:
        await self.answers.submit(raw, wait="certified", timeout_s=50.0)

    async def _on_cosign(self, member: int, message: Any) -> Any:
        """Peer verb ``cosign``: a heartbeat, directly from validator to everybody."""
        if type(message) is not list or len(message) != 3 or type(message[2]) is not bytes:
            raise InputError('expected [1, "cosign", message]')
        problems = await self.replica.run(self.replica.receive, [message[2]])
        now = asyncio.get_running_loop().time()
        if problems and now - self._warned_at.get(member, -_WARN_AGAIN_S) >= _WARN_AGAIN_S:
            self._warned_at[member] = now
            self.log.warning("co-signature refused", member=member, reason=problems[0])
        return [1, "cosign"]

    async def _heartbeat(self) -> None:
        """When idle, co-sign the newest tree anew and tell everybody, so that answers stay fresh."""
        interval_s = self.settings.heartbeat_ms / 1000
        while True:
            await asyncio.sleep(interval_s / 4)
            age_ms = _now_ms() - self.application.cosigned_s * 1000
            if 0 <= age_ms < self.settings.heartbeat_ms:  # below 0: the clock was set back
                continue
            message = await self.replica.run(self.application.renew_cosign)
            if message is None:
                continue
            await self.replica.run(self.replica.receive, [message])
            await self._release(message)

    async def _release(self, message: bytes) -> None:
        """Send a co-signature to everybody."""
        await asyncio.gather(*(self._tell(peer, message) for peer in list(self.peers.values())))

    async def _tell(self, peer: PeerClient, message: bytes) -> None:
        with contextlib.suppress(UnavailableError, RefusedError):
            await peer.call("cosign", [1, "cosign", message], timeout_ms=2_000, answer_bytes_max=256)

    async def _observe(self) -> None:
        """Keep the metrics current, and fork evidence on disk."""
        counted = self.replica.certified.height
        hits = misses = 0
        while True:
            await asyncio.sleep(_OBSERVE_S)  # not with each block: a scrape comes every few seconds
            self.metrics.observe(await self.answers.status())
            state = self.replica.certified
            for height in range(counted + 1, state.height + 1):
                self.metrics.count_results(await asyncio.to_thread(_result_names, state, height))
            counted = state.height
            cache = self._cache
            self.metrics.observe_pages(
                hits=cache.hits - hits, misses=cache.misses - misses, cached_bytes=cache.cached_bytes
            )
            hits, misses = cache.hits, cache.misses
            await self.forks.keep([*self.replica.certification.forks, *self.engine.forks])

    # --- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until a part fails."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        host, port = self.home.config.peer_address
        peer_server = self._peer_server()
        await peer_server.start(host, port)
        app = create_app(
            self.answers,
            KeyFile(self.home.api_keys_path),
            custody=self.sharing.desk,
            disclosures=self.sharing.recipient,
            pledging=self.sharing.lender,
            observer=self.metrics,
            metrics=self.metrics.exposition,
        )
        api_host, api_port = host_port(self.home.config.api_url)
        api = ApiServer(
            app,
            host=api_host,
            port=api_port,
            certificate=self.settings.api_certificate,
            private_key=self.settings.api_private_key,
        )
        parts: dict[str, Awaitable[None]] = {
            "api": api.serve(),
            "engine": self.engine.run(),
            "answers": self.answers.run(),
            "heartbeat": self._heartbeat(),
            "upkeep": self.upkeep.run(peer_server, self.peers),
            "addresses": self.table.run(),
            "observer": self._observe(),
            **self.sharing.tasks(),
            **self.snapshots.tasks(),
        }
        tasks = {asyncio.ensure_future(part): name for name, part in parts.items()}
        self.log.info("started", member=self.home.config.name, height=self.application.chain.tip.height)
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                if task.exception() is not None:
                    raise task.exception()  # type: ignore[misc]
        finally:
            stopping.cancel()
            self.answers.stop()
            api.should_exit = True
            await peer_server.stop()
            for task, name in tasks.items():
                if name != "api":
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.sharing.stop()
            await self.table.close()
            if self.custodian is not None:
                self.custodian.close()
            await loop.shutdown_default_executor()  # nobody reads the store any more when it is closed
            self.replica.close()
            self.log.info("stopped", member=self.home.config.name)


def _result_names(state: CertifiedState, height: int) -> list[str]:
    return [RESULT_NAMES[decode_result(each).code] for each in state.chain.results(height)]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """libuv's loop where there is one: half of the time per message between nodes, TLS included."""
    try:
        import uvloop
    except ImportError:  # not built for this platform
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(home: Home, settings: NodeSettings) -> None:
    await Node(home, settings).run()


def main(arguments: list[str] | None = None) -> int:
    """Run a node until it is told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="taxledger.nodes.node", description="Run one member's node.")
    parser.add_argument("--home", type=Path, required=True, help="the member's home folder")
    options = parser.parse_args(arguments)
    bind_to_parent()
    try:
        home = Home(options.home)
        if (halted := read_halt(home.path)) is not None:
            print(f"taxledger node: halted: {halted}", file=sys.stderr)
            return HALTED_EXIT_STATUS
        settings = NodeSettings()
        configure_logs(settings.log_level)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(home, settings))
    except ValidationError as error:
        print(f"taxledger node: a setting is out of range: {error}", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"taxledger node: {error}", file=sys.stderr)
        return 2
    except TaxledgerError as error:
        print(f"taxledger node: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    except Exception:
        get_logger("node").exception("fatal")
        return FATAL_EXIT_STATUS
    return 0


if __name__ == "__main__":
    sys.exit(main())
