"""A real network of four node processes on this machine, and what it commits.

Four measurements, each of certified transactions only:

* ``upload``: a generated portfolio of invoices through the custodian's upload, files to certified receipts;
* ``ledger``: attest transactions that were built and signed before, a thousand records each;
* ``single``: one record a transaction, many at a time;
* ``idle``: one small transaction after another.

CPU time is that of the node processes as the kernel counts it (``/proc/<pid>/stat``: user and system).
"""

from __future__ import annotations

import asyncio
import csv
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from benchmarks.figures import Figure, percentile
from taxledger.api.client import Client
from taxledger.ledger.crypto import Signer
from taxledger.ledger.genesis import chain_id
from taxledger.ledger.operations import AttestGroup, encode_attest
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.transaction import sign_transaction
from taxledger.nodes.cli.network import make_network
from taxledger.nodes.cli.submitting import ClientSubmitter
from taxledger.nodes.custodian.upload import Uploader
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.home import Home
from taxledger.nodes.local import control
from taxledger.nodes.sealed.homekeys import open_key_provider
from taxledger.nodes.sources.cumcm import CumcmSource

__all__ = ["BenchNetwork", "commit_times_ms", "measure_network", "running_network", "write_portfolio"]

MEMBERS = ("tax", "bank1", "bank2", "bank3")
YEAR = 2019
_INVOICE = 5
_WARM_UP = 5
_TICKS = os.sysconf("SC_CLK_TCK")
_HEADER = ("企业代号", "发票号码", "开票日期", "购方单位代号", "金额", "税额", "价税合计", "发票状态")


class BenchNetwork:
    """A started network in a folder."""

    def __init__(self, directory: Path, seed: int = 1) -> None:
        self.directory = directory
        self.issuer = Home(directory / MEMBERS[0])
        self.member = self.issuer.config.number
        self.chain_id = chain_id(self.issuer.genesis())
        self.signer = Signer(self.issuer.key("transaction"))
        self.random = random.Random(seed)
        self.pids = {facts.name: facts.pid for facts in control.network_status(directory)}

    def client(self, member: str = MEMBERS[0]) -> Client:
        home = Home(self.directory / member)
        known = home.client()
        return Client(known.url, known.key, policy=decode_policy(home.policy()))

    def cpu_s(self) -> dict[str, float]:
        """User and system seconds of every node so far."""
        found = {}
        for member, pid in self.pids.items():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found[member] = (int(fields[11]) + int(fields[12])) / _TICKS
        return found

    def settle(self) -> None:
        """Returns when every node has the same certified height."""
        for _ in range(600):
            heights = {facts.height for facts in control.network_status(self.directory)}
            if len(heights) == 1:
                return
            time.sleep(0.02)
        raise SystemExit("the nodes of the benchmark do not agree")

    def sign(self, payload: bytes) -> bytes:
        now_s = int(time.time())
        return sign_transaction(
            self.signer,
            member=self.member,
            chain_id=self.chain_id,
            iat_s=now_s,
            exp_s=now_s + 3_000,
            payload=payload,
        )

    def attest(self, records: int, *, per_group: int = 25) -> bytes:
        """A signed transaction of new records of a few enterprises and months."""
        groups = []
        tags: list[bytes] = []
        while records > 0:
            if not tags:
                tags = [self.random.randbytes(16)] * 12
            month, count = len(tags), min(per_group, records)
            entries = sorted(self.random.randbytes(64) for _ in range(count))
            groups.append(
                AttestGroup(tag=tags.pop(), month=month, schema=1, status=1, entries=b"".join(entries))
            )
            records -= count
        groups.sort(key=lambda each: (each.tag, each.month))
        return self.sign(encode_attest(_INVOICE, YEAR, None, groups))

    def upload(self, paths: Sequence[Path]) -> int:
        """Attests files as ``taxledger attest`` does; the number of records accepted."""
        vault = Vault.open(
            self.issuer.vault_path, open_key_provider(self.issuer), chain_id=self.chain_id, member=self.member
        )
        with self.client() as client:
            outcome = Uploader(vault, self.signer, ClientSubmitter(client)).upload(paths, CumcmSource())
        vault.close()
        if outcome.refused or not outcome.complete:
            raise SystemExit(f"the ledger refused transactions of the benchmark: {outcome.refused}")
        return sum(each.accepted for each in outcome.files)

    def submit_all(self, transactions: Sequence[bytes], *, in_flight: int) -> list[float]:
        """Submits through the API of the first node, so many at a time; milliseconds until each receipt."""
        return asyncio.run(self._submit_all(transactions, in_flight))

    async def _submit_all(self, transactions: Sequence[bytes], in_flight: int) -> list[float]:
        known = self.issuer.client()
        headers = {"Authorization": f"Bearer {known.key}", "Content-Type": "application/cose"}
        waiting = iter(enumerate(transactions))
        times: list[float] = []

        async def one_after_another(session: aiohttp.ClientSession) -> None:
            for number, raw in waiting:
                begin = time.perf_counter()
                key = {"Idempotency-Key": f"bench-{begin}-{number}"}
                async with session.post(f"{known.url}/v1/transactions", data=raw, headers=key) as response:
                    said = await response.json()
                    if response.status != 200 or said["code"] != 0:
                        raise SystemExit(f"a transaction of the benchmark failed: {said}")
                times.append((time.perf_counter() - begin) * 1e3)

        connector = aiohttp.TCPConnector(limit=in_flight)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
            await asyncio.gather(*(one_after_another(session) for _ in range(in_flight)))
        return times


@contextmanager
def running_network(directory: Path | None = None, *, engine: str = "embedded") -> Iterator[BenchNetwork]:
    """Four nodes, started; stopped at the end. In a temporary folder unless one is given."""
    with tempfile.TemporaryDirectory(prefix="taxledger-bench-") as name:
        folder = directory or Path(name) / "net"
        make_network(folder, members=list(MEMBERS), observers=[], engine=engine, network="bench")
        try:
            control.start_network(folder)
            yield BenchNetwork(folder)
        finally:
            control.stop_network(folder)


def write_portfolio(
    folder: Path, *, enterprises: int, rows: int, first: int = 1, seed: int = 1
) -> list[Path]:
    """CSV files of sales invoices in the form of ``--source cumcm``, one an enterprise; never two the same."""
    made = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for enterprise in range(first, first + enterprises):
        path = folder / f"E{enterprise}.csv"
        number = made.randrange(10_000_000, 20_000_000)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_HEADER)
            for _ in range(rows):
                number += made.randrange(1, 9)
                net = made.randrange(1_000, 50_000_000)
                tax = net * 13 // 100
                writer.writerow(
                    (
                        f"E{enterprise}", f"{number:08}",
                        f"{YEAR}-{made.randrange(1, 13):02}-{made.randrange(1, 29):02}",
                        f"B{made.randrange(1, 60):05}", f"{net / 100:.2f}", f"{tax / 100:.2f}",
                        f"{(net + tax) / 100:.2f}", "作废发票" if made.randrange(25) == 0 else "有效发票",
                    )
                )  # fmt: skip
        paths.append(path)
    return paths


def _cpu_figures(name: str, before: dict[str, float], after: dict[str, float], n: int) -> list[Figure]:
    spent = {member: (after[member] - before[member]) / n * 1e6 for member in before}
    followers = statistics.median(spent[member] for member in MEMBERS[1:])
    return [
        Figure(name=f"network.{name}.cpu_per_item.sequencer", value=spent[MEMBERS[0]], unit="µs", n=n),
        Figure(name=f"network.{name}.cpu_per_item.follower", value=followers, unit="µs", n=n),
        Figure(
            name=f"network.{name}.cpu_per_item.node", value=statistics.mean(spent.values()), unit="µs", n=n
        ),
    ]


def _upload(net: BenchNetwork, folder: Path, *, enterprises: int, rows: int) -> list[Figure]:
    net.upload(write_portfolio(folder / "first", enterprises=1, rows=40, first=900))  # makes the year's keys
    paths = write_portfolio(folder / "all", enterprises=enterprises, rows=rows)
    before, own, begin = net.cpu_s(), time.process_time(), time.perf_counter()
    accepted = net.upload(paths)
    seconds = time.perf_counter() - begin
    own = time.process_time() - own
    net.settle()
    return [
        Figure(
            name="network.upload.attestations", value=accepted / seconds, unit="1/s", n=accepted, aim="≥ 8000"
        ),
        Figure(
            name="network.upload.cpu_per_item.custodian", value=own / accepted * 1e6, unit="µs", n=accepted
        ),
        *_cpu_figures("upload", before, net.cpu_s(), accepted),
    ]


def _ledger(net: BenchNetwork, *, transactions: int, records: int) -> list[Figure]:
    raws = [net.attest(records) for _ in range(transactions)]
    before, begin = net.cpu_s(), time.perf_counter()
    net.submit_all(raws, in_flight=16)
    seconds = time.perf_counter() - begin
    net.settle()
    n = transactions * records
    return [
        Figure(name="network.ledger.attestations", value=n / seconds, unit="1/s", n=n, aim="≥ 8000"),
        *_cpu_figures("ledger", before, net.cpu_s(), n),
    ]


def _single(net: BenchNetwork, *, transactions: int, in_flight: int) -> list[Figure]:
    raws = [net.attest(1) for _ in range(transactions)]
    before, begin = net.cpu_s(), time.perf_counter()
    net.submit_all(raws, in_flight=in_flight)
    seconds = time.perf_counter() - begin
    net.settle()
    return [
        Figure(name="network.single.transactions", value=transactions / seconds, unit="1/s", n=transactions),
        *_cpu_figures("single", before, net.cpu_s(), transactions),
    ]


def commit_times_ms(net: BenchNetwork, submissions: int) -> list[float]:
    """One small transaction after another: from the call to the certified receipt."""
    times = []
    with net.client() as client:
        for raw in [net.attest(1) for _ in range(submissions + _WARM_UP)]:
            begin = time.perf_counter()
            client.submit(raw)
            times.append((time.perf_counter() - begin) * 1e3)
    return times[_WARM_UP:]


def _idle(net: BenchNetwork, *, submissions: int) -> list[Figure]:
    times = commit_times_ms(net, submissions)
    return [
        Figure(
            name="network.idle.commit_p50", value=percentile(times, 50), unit="ms", n=len(times), aim="≤ 50"
        ),
        Figure(name="network.idle.commit_p99", value=percentile(times, 99), unit="ms", n=len(times)),
    ]


def measure_network(net: BenchNetwork, folder: Path, scale: float = 1.0) -> list[Figure]:
    """All four measurements on one network; ``scale`` says how much of each."""
    return [
        *_upload(net, folder, enterprises=max(2, int(60 * scale)), rows=1_000),
        *_ledger(net, transactions=max(4, int(80 * scale)), records=1_000),
        *_single(net, transactions=max(100, int(4_000 * scale)), in_flight=256),
        *_idle(net, submissions=max(20, int(300 * scale))),
    ]
