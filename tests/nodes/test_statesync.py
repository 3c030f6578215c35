"""Beginning from another member's snapshot: what peers may do wrong, and what a crash may leave."""

from __future__ import annotations

import datetime
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cluster import Cluster, running
from test_certification import note_of, policy_of
from test_snapshot import NOW_MS, Taken, install
from test_snapshot import taken as taken  # a fixture

from taxledger.ledger import canonical, limits
from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import FormatError, RefusedError, UnavailableError, VerificationError
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.policy import encode_policy
from taxledger.ledger.snapshot import decode_manifest
from taxledger.ledger.snapshotinstall import verify_manifest
from taxledger.nodes.application import Application, Keys, encode_cosign
from taxledger.nodes.forks.halting import read_halt, write_halt
from taxledger.nodes.home import Home
from taxledger.nodes.local.network import create_network
from taxledger.nodes.ordering.cometbft import messages as abci
from taxledger.nodes.ordering.cometbft.statesync import LightServer, Markers, on_engine_rpc, trusted_block
from taxledger.nodes.replica import Replica
from taxledger.nodes.statesync.fetching import fetch_snapshot, place_store, stored_height
from taxledger.nodes.statesync.snapshots import SnapshotKeeper, kept_heights


@dataclass
class FakePeer:
    """In the place of ``PeerClient``; ``answer`` gives or raises."""

    name: str
    answer: Any

    async def call(
        self, verb: str, message: Any, *, answer_bytes_max: int = 1 << 24, **_limits: Any
    ) -> bytes:
        data = await self.answer(verb, canonical.decode(canonical.encode(message)))
        data = data if type(data) is bytes else canonical.encode(data)
        if len(data) > answer_bytes_max:
            raise UnavailableError("too large")
        return data


def keeper_of(cluster: Cluster, folder: Path, number: int = 2, blocks: int = 1_000) -> SnapshotKeeper:
    async def note(state: Any) -> bytes:
        return note_of(state.checkpoint, sorted(state.cosigns, key=lambda each: each.member))

    return SnapshotKeeper(folder, cluster.nodes[number].replica, note, blocks)


def serving(keeper: SnapshotKeeper) -> FakePeer:
    async def answer(verb: str, message: Any) -> Any:
        return await keeper.handlers()[verb](3, message)

    return FakePeer("v2", answer)


def home_of(cluster: Cluster, folder: Path) -> Home:
    create_network(
        folder,
        members=["v1", "v2", "v3", "v4"],
        now=datetime.datetime.now(datetime.UTC),
        grant=lambda _path: "key",
    )
    home = Home(folder / "v3")
    home.genesis_path.write_bytes(cluster.genesis_leaf)
    policy = policy_of(cluster)
    home.policy_path.write_bytes(
        encode_policy(
            origin=policy.origin,
            log_keys=[key.public_key for key in policy.log_keys],
            witnesses={name: key.public_key for name, key in policy.witnesses.items()},
        )
    )
    return home


async def with_blocks(cluster: Cluster, count: int = 3) -> None:
    await cluster.until(cluster.certified(1))
    for day in range(1, count):
        await cluster.submit(cluster.through(day))
        await cluster.until(cluster.certified(day + 1))


async def test_a_home_takes_it_and_its_journals_stay(tmp_path: Path) -> None:
    async with running() as cluster:
        await with_blocks(cluster)
        home = home_of(cluster, tmp_path / "net")
        store = LevelStore(home.store_path)
        store.write({b"S" + bytes(16): b"journal", b"J" + bytes(16): b"\x01", b"X" + bytes(32): bytes(8)})
        Chain(store, cluster.genesis_leaf)
        store.close()
        keeper = keeper_of(cluster, tmp_path / "snapshots")
        verified = await fetch_snapshot(home, {2: serving(keeper)}, now_ms=cluster.now_ms() + 1_000)
        assert verified.header.height == 3
        assert stored_height(home) == 0  # nothing changed yet
        place_store(home)
        assert stored_height(home) == 3
        assert sorted(path.name for path in home.path.glob("store*")) == ["store"]
        store = LevelStore(home.store_path)
        assert store.get(b"S" + bytes(16)) == b"journal"
        assert store.get(b"J" + bytes(16)) == b"\x01"
        assert store.get(b"X" + bytes(32)) is None
        assert Chain(store, cluster.genesis_leaf).tip == cluster.nodes[2].chain.tip
        store.close()
        with pytest.raises(UnavailableError, match="above 3"):
            await fetch_snapshot(home, {2: serving(keeper)}, now_ms=cluster.now_ms())


async def test_a_home_that_halted_takes_one_that_is_no_newer_than_its_store(tmp_path: Path) -> None:
    """Its store is not to be believed. The sequencer's stays: what only it has, nobody brings it."""
    async with running() as cluster:
        await with_blocks(cluster)
        home = home_of(cluster, tmp_path / "net")
        peer = serving(keeper_of(cluster, tmp_path / "snapshots"))
        await fetch_snapshot(home, {2: peer}, now_ms=cluster.now_ms() + 1_000)
        place_store(home)
        store = LevelStore(home.store_path)
        store.write({b"S" + bytes(16): b"journal", b"x": b"changed by hand"})
        store.close()
        with pytest.raises(UnavailableError, match="above 3"):
            await fetch_snapshot(home, {2: peer}, now_ms=cluster.now_ms())
        write_halt(home.path, "the store is damaged")
        await fetch_snapshot(home, {2: peer}, now_ms=cluster.now_ms())
        place_store(home)
        assert read_halt(home.path) is None
        store = LevelStore(home.store_path)
        assert (store.get(b"S" + bytes(16)), store.get(b"x")) == (b"journal", None)
        store.close()
        sequencer = Home(home.path.with_name("v1"))
        shutil.copytree(home.store_path, sequencer.store_path, dirs_exist_ok=True)
        for name in ("genesis.bin", "policy.txt"):
            (sequencer.path / name).write_bytes((home.path / name).read_bytes())
        write_halt(sequencer.path, "the store is damaged")
        with pytest.raises(UnavailableError, match="above 3"):
            await fetch_snapshot(sequencer, {2: peer}, now_ms=cluster.now_ms())


async def test_what_was_signed_while_it_was_fetched_goes_with_it(tmp_path: Path) -> None:
    async with running() as cluster:
        await with_blocks(cluster)
        home = home_of(cluster, tmp_path / "net")
        LevelStore(home.store_path).close()
        peer = serving(keeper_of(cluster, tmp_path / "snapshots"))
        await fetch_snapshot(home, {2: peer}, now_ms=cluster.now_ms() + 1_000)
        store = LevelStore(home.store_path)  # its node was started meanwhile
        store.write({b"S" + bytes(16): b"signed", b"V" + bytes(8): b"voted"})
        with pytest.raises(UnavailableError):
            place_store(home)
        store.close()
        place_store(home)
        assert stored_height(home) == 3
        store = LevelStore(home.store_path)
        assert (store.get(b"S" + bytes(16)), store.get(b"V" + bytes(8))) == (b"signed", b"voted")
        store.close()


async def test_one_peer_that_lies_or_fails_is_passed_over(tmp_path: Path) -> None:
    async with running() as cluster:
        await with_blocks(cluster)
        home = home_of(cluster, tmp_path / "net")
        good = serving(keeper_of(cluster, tmp_path / "snapshots"))

        async def lies(verb: str, message: Any) -> Any:
            if verb == "snapshot_list":
                return [1, "snapshot_list", [2**40, 3, -1, "x"]]
            if verb == "set_links":
                return [1, "set_links", [b"no link", 7]]
            data = await good.answer(verb, message)
            return data if message[3] == 0 else data[:-1] + bytes([data[-1] ^ 1])

        async def large(verb: str, message: Any) -> Any:
            if verb == "snapshot_list":
                return [1, "snapshot_list", [9]]
            return bytes(limits.snapshot_chunk_bytes_max + 1)

        async def silent(_verb: str, _message: Any) -> Any:
            raise UnavailableError("silent")

        bad = {1: FakePeer("v1", lies), 3: FakePeer("v3", large), 4: FakePeer("v4", silent)}
        with pytest.raises((VerificationError, RefusedError, UnavailableError)):
            await fetch_snapshot(home, bad, now_ms=cluster.now_ms())
        assert stored_height(home) == 0
        verified = await fetch_snapshot(home, {**bad, 5: good}, now_ms=cluster.now_ms())
        assert verified.header.height == 3


async def test_a_crash_between_the_last_two_steps_is_put_right(tmp_path: Path) -> None:
    async with running() as cluster:
        await with_blocks(cluster)
        home = home_of(cluster, tmp_path / "net")
        store = LevelStore(home.store_path)
        store.write({b"S" + bytes(16): b"journal"})
        store.close()
        peer = serving(keeper_of(cluster, tmp_path / "snapshots"))
        await fetch_snapshot(home, {2: peer}, now_ms=cluster.now_ms())
        home.store_path.rename(home.path / "store.old")  # and the power goes
        await fetch_snapshot(home, {2: peer}, now_ms=cluster.now_ms())
        place_store(home)
        store = LevelStore(home.store_path)
        assert store.get(b"S" + bytes(16)) == b"journal"
        store.close()


async def test_the_newest_two_are_kept_and_parts_are_given_by_name(tmp_path: Path) -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        keeper = keeper_of(cluster, tmp_path)
        for day in range(1, 4):
            await keeper.take()
            await cluster.submit(cluster.through(day))
            await cluster.until(cluster.certified(day + 1))
        assert kept_heights(tmp_path) == [3, 2]
        assert await keeper.take() is not None
        assert await keeper.take() is None  # it is there
        assert kept_heights(tmp_path) == [4, 3]
        assert await keeper.on_list(1, [1, "snapshot_list"]) == [1, "snapshot_list", [4, 3]]
        chain = keeper._replica.application.chain
        chain.engine_from = 4  # as after a handover: what is older verifies under the former origin alone
        assert await keeper.on_list(1, [1, "snapshot_list"]) == [1, "snapshot_list", [4]]
        await cluster.submit(cluster.through(9))
        await cluster.until(cluster.certified(5))
        chain.engine_from = 5
        assert await keeper.on_list(1, [1, "snapshot_list"]) == [1, "snapshot_list", [5]]
        chain.engine_from = 1
        manifest = decode_manifest(await keeper.on_chunk(1, [1, "snapshot_chunk", 4, 0]))
        data = await keeper.on_chunk(1, [1, "snapshot_chunk", 4, 1])
        assert len(data) == manifest.chunks[0].size
        for height, number in ((2, 0), (4, 99), (6, 0)):
            with pytest.raises(RefusedError) as caught:
                await keeper.on_chunk(1, [1, "snapshot_chunk", height, number])
            assert caught.value.code == "snapshot_unknown"
        for message in ([1, "snapshot_chunk", "..", 0], [1, "snapshot_chunk", 4], None):
            with pytest.raises(FormatError):
                await keeper.on_chunk(1, message)


async def test_a_heartbeat_for_a_tree_of_before_the_snapshot_accuses_nobody(taken: Taken) -> None:
    """There is nothing here to compare it with: a validator that lags is no liar."""
    store = install(taken)
    chain = Chain(store, taken.net.genesis_leaf)
    replica = Replica(Application(chain, Keys(member=6), lambda: NOW_MS))
    early = taken.net.blocks[2]
    assert taken.net.checkpoint(early.executed).size < chain.kept().log_index
    messages = [
        encode_cosign(taken.net.chain_id, member, taken.net.checkpoint(block.executed), time_s, signature)
        for block in (early, taken.net.blocks[-2], taken.net.blocks[-1])
        for member, time_s, signature in block.cosigns
    ]
    assert await replica.run(replica.receive, messages) == []
    assert replica.certification.forks == []
    assert len(replica.certification.messages(chain.certified)) == 4
    # Who asks for everything gets what is kept here.
    assert await replica.run(replica.certification.known, 0) == replica.certification.messages(
        chain.certified
    )
    replica.close()


# --- the engine -----------------------------------------------------------------------------------


async def verified_of(cluster: Cluster, folder: Path, engine_height: int) -> Any:
    keeper = keeper_of(cluster, folder)
    manifest = await keeper.take()
    assert manifest is not None
    manifest = replace(manifest, engine_height=engine_height)
    return verify_manifest(manifest, policy_of(cluster), now_ms=cluster.now_ms() + 1_000)


def engine_of(block_hash: str, app_hash: str, newest: int = 100) -> FakePeer:
    async def answer(_verb: str, message: Any) -> bytes:
        _, _, call, parameters = message
        height = int(parameters["height"])
        if call != "commit" or height > newest:
            raise RefusedError("engine", f"height {height} must be less than or equal to {newest}")
        header = {"header": {"app_hash": app_hash}, "commit": {"block_id": {"hash": block_hash}}}
        return json.dumps({"signed_header": header}).encode()

    return FakePeer("engine", answer)


async def test_the_trusted_block_is_named_by_more_than_can_lie(tmp_path: Path) -> None:
    async with running() as cluster:
        await with_blocks(cluster)
        verified = await verified_of(cluster, tmp_path, 40)
        root, good, bad = verified.root.hex().upper(), "AB" * 32, "CD" * 32
        honest, liar = engine_of(good, root), engine_of(bad, root)
        found = await trusted_block(verified, {1: honest, 2: liar, 4: honest}, count=4)
        assert (found.height, found.block_hash) == (41, good.lower())
        behind = engine_of(good, root, newest=41)
        for peers in ({1: honest}, {1: honest, 2: liar}, {1: behind, 2: behind, 4: behind}, {}):
            with pytest.raises(UnavailableError, match="try again"):
                await trusted_block(verified, peers, count=4)
        other = engine_of(good, "EE" * 32)
        with pytest.raises(VerificationError) as caught:
            await trusted_block(verified, {1: other, 2: other, 4: honest}, count=4)
        assert caught.value.code == "snapshot_invalid"


async def test_only_the_marker_of_its_own_state_is_taken(tmp_path: Path) -> None:
    async with running() as cluster:
        await with_blocks(cluster)
        replica = cluster.nodes[2].replica
        root = replica.application.chain.tip.frontier.root
        replica.application.chain.store.write({b"E": (40).to_bytes(8, "big")})
        markers = Markers(replica, keeper_of(cluster, tmp_path))

        async def offered(height: int, app_hash: bytes, **changes: Any) -> int:
            snapshot = abci.Snapshot(height=height, format=1, chunks=1, hash=bytes(32), metadata=b"")
            request = abci.OfferSnapshotRequest(snapshot=replace(snapshot, **changes), app_hash=app_hash)
            return (await markers.offer_snapshot(request)).result

        accept, reject = abci.OfferSnapshotResult.ACCEPT, abci.OfferSnapshotResult.REJECT
        assert await offered(40, root) == accept
        assert await offered(39, root) == reject
        assert await offered(40, bytes(32)) == reject
        assert await offered(40, root, format=2) == reject
        nothing = await markers.offer_snapshot(abci.OfferSnapshotRequest(snapshot=None, app_hash=root))
        assert nothing.result == reject


@pytest.mark.parametrize(("made_at", "listed"), [(38, [38]), (39, []), (0, [])])
async def test_markers_are_listed_once_the_engine_is_two_blocks_further(
    tmp_path: Path, made_at: int, listed: list[int]
) -> None:
    async with running() as cluster:
        await with_blocks(cluster)
        replica = cluster.nodes[2].replica
        store = replica.application.chain.store
        store.write({b"E": (40).to_bytes(8, "big")})
        if made_at:
            store.write({b"Q" + (3).to_bytes(8, "big"): made_at.to_bytes(8, "big")})
        await replica.run(lambda: setattr(replica, "certified", replica._capture()))
        keeper = keeper_of(cluster, tmp_path)
        await keeper.take()
        answer = await Markers(replica, keeper).list_snapshots(abci.ListSnapshotsRequest())
        assert [each.height for each in answer.snapshots] == listed


async def test_peers_reach_the_read_only_calls_of_our_engine_and_no_others() -> None:
    asked: list[Any] = []

    async def call(method: str, **parameters: str) -> Any:
        asked.append((method, parameters))
        return {"height": "5"}

    handle = on_engine_rpc(SimpleNamespace(call=call))  # type: ignore[arg-type]
    assert json.loads(await handle(1, [1, "engine_rpc", "commit", {"height": "5"}])) == {"height": "5"}
    for message in (
        [1, "engine_rpc", "broadcast_tx_sync", {}],
        [1, "engine_rpc", "dump_consensus_state", {}],
        [1, "engine_rpc", "commit", {"height": "5", "x": "1"}],
        [1, "engine_rpc", "commit", {"height": "-5"}],
        [1, "engine_rpc", "commit", {"height": 5}],
        [1, "engine_rpc", "commit", None],
    ):
        with pytest.raises(RefusedError):
            await handle(1, message)
    with pytest.raises(FormatError):
        await handle(1, [1, "engine_rpc"])
    assert asked == [("commit", {"height": "5"})]


async def test_the_light_client_is_answered_by_the_first_peer_that_does() -> None:
    async def silent(_verb: str, _message: Any) -> Any:
        raise UnavailableError("silent")

    async def answers(_verb: str, message: Any) -> bytes:
        return json.dumps({"asked": message[2:]}).encode()

    async def ask(server: LightServer, body: bytes) -> Any:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await server({"type": "http"}, receive, send)
        return json.loads(sent[1]["body"])

    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "commit", "params": {"height": "5"}}).encode()
    both = LightServer([FakePeer("a", silent), FakePeer("b", answers)])  # type: ignore[list-item]
    assert await ask(both, body) == {
        "jsonrpc": "2.0",
        "id": 7,
        "result": {"asked": ["commit", {"height": "5"}]},
    }
    none = LightServer([FakePeer("a", silent)])  # type: ignore[list-item]
    assert (await ask(none, body))["error"]["data"] == "silent"
    for bad in (b"", b"[]", b"{", b'{"id": 1}'):
        assert "error" in await ask(both, bad)
