"""Whose TLS authority counts for which member, as the newest certified state says.

The ledger holds hashes; the certificates come from ``tls/peers.pem``, or from any member's node that has one: what
was asked for is known by its hash, so it does not matter who answers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from taxledger.ledger import canonical
from taxledger.ledger.errors import FormatError, InputError, RefusedError
from taxledger.ledger.governance import Proposal, ProposalState, pending_proposal
from taxledger.ledger.members import Member, StateReader, members_of, parse_entry
from taxledger.nodes.home import place_file
from taxledger.nodes.identity.pki import Authorities, authority_hash, split_certificates
from taxledger.nodes.replica import CertifiedState

__all__ = ["KNOWN_FOLDER", "Trust", "accepted_entry", "authority_hashes", "proposed_entry"]

KNOWN_FOLDER = "known"
"""Of ``tls/``: authorities that came with a new member's public file, before anybody trusts them."""
_PEM_BYTES_MAX = 8_000


def proposed_entry(proposal: Proposal | None) -> Member | None:
    """The entry that a pending ``member.set`` or ``member.replace`` would write; None for any other change."""
    match list(proposal.change) if proposal is not None else []:
        case ["member.set", number, entry, _] | ["member.replace", _, number, entry, _]:
            return parse_entry(number, entry)
        case _:
            return None


def accepted_entry(proposal: Proposal | None) -> Member | None:
    """As ``proposed_entry``, once a quorum has accepted it."""
    if proposal is None or proposal.state != ProposalState.ACCEPTED:
        return None
    return proposed_entry(proposal)


def authority_hashes(state: StateReader, proposal: Proposal | None) -> dict[int, tuple[bytes, ...]]:
    """Active member → hashes of the authorities that count for it.

    That of its entry, and the next one once it is accepted: until a change is in force everywhere, some nodes
    are a block ahead of others, and none of them may be cut off.
    """
    found: dict[int, tuple[bytes, ...]] = {
        member.number: (member.tls_ca_hash,)
        for member in members_of(state)
        if member.is_active and member.tls_ca_hash is not None
    }
    entry = accepted_entry(proposal)
    if entry is not None and entry.is_active and entry.tls_ca_hash is not None and entry.number in found:
        present = found[entry.number]
        found[entry.number] = present if entry.tls_ca_hash in present else (*present, entry.tls_ca_hash)
    return found


class Trust:
    """See the module text.

    Args:
        folder: ``tls/`` of the home.
        certified: the newest certified state.
    """

    def __init__(self, folder: Path, certified: Callable[[], CertifiedState]) -> None:
        self._folder = folder
        self._certified = certified
        self._known: tuple[int, dict[int, tuple[bytes, ...]], Authorities] | None = None
        self._open: dict[bytes, int] = {}
        self._index: tuple[object, dict[bytes, bytes]] | None = None

    @property
    def peers_path(self) -> Path:
        return self._folder / "peers.pem"

    def authorities(self) -> Authorities:
        """Those of the members that are active in the newest certified state; the same object until that
        changes.
        """
        state, known = self._certified(), self._known
        if known is None or known[0] != state.height:
            proposal = pending_proposal(state.view)
            hashes = authority_hashes(state.view, proposal)
            if known is not None and known[1] == hashes:
                authorities = known[2]
            else:
                authorities = Authorities(self.peers_path.read_bytes(), hashes)
            known = self._known = (state.height, hashes, authorities)
            entry = proposed_entry(proposal)
            self._open = (
                {} if entry is None or entry.tls_ca_hash is None else {entry.tls_ca_hash: entry.number}
            )
        return known[2]

    def wanted(self) -> dict[bytes, int]:
        """Hashes on the ledger, also of a change that is only proposed, whose certificate we lack → member."""
        missing = dict(self.authorities().missing)
        for each, number in self._open.items():
            if self.find(each) is None:
                missing[each] = number
        return missing

    def find(self, hash: bytes) -> bytes | None:
        """An authority's certificate (PEM) by its hash, out of all that lie here."""
        paths = [
            self.peers_path,
            *sorted(self._folder.glob("ca.pem")),
            *sorted(self._folder.glob("*/ca.pem")),
            *sorted((self._folder / KNOWN_FOLDER).glob("*.pem")),
        ]
        stamps = tuple((path, path.stat().st_ino, path.stat().st_mtime_ns) for path in paths)
        if self._index is None or self._index[0] != stamps:
            bundles = [split_certificates(path.read_bytes()) for path in paths]
            found = {authority_hash(pem): pem for bundle in bundles for pem in bundle}
            self._index = stamps, found
        return self._index[1].get(hash)

    def add(self, pem: bytes, hash: bytes) -> None:
        """Append an authority to ``peers.pem``, in place as a whole when this returns.

        Raises:
            FormatError: it is not the certificate of that hash.
            UnavailableError: the file can't be written.
        """
        if len(pem) > _PEM_BYTES_MAX or authority_hash(pem) != hash:
            raise FormatError("expected the certificate of the authority that was asked for")
        (certificate,) = split_certificates(pem)
        place_file(self.peers_path, self.peers_path.read_bytes() + certificate, mode=0o644)
        self._known = None

    async def on_authority(self, _member: int, message: Any) -> Any:
        """Peer verb ``authority``: ``[1, "authority", hash]``, answered with the certificate as PEM."""
        if type(message) is not list or len(message) != 3 or type(message[2]) is not bytes:
            raise InputError('expected [1, "authority", hash]')
        found = self.find(message[2])
        if found is None:
            raise RefusedError("authority_unknown", "no authority of that hash lies here")
        return [1, "authority", found]

    def take(self, answer: bytes, hash: bytes) -> None:
        """``add`` what a peer answered. Raises InputError, UnavailableError."""
        value = canonical.decode(answer, bytes_max=2 * _PEM_BYTES_MAX)
        if (
            type(value) is not list
            or len(value) != 3
            or value[:2] != [1, "authority"]
            or type(value[2]) is not bytes
        ):
            raise FormatError('expected [1, "authority", certificate]')
        self.add(value[2], hash)
