"""``taxledger snapshot`` and ``taxledger member sync``: begin from another member's snapshot, and check one."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from taxledger.nodes.cli.output import HomeOption, JsonOption, note, open_home, print_json, read_file, say

__all__ = ["register", "sync"]


def sync(home: HomeOption) -> None:
    """Bring a home without a ledger, far behind, or whose node halted, to the other members' newest snapshot.

    Its node and its engine must not run. Nothing is believed: the snapshot is verified against the home's policy
    file, to the last byte. Signing journals that the store still has are kept, and halted.json is removed.

    Example: taxledger member sync --home /srv/taxledger/bank1
    """
    from taxledger.nodes.statesync.joining import sync_home

    opened = open_home(home)
    note("asking the other members for a snapshot")
    verified = asyncio.run(sync_home(opened))
    say(
        f"verified and placed: block {verified.header.height}, {verified.header.state_count} entries of the state"
    )
    note("start the node: it catches up from there")


def list_snapshots(home: HomeOption, as_json: JsonOption = False) -> None:
    """The snapshots that a node keeps for members that join.

    Example: taxledger snapshot list --home net/bank1
    """
    from taxledger.ledger.snapshot import decode_manifest
    from taxledger.nodes.statesync.snapshots import kept_heights, read_manifest, snapshot_folder

    folder = snapshot_folder(open_home(home).path)
    found = [(height, decode_manifest(read_manifest(folder, height))) for height in kept_heights(folder)]
    if as_json:
        print_json(
            [{"height": h, "chunks": len(m.chunks), "bytes": sum(c.size for c in m.chunks)} for h, m in found]
        )
        return
    for height, manifest in found:
        size = sum(each.size for each in manifest.chunks)
        say(f"block {height}: {len(manifest.chunks)} chunks, {size} bytes, in {folder / str(height)}")
    if not found:
        note("none yet: the node takes one every TAXLEDGER_SNAPSHOT_BLOCKS blocks, and when a member asks")


def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of one snapshot: manifest, 0, 1, …")],
    policy: Annotated[Path, typer.Option("--policy", metavar="FILE", help="The policy file.")],
) -> None:
    """Verify a snapshot against a policy file, offline and to the last byte.

    Example: taxledger snapshot verify net/bank1/snapshots/1000 --policy net/policy.txt
    """
    from taxledger.ledger import limits
    from taxledger.ledger.leveldb import LevelStore
    from taxledger.ledger.policy import decode_policy
    from taxledger.ledger.snapshot import decode_manifest
    from taxledger.ledger.snapshotinstall import install_snapshot, verify_manifest

    trusted = decode_policy(read_file(policy, bytes_max=limits.policy_bytes_max))
    manifest = decode_manifest(read_file(folder / "manifest", bytes_max=limits.snapshot_manifest_bytes_max))

    def chunks() -> Iterator[bytes]:
        for number in range(len(manifest.chunks)):
            yield read_file(folder / str(number), bytes_max=limits.snapshot_chunk_bytes_max)

    verified = verify_manifest(manifest, trusted, now_ms=time.time_ns() // 1_000_000)
    with tempfile.TemporaryDirectory(prefix="taxledger-snapshot-") as place:
        store = LevelStore(Path(place) / "store")
        try:
            install_snapshot(store, verified, chunks())
        finally:
            store.close()
    header = verified.header
    say(
        f"verified: block {header.height}, {header.state_count} entries, state root {header.state_root.hex()}"
    )


def register(app: typer.Typer) -> None:
    """Add the commands ``snapshot …``."""
    group = typer.Typer(no_args_is_help=True, help="Snapshots: what members that join begin from.")
    group.command("list")(list_snapshots)
    group.command()(verify)
    app.add_typer(group, name="snapshot")
