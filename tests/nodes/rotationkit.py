"""A home with nothing but its settings and its vault key, which is all that rotation needs."""

from __future__ import annotations

from pathlib import Path

from custodykit import KEY

from taxledger.nodes.home import Home, write_secret
from taxledger.nodes.homeconfig import HomeConfig, Peer, encode_config


def make_home(folder: Path) -> Home:
    home = folder / "home"
    home.mkdir(mode=0o700)
    peer = Peer(number=5, name="tax", role="validator", peer_url="https://127.0.0.1:2")
    config = HomeConfig(
        number=5,
        name="tax",
        role="validator",
        network="tests",
        engine="embedded",
        sequencer=5,
        api_url="http://127.0.0.1:1",
        peer_url=peer.peer_url,
        peers=(peer,),
    )
    (home / "node.toml").write_text(encode_config(config), "utf-8")
    write_secret(home / "keys" / "vault.key", KEY.hex().encode() + b"\n")
    return Home(home)
