"""Four members, each with node and ordering engine in a network namespace of its own, and what can go wrong there.

Every node's API stays on its own loopback, as at a member; a relay leads there from the test. What the members tell
each other passes a bridge between their namespaces, where it can be cut, lost or delayed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import chainkit
import httpx
from namespaces import Namespaces
from relays import Relays

from network import MEMBERS, PATIENCE_S, RealNetwork, until
from taxledger.ledger.crypto import Signer
from taxledger.ledger.hashing import sha256
from taxledger.ledger.policy import decode_policy
from taxledger.nodes.cli.network import make_network
from taxledger.nodes.forks.halting import HALTED_EXIT_STATUS
from taxledger.nodes.home import Home, place_file
from taxledger.nodes.homeconfig import Peer, encode_config, host_port
from taxledger.nodes.identity.pki import issue_certificate
from taxledger.nodes.local import control

__all__ = ["FaultNetwork", "Process", "fault_network", "find_faketime", "latencies_ms", "report"]

_NODE = (sys.executable, str(Path(__file__).parents[1] / "e2e" / "faulty_node.py"))
_ENGINE = (sys.executable, "-m", "taxledger.nodes.ordering.cometbft.run")
_RESTART_S = 0.3
_ANSWER_S = 3.0
_STOP_S = 10.0


class Process:
    """One process of a member, kept running as a service manager would."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command, self.log = command, log
        self.environment: dict[str, str] = {}
        self.wanted = self.restart = False
        self.popen: subprocess.Popen[bytes] | None = None
        self.ended_at: float | None = None
        self.exit_codes: list[int] = []

    def spawn(self) -> None:
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def look(self) -> None:
        """Note that it ended; start it again where that is wanted."""
        if self.popen is not None and self.popen.poll() is not None:
            self.exit_codes.append(self.popen.returncode)
            self.popen, self.ended_at = None, time.monotonic()
            self.wanted &= self.restart and self.exit_codes[-1] != HALTED_EXIT_STATUS
        rested = self.ended_at is None or time.monotonic() - self.ended_at > _RESTART_S
        if self.wanted and self.popen is None and rested:
            self.spawn()

    def send(self, number: int) -> None:
        if self.popen is not None:
            self.popen.send_signal(number)


class FaultNetwork(RealNetwork):
    """Members 1 to 4 in namespaces. ``start``, ``stop`` and ``kill`` are of node and engine together.

    Attributes:
        spaces: their namespaces; partitions and losses.
        slow: the relay on the one link that was chosen for it; ``slow.delay_ms``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        members: tuple[str, ...] = MEMBERS,
        engine: str = "cometbft",
        slow_link: tuple[str, str] | None = None,
    ) -> None:
        make_network(
            directory, members=list(members), observers=[], issues=None, engine=engine, network="e2e"
        )
        self.directory, self.names = directory, members
        self.homes = {home.config.name: home for home in control.find_homes(directory)}
        first = self.homes[members[0]]
        self.policy = decode_policy(first.policy())
        self.chain_id = sha256(first.genesis())[:16]
        self.issuer = Signer(first.key("transaction"))
        self._http = httpx.Client(timeout=60.0)
        self._relays: list[Relays] = []
        self._keeper: threading.Thread | None = None
        self._closing = threading.Event()
        self._lock = threading.RLock()
        self.processes: dict[str, dict[str, Process]] = {}
        self.spaces = Namespaces(len(members))
        try:
            self._move(slow_link)
            self._prepare(engine)
        except BaseException:
            self.close()
            raise

    # --- making ---------------------------------------------------------------------------------

    def number(self, member: str) -> int:
        return self.names.index(member) + 1

    def _move(self, slow_link: tuple[str, str] | None) -> None:
        """From ports of one loopback to addresses of their own."""
        self.slow = self._relay(self.spaces.hub)
        if slow_link is not None:
            self.spaces.only_relayed(*(self.number(name) for name in slow_link))
        for name, home in self.homes.items():
            old = home.config
            at = self.spaces.address(old.number)
            peers = tuple(
                self._reached(each, through=slow_link is not None and {name, each.name} == set(slow_link))
                for each in old.peers
            )
            changed = dataclasses.replace(
                old,
                peer_url=_moved(old.peer_url, at),
                engine_address=old.engine_address and _moved(old.engine_address, at),
                peers=peers,
            )
            (home.path / "node.toml").write_text(encode_config(changed))
            tls = home.path / "tls"
            certificate = issue_certificate(
                (tls / "ca.pem").read_bytes(),
                (tls / "ca.key").read_bytes(),
                now=datetime.datetime.now(datetime.UTC),
                addresses=(at, self.spaces.hub_address),
            )
            place_file(tls / "node.pem", certificate)
            self._relay(self.spaces.name(old.number)).enter(host_port(old.api_url)[1])
        self.homes = {name: Home(home.path) for name, home in self.homes.items()}

    def _relay(self, namespace: str) -> Relays:
        self._relays.append(Relays(namespace))
        return self._relays[-1]

    def _reached(self, peer: Peer, *, through: bool) -> Peer:
        """A member as another one reaches it: directly, or through the slow relay."""

        def placed(address: str | None) -> str | None:
            if address is None:
                return None
            moved = _moved(address, self.spaces.address(peer.number))
            if not through:
                return moved
            before, host, port = _parts(moved)
            relayed = self.slow.forward(self.spaces.hub_address, host, port)
            return f"{before}{self.spaces.hub_address}:{relayed}"

        url = placed(peer.peer_url)
        assert url is not None
        return dataclasses.replace(peer, peer_url=url, engine=placed(peer.engine))

    def _prepare(self, engine: str) -> None:
        for name, home in self.homes.items():
            commands = {"node": _NODE}
            if engine == "cometbft":
                commands["engine"] = _ENGINE
            self.processes[name] = {
                what: Process(
                    self.spaces.command(self.number(name), *command, "--home", str(home.path)),
                    control.node_log_path(home.path).with_name(f"{what}.log"),
                )
                for what, command in commands.items()
            }
        self._keeper = threading.Thread(target=self._keep, name="keeper")
        self._keeper.start()

    def _keep(self) -> None:
        while not self._closing.wait(0.05):
            with self._lock:
                for each in self._chosen(None):
                    each.look()

    def _chosen(self, member: str | None, what: str | None = None) -> list[Process]:
        return [
            process
            for name, processes in self.processes.items()
            if member in (None, name)
            for kind, process in processes.items()
            if what in (None, kind)
        ]

    # --- processes ------------------------------------------------------------------------------

    def start(self, member: str | None = None, *, restart: bool = True, ready: bool = True) -> None:
        """Start all members, or one; returns when the nodes answer."""
        with self._lock:
            for each in self._chosen(member):
                each.wanted, each.restart, each.ended_at = True, restart, None
                each.look()
        for name in self.names if member is None else [member]:
            if ready:
                until(lambda name=name: self.status(name).get("ready"), f"{name} is ready")

    def launch(self, member: str, *, restart: bool = False) -> None:
        self.start(member, restart=restart, ready=False)

    def stop(self, member: str | None = None) -> None:
        with self._lock:
            chosen = self._chosen(member)
            for each in chosen:
                each.wanted = False
                each.send(signal.SIGCONT)
                each.send(signal.SIGTERM)
        end = time.monotonic() + _STOP_S

        def stopped() -> bool:
            if (
                time.monotonic() > end
            ):  # as a service manager does: an engine may wait for an answer that never comes
                for each in chosen:
                    each.send(signal.SIGKILL)
            return all(each.popen is None for each in chosen)

        until(stopped, f"{member or 'all'} stopped")

    def kill(self, member: str, what: str | None = None) -> None:
        """SIGKILL to node and engine of a member, or to one of both; the keeper starts them again."""
        with self._lock:
            chosen = [each.popen for each in self._chosen(member, what) if each.popen is not None]
            for each in chosen:
                each.kill()
        for each in chosen:
            each.wait(PATIENCE_S)

    def freeze(self, member: str, what: str | None = None) -> None:
        """SIGSTOP to node and engine of a member, or to one of both."""
        for each in self._chosen(member, what):
            each.send(signal.SIGSTOP)

    def thaw(self, member: str) -> None:
        for each in self._chosen(member):
            each.send(signal.SIGCONT)

    def pids(self) -> dict[str, int]:
        return {
            name: processes["node"].popen.pid
            for name, processes in self.processes.items()
            if processes["node"].popen is not None
        }

    def close(self) -> None:
        """End all, in whatever state the test left it, and remove the namespaces."""
        self._closing.set()
        if self._keeper is not None:
            self._keeper.join(10)
        for each in self._chosen(None):
            each.send(signal.SIGKILL)
        for each in self._chosen(None):
            if each.popen is not None:
                each.popen.wait(10)
        for relay in self._relays:
            relay.close()
        self.spaces.close()
        self._http.close()

    # --- asking ---------------------------------------------------------------------------------

    def log(self, member: str, what: str = "node") -> str:
        path = self.processes[member][what].log
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def status(self, member: str) -> dict[str, Any]:
        with contextlib.suppress(httpx.HTTPError):
            response = self.get(member, "/v1/status", timeout=_ANSWER_S)
            if response.status_code == 200:
                return dict(response.json())
        return {}

    def shift_clock(self, member: str, seconds: int) -> None:
        """Have its node's next process live so far ahead (below 0: behind), by libfaketime.

        Only of the node: that library works in the C library, which the engine, a Go program, does without. Its
        clock is the machine's.
        """
        self.processes[member]["node"].environment = {
            "LD_PRELOAD": str(find_faketime()),
            "FAKETIME": f"{seconds:+d}s",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }

    # --- links ----------------------------------------------------------------------------------

    def partition(self, *groups: Iterable[str]) -> None:
        """Cut every link between two groups of members."""
        self.spaces.partition(*([self.number(name) for name in group] for group in groups))

    def heal(self) -> None:
        self.spaces.heal()

    def lose(self, one: str, other: str, percent: int) -> None:
        self.spaces.lose(self.number(one), self.number(other), percent)


def find_faketime() -> Path | None:
    """libfaketime for programs with threads."""
    folders = (Path(each) for each in ("/usr/lib", "/usr/local/lib"))
    return next((path for folder in folders for path in folder.glob("**/faketime/libfaketimeMT.so.1")), None)


def _parts(address: str) -> tuple[str, str, int]:
    """(what is before the host, host, port) of ``scheme://host:port``, ``id@host:port`` or ``host:port``."""
    rest, _, port = address.rpartition(":")
    at = max(rest.rfind("/"), rest.rfind("@")) + 1
    return rest[:at], rest[at:], int(port)


def _moved(address: str, host: str) -> str:
    before, _, port = _parts(address)
    return f"{before}{host}:{port}"


@contextlib.contextmanager
def fault_network(directory: Path, **options: Any) -> Iterator[FaultNetwork]:
    """A started network whose tag key is on the ledger; stopped and removed at the end, also on failure."""
    network = FaultNetwork(directory, **options)
    try:
        network.start()
        network.submit(network.tag_key())
        yield network
    finally:
        network.close()


def report(what: str, **figures: object) -> None:
    """Print figures, and append them as a line of JSON where the acceptance run asks for them."""
    line = json.dumps({"what": what, **figures}, ensure_ascii=False)
    print(line)
    path = os.environ.get("TAXLEDGER_FAULTS_REPORT")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def latencies_ms(network: FaultNetwork, count: int, first: int, *members: str) -> list[int]:
    """Of so many transactions one after another, submitted to the members in turn: until certified; ascending."""
    times = []
    for at in range(count):
        raw = network.sign(chainkit.attest(chainkit.group(first + at, tag=9)))
        begin = time.monotonic()
        network.submit(raw, members[at % len(members)])
        times.append(round((time.monotonic() - begin) * 1_000))
    return sorted(times)
