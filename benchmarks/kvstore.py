"""The yardstick: bare CometBFT with its own ``kvstore`` application, four nodes on this machine.

The engine's folders of a taxledger network are copied, so that binary, validators, block limits and every setting
of consensus, mempool and connections are the same; only addresses and the application differ. The application
runs inside the engine's process and keeps its data in memory: nothing can be had from this engine for less.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import aiohttp

from taxledger.nodes.local.network import free_ports

__all__ = ["KvNetwork", "running_kvstore"]

_READY_S = 30.0
_CONFIG, _KEY = Path("config/config.toml"), Path("config/node_key.json")
_STATE = Path("data/priv_validator_state.json")
_FRESH_STATE = {"height": "0", "round": 0, "step": 0}


class KvNetwork:
    """A running network; transactions go to its first node and are answered when they are in a block."""

    def __init__(self, url: str, seed: int = 1) -> None:
        self._url = url
        self._random = Random(seed)

    def transaction(self, size: int) -> bytes:
        """A new ``key=value`` of so many bytes."""
        key = self._random.randbytes(8).hex()
        return f"{key}={self._random.randbytes(size // 2).hex()}".encode()[:size]

    def submit_all(self, transactions: Sequence[bytes], *, in_flight: int) -> list[float]:
        """So many at a time; milliseconds until each is known to be committed."""
        return asyncio.run(self._submit_all(transactions, in_flight))

    async def _submit_all(self, transactions: Sequence[bytes], in_flight: int) -> list[float]:
        waiting = iter(transactions)
        times: list[float] = []

        async def one_after_another(session: aiohttp.ClientSession) -> None:
            for raw in waiting:
                call = {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "broadcast_tx_commit",
                    "params": {"tx": base64.b64encode(raw).decode()},
                }
                begin = time.perf_counter()
                async with session.post(self._url, json=call) as response:
                    said = await response.json()
                times.append((time.perf_counter() - begin) * 1e3)
                result = said.get("result")
                if not result or result["check_tx"]["code"] or result["tx_result"]["code"]:
                    raise SystemExit(f"a transaction of the yardstick failed: {str(said)[:300]}")

        # The engine counts subscriptions by connection, one for each call under way.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:
            await asyncio.gather(*(one_after_another(session) for _ in range(in_flight)))
        return times


def _set(text: str, section: str, values: dict[str, str]) -> str:
    """The TOML text with these values in one section (``""``: before the first one)."""
    begin = text.index(f"\n[{section}]\n") if section else 0
    end = text.find("\n[", begin + 1)
    end = len(text) if end < 0 else end
    part = text[begin:end]
    for name, value in values.items():
        part, done = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", part)
        if not done:
            part = part.rstrip("\n") + f"\n{name} = {value}\n"
    return text[:begin] + part + text[end:]


def _copy(sources: Sequence[Path], folder: Path, node_id: Callable[[Path], str]) -> tuple[list[Path], str]:
    """Homes of the yardstick's nodes, and the address of the first one's API."""
    ports = free_ports(2 * len(sources))
    rpc, p2p = ports[: len(sources)], ports[len(sources) :]
    homes = [folder / f"node{number}" for number in range(len(sources))]
    for home, source in zip(homes, sources, strict=True):
        shutil.copytree(source / "config", home / "config", ignore=shutil.ignore_patterns("addrbook*"))
        (home / _STATE).parent.mkdir()
        (home / _STATE).write_text(json.dumps(_FRESH_STATE))
    ids = [node_id(home) for home in homes]
    for at, home in enumerate(homes):
        peers = ",".join(f"{ids[other]}@127.0.0.1:{p2p[other]}" for other in range(len(homes)) if other != at)
        text = (home / _CONFIG).read_text()
        text = _set(text, "", {"proxy_app": '"kvstore"'})
        many = {"max_subscription_clients": "1000", "timeout_broadcast_tx_commit": '"60s"'}
        text = _set(text, "rpc", {"laddr": f'"tcp://127.0.0.1:{rpc[at]}"', **many})
        text = _set(
            text,
            "p2p",
            {
                "laddr": f'"tcp://127.0.0.1:{p2p[at]}"',
                "external_address": '""',
                "persistent_peers": f'"{peers}"',
                "addr_book_strict": "false",
                "allow_duplicate_ip": "true",
            },
        )
        (home / _CONFIG).write_text(text)
    return homes, f"http://127.0.0.1:{rpc[0]}"


def _is_ready(url: str, peers: int) -> bool:
    """Whether the node hears its peers and takes transactions."""
    try:
        with urllib.request.urlopen(f"{url}/net_info", timeout=2) as answer:
            heard = int(json.load(answer)["result"]["n_peers"])
        with urllib.request.urlopen(f"{url}/status", timeout=2) as answer:
            late = json.load(answer)["result"]["sync_info"]["catching_up"]
    except OSError:
        return False
    return heard >= peers and not late


@contextmanager
def running_kvstore(binary: Path, sources: Sequence[Path], folder: Path) -> Iterator[KvNetwork]:
    """A network like that of ``sources`` (engine folders), started; its processes are ended at the end."""

    def node_id(home: Path) -> str:
        command = [str(binary), "show-node-id", "--home", str(home)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    homes, url = _copy(sources, folder, node_id)
    processes = []
    try:
        for home in homes:
            with (home / "log").open("wb") as log:
                command = [str(binary), "start", "--home", str(home)]
                processes.append(subprocess.Popen(command, cwd=home, stdout=log, stderr=log))
        end = time.monotonic() + _READY_S
        while not _is_ready(url, len(homes) - 1):
            if time.monotonic() > end:
                raise SystemExit(f"the yardstick did not start: {(homes[0] / 'log').read_text()[-600:]}")
            time.sleep(0.1)
        yield KvNetwork(url)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
