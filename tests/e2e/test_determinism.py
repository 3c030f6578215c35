"""The same ordered input gives the same roots: on every Python, for any hash seed, replayed from nothing."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import chainkit
import pytest
from replay import replay

from taxledger.ledger import canonical
from taxledger.ledger.audit import audit_archive
from taxledger.ledger.chain import Chain
from taxledger.ledger.governance import member_set
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.operations import RevokeChange, encode_approve, encode_propose, encode_revoke
from taxledger.ledger.statekeys import record_key
from taxledger.ledger.transaction import decode_transaction

ROOT = Path(__file__).parents[2]
MINORS = (11, 12, 13, 14, 15)
LIBRARIES = ("msgpack", "cryptography", "cffi", "pycparser")


class Story(NamedTuple):
    """An ordered input (``replay.py``), the archive that came of it, and what replaying gives here."""

    data: bytes
    archive: bytes
    expected: dict[str, Any]


@pytest.fixture(scope="module")
def story() -> Story:
    """Records, repetitions, refusals, garbage, foreign and expired transactions, a revocation, a new validator."""
    chain = chainkit.TestChain()
    chance = random.Random(2025)
    batches: list[tuple[int, list[bytes]]] = []

    def block(*transactions: bytes) -> None:
        batches.append((chain.time_ms + 1_000, list(transactions)))
        chain.add(*transactions)

    key = chain.sign(chainkit.tag_key(chain.chain_id))
    block(key, key, b"garbage", chain.sign(chainkit.tag_key(chain.chain_id, 2024)))
    for at in range(6):
        groups = [
            chainkit.group(*sorted(chance.sample(range(10_000), 60)), tag=chance.randrange(4))
            for _ in range(8)
        ]
        block(
            *(chain.sign(chainkit.attest(group, through=f"2025-0{at + 1}-15")) for group in groups),
            chain.sign(chainkit.attest(chainkit.group(1), kind=9)),
            chain.sign(chainkit.attest(chainkit.group(2, month=14), year=2024)),
            chain.sign(chainkit.attest(chainkit.group(3)), exp_s=chain.time_ms // 1_000 - 5),
            chain.sign(chainkit.attest(chainkit.group(4)), chain_id=bytes(16)),
            batches[0][1][0],
        )
    member = chainkit.validator(8, name="v8")
    change = member_set(member, chain.chain_id, [chainkit.signer(8, use) for use in chainkit.PURPOSES])
    proposal = chain.sign(encode_propose(change), 1)
    block(proposal, *(chain.sign(encode_approve(log_leaf(proposal)[:16]), number) for number in (2, 3)))
    block()
    block(chain.sign(chainkit.attest(chainkit.group(20_000, tag=1))))
    record = record_key(
        chainkit.ISSUER, chainkit.INVOICE, (1).to_bytes(16, "big"), 3, (20_000).to_bytes(16, "big")
    )
    gone = RevokeChange(key=record, version=1, reason=4, reason_digest=None)
    block(*(chain.sign(encode_revoke(chainkit.INVOICE, [gone])) for _ in range(2)))
    data = canonical.encode([chain.genesis_leaf, [[time_ms, batch] for time_ms, batch in batches]])
    archive = chain.archive()
    expected = replay(data, archive)
    assert expected["log_root"] == chain.tip.frontier.root.hex()
    assert expected["state_root"] == chain.view.root.hex()
    assert expected["audit"][:3] == [True, expected["log_root"], expected["state_root"]]
    return Story(data, archive, expected)


def interpreters() -> dict[int, str]:
    """Every CPython 3.11 and newer on this machine, by minor version: on the path, or installed by pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [Path(each) for each in os.environ.get("PATH", "").split(os.pathsep)]
    folders += sorted(pyenv.glob("versions/*/bin"))
    found = {sys.version_info.minor: sys.executable}
    for minor in MINORS:
        for folder in folders:
            path = folder / f"python3.{minor}"
            if minor in found or not path.exists():
                continue
            asked = subprocess.run(
                [path, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True, check=False
            )
            if asked.returncode == 0:  # a shim of pyenv for a version that is not active fails
                found[minor] = asked.stdout.strip()
    return found


def libraries(cache: Path, interpreter: str) -> Path:
    """A folder with the two libraries the ledger needs, for one interpreter; kept for the next run."""
    lock = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pinned = sorted(line for line in lock if line.split("==")[0] in LIBRARIES)
    folder = cache / f"{Path(interpreter).parents[1].name}-{'-'.join(pinned)}"
    if (folder / ".ready").exists():
        return folder
    made = subprocess.run(
        [
            sys.executable,
            *("-m", "pip", "--python", interpreter, "--disable-pip-version-check", "install", "--quiet"),
            *("--no-deps", "--only-binary", ":all:", "--upgrade", "--target", str(folder), *pinned),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"needs the package registry: {made.stderr.strip().splitlines()[-1]}")
    (folder / ".ready").touch()
    return folder


def run(interpreter: str, story: Story, tmp_path: Path, *, seed: str, path: str) -> dict[str, Any]:
    (tmp_path / "input.bin").write_bytes(story.data)
    (tmp_path / "archive.bin").write_bytes(story.archive)
    script = Path(__file__).with_name("replay.py")
    made = subprocess.run(
        [interpreter, str(script), str(tmp_path / "input.bin"), str(tmp_path / "archive.bin")],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    found: dict[str, Any] = json.loads(made.stdout)
    return found


@pytest.mark.parametrize("seed", ["0", "1", "20250101"])
def test_under_every_hash_seed(story: Story, tmp_path: Path, seed: str) -> None:
    path = os.pathsep.join([str(ROOT / "src"), *(each for each in sys.path if "site-packages" in each)])
    assert run(sys.executable, story, tmp_path, seed=seed, path=path) == story.expected


@pytest.mark.parametrize("minor", [minor for minor in MINORS if minor != sys.version_info.minor])
def test_on_every_other_python(story: Story, tmp_path: Path, minor: int, pytestconfig: pytest.Config) -> None:
    interpreter = interpreters().get(minor)
    if interpreter is None:
        pytest.skip(f"needs another Python: 3.{minor} is not installed")
    folder = libraries(pytestconfig.cache.mkdir("libraries"), interpreter)
    path = os.pathsep.join([str(ROOT / "src"), str(folder)])
    assert run(interpreter, story, tmp_path, seed="7", path=path) == story.expected


def opened(folder: Path) -> Iterator[LevelStore]:
    store = LevelStore(folder)
    try:
        yield store
    finally:
        store.close()


def test_replayed_into_an_empty_folder(story: Story, tmp_path: Path) -> None:
    """As a node would, with blocks that wait for their certificate, and stopped after every block."""
    genesis, batches = canonical.decode(story.data)
    for at, (time_ms, batch) in enumerate(batches):
        for store in opened(tmp_path / "store"):
            chain = Chain(store, genesis)
            executed = chain.execute(time_ms, batch)
            chain.commit(executed, [])
            while chain.certified < chain.tip.height - at % 4:
                chain.certify(chain.certified + 1, [])
    for store in opened(tmp_path / "store"):
        chain = Chain(store, genesis)
        assert chain.tip.frontier.root.hex() == story.expected["log_root"]
        assert chain.view.root.hex() == story.expected["state_root"]
        for index in range(1, chain.tip.frontier.size):
            if index != chain.header_index(chain.height_of_index(index)):
                assert decode_transaction(chain.leaf(index)).id == chain.node(0, index)


def test_audited_into_an_empty_folder(story: Story, tmp_path: Path) -> None:
    for store in opened(tmp_path / "store"):
        report = audit_archive(io.BytesIO(story.archive), store)
    assert report.ok
    assert [report.log_root.hex(), report.state_root.hex()] == story.expected["audit"][1:3]
