"""Executes an ordered input from the genesis on and prints every hash it gives, as JSON; needs ``ledger`` alone.

python tests/e2e/replay.py FILE [ARCHIVE]     FILE: canonical [genesis leaf, [[block time, [transaction …]] …]]
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from taxledger.ledger import canonical, hashing
from taxledger.ledger.audit import audit_archive
from taxledger.ledger.execute import execute_block, genesis_tip
from taxledger.ledger.statemap import MapView
from taxledger.ledger.store import MemoryStore


def replay(data: bytes, archive: bytes) -> dict[str, Any]:
    """Roots after the last block, a digest of all that was decided on the way, and the audit's roots."""
    genesis, batches = canonical.decode(data)
    tip, layer, _ = genesis_tip(genesis)
    store = MemoryStore()
    store.write(layer.store_batch())
    view = MapView.open(store)
    logged: set[bytes] = set()
    trail = []
    for time_ms, transactions in batches:
        block = execute_block(
            tip, view, time_ms=time_ms, transactions=transactions, is_logged=logged.__contains__
        )
        skipped = [[leaf_hash, reason] for leaf_hash, reason in block.skipped]
        trail.append(canonical.encode([block.header_leaf, block.results, block.leaf_hashes, skipped]))
        store.write(block.layer.store_batch())
        view, tip = MapView.open(store), block.tip
        logged.update(block.leaf_hashes)
    report = audit_archive(io.BytesIO(archive), MemoryStore())
    return {
        "log_root": tip.frontier.root.hex(),
        "state_root": view.root.hex(),
        "size": tip.frontier.size,
        "trail": hashing.sha256(b"".join(trail)).hex(),
        "audit": [report.ok, report.log_root.hex(), report.state_root.hex(), report.transactions],
    }


if __name__ == "__main__":
    print(json.dumps(replay(*(Path(name).read_bytes() for name in sys.argv[1:3]))))
