"""Networks that begin with many records: their stores are filled by driving the ledger in this process.

python tests/e2e/large.py DIR RECORDS      a network in DIR with so many records, to be started as any other
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from pathlib import Path

import chainkit

from taxledger.ledger.chain import Chain
from taxledger.ledger.checkpoint import Checkpoint, cosign
from taxledger.ledger.crypto import Signer
from taxledger.ledger.genesis import origin_of
from taxledger.ledger.header import vote_message
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.operations import AttestGroup, encode_attest, encode_tag_key
from taxledger.ledger.statemap import PageCache
from taxledger.ledger.tagkeys import prove_tag_key
from taxledger.ledger.transaction import sign_transaction
from taxledger.nodes.home import Home
from taxledger.nodes.local.control import find_homes

ENTRIES, GROUPS, TRANSACTIONS = 1_000, 10, 64
"""Entries of a transaction, in so many groups; transactions of a block."""


def attestation(chance: random.Random, tags: list[bytes]) -> bytes:
    """A payload of ``ENTRIES`` records of random ids under ``GROUPS`` subjects."""
    groups = []
    for tag in sorted(chance.sample(tags, GROUPS)):
        rids = sorted(chance.randbytes(16) for _ in range(ENTRIES // GROUPS))
        entries = b"".join(rid + chance.randbytes(48) for rid in rids)
        groups.append(AttestGroup(tag=tag, month=chance.randint(1, 12), schema=1, status=1, entries=entries))
    return encode_attest(chainkit.INVOICE, 2025, None, groups)


class Builder:
    """Votes and co-signs for all members at once, whose keys lie in the network folder."""

    def __init__(self, homes: list[Home]) -> None:
        self.homes = homes
        self.issuer = Signer(homes[0].key("transaction"))
        self.votes = [(home.config.number, Signer(home.key("vote"))) for home in homes]
        self.cosigns = [(home.config.number, Signer(home.key("cosign"))) for home in homes]
        self.store = LevelStore(homes[0].store_path)
        self.chain = Chain(self.store, homes[0].genesis(), PageCache())
        self.origin = origin_of(self.chain.genesis, self.chain.genesis_leaf)

    def sign(self, payload: bytes) -> bytes:
        iat_s = int(time.time())
        return sign_transaction(
            self.issuer,
            member=1,
            chain_id=self.chain.chain_id,
            iat_s=iat_s,
            exp_s=iat_s + 3_000,
            payload=payload,
        )

    def block(self, transactions: list[bytes]) -> None:
        """One certified block."""
        chain = self.chain
        time_ms = max(time.time_ns() // 1_000_000, chain.tip.time_ms + 1)
        executed = chain.execute(time_ms, transactions)
        assert not executed.skipped
        height, frontier = executed.header.height, executed.tip.frontier
        message = vote_message(chain.chain_id, height, executed.tip.header_hash)
        chain.commit(executed, [(number, signer.sign(message)) for number, signer in self.votes])
        checkpoint = Checkpoint(origin=self.origin, size=frontier.size, root=frontier.root)
        time_s = time_ms // 1_000
        signed = [(number, time_s, cosign(signer, checkpoint, time_s)) for number, signer in self.cosigns]
        chain.certify(height, signed)


def fill(directory: Path, records: int, *, seed: int = 1) -> None:
    """Give the stores of a new network ``records`` records (a multiple of a thousand)."""
    homes = find_homes(directory)
    builder = Builder(homes)
    chance = random.Random(seed)
    tags = [chance.randbytes(16) for _ in range(500)]
    try:
        key = chainkit.tag_signer()
        proof = prove_tag_key(key, builder.chain.chain_id, 1, 2025)
        builder.block([builder.sign(encode_tag_key(2025, key.modulus, proof))])
        left = records // ENTRIES
        while left:
            count = min(left, TRANSACTIONS)
            builder.block([builder.sign(attestation(chance, tags)) for _ in range(count)])
            left -= count
        assert builder.chain.view.count > records
    finally:
        builder.store.close()
    for home in homes[1:]:
        copy_store(homes[0].store_path, home.store_path)


def copy_store(source: Path, target: Path) -> None:
    """A copy of a closed store; its tables never change, so they are shared."""
    for path in source.iterdir():
        if path.suffix in (".ldb", ".sst"):
            os.link(path, target / path.name)
        else:
            shutil.copy2(path, target / path.name)


if __name__ == "__main__":
    from network import RealNetwork

    RealNetwork(Path(sys.argv[1]))
    started = time.perf_counter()
    fill(Path(sys.argv[1]), int(sys.argv[2]))
    print(f"{sys.argv[2]} records in {time.perf_counter() - started:.1f} s")
