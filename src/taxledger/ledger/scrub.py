"""Looking a stored ledger over for what was changed by hand or by a bad disk: everything is hashed again.

Reads trust what this node wrote, for speed: a value is returned without its proof. ``check_governed`` proves at each
start the few values on which all others depend, ``scrub`` hashes all of them, for a node that does not run.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import InputError, VerificationError
from taxledger.ledger.hashing import log_inner, log_leaf, map_leaf
from taxledger.ledger.header import decode_header
from taxledger.ledger.merkle import root_of
from taxledger.ledger.statemap import MapView
from taxledger.ledger.statemap.pages import LEAF, decode_page, page_hash, page_key
from taxledger.ledger.statemap.proof import verify_prefixes
from taxledger.ledger.statemap.trie import fold, split_bits
from taxledger.ledger.store import Reader, prefix_end

__all__ = ["check_governed", "first_fault", "scrub"]

_GOVERNED = (b"\x06", b"\x07", b"\x08", b"\x0b", b"\x0e")
"""Members, parameters, schemas, proposals, convicted keys: few, and every rule reads them."""


def check_governed(view: MapView) -> None:
    """Returns when members, parameters, schemas, proposals and convictions are those of the view's root.

    Raises:
        VerificationError: some value was changed without the map.
    """
    proved = view.prove(_GOVERNED)
    verify_prefixes(view.root, proved.entries, proved.proof)


def scrub(chain: Chain) -> Iterator[str]:
    """What is wrong in an opened ledger, one sentence each; nothing where all is whole.

    Compared: leaves with the log's nodes, nodes with each other, headers with leaves and results, every value of the
    stored map with its hash, every page with what lies below it, and the whole map with the certified header's root.
    """
    yield from _log(chain)
    yield from _blocks(chain)
    yield from _map(chain)


def _log(chain: Chain) -> Iterator[str]:
    store = chain.store
    for key, leaf in store.scan(b"L", prefix_end(b"L")):
        index = int.from_bytes(key[1:], "big")
        if len(key) == 9 and store.get(b"N\0" + key[1:]) not in (None, log_leaf(leaf)):
            yield f"leaf {index} of the log is not the one that was hashed"
    for key, node in store.scan(b"N\x01", prefix_end(b"N")):
        level, index = key[1], int.from_bytes(key[2:], "big")
        left, right = (
            store.get(b"N" + bytes([level - 1]) + (2 * index + side).to_bytes(8, "big")) for side in (0, 1)
        )
        if left is not None and right is not None and log_inner(left, right) != node:
            yield f"node {index} of level {level} of the log is not that of the two below it"


def _blocks(chain: Chain) -> Iterator[str]:
    kept = chain.kept()
    previous: bytes | None = None
    for height in range(max(1, kept.height), chain.tip.height + 1):
        leaf = chain.header_leaf(height)
        try:
            header = decode_header(leaf)
        except InputError as error:
            yield f"the header of block {height}: {error}"
            previous = None
            continue
        if previous is not None and header.previous_header_hash != previous:
            yield f"block {height} does not follow the one before"
        previous = log_leaf(leaf)
        if root_of([log_leaf(each) for each in chain.results(height)]) != header.results_root:
            yield f"the results of block {height} are not those of its header"


def _map(chain: Chain) -> Iterator[str]:
    view = MapView.open(chain.store)
    if chain.certified and view.root != chain.header(chain.certified).state_root:
        yield f"the stored map is not that of block {chain.certified}"
    keys: list[bytes] = []
    hashes: list[bytes] = []
    for key, value in view.scan(b""):
        keys.append(key)
        hashes.append(map_leaf(key, value))
    if keys and fold(split_bits(keys), hashes)[0] != view.root:
        yield "the values of the map do not give its root"
    yield from _pages(chain.store, dict(zip(keys, hashes, strict=True)))


def _pages(reader: Reader, hashes: dict[bytes, bytes]) -> Iterator[str]:
    """Names the values and pages that are wrong."""
    for stored_key, data in reader.scan(b"p", prefix_end(b"p")):
        number = int.from_bytes(stored_key[1:], "big")
        try:
            page = decode_page(data)
        except (struct.error, IndexError):
            yield f"page {number} of the map can't be read"
            continue
        for reference, padded, known in zip(page.references, page.keys, page.hashes, strict=True):
            below, extent = int.from_bytes(reference[:5], "big"), int.from_bytes(reference[5:], "big")
            if reference[:5] == LEAF:
                key = padded[:extent]
                if hashes.get(key) != known:
                    yield f"the value of key {key.hex()} of the map is not the one that was hashed"
            else:
                child = reader.get(page_key(below))
                if child is None or page_hash(child) != known:
                    yield f"page {below} of the map, below page {number}, is missing or another"
        if fold(page.bits, page.hashes) != page.inner:
            yield f"page {number} of the map does not hash to what it says"


def first_fault(chain: Chain) -> str | None:
    """The first thing that is wrong with what every rule reads, or None."""
    try:
        check_governed(chain.view)
    except VerificationError as error:
        return f"members, parameters, schemas or proposals in the store are not those of its state root ({error})"
    return None
