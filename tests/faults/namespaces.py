"""Network namespaces of one test: one for each node, joined by a bridge that lives in a namespace of its own.

Nothing else on the machine is touched: bridge, addresses and packet filter are all inside. A guard, a process of its
own, waits for the end of ours, however it comes, then ends what runs in the namespaces and removes them.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Sequence

__all__ = ["Namespaces", "enter_namespace", "missing_tools"]

_GUARD = """cat > /dev/null
for name in "$@"; do ip netns pids "$name" 2> /dev/null | xargs -r kill -9; done
for name in "$@"; do ip netns del "$name"; done 2> /dev/null
exit 0"""
_TABLE = "bridge faults"
_NEW_NET = 0x40000000


def missing_tools() -> str | None:
    """What stands in the way of namespaces here, or None."""
    if os.geteuid() != 0:
        return "root"
    absent = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if absent:
        return " and ".join(absent)
    probe = f"tl{os.getpid()}probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    if made.returncode:
        return "a kernel that makes them"
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return None


def enter_namespace(name: str) -> None:
    """Move the calling thread, and the sockets that it makes from now on, into a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{name}", "rb") as handle:
        if libc.setns(handle.fileno(), _NEW_NET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {name}")


def _run(*command: str, given: str | None = None) -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


class Namespaces:
    """Numbers 1 to ``count`` are the nodes; each has an address of its own.

    Attributes:
        hub: name of the namespace with the bridge; its address is ``hub_address``.
    """

    hub_address = "10.77.0.1"

    def __init__(self, count: int) -> None:
        run = f"tl{os.getpid()}{secrets.token_hex(2)}"
        self.hub = f"{run}-hub"
        self._names = {number: f"{run}-n{number}" for number in range(1, count + 1)}
        self._rules: dict[str, list[str]] = {}
        every = [*self._names.values(), self.hub]
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", *every],
            stdin=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is not for it
        )
        try:
            self._make(every)
        except BaseException:
            self.close()
            raise

    def _make(self, every: Sequence[str]) -> None:
        for name in every:
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        hub = ("ip", "-n", self.hub)
        _run(*hub, "link", "add", "br0", "type", "bridge")
        _run(*hub, "addr", "add", f"{self.hub_address}/24", "dev", "br0")
        _run(*hub, "link", "set", "br0", "up")
        for number, name in self._names.items():
            port = f"port{number}"
            _run(*hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            _run(*hub, "link", "set", port, "master", "br0", "up")
            _run("ip", "-n", name, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "eth0", "up")
        self._apply()

    def name(self, number: int) -> str:
        return self._names[number]

    def address(self, number: int) -> str:
        return f"10.77.0.{10 + number}"

    def command(self, number: int, *command: str) -> list[str]:
        """The command line that runs this one in a node's namespace (as the same process)."""
        return ["ip", "netns", "exec", self._names[number], *command]

    # --- links ----------------------------------------------------------------------------------

    def partition(self, *groups: Iterable[int]) -> None:
        """Nothing passes between two groups until ``heal``."""
        cut = [
            f"ip saddr {self.address(one)} ip daddr {self.address(other)} drop"
            for mine, theirs in itertools.permutations([tuple(each) for each in groups], 2)
            for one in mine
            for other in theirs
        ]
        self._rules["partition"] = cut
        self._apply()

    def heal(self) -> None:
        """Every link as good as new."""
        self._rules = {name: rules for name, rules in self._rules.items() if name == "relayed"}
        self._apply()

    def only_relayed(self, one: int, other: int) -> None:
        """For ever, nothing passes directly between two nodes: what they learn of each other's address must not
        lead past the relay.
        """
        ends = (self.address(one), self.address(other))
        self._rules["relayed"] = [
            f"ip saddr {source} ip daddr {target} drop" for source, target in (ends, ends[::-1])
        ]
        self._apply()

    def lose(self, one: int, other: int, percent: int) -> None:
        """Drop so many of a hundred packets, at random, in both directions of one link."""
        ends = (self.address(one), self.address(other))
        self._rules[f"loss {one} {other}"] = [
            f"ip saddr {source} ip daddr {target} numgen random mod 100 < {percent} counter drop"
            for source, target in (ends, ends[::-1])
        ]
        self._apply()

    def lost(self) -> int:
        """Packets dropped by ``lose`` since it was called."""
        said = subprocess.run(
            self._nft("list", "table", *_TABLE.split()), capture_output=True, text=True, check=True
        )
        words = said.stdout.split()
        return sum(int(words[at + 1]) for at, word in enumerate(words) if word == "packets")

    def _nft(self, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", self.hub, "nft", *arguments]

    def _apply(self) -> None:
        """One transaction of the packet filter: there is no moment in between."""
        rules = "\n".join(itertools.chain.from_iterable(self._rules.values()))
        text = (
            f"table {_TABLE}\ndelete table {_TABLE}\n"
            f"table {_TABLE} {{\nchain links {{\ntype filter hook forward priority 0; policy accept;\n{rules}\n}}\n}}\n"
        )
        _run(*self._nft("-f", "-"), given=text)

    def close(self) -> None:
        """End what runs in them, and remove them."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(30)
