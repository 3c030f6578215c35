"""``taxledger member sync``: bring a home without a ledger, or far behind, to the others' newest snapshot.

For a node that does not run. Members are met by what the genesis says of them, as a node with an empty store does.
"""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry

from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import InputError
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.snapshotinstall import VerifiedManifest
from taxledger.ledger.store import MemoryStore
from taxledger.nodes.application import Application, Keys
from taxledger.nodes.home import Home
from taxledger.nodes.identity.certificates import TlsIdentity
from taxledger.nodes.identity.trust import Trust
from taxledger.nodes.identity.upkeep import Upkeep
from taxledger.nodes.metrics import IdentityMetrics
from taxledger.nodes.ordering.cometbft.files import write_state_sync
from taxledger.nodes.ordering.cometbft.statesync import trusted_block
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.replica import Replica
from taxledger.nodes.settings import NodeSettings
from taxledger.nodes.statesync.fetching import fetch_snapshot, place_store

__all__ = ["sync_home"]


async def sync_home(home: Home) -> VerifiedManifest:
    """Fetch, verify and place; the node goes on from there at its next start.

    Raises:
        InputError: the engine's folder holds another beginning.
        UnavailableError, VerificationError: see ``fetch_snapshot`` and ``trusted_block``; the home is as it was.
    """
    _check_engine_folder(home)
    replica = Replica(
        Application(
            Chain(MemoryStore(), home.genesis()),
            Keys(member=home.config.number),
            lambda: time.time_ns() // 1_000_000,
        )
    )
    peers = _peers(home, replica)
    try:
        verified = await fetch_snapshot(home, peers)
        if home.config.engine == "cometbft":
            validators = {
                each.number: peers[each.number] for each in home.config.others if each.role == "validator"
            }
            count = len(decode_policy(home.policy()).witnesses)
            # Before the store is placed: an engine that is to fetch its state from a ledger that is not there refuses.
            write_state_sync(home, await trusted_block(verified, validators, count=count))
        place_store(home)
    finally:
        for peer in peers.values():
            await peer.close()
        replica.close()
    return verified


def _check_engine_folder(home: Home) -> None:
    blocks = home.engine_folder / "data" / "blockstore.db"
    if home.config.engine == "cometbft" and blocks.exists():
        raise InputError(
            f"{blocks}: the engine has blocks of its own already; with the engine stopped, remove all but what its key "
            f"has signed, and try again: find {blocks.parent} -mindepth 1 ! -name priv_validator_state.json -delete"
        )


def _peers(home: Home, replica: Replica) -> dict[int, PeerClient]:
    trust = Trust(home.tls_folder, lambda: replica.certified)
    files = Upkeep(
        home=home,
        identity=TlsIdentity(home, hours=NodeSettings().tls_certificate_hours, now=time.time),
        trust=trust,
        replica=replica,
        metrics=IdentityMetrics(CollectorRegistry()),
        hears=lambda: True,
    ).prepare()
    return {
        peer.number: PeerClient(
            number=peer.number,
            name=peer.name,
            url=peer.peer_url,
            files=files,
            authorities=trust.authorities,
        )
        for peer in home.config.others
    }
