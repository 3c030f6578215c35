"""``config.toml`` of the engine. docs/decisions/0035-settings-of-the-engine.md says why these values."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError
from taxledger.ledger.hashing import sha256
from taxledger.nodes.homeconfig import HomeConfig

__all__ = [
    "BLOCK_BYTES_MAX",
    "COSIGNS_MAX",
    "COSIGN_BYTES_MAX",
    "StateSync",
    "chain_name",
    "encode_settings",
    "node_id",
]

COSIGNS_MAX = 512
"""Co-signatures in one engine block: of sixteen blocks by 32 validators."""
COSIGN_BYTES_MAX = 256
BLOCK_BYTES_MAX = limits.block_bytes_max + COSIGNS_MAX * COSIGN_BYTES_MAX + 256 * 1024
"""Of an engine block as it travels, with its header, evidence and the last commit."""

Value = str | int | bool | tuple[str, ...]

_TRUST_PERIOD = "2160h0m0s"


def chain_name(chain_id: bytes) -> str:
    """The engine's name of the chain: at most 50 characters there."""
    return f"taxledger-{chain_id.hex()}"


def node_id(public_key: bytes) -> str:
    """How engines name each other, and validators: the first 20 bytes of the hash of the Ed25519 key, in hex."""
    return sha256(public_key)[:20].hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSync:
    """Where the engine's next start gets a snapshot from, and the engine block it trusts for it.

    Attributes:
        servers: two or more addresses of engines' JSON-RPC, as ``unix://…`` or ``tcp://…``.
        height: of an engine block that the caller has verified.
        block_hash: its hash, 32 bytes in lower-case hex.
    """

    servers: tuple[str, ...]
    height: int
    block_hash: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(value: Any) -> StateSync:
        """Raises FormatError unless it is what ``as_dict`` gave."""
        names = {"servers", "height", "block_hash"}
        if type(value) is not dict or value.keys() != names:
            raise FormatError(f"state sync: expected an object of {', '.join(sorted(names))}")
        servers, height, block_hash = value["servers"], value["height"], value["block_hash"]
        if type(servers) is not list or len(servers) < 2 or any(type(each) is not str for each in servers):
            raise FormatError("state sync: expected two or more addresses as servers")
        if type(height) is not int or height < 1:
            raise FormatError(f"state sync: expected a height from 1, got {height!r:.40}")
        if type(block_hash) is not str or not re.fullmatch("[0-9a-f]{64}", block_hash):
            raise FormatError("state sync: expected a block hash of 64 hex digits")
        return StateSync(servers=tuple(servers), height=height, block_hash=block_hash)


def encode_settings(config: HomeConfig, *, state_name: str, state_sync: StateSync | None = None) -> str:
    """``config.toml`` for one member.

    Args:
        config: with the engine's addresses.
        state_name: file in ``data/`` in which the engine keeps what it signed.
        state_sync: fetch a snapshot first.

    Raises:
        FormatError: a name that would need an escape.
    """
    sections: dict[str, dict[str, Value]] = {
        "": _base(config, state_name),
        "rpc": _RPC,
        "p2p": _p2p(config),
        "mempool": _MEMPOOL,
        "statesync": _state_sync(state_sync),
        "blocksync": {"version": "v0"},
        "consensus": _CONSENSUS,
        "storage": {"discard_abci_responses": True},
        "tx_index": {"indexer": "null"},
        "instrumentation": {"prometheus": False},
    }
    lines = ["# Written by taxledger before each start of the engine: changes made here are lost."]
    for name, entries in sections.items():
        lines += ["", f"[{name}]"] if name else []
        lines += [f"{key} = {_encode(value)}" for key, value in entries.items()]
    return "\n".join(lines) + "\n"


def _encode(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_encode(each) for each in value)}]"
    if not re.fullmatch(r"[ !#-\[\]-~]*", value):
        raise FormatError(f"expected printable ASCII without quotes and backslashes, got {value!r:.200}")
    return f'"{value}"'


def _base(config: HomeConfig, state_name: str) -> dict[str, Value]:
    return {
        # Relative: a socket's path has at most 107 bytes, and the engine works in its own folder.
        "proxy_app": "unix://abci.sock",
        "abci": "socket",
        "moniker": config.name,
        "db_backend": "goleveldb",
        "db_dir": "data",
        "genesis_file": "config/genesis.json",
        "node_key_file": "config/node_key.json",
        "priv_validator_key_file": "config/priv_validator_key.json",
        "priv_validator_state_file": f"data/{state_name}",
        "log_format": "json",
        "log_level": "main:info,p2p:info,statesync:info,blocksync:info,*:error",
        # The node says who may connect: blocks are for members only.
        "filter_peers": True,
    }


_RPC: dict[str, Value] = {
    "laddr": "unix://rpc.sock",
    "grpc_laddr": "",
    "pprof_laddr": "",
    "unsafe": False,
    "max_body_bytes": 256 * 1024,
    "max_request_batch_size": 16,
}


def _p2p(config: HomeConfig) -> dict[str, Value]:
    # Observers ask validators; among each other they would only spend time.
    peers = [
        each.engine
        for each in config.others
        if each.engine is not None and "validator" in (config.role, each.role)
    ]
    return {
        "laddr": f"tcp://{config.engine_listen or config.engine_address}",
        "external_address": str(config.engine_address),
        "persistent_peers": ",".join(peers),
        "unconditional_peer_ids": ",".join(each.partition("@")[0] for each in peers),
        "persistent_peers_max_dial_period": "10s",
        "pex": True,
        "addr_book_strict": False,
        "allow_duplicate_ip": True,
        "max_num_inbound_peers": 64,
        "max_num_outbound_peers": 10,
        "flush_throttle_timeout": "10ms",
        "send_rate": 20_480_000,
        "recv_rate": 20_480_000,
        "handshake_timeout": "10s",
        "dial_timeout": "3s",
    }


_MEMPOOL: dict[str, Value] = {
    "type": "flood",
    "recheck": True,
    "broadcast": True,
    "size": 5_000,
    "cache_size": 20_000,
    "max_tx_bytes": limits.leaf_bytes_max,
    "max_txs_bytes": 128 * 1024 * 1024,
    "keep-invalid-txs-in-cache": False,
}

_CONSENSUS: dict[str, Value] = {
    "timeout_propose": "1s",
    "timeout_propose_delta": "500ms",
    "timeout_prevote": "500ms",
    "timeout_prevote_delta": "500ms",
    "timeout_precommit": "500ms",
    "timeout_precommit_delta": "500ms",
    "timeout_commit": "0s",
    "skip_timeout_commit": True,
    "create_empty_blocks": False,
    "create_empty_blocks_interval": "0s",
    "peer_gossip_sleep_duration": "10ms",
    "peer_query_maj23_sleep_duration": "2s",
    "double_sign_check_height": 0,
}


def _state_sync(wanted: StateSync | None) -> dict[str, Value]:
    if wanted is None:
        return {"enable": False}
    return {
        "enable": True,
        "rpc_servers": ",".join(wanted.servers),
        "trust_height": wanted.height,
        "trust_hash": wanted.block_hash,
        "trust_period": _TRUST_PERIOD,
        "discovery_time": "5s",
        "chunk_request_timeout": "10s",
        "chunk_fetchers": "4",
    }
