"""Real networks for tests: processes, sockets, disks, and the product's own supervisor.

``RealNetwork`` starts, stops and kills; ``Load`` keeps writing and remembers what was acknowledged; ``check_ledgers``
opens the stores of a stopped network and compares everything that must agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from faulty_node import FAULT_NAME

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))

import chainkit

from taxledger.api.client import Client
from taxledger.api.client.wire import RetryLimits
from taxledger.api.reader import Receipt
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import UnavailableError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.operations import encode_tag_key
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.tagkeys import prove_tag_key
from taxledger.ledger.transaction import sign_transaction
from taxledger.nodes.cli.network import make_network
from taxledger.nodes.local import control
from taxledger.nodes.local.lifeline import PARENT_VARIABLE

MEMBERS = ("tax", "bank1", "bank2", "bank3")
ENGINE = "embedded"
"""Of networks that are made from now on: ``pytest --engine``."""
PATIENCE_S = 60.0
"""Ends a failing test. No passing test comes near it."""


def until(condition: Callable[[], Any], what: str, *, timeout_s: float = PATIENCE_S) -> Any:
    """The first true value of ``condition``, asked again and again; fails the test when it never comes."""
    end = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.03)


class RealNetwork:
    """A network in a folder, under a supervisor of its own.

    Attributes:
        directory: the network folder.
        engine: what orders its transactions.
        names: of the members; the first is the issuer, and the sequencer unless another is told to be.
        issuer: signs the transactions; member 1.
    """

    def __init__(
        self,
        directory: Path,
        *,
        members: tuple[str, ...] = MEMBERS,
        observers: tuple[str, ...] = (),
        sequencer: int = 1,
        issues: dict[str, list[int]] | None = None,
    ) -> None:
        self.directory = directory
        self.names = members + observers
        make_network(
            directory,
            members=list(members),
            observers=list(observers),
            issues=issues,
            engine=ENGINE,
            network="e2e",
        )
        self.engine = ENGINE
        for path in directory.glob("*/node.toml"):
            path.write_text(path.read_text().replace("sequencer = 1\n", f"sequencer = {sequencer}\n"))
        self.homes = {home.config.name: home for home in control.find_homes(directory)}
        first = self.homes[members[0]]
        self.policy = decode_policy(first.policy())
        self.chain_id = sha256(first.genesis())[:16]
        self.issuer = Signer(first.key("transaction"))
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(timeout=60.0)

    # --- processes ------------------------------------------------------------------------------

    def start(self, member: str | None = None, *, restart: bool = True) -> None:
        """Start all nodes, or one; returns when they are ready."""
        self._supervise()
        control.start_network(self.directory, member=member, restart=restart)

    def launch(self, member: str, *, restart: bool = False) -> None:
        """Start one node and don't wait for it: it may be meant to die."""
        self._supervise()
        control._ask(
            self.directory, {"do": "start", "members": [member], "restart": restart}, timeout_s=PATIENCE_S
        )

    def _supervise(self) -> None:
        if self._supervisor is not None:
            return
        script = Path(__file__).with_name("supervise.py")
        with (self.directory / "supervisor.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, str(script), str(self.directory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
            )
        assert self._supervisor.stdout is not None
        assert self._supervisor.stdout.read(1) == b"+", (self.directory / "supervisor.log").read_text()

    def stop(self, member: str | None = None) -> None:
        """Stop one node, or everything; returns when the processes are gone."""
        if self._supervisor is None:
            return
        pids = self.pids()
        control.stop_network(self.directory, member=member)
        if member is not None:
            return
        self._supervisor.wait(PATIENCE_S)
        assert self._supervisor.stdout is not None
        self._supervisor.stdout.close()
        self._supervisor = None
        left = [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]
        assert not left, f"still running after stop: {left}"

    def close(self) -> None:
        """``stop``, whatever state the test left things in."""
        self._http.close()
        try:
            self.stop()
        finally:
            if self._supervisor is not None:
                pids = self.pids()
                self._supervisor.kill()
                self._supervisor.wait()
                for pid in pids.values():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def pids(self) -> dict[str, int]:
        """Process of each running member, as the supervisor noted it."""
        nodes = json.loads((self.directory / control.PID_NAME).read_text())["nodes"]
        return {Path(home).name: pid for home, pid in nodes.items()}

    def kill(self, member: str) -> None:
        """SIGKILL; returns when the process is gone and the supervisor knows."""
        pid = self.pids()[member]
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.pids().get(member) != pid, f"{member} is gone")

    def break_at(self, member: str, number: int, when: str, kind: str = "any") -> None:
        """Have the next process of a member killed before or after its n-th write (``faulty_node.py``)."""
        fault = {"kind": kind, "number": number, "when": when}
        (self.homes[member].path / FAULT_NAME).write_text(json.dumps(fault))

    def log(self, member: str) -> str:
        path = control.node_log_path(self.homes[member].path)
        return path.read_text("utf-8", "replace") if path.exists() else ""

    # --- asking ---------------------------------------------------------------------------------

    def get(self, member: str, path: str, **options: Any) -> httpx.Response:
        """One request to one node, as it is answered."""
        return self.request("GET", member, path, **options)

    def request(self, method: str, member: str, path: str, **options: Any) -> httpx.Response:
        client = self.homes[member].client()
        headers = {"Authorization": f"Bearer {client.key}", **options.pop("headers", {})}
        return self._http.request(method, client.url + path, headers=headers, **options)

    def status(self, member: str) -> dict[str, Any]:
        """What the node says of itself; empty while it does not answer."""
        try:
            response = self.get(member, "/v1/status")
        except httpx.HTTPError:
            return {}
        return response.json() if response.status_code == 200 else {}

    def height(self, member: str) -> int:
        return int(self.status(member).get("height", -1))

    def client(self, member: str, *, patience_s: float = 5.0) -> Client:
        """A verifying client of one node that gives up early: the caller tries again."""
        local = self.homes[member].client()
        limits = RetryLimits(total_s=patience_s, first_s=0.05, pause_s_max=0.5)
        return Client(local.url, local.key, self.policy, retries=limits)

    def agree(self, *members: str) -> dict[str, Any]:
        """Wait until nodes (all by default) stand at one height with the same roots and write; that status."""

        def agreed() -> dict[str, Any] | None:
            said = [self.status(name) for name in members or self.names]
            facts = {(each.get("height"), each.get("log_root"), each.get("state_root")) for each in said}
            done = len(facts) == 1 and all(
                each.get("writes") == "ok" and not each["uncertified_blocks"] for each in said
            )
            return said[0] if done else None

        try:
            return dict(until(agreed, "the same roots everywhere"))
        except AssertionError as error:
            raise AssertionError(f"{error}: {[self.status(name) for name in self.names]}") from None

    # --- writing --------------------------------------------------------------------------------

    def sign(self, payload: bytes) -> bytes:
        """A transaction of the issuer, valid for the next fifty minutes."""
        iat_s = int(time.time())
        return sign_transaction(
            self.issuer,
            member=1,
            chain_id=self.chain_id,
            iat_s=iat_s,
            exp_s=iat_s + 3_000,
            payload=payload,
        )

    def tag_key(self, year: int = 2025) -> bytes:
        """The transaction that must stand before any record of a year."""
        signer = chainkit.tag_signer()
        return self.sign(encode_tag_key(year, signer.modulus, prove_tag_key(signer, self.chain_id, 1, year)))

    def submit(self, raw: bytes, member: str | None = None) -> Receipt:
        """Submit and wait for the certified receipt."""
        with self.client(member or self.names[0], patience_s=PATIENCE_S) as client:
            receipt = client.submit(raw)
        assert receipt.state == "certified"
        assert receipt.code == 0, receipt
        return receipt


@contextlib.contextmanager
def real_network(directory: Path, *, tag_keys: bool = True, **options: Any) -> Iterator[RealNetwork]:
    """A started network whose tag key is on the ledger; stopped at the end, also on failure.

    Without ``tag_keys`` it is left to uploads, which bring their own.
    """
    network = RealNetwork(directory, **options)
    try:
        network.start()
        if tag_keys:
            network.submit(network.tag_key())
        yield network
    finally:
        network.close()


class Load:
    """Threads that attest records through some nodes, each one transaction at a time, trying each until it is
    acknowledged.

    Attributes:
        acknowledged: certified receipts by transaction id.
        payload: makes the payload that begins with a number; may be replaced before the load begins.
    """

    RECORDS = 8
    PAUSE_S = 0.08
    """Between two transactions of a thread: more would only take the processors from what is tested."""

    def __init__(self, network: RealNetwork, *members: str, threads: int = 2, first: int = 0) -> None:
        self.network = network
        self.acknowledged: dict[bytes, Receipt] = {}
        self.payload: Callable[[int], bytes] = self._payload
        self._next = first
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(members[at % len(members)],), name=f"load {at}")
            for at in range(max(threads, len(members)))
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _payload(self, begin: int) -> bytes:
        """``RECORDS`` records that no other transaction of this load has."""
        return chainkit.attest(chainkit.group(*range(begin + 1, begin + 1 + self.RECORDS), tag=1 + begin % 5))

    def _transaction(self) -> bytes:
        with self._lock:
            begin, self._next = self._next, self._next + self.RECORDS
            payload = self.payload(begin)
        return self.network.sign(payload)

    def _run(self, member: str) -> None:
        try:
            with self.network.client(member, patience_s=2.0) as client:
                while not self._end.wait(self.PAUSE_S):
                    self._submit(client, self._transaction())
        except BaseException as error:
            self._failure = error

    def _submit(self, client: Client, raw: bytes) -> None:
        end: float | None = None
        while True:
            try:
                receipt = client.submit(raw)
            except UnavailableError as error:
                if self._end.is_set():  # what is under way at the end still has to get through
                    end = end or time.monotonic() + PATIENCE_S / 2
                    if time.monotonic() > end:
                        raise AssertionError(f"never acknowledged: {error}") from error
                continue
            assert receipt.state == "certified"
            assert receipt.code == 0, receipt
            self.acknowledged[receipt.id] = receipt
            return

    def progress(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        goal = len(self.acknowledged) + count

        def reached() -> bool:
            assert self._failure is None, self._failure
            return len(self.acknowledged) >= goal

        until(reached, f"{count} more acknowledged")

    def finish(self) -> dict[bytes, Receipt]:
        """No new transactions; wait for those under way. Returns all that was acknowledged."""
        self.__exit__()
        assert self._failure is None, self._failure
        assert not any(thread.is_alive() for thread in self._threads)
        return self.acknowledged
