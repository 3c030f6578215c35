"""What members say of where they are: kept durably, checked, from the member itself alone."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from taxledger.ledger.errors import FormatError, InputError, RefusedError, UnavailableError
from taxledger.nodes.home import Home
from taxledger.nodes.local.network import create_network
from taxledger.nodes.peering.addresses import Address, AddressBook, known_peers, read_address

NODE_ID = "ab" * 20
MOVED = Address(peer_url="https://bank1.example:9000", engine=f"{NODE_ID}@bank1.example:9001")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    now = datetime.datetime.now(datetime.UTC)
    create_network(tmp_path / "net", members=["tax", "bank1"], now=now, grant=lambda _path: "key")
    return Home(tmp_path / "net" / "tax")


def book(home: Home, clock: list[float]) -> tuple[AddressBook, list[tuple[int, Address]]]:
    seen: list[tuple[int, Address]] = []
    return AddressBook(home, lambda number, address: seen.append((number, address)), lambda: clock[0]), seen


async def test_the_newest_word_counts_and_outlives_the_process(home: Home) -> None:
    clock = [0.0]
    made, seen = book(home, clock)
    own = next(peer for peer in home.config.peers if peer.number == 1)
    assert await made.on_address(2, [1, "address", MOVED.peer_url, MOVED.engine]) == [
        1,
        "address",
        own.peer_url,
        None,
    ]
    joined = Address(peer_url="https://10.0.0.5:8701")
    assert made.learn(3, joined)
    assert seen == [(2, MOVED), (3, joined)]
    again, _ = book(home, clock)
    assert not again.learn(2, MOVED)
    assert not again.learn(1, joined), "nobody else says where we are"
    bank, third = known_peers(home, {3: ("bank2", "observer")})
    assert (bank.name, bank.peer_url, bank.engine) == ("bank1", MOVED.peer_url, MOVED.engine)
    assert (third.number, third.name, third.role, third.peer_url) == (3, "bank2", "observer", joined.peer_url)


def test_a_member_may_not_move_all_the_time(home: Home) -> None:
    clock = [0.0]
    made, seen = book(home, clock)
    made.learn(2, MOVED)
    other = Address(peer_url="https://bank1.example:9002")
    with pytest.raises(RefusedError, match="a moment ago"):
        made.learn(2, other)
    made.learn(3, other)
    clock[0] = 11.0
    made.learn(2, other)
    assert [number for number, _ in seen] == [2, 3, 2]


def test_what_can_not_be_kept_is_not_used(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = book(home, [0.0])

    def fail(*_arguments: object, **_more: object) -> None:
        raise UnavailableError("no space")

    monkeypatch.setattr("taxledger.nodes.peering.addresses.place_file", fail)
    with pytest.raises(UnavailableError):
        made.learn(2, MOVED)
    assert not seen
    monkeypatch.undo()
    assert made.learn(2, MOVED), "said again, it is taken"


@pytest.mark.parametrize(
    ("url", "engine"),
    [
        ("http://x.example:1", None),
        ("https://x.example", None),
        ("https://x.example:1/path", None),
        ("https://user@x.example:1", None),
        ("https://x.example:1?q", None),
        ("https://x.example:99999", None),
        ("https://é.example:1", None),
        ("https://" + "x" * 300 + ":1", None),
        (7, None),
        (None, None),
        ("https://x.example:1", "x.example:1"),
        ("https://x.example:1", f"{NODE_ID}@x.example"),
        ("https://x.example:1", f'{NODE_ID}@x"\n.example:1'),
        ("https://x.example:1", 5),
    ],
)
async def test_what_is_no_address(home: Home, url: object, engine: object) -> None:
    made, seen = book(home, [0.0])
    with pytest.raises(FormatError):
        await made.on_address(2, [1, "address", url, engine])
    assert not seen
    assert not (home.path / "peers.json").exists()
    for message in (None, [], [1, "address"], [1, "cosign", "https://x.example:1", None]):
        with pytest.raises(InputError):
            await made.on_address(2, message)


def test_addresses_that_are_written_the_other_way() -> None:
    assert read_address("https://[::1]:5", None).peer_url == "https://[::1]:5"
    assert read_address("https://a-b.example:65535", f"{NODE_ID}@[::1]:5").engine == f"{NODE_ID}@[::1]:5"


@pytest.mark.parametrize(
    "junk", ["", "[]", "{}", '{"format": "taxledger peers 2", "peers": []}', '{"peers": 1}']
)
def test_a_file_of_someone_else(home: Home, junk: str) -> None:
    (home.path / "peers.json").write_text(junk)
    with pytest.raises(FormatError, match=r"peers\.json"):
        known_peers(home)
    document = {
        "format": "taxledger peers 1",
        "peers": [{"number": 0, "peer_url": "https://a:1", "engine": None}],
    }
    (home.path / "peers.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match="member numbers"):
        known_peers(home)
