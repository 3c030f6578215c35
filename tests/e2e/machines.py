"""Members on machines of their own, as far as one machine can play them: folders that share nothing, no supervisor."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from network import until
from taxledger.nodes.cli.main import main
from taxledger.nodes.home import read_client
from taxledger.nodes.local.lifeline import PARENT_VARIABLE
from taxledger.nodes.local.network import free_ports


class Machines:
    """Homes by name, their processes, and the public files that go from one to another through ``post``.

    Attributes:
        folder: holds a folder for each machine, and ``post``.
        engine: the ordering engine.
    """

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], *, engine: str) -> None:
        self.folder, self.engine = folder, engine
        self.post = folder / "post"
        self.post.mkdir()
        self.processes: dict[str, list[subprocess.Popen[bytes]]] = {}
        self._capsys = capsys

    def home(self, name: str) -> Path:
        return self.folder / name / "home"

    def run(self, *arguments: str | Path, code: int = 0) -> str:
        """A command, as its operator types it; what it says."""
        self._capsys.readouterr()
        status = main([str(each) for each in arguments])
        said = self._capsys.readouterr()
        assert status == code, (arguments, said)
        return said.out + said.err

    # --- ceremony -------------------------------------------------------------------------------

    def init(self, name: str, *more: str) -> Path:
        (self.folder / name).mkdir()
        api, peer, order = free_ports(3)
        addresses = ["--api-url", f"http://127.0.0.1:{api}", "--peer-url", f"https://127.0.0.1:{peer}"]
        if self.engine != "embedded":
            addresses += ["--engine-address", f"127.0.0.1:{order}"]
        public = self.post / f"{name}.json"
        self.run("member", "init", self.home(name), "--name", name, "--engine", self.engine, *addresses, *more,
                 "-o", public)  # fmt: skip
        return public

    def enter(self, name: str, bundle: Path) -> None:
        self.run("member", "enter", "--home", self.home(name), "--bundle", bundle)

    # --- processes ------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start nodes, and engines; returns when all are ready."""
        for name in names:
            self.processes[name] = [self._spawn(name, each) for each in self._modules()]
        for name in names:
            until(lambda name=name: self._ready(name), f"{name} is ready: {self.log(name)}")

    def _modules(self) -> Sequence[str]:
        node = "taxledger.nodes.node"
        return [node] if self.engine == "embedded" else [node, "taxledger.nodes.ordering.cometbft.run"]

    def _spawn(self, name: str, module: str) -> subprocess.Popen[bytes]:
        with (self.folder / name / f"{module}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, "--home", str(self.home(name))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
            )

    def log(self, name: str) -> str:
        return "\n".join(
            path.read_text("utf-8", "replace")[-50_000:] for path in (self.folder / name).glob("*.log")
        )

    def _ready(self, name: str) -> bool:
        for process in self.processes[name]:
            assert process.poll() is None, f"{name} ended: {self.log(name)}"
        with contextlib.suppress(httpx.HTTPError):
            return self.get(name, "/ready").status_code == 200
        return False

    def stop(self, *names: str) -> None:
        for name in names:
            for process in self.processes.pop(name, []):
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def get(self, name: str, path: str) -> httpx.Response:
        access = read_client(self.home(name))
        return httpx.get(access.url + path, headers={"Authorization": f"Bearer {access.key}"}, timeout=10)

    def status(self, name: str) -> dict[str, Any]:
        with contextlib.suppress(httpx.HTTPError):
            response = self.get(name, "/v1/status")
            if response.status_code == 200:
                return dict(response.json())
        return {}

    def agree(self, *names: str) -> dict[str, Any]:
        """Wait until these nodes stand at one certified height with the same roots."""

        def agreed() -> dict[str, Any] | None:
            said = [self.status(name) for name in names]
            facts = {(each.get("height"), each.get("log_root"), each.get("state_root")) for each in said}
            whole = len(facts) == 1 and all(
                each.get("height") and not each["uncertified_blocks"] for each in said
            )
            return said[0] if whole else None

        try:
            return dict(until(agreed, "the same roots everywhere"))
        except AssertionError as error:
            raise AssertionError(
                f"{error}: {[self.status(each) for each in names]}\n{self.log(names[-1])}"
            ) from None

    def _is_in_force(self, proposal: str, name: str) -> bool:
        self._capsys.readouterr()
        if main(["member", "proposals", "--home", str(self.home(name))]) != 0:
            self.follow(*(each for each in self.processes if each))  # the validators are others now
            return False
        return f"{proposal}  in force" in self._capsys.readouterr().out

    # --- governance -----------------------------------------------------------------------------

    def proposals(self, name: str) -> str:
        return self.run("member", "proposals", "--home", self.home(name))

    def follow(self, *names: str) -> None:
        """``taxledger policy update`` at each of these, once the change has come into force there."""

        def followed(name: str) -> bool:
            home = str(self.home(name))
            update = main(["policy", "update", "--home", home]) == 0
            return update and main(["member", "proposals", "--home", home]) == 0

        for name in names:
            until(lambda name=name: followed(name), f"{name} follows the validators")

    def approve(self, said: str, *names: str) -> None:
        """Have others approve what ``said`` says was proposed, and wait until it is in force."""
        proposal = next(line.split()[1] for line in said.splitlines() if line.startswith("proposal "))
        for name in names:
            until(lambda name=name: proposal in self.proposals(name), f"{name} knows {proposal}")
            self.run("member", "approve", "--home", self.home(name), proposal)
        until(lambda: self._is_in_force(proposal, names[0]), f"{proposal} is in force")


@contextlib.contextmanager
def machines(folder: Path, capsys: pytest.CaptureFixture[str], *, engine: str) -> Iterator[Machines]:
    made = Machines(folder, capsys, engine=engine)
    try:
        yield made
    finally:
        made.stop(*list(made.processes))
