"""Keeps a running node's identity in order: certificates renewed, keys that the ledger rotated taken into use, the
authorities of others fetched, and what runs out warned of.

Every step looks at what is durable and at the newest certified state, and does what is missing. So it does not
matter where the last process stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from taxledger.ledger.errors import InputError, RefusedError, TaxledgerError, UnavailableError
from taxledger.ledger.governance import pending_proposal
from taxledger.ledger.members import member_of
from taxledger.nodes.home import Home
from taxledger.nodes.identity.certificates import AuthorityFolder, TlsIdentity, is_running_out
from taxledger.nodes.identity.memberkeys import promote_keys
from taxledger.nodes.identity.tls import TlsFiles
from taxledger.nodes.identity.trust import Trust, accepted_entry
from taxledger.nodes.logs import get_logger
from taxledger.nodes.metrics import IdentityMetrics
from taxledger.nodes.peering.transport import PeerClient, PeerServer
from taxledger.nodes.replica import CertifiedState, Replica

__all__ = ["Upkeep", "wanted_hashes"]

_LOOK_S = 1.0
_SILENCE_S = 3.0
"""A node that hears nobody shows its other certificate after this."""
_FETCH_TIMEOUT_MS = 2_000
_FETCH_BYTES_MAX = 16_384
_WARN_AGAIN_S = 3_600.0
_TRY_AGAIN_S = 30.0
_AUTHORITY_DAYS = 90
"""Of an authority there is notice enough for the members to meet, if need be."""


def wanted_hashes(state: CertifiedState, number: int) -> tuple[bytes, ...]:
    """The hashes of a member's own authorities, the one to be shown first.

    The next authority is shown from the block before the one from which it alone counts: by then everybody who
    follows accepts both.
    """
    member = member_of(state.view, number)
    present = member.tls_ca_hash if member is not None else None
    proposal = pending_proposal(state.view)
    entry = accepted_entry(proposal)
    following = entry.tls_ca_hash if entry is not None and entry.number == number else None
    if proposal is not None and state.height > proposal.height and following is not None:
        present, following = following, present
    return tuple(dict.fromkeys(each for each in (present, following) if each is not None))


class Upkeep:
    """See the module text.

    Args:
        home, identity, trust: whose node it is, its own certificates, those of the others.
        replica: the newest certified state, and news of it.
        metrics: where it counts.
        hears: whether this node hears anybody.
        on_rotated: called on the event loop with the use of a key that has moved into place.
        now: seconds since 1970.
    """

    def __init__(
        self,
        *,
        home: Home,
        identity: TlsIdentity,
        trust: Trust,
        replica: Replica,
        metrics: IdentityMetrics,
        hears: Callable[[], bool],
        on_rotated: Callable[[str], None] = lambda _use: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._home = home
        self._identity = identity
        self._trust = trust
        self._replica = replica
        self._metrics = metrics
        self._hears = hears
        self._on_rotated = on_rotated
        self._rotated: list[str] = []
        self._now = now
        self._log = get_logger("identity")
        self._warned: dict[str, float] = {}
        self._seen: object = None
        self._shown: tuple[tuple[Path, int], ...] = ()  # files with their inodes, the one shown first
        self._failed: dict[Path, float] = {}  # when its renewal failed
        self._turn = 0
        self._heard_s = time.monotonic()
        self._asked: dict[bytes, tuple[int, float]] = {}  # hash → how often we asked for it, and when again

    # --- files, in a thread -------------------------------------------------------------------

    def prepare(self) -> TlsFiles:
        """What the node listens with: nothing that has expired, where it can renew.

        Raises:
            InputError: there is no certificate at all.
        """
        folders = self._tidy()
        self._shown = _stamped(folders)
        first, *others = [each.node_path for each in folders]
        return TlsFiles(node=first, authorities=self._trust.peers_path, others=tuple(others))

    def _tidy(self) -> list[AuthorityFolder]:
        """Keys and certificates as they should be; our authorities, the one to be shown first."""
        state, number = self._replica.certified, self._home.config.number
        member = member_of(state.view, number)
        for use in promote_keys(self._home, member) if member is not None else ():
            self._log.info("key rotated", use=use)
            self._rotated.append(use)
        for folder in self._identity.folders():  # also a former one: a peer that was away may ask for it
            self._renew(folder)
        return self._identity.in_order(wanted_hashes(state, number))

    def _renew(self, folder: AuthorityFolder) -> None:
        again_s = self._failed.get(folder.path, 0.0) + _TRY_AGAIN_S
        if not folder.can_renew and not self._identity.names_host(folder):
            self._warn(
                "certificate names another host",
                str(folder.path),
                reason="others refuse it; its authority's key is not here: taxledger member certificate",
            )
        if not folder.can_renew or not self._identity.is_due(folder) or time.monotonic() < again_s:
            return
        try:
            validity = self._identity.renew(folder)
        except TaxledgerError as error:
            self._failed[folder.path] = time.monotonic()
            self._metrics.count_renewal("failed")
            self._warn("certificate not renewed", str(folder.path), reason=str(error))
            return
        self._metrics.count_renewal("renewed")
        self._log.info("certificate renewed", folder=str(folder.path), end_s=validity.end_s)

    def _warn(self, event: str, what: str, **facts: object) -> None:
        now_s, key = time.monotonic(), f"{event} {what}"
        if now_s - self._warned.get(key, -_WARN_AGAIN_S) >= _WARN_AGAIN_S:
            self._warned[key] = now_s
            self._log.warning(event, what=what, **facts)

    # --- on the event loop --------------------------------------------------------------------

    async def run(self, server: PeerServer, peers: Mapping[int, PeerClient]) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(server, peers), name="identity")
            group.create_task(self._fetch(server, peers), name="authorities")

    async def _keep(self, server: PeerServer, peers: Mapping[int, PeerClient]) -> None:
        while True:
            self._seen = self._ours()
            try:
                folders = await asyncio.to_thread(self._tidy)
                while self._rotated:
                    self._on_rotated(self._rotated.pop())
                await self._show(folders, server, peers)
                self._observe(folders[0], server, peers)
            except (TaxledgerError, OSError) as error:
                self._warn("identity", type(error).__name__, reason=str(error))
            await self._change()

    def _ours(self) -> object:
        """What the ledger says of us: files are looked at again at once when it changes."""
        state, number = self._replica.certified, self._home.config.number
        return member_of(state.view, number), wanted_hashes(state, number)

    async def _change(self) -> None:
        end = time.monotonic() + _LOOK_S
        while (left := end - time.monotonic()) > 0 and self._ours() == self._seen:
            await self._replica.news(left)

    async def _show(
        self, folders: list[AuthorityFolder], server: PeerServer, peers: Mapping[int, PeerClient]
    ) -> None:
        """Take what is new into use. A node that hears nobody shows the certificates of its later authorities in
        turn: it may have missed the block with which the others went over to one, and nobody can bring it that
        block before.
        """
        stamped = _stamped(folders)
        later = [each for each in folders if each.validity.begin_s >= folders[0].validity.begin_s]
        if self._hears():
            self._heard_s = time.monotonic()
        if stamped != self._shown:
            self._turn = 0
        elif time.monotonic() - self._heard_s > _SILENCE_S and len(later) > 1:
            self._turn += 1
            self._heard_s = time.monotonic()
        else:
            return
        server.use(later[self._turn % len(later)].node_path)
        if stamped != self._shown:  # a client tries the others by itself
            for peer in peers.values():
                await peer.use(tuple(each.node_path for each in folders))
        self._shown = stamped

    def _observe(self, own: AuthorityFolder, server: PeerServer, peers: Mapping[int, PeerClient]) -> None:
        """Metrics, and warnings of what runs out."""
        now_s = self._now()
        shown = self._identity.validity(own)
        self._metrics.observe_own(
            certificate_end_s=shown.end_s if shown else None,
            authority_end_s=own.validity.end_s,
            renews=own.can_renew,
        )
        if shown is None or is_running_out(shown, now_s):
            hint = "" if own.can_renew else "; its authority's key is not here: taxledger member certificate"
            self._warn("certificate runs out", "own", reason=f"renew it{hint}")
        if own.validity.end_s - now_s < _AUTHORITY_DAYS * 86_400:
            self._warn("authority runs out", "own", reason="taxledger member rotate --key tls")
        for number, peer in peers.items():
            seen = [each for each in (server.seen.get(number), peer.seen) if each is not None]
            if not seen:
                continue
            newest = max(seen, key=lambda each: each.end_s)
            self._metrics.observe_peer(peer.name, newest.end_s)
            if is_running_out(newest, now_s):
                self._warn("certificate runs out", peer.name, reason="its member has to renew it")

    # --- the authorities of others ------------------------------------------------------------

    async def _fetch(self, server: PeerServer, peers: Mapping[int, PeerClient]) -> None:
        while True:
            try:
                for hash, number in self._trust.wanted().items():
                    if await self._fetch_one(hash, number, peers):
                        server.refresh()
            except (TaxledgerError, OSError) as error:
                self._warn("authorities", type(error).__name__, reason=str(error))
            await self._replica.news(_LOOK_S)

    async def _fetch_one(self, hash: bytes, number: int, peers: Mapping[int, PeerClient]) -> bool:
        """Ask the member itself, then everybody else; less and less often while nobody has it."""
        asked, again_s = self._asked.get(hash, (0, 0.0))
        if time.monotonic() < again_s:
            return False
        self._asked[hash] = asked + 1, time.monotonic() + min(60.0, 0.5 * 2.0 ** min(asked, 8))
        own = self._trust.find(hash)
        if own is not None:
            self._trust.add(own, hash)
            return True
        for peer in sorted(peers.values(), key=lambda each: (each.number != number, each.number)):
            with contextlib.suppress(UnavailableError, RefusedError, InputError):
                answer = await peer.call(
                    "authority",
                    [1, "authority", hash],
                    timeout_ms=_FETCH_TIMEOUT_MS,
                    answer_bytes_max=_FETCH_BYTES_MAX,
                )
                self._trust.take(answer, hash)
                self._log.info("authority fetched", member=number, peer=peer.name)
                self._asked.pop(hash, None)
                return True
        self._warn("authority not found", hash.hex()[:16], member=number)
        return False


def _stamped(folders: list[AuthorityFolder]) -> tuple[tuple[Path, int], ...]:
    """Each node certificate with its inode: a renewed one is another file."""
    return tuple((each.node_path, each.node_path.stat().st_ino) for each in folders)
