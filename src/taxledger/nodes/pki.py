"""Certificates for the mutual TLS between members' nodes: every member is its own authority.

A member's authority signs its node's certificate and nothing else. The ledger holds the SHA-256 of the
authority's DER in the member's entry, so who may speak as a member is agreed on the ledger and not by a file
that someone mailed around. Keys are ECDSA P-256, which every TLS library speaks.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from taxledger.ledger.errors import FormatError, RefusedError, UnavailableError
from taxledger.ledger.hashing import sha256

__all__ = ["Authorities", "Credentials", "make_credentials"]

_VALID_DAYS = 3_650
_BACKDATED = datetime.timedelta(days=1)  # a peer's clock may be behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """One member's TLS material, PEM encoded."""

    ca_pem: bytes
    """The member's authority certificate; goes to every peer."""
    ca_hash: bytes
    """SHA-256 of the authority certificate's DER: ``tls_ca_hash`` of the member's entry."""
    node_pem: bytes
    """The node's certificate, signed by the authority."""
    node_key_pem: bytes
    """The node's private key, PKCS #8, not encrypted: the file's mode protects it."""


def _subject(network: str, member: str, what: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, network[:64]),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, what),
            x509.NameAttribute(NameOID.COMMON_NAME, member),
        ]
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def make_credentials(
    network: str, member: str, *, now: datetime.datetime, addresses: tuple[str, ...] = ("127.0.0.1",)
) -> Credentials:
    """A new authority for ``member`` and a node certificate signed by it.

    Args:
        network: the network's name, as the certificate's organisation.
        member: the member's name: common name and DNS name of the node certificate.
        now: present instant, with a time zone.
        addresses: IP addresses at which the node listens, as subject alternative names.

    The authority's private key is dropped: a member that renews its certificate makes a new authority and
    has it put on the ledger, which leaves a trace.
    """
    begin, end = now - _BACKDATED, now + datetime.timedelta(days=_VALID_DAYS)
    ca_key, node_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _subject(network, member, "authority")
    ca_identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        x509.CertificateBuilder(
            ca_name, ca_name, ca_key.public_key(), x509.random_serial_number(), begin, end
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(ca_identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    node = (
        x509.CertificateBuilder(
            ca_name,
            _subject(network, member, "node"),
            node_key.public_key(),
            x509.random_serial_number(),
            begin,
            end,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName(member),
                    *(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(node_key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    return Credentials(
        ca_pem=ca.public_bytes(serialization.Encoding.PEM),
        ca_hash=sha256(ca.public_bytes(serialization.Encoding.DER)),
        node_pem=node.public_bytes(serialization.Encoding.PEM),
        node_key_pem=node_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


class Authorities:
    """The members' authorities, each known by the hash that stands in its member's entry.

    TLS alone only shows that *some* authority of the pool signed a peer's certificate, and any member could
    sign one that carries another member's name. Who a peer is, is decided here: by whose authority signed.
    """

    def __init__(self, pem: bytes, hashes_of: Mapping[int, bytes]) -> None:
        """Takes the authorities in ``pem`` that some member's entry names; others are not trusted.

        Args:
            pem: certificates, one behind the other.
            hashes_of: member number → ``tls_ca_hash``.

        Raises:
            FormatError: not PEM certificates.
        """
        try:
            certificates = x509.load_pem_x509_certificates(pem)
        except ValueError as error:
            raise FormatError(f"expected PEM certificates of the members' authorities: {error}") from error
        by_hash = {sha256(each.public_bytes(serialization.Encoding.DER)): each for each in certificates}
        self._of = {number: by_hash[each] for number, each in hashes_of.items() if each in by_hash}
        self._pem_of = {
            number: each.public_bytes(serialization.Encoding.PEM).decode("ascii")
            for number, each in self._of.items()
        }

    @property
    def members(self) -> tuple[int, ...]:
        """Numbers of the members whose authority is known, ascending."""
        return tuple(sorted(self._of))

    def pem_of(self, number: int) -> str:
        """The authority of one member, to be the only one trusted on a connection to that member.

        Raises:
            UnavailableError: it is not known here.
        """
        if number not in self._pem_of:
            raise UnavailableError(f"member {number} is not active, or its TLS authority is not known here")
        return self._pem_of[number]

    def member_of(self, certificate_der: bytes) -> int:
        """The number of the member whose authority signed this certificate (that TLS has already checked).

        Raises:
            RefusedError: ``peer_unknown``, signed by no member's authority.
        """
        try:
            certificate = x509.load_der_x509_certificate(certificate_der)
        except ValueError as error:
            raise RefusedError("peer_unknown", f"not a certificate: {error}") from error
        for number, authority in self._of.items():
            try:
                certificate.verify_directly_issued_by(authority)
            except (InvalidSignature, ValueError, TypeError):
                continue
            return number
        raise RefusedError("peer_unknown", "the certificate is signed by no member's authority")
