"""What the machine itself can do: the yardstick of all other figures of the same run.

In time of the processor, but for the synced write, which is in time of the clock.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path

import msgpack
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.figures import Figure, median_us
from taxledger.ledger.crypto import Signer, TagSigner, verify_signature, verify_tag_signature
from taxledger.ledger.leveldb import LevelStore

__all__ = ["primitives"]

_RECORD = [
    bytes(32),
    1,
    ["sale", None, "14390866", "2025-03-14", "B03711", "CNY", 943_396, 56_604, 1_000_000],
]


def primitives() -> list[Figure]:
    """Every primitive that the ledger's work is made of."""
    digest = hashlib.sha256
    short, long, nonce = bytes(64), bytes(1024), bytes(12)
    signer, cipher = Signer(bytes(range(32))), AESGCM(bytes(32))
    signature = signer.sign(long)
    tag_signer = TagSigner(TagSigner.generate_der())
    tag_signature = tag_signer.sign(short)
    record = msgpack.packb(_RECORD, use_bin_type=True)
    content, key = bytes(256), signer.public_key
    modulus = tag_signer.modulus
    calls = {
        "sha256_64": (lambda: digest(short).digest(), 20_000),
        "sha256_1024": (lambda: digest(long).digest(), 5_000),
        "ed25519_sign": (lambda: signer.sign(long), 500),
        "ed25519_verify": (lambda: verify_signature(key, signature, long), 300),
        "rsa3072_sign": (lambda: tag_signer.sign(short), 20),
        "rsa3072_verify": (lambda: verify_tag_signature(modulus, tag_signature, short), 300),
        "msgpack_pack_record": (lambda: msgpack.packb(_RECORD, use_bin_type=True), 20_000),
        "msgpack_unpack_record": (lambda: msgpack.unpackb(record, raw=False), 20_000),
        "aes_gcm_256": (lambda: cipher.encrypt(nonce, content, None), 10_000),
    }
    figures = [
        Figure(
            name=f"primitive.{name}",
            value=median_us(call, calls=n, clock=time.thread_time),
            unit="µs",
            n=9 * n,
        )
        for name, (call, n) in calls.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = LevelStore(Path(folder) / "store")
        value = os.urandom(1024)
        synced = median_us(lambda: store.write({b"key": value}), calls=50)
        store.close()
    figures.append(Figure(name="primitive.leveldb_synced_write_1024", value=synced, unit="µs", n=450))
    return figures
