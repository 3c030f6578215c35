"""Kernels of the ledger under pytest-benchmark: ``pytest benchmarks --benchmark-only``."""

from __future__ import annotations

import random
from typing import Any

import pytest

from benchmarks.bench_statemap import BATCH_KEYS, Bench
from taxledger.ledger import canonical
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.crypto import Signer
from taxledger.ledger.merkle import EMPTY
from taxledger.ledger.operations import AttestGroup, decode_operation, encode_attest
from taxledger.ledger.packedrows import RowPacker
from taxledger.ledger.records import commit
from taxledger.ledger.statekeys import record_key
from taxledger.ledger.statemap import verify_prefixes
from taxledger.ledger.store import MemoryStore
from taxledger.ledger.transaction import decode_transaction, sign_transaction

SCHEMA = next(each for each in BUILTIN if each.name == "vat_invoice")
ROW = ("sale", None, "14390866", "2025-03-14", "B03711", "CNY", 943_396, 56_604, 1_000_000, None, None, None)
CHAIN_ID, SECRET = bytes(16), bytes(32)
KEY = record_key(1, SCHEMA.kind, bytes(16), 3, bytes(16))
RECORDS = 1_000


@pytest.fixture(scope="module")
def payload() -> bytes:
    made = random.Random(1)
    groups = [
        AttestGroup(
            tag=made.randbytes(16),
            month=1,
            schema=1,
            status=1,
            entries=b"".join(sorted(made.randbytes(64) for _ in range(25))),
        )
        for _ in range(RECORDS // 25)
    ]
    return encode_attest(SCHEMA.kind, 2025, None, sorted(groups, key=lambda each: each.tag))


@pytest.fixture(scope="module")
def small_map() -> Bench:
    bench = Bench(MemoryStore())
    bench.fill(5_000)
    return bench


def test_commit_a_row(benchmark: Any) -> None:
    benchmark(commit, SCHEMA, CHAIN_ID, KEY, 1, SECRET, ROW)


def test_pack_and_commit_a_row(benchmark: Any) -> None:
    packer = RowPacker(SCHEMA)
    benchmark(lambda: packer.commit(CHAIN_ID, KEY, 1, SECRET, packer.pack(ROW)))


def test_canonical_round_trip_of_a_record(benchmark: Any) -> None:
    record = [SECRET, 1, list(ROW), "f1_input/E14.csv", 4711]
    benchmark(lambda: canonical.decode(canonical.encode(record)))


def test_decode_attest_of_1000(benchmark: Any, payload: bytes) -> None:
    benchmark(decode_operation, payload)


def test_decode_transaction_of_1000(benchmark: Any, payload: bytes) -> None:
    raw = sign_transaction(Signer(SECRET), member=1, chain_id=CHAIN_ID, iat_s=1, exp_s=2, payload=payload)
    benchmark(decode_transaction, raw)


def test_extend_the_log_by_1000(benchmark: Any) -> None:
    leaves = [random.Random(each).randbytes(32) for each in range(RECORDS)]
    benchmark(EMPTY.extended, leaves)


def test_map_apply_adjacent(benchmark: Any, small_map: Bench) -> None:
    benchmark(small_map.view().apply, small_map.adjacent(BATCH_KEYS))


def test_map_apply_random(benchmark: Any, small_map: Bench) -> None:
    benchmark(small_map.view().apply, small_map.scattered(BATCH_KEYS))


def test_map_prove_one_key(benchmark: Any, small_map: Bench) -> None:
    benchmark(small_map.view().prove, small_map.known[:1])


def test_map_verify_one_key(benchmark: Any, small_map: Bench) -> None:
    view = small_map.view()
    made = view.prove(small_map.known[:1])
    benchmark(verify_prefixes, view.root, made.entries, made.proof)
