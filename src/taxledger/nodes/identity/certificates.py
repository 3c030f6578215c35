"""A member's own TLS authorities, and the certificate its node shows: renewed long before it expires.

Each authority has a folder: ``tls/`` the first, ``tls/<8 hex of its hash>/`` each later one. In use is the one
that the ledger names, so a rotation moves no file. The private key ``ca.key`` may be kept offline; then nothing is
renewed here but by hand.

A node's key and certificate are one file. It is replaced as a whole, so a crash leaves the old pair or the new.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from taxledger.ledger.errors import FormatError, InputError
from taxledger.nodes.home import Home, place_file, read_secret
from taxledger.nodes.homeconfig import host_port
from taxledger.nodes.identity.pki import (
    Validity,
    authority_hash,
    certificate_addresses,
    issue_certificate,
    make_authority,
    validity_of,
)

__all__ = ["AuthorityFolder", "TlsIdentity", "is_running_out"]

_SHORT_S = 7 * 86_400


def is_running_out(validity: Validity, now_s: float) -> bool:
    """Less than a third of its life is left, and less than a week: whoever renews it should have done so."""
    return validity.end_s - now_s < min(validity.life_s // 3, _SHORT_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityFolder:
    """One authority of this member.

    Attributes:
        path: its folder.
        hash: of its certificate, as the ledger has it.
        validity: of its certificate.
    """

    path: Path
    hash: bytes
    validity: Validity

    @property
    def ca_path(self) -> Path:
        return self.path / "ca.pem"

    @property
    def key_path(self) -> Path:
        return self.path / "ca.key"

    @property
    def node_path(self) -> Path:
        return self.path / "node.pem"

    @property
    def can_renew(self) -> bool:
        return self.key_path.exists()


class TlsIdentity:
    """See the module text.

    Args:
        home: whose it is.
        hours: life of a certificate; it is renewed when half of that is left.
        now: seconds since 1970.
    """

    def __init__(self, home: Home, *, hours: int, now: Callable[[], float]) -> None:
        self._home = home
        self._hours = hours
        self._now = now
        self._known: dict[Path, tuple[tuple[int, int], AuthorityFolder]] = {}  # by file, with its stamp

    def folders(self) -> list[AuthorityFolder]:
        """Every authority of this member, the first one first.

        Raises:
            FormatError: a ``ca.pem`` is no certificate.
        """
        top = self._home.tls_folder
        return [
            self._folder(path) for path in (top / "ca.pem", *sorted(top.glob("*/ca.pem"))) if path.exists()
        ]

    def _folder(self, path: Path) -> AuthorityFolder:
        stat = path.stat()
        stamp = stat.st_ino, stat.st_mtime_ns
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            pem = path.read_bytes()
            try:
                found = AuthorityFolder(path=path.parent, hash=authority_hash(pem), validity=validity_of(pem))
            except FormatError as error:
                raise FormatError(f"{path}: {error}") from error
            known = self._known[path] = stamp, found
        return known[1]

    def in_order(self, hashes: Iterable[bytes]) -> list[AuthorityFolder]:
        """The authorities whose node certificate can be shown: those of ``hashes`` first, in that order, then the
        newest.

        Raises:
            InputError: there is none.
        """
        rank = {each: at for at, each in enumerate(hashes)}
        found = [each for each in self.folders() if each.node_path.exists()]
        if not found:
            raise InputError(
                f"{self._home.tls_folder}: no node certificate; make one with taxledger member certificate"
            )
        return sorted(found, key=lambda each: (rank.get(each.hash, len(rank)), -each.validity.begin_s))

    def validity(self, folder: AuthorityFolder) -> Validity | None:
        """Of the node's certificate; None where there is none that can be read."""
        try:
            return validity_of(folder.node_path.read_bytes())
        except (OSError, FormatError):
            return None

    def is_due(self, folder: AuthorityFolder) -> bool:
        """Half of the life is left, or less, and a new certificate would be valid for longer; or it does not name
        the host at which others call this node: its operator moved it.
        """
        now_s, found = self._now(), self.validity(folder)
        if found is None or found.begin_s > now_s or not self.names_host(folder):
            return True
        life_s = self._hours * 3_600
        end_s = min(int(now_s) + life_s, folder.validity.end_s)
        return found.end_s - now_s <= life_s / 2 and end_s > found.end_s

    def names_host(self, folder: AuthorityFolder) -> bool:
        """Whether the node's certificate names the host of its ``peer_url``: others refuse one that does not."""
        try:
            return self._host() in certificate_addresses(folder.node_path.read_bytes())
        except (OSError, FormatError):
            return False

    def _host(self) -> str:
        host = host_port(self._home.config.peer_url)[0]
        try:
            return str(ipaddress.ip_address(host))  # in the form in which a certificate gives it back
        except ValueError:
            return host

    def renew(self, folder: AuthorityFolder, *, key_pem: bytes | None = None) -> Validity:
        """A new key and certificate, in place when this returns.

        Args:
            folder: the authority that signs it.
            key_pem: the authority's private key where it is not in the folder.

        Raises:
            InputError, UnavailableError: no key, another authority's, or the file can't be written.
        """
        key = read_secret(folder.key_path) if key_pem is None else key_pem
        pem = issue_certificate(
            folder.ca_path.read_bytes(),
            key,
            now=datetime.datetime.fromtimestamp(self._now(), datetime.UTC),
            hours=self._hours,
            addresses=self._addresses(folder),
        )
        place_file(folder.node_path, pem)
        return validity_of(pem)

    def _addresses(self, folder: AuthorityFolder) -> tuple[str, ...]:
        """As before, where the node listens is its operator's business; and where the others call it now."""
        for path in (folder.node_path, self._home.tls_node_path):
            try:
                known = certificate_addresses(path.read_bytes())
            except (OSError, FormatError):
                continue
            return known if self._host() in known else (*known, self._host())
        return (self._host(),)

    def create(self) -> AuthorityFolder:
        """A new authority with a node certificate, in a folder of its own; used once the ledger names it.

        Raises:
            UnavailableError: it can't be written.
        """
        config = self._home.config
        now = datetime.datetime.fromtimestamp(self._now(), datetime.UTC)
        made = make_authority(config.network, config.name, now=now)
        path = self._home.tls_folder / made.hash.hex()[:8]
        place_file(path / "ca.key", made.key_pem)
        folder = AuthorityFolder(path=path, hash=made.hash, validity=validity_of(made.pem))
        # ca.pem comes last: a folder without it is none.
        pem = issue_certificate(
            made.pem, made.key_pem, now=now, hours=self._hours, addresses=self._addresses(folder)
        )
        place_file(folder.node_path, pem)
        place_file(folder.ca_path, made.pem, mode=0o644)
        return folder
