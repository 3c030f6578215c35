"""A node with a million records: how soon it is ready, and how much memory it takes beside its files' cache.

Run by ``make test-long``. Prints its figures; the bounds are those of the requirements.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from large import attestation, fill

from network import RealNetwork, until
from taxledger.ledger import statekeys

pytestmark = [pytest.mark.large, pytest.mark.timeout(1_200)]

READY_S_MAX = 5.0
ANONYMOUS_MIB_MAX, GROWTH_MIB_MAX = 400.0, 150.0
MEASURED = "bank1"
BURST = 192
"""Transactions handed in at once, of a thousand records each: blocks as full as they get."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Seconds from the start of a process until it is ready, and anonymous memory in MiB.

    ``started`` … ``caught_up`` are of one follower, ``peak`` of any of the four at any moment of it all.
    """

    records: int
    ready_s: float
    started: float
    after_reads: float
    caught_up: float
    after_burst: float
    peak: dict[str, float]


def anonymous_mib(pid: int) -> float:
    """Anonymous resident memory of a process: what the cache of its files is no part of."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("this kernel does not say RssAnon")


class Watch:
    """Looks at the memory of every node ten times a second and keeps the most that each took."""

    def __init__(self, net: RealNetwork) -> None:
        self.peak = dict.fromkeys(net.names, 0.0)
        self._net = net
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.1):
            for name, pid in self._net.pids().items():
                with contextlib.suppress(OSError, AssertionError):  # it ended this moment
                    self.peak[name] = max(self.peak[name], anonymous_mib(pid))


def read_around(net: RealNetwork, member: str, tags: list[bytes]) -> None:
    """Proved reads of many subjects and of absent keys, all lowest tiles of the log, and a whole export."""
    for tag in tags[:60]:
        prefix = statekeys.tag_prefix(1, 5, tag)
        answer = net.get(member, f"/v1/state?prefix={prefix.hex()}")
        assert answer.status_code == 200, answer.text[:300]
        key = statekeys.record_key(1, 5, tag, 1, tag)
        assert net.get(member, f"/v1/state/{key.hex()}").status_code == 200
    for index in range(net.status(member)["size"] // 256):
        assert net.get(member, f"/v1/tile/0/{index:03d}").status_code == 200
    assert net.get(member, "/v1/export").status_code == 200


def burst(net: RealNetwork, chance: random.Random, tags: list[bytes], *members: str) -> None:
    """Hand in many large transactions at once; returns when all are certified at these nodes."""
    before = net.status("tax")["size"]
    for _ in range(BURST):
        answer = net.request(
            "POST",
            "tax",
            "/v1/transactions?wait=none",
            content=net.sign(attestation(chance, tags)),
            headers={"Content-Type": "application/cose"},
        )
        assert answer.status_code == 202, answer.text
    until(lambda: net.status("tax")["size"] > before + BURST, "the burst is certified", timeout_s=120)
    net.agree(*members)


def measure(directory: Path, records: int) -> Figures:
    chance = random.Random(7)
    net = RealNetwork(directory)
    try:
        begin = time.perf_counter()
        fill(directory, records)
        print(f"\n{records:,} records written in {time.perf_counter() - begin:.1f} s")
        source = random.Random(1)
        tags = [source.randbytes(16) for _ in range(500)]  # as ``fill`` draws them
        net.start()
        net.agree()
        with Watch(net) as watch:
            net.stop(MEASURED)
            burst(net, chance, tags, *(name for name in net.names if name != MEASURED))
            begin = time.perf_counter()
            net.start(MEASURED)
            ready_s = time.perf_counter() - begin
            pid = net.pids()[MEASURED]
            started = anonymous_mib(pid)
            net.agree()
            caught_up = anonymous_mib(pid)
            read_around(net, MEASURED, tags)
            after_reads = anonymous_mib(pid)
            burst(net, chance, tags)
            after_burst = anonymous_mib(pid)
        return Figures(
            records=records,
            ready_s=ready_s,
            started=started,
            after_reads=after_reads,
            caught_up=caught_up,
            after_burst=after_burst,
            peak=watch.peak,
        )
    finally:
        net.close()
        shutil.rmtree(directory)  # up to a gigabyte


def test_a_million_records(tmp_path: Path) -> None:
    few = measure(tmp_path / "few", 100_000)
    print(few)
    many = measure(tmp_path / "many", 1_000_000)
    print(many)
    assert many.ready_s <= READY_S_MAX
    most = {each.records: max(each.peak.values()) for each in (few, many)}
    assert most[many.records] <= ANONYMOUS_MIB_MAX
    assert most[many.records] - most[few.records] <= GROWTH_MIB_MAX


JOIN_S_MAX = 60.0


def test_a_million_records_are_joined_by_a_snapshot(tmp_path: Path) -> None:
    """Making, transfer, verifying and writing in all; every byte is verified against the policy file."""
    net = RealNetwork(tmp_path / "net")
    try:
        fill(net.directory, 1_000_000)
        home = net.homes["bank2"].path
        shutil.rmtree(home / "store")
        for name in ("tax", "bank1", "bank3"):
            net.launch(name)
        until(lambda: net.height("tax") > 0 and net.height("bank1") > 0, "they answer")
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "taxledger.nodes.cli.main", "member", "sync", "--home", str(home)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        took_s = time.perf_counter() - begin
        assert done.returncode == 0, done.stderr
        print(f"joined in {took_s:.1f} s: {done.stdout}")
        net.launch("bank2")
        until(lambda: net.height("bank2") == net.height("tax"), "it serves the same block")
        assert net.status("bank2")["state_root"] == net.status("tax")["state_root"]
        assert took_s <= JOIN_S_MAX
    finally:
        net.close()
        shutil.rmtree(tmp_path / "net")
