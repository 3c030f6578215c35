"""What was changed in a store by hand is found: every value, leaf, node, result and page."""

from __future__ import annotations

import chainkit
import pytest

from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import InvariantError, TaxledgerError
from taxledger.ledger.scrub import first_fault, scrub
from taxledger.ledger.store import MemoryStore


@pytest.fixture(scope="module")
def content() -> dict[bytes, bytes]:
    network = chainkit.TestChain()
    network.add(network.sign(chainkit.tag_key(network.chain_id)))
    for rid in (1, 101):
        network.add(network.sign(chainkit.attest(chainkit.group(*range(rid, rid + 60)))))
    store = MemoryStore()
    chain = Chain(store, network.genesis_leaf)
    for block in network.blocks:
        executed = chain.execute(block.executed.header.time_ms, block.executed.leaves)
        chain.commit(executed, block.votes)
        chain.certify(executed.header.height, block.cosigns)
    assert list(scrub(chain)) == []
    assert first_fault(chain) is None
    return {b"genesis": network.genesis_leaf, **dict(store.scan(b"", b"\xff"))}


def opened(content: dict[bytes, bytes], changes: dict[bytes, bytes]) -> Chain:
    store = MemoryStore({key: value for key, value in content.items() if key != b"genesis"})
    store.write(changes)
    return Chain(store, content[b"genesis"])


@pytest.mark.parametrize("letter", [b"m", b"p", b"L", b"N", b"R"])
def test_every_change_is_found(content: dict[bytes, bytes], letter: bytes) -> None:
    keys = [key for key in sorted(content) if key[:1] == letter]
    assert keys
    last = {b"L": 1, b"N": 1}.get(
        letter, 0
    )  # the last leaf is the newest header, which opening reads already
    for key in [*keys[1:40], *keys[-3 - last : len(keys) - last]]:
        value = content[key]
        for at in (0, len(value) // 2, len(value) - 1):
            changed = value[:at] + bytes([value[at] ^ 4]) + value[at + 1 :]
            try:
                found = list(scrub(opened(content, {key: changed})))
            except (InvariantError, TaxledgerError) as error:  # opening itself stumbles over it
                found = [str(error)]
            assert found, f"{key.hex()} byte {at}"


def test_the_key_that_was_changed_is_named(content: dict[bytes, bytes]) -> None:
    record = next(key for key in content if key[:2] == b"m\x01")
    found = list(scrub(opened(content, {record: content[record][:-1] + b"\x09"})))
    assert f"the value of key {record[1:].hex()} of the map is not the one that was hashed" in found


@pytest.mark.parametrize("prefix", [b"m\x06", b"m\x07", b"m\x08"])
def test_what_every_rule_reads_is_proved_at_each_start(content: dict[bytes, bytes], prefix: bytes) -> None:
    key = next(key for key in sorted(content) if key[:2] == prefix)
    # A member that can't be read any more stumbles earlier, when opening looks for the validators.
    value = content[key]
    changed = value[:-1] + bytes([value[-1] ^ 1])
    assert "not those of its state root" in (first_fault(opened(content, {key: changed})) or "")
