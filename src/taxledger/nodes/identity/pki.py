"""Certificates for the mutual TLS between members' nodes: every member is its own authority.

A member's authority signs its node's certificate and nothing else. The ledger holds the SHA-256 of the
authority's DER in the member's entry, so who may speak as a member is agreed on the ledger and not by a file
that someone mailed around. Keys are ECDSA P-256, which every TLS library speaks.

An authority lives for ten years, a node's certificate for days: the node renews it long before it expires, so
that what is stolen from a node is soon worth nothing, without a list of revoked certificates.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from taxledger.ledger.errors import FormatError, RefusedError, UnavailableError, VerificationError
from taxledger.ledger.hashing import sha256

__all__ = [
    "CERTIFICATE_HOURS",
    "Authorities",
    "Authority",
    "Credentials",
    "Validity",
    "authority_hash",
    "certificate_addresses",
    "issue_certificate",
    "make_authority",
    "make_credentials",
    "sign_as_authority",
    "split_certificates",
    "validity_of",
    "validity_of_der",
    "verify_authority_signature",
]

_AUTHORITY_DAYS = 3_650
_BACKDATED = datetime.timedelta(hours=1)  # a peer's clock may be behind
CERTIFICATE_HOURS = 168
"""Life of a node's certificate where the setting says nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A member's TLS authority, PEM encoded."""

    pem: bytes
    """Its certificate; goes to every peer."""
    key_pem: bytes
    """Its private key, PKCS #8, not encrypted: the file's mode protects it. May be kept offline."""
    hash: bytes
    """SHA-256 of the certificate's DER: ``tls_ca_hash`` of the member's entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """One member's TLS material, PEM encoded."""

    authority: Authority
    node_pem: bytes
    """The node's private key and its certificate in one file, so that a renewal replaces both at once."""

    @property
    def ca_pem(self) -> bytes:
        return self.authority.pem

    @property
    def ca_hash(self) -> bytes:
        return self.authority.hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """When a certificate is valid, in seconds since 1970."""

    begin_s: int
    end_s: int

    @property
    def life_s(self) -> int:
        return self.end_s - self.begin_s


def _load(pem: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise FormatError(f"expected {what} as PEM: {error}") from error


def _validity(certificate: x509.Certificate) -> Validity:
    return Validity(
        begin_s=int(certificate.not_valid_before_utc.timestamp()),
        end_s=int(certificate.not_valid_after_utc.timestamp()),
    )


def validity_of(pem: bytes) -> Validity:
    """Of the first certificate in ``pem``. Raises FormatError where there is none."""
    return _validity(_load(pem, "a certificate"))


def authority_hash(pem: bytes) -> bytes:
    """SHA-256 of the first certificate's DER, as a member's entry has it. Raises FormatError."""
    return sha256(_load(pem, "an authority's certificate").public_bytes(serialization.Encoding.DER))


def split_certificates(pem: bytes) -> list[bytes]:
    """Each certificate of a bundle, as PEM of its own. Raises FormatError where one is none."""
    if not pem.strip():
        return []
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise FormatError(f"expected PEM certificates of the members' authorities: {error}") from error
    return [each.public_bytes(serialization.Encoding.PEM) for each in found]


def certificate_addresses(pem: bytes) -> tuple[str, ...]:
    """The IP addresses and host names at which a node's certificate says that it listens. Raises FormatError."""
    certificate = _load(pem, "a node's certificate")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = names.get_values_for_type(x509.DNSName)[1:]  # the first is the member's name
    return (*(str(each) for each in names.get_values_for_type(x509.IPAddress)), *hosts)


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


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


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_authority(network: str, member: str, *, now: datetime.datetime) -> Authority:
    """A new authority for ``member``, valid for ten years.

    Args:
        network: the network's name, as the certificate's organisation.
        member: the member's name, as its common name.
        now: present instant, with a time zone.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject(network, member, "authority")
    begin, end = now - _BACKDATED, now + datetime.timedelta(days=_AUTHORITY_DAYS)
    serial = x509.random_serial_number()
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), serial, begin, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return Authority(pem=pem, key_pem=_private_pem(key), hash=authority_hash(pem))


def _authority_key(pem: bytes, ca: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise FormatError(f"expected the authority's private key as PEM, not encrypted: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
        raise FormatError("expected the private key of this authority, got another key")
    return key


def sign_as_authority(authority_pem: bytes, authority_key_pem: bytes, message: bytes) -> bytes:
    """A signature of the authority's key (ECDSA P-256 with SHA-256, DER), other than of a certificate.

    Raises:
        FormatError: not PEM, or the key of another authority.
    """
    key = _authority_key(authority_key_pem, _load(authority_pem, "an authority's certificate"))
    return key.sign(message, ec.ECDSA(hashes.SHA256()))


def verify_authority_signature(authority_pem: bytes, signature: bytes, message: bytes, *, name: str) -> None:
    """Returns when ``signature`` is that of ``sign_as_authority``, and the authority is of member ``name``.

    Raises:
        FormatError: not one PEM certificate of an authority with that common name.
        VerificationError: ``signature_invalid``.
    """
    ca = _load(authority_pem, "an authority's certificate")
    names = [str(each.value) for each in ca.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    key = ca.public_key()
    if names != [name] or not isinstance(key, ec.EllipticCurvePublicKey):
        raise FormatError(f"expected a TLS authority (ECDSA) of {name}, got one of {', '.join(names)!r:.100}")
    if len(split_certificates(authority_pem)) != 1:
        raise FormatError(f"expected one certificate as the TLS authority of {name}")
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise VerificationError(
            "signature_invalid", f"{name}: the TLS authority did not sign this content"
        ) from error


def issue_certificate(
    authority_pem: bytes,
    authority_key_pem: bytes,
    *,
    now: datetime.datetime,
    hours: int = CERTIFICATE_HOURS,
    addresses: tuple[str, ...] = ("127.0.0.1",),
) -> bytes:
    """A new key and certificate for the authority's node: ``node_pem`` of ``Credentials``.

    Args:
        authority_pem: the authority's certificate; its common name is the member's name.
        authority_key_pem: its private key.
        now: present instant, with a time zone.
        hours: life of the certificate, cut where the authority's ends.
        addresses: IP addresses and host names at which the node listens, as subject alternative names.

    Raises:
        FormatError: not PEM, or the key of another authority.
    """
    ca = _load(authority_pem, "an authority's certificate")
    ca_key, node_key = _authority_key(authority_key_pem, ca), ec.generate_private_key(ec.SECP256R1())
    (member,), (network,) = (
        [str(each.value) for each in ca.subject.get_attributes_for_oid(oid)]
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    )
    end = min(now + datetime.timedelta(hours=hours), ca.not_valid_after_utc)
    certificate = (
        x509.CertificateBuilder(
            ca.subject,
            _subject(network, member, "node"),
            node_key.public_key(),
            x509.random_serial_number(),
            min(now, end) - _BACKDATED,
            end,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(member), *(_general_name(each) for each in addresses)]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(node_key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
            ),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    return _private_pem(node_key) + certificate.public_bytes(serialization.Encoding.PEM)


def make_credentials(
    network: str,
    member: str,
    *,
    now: datetime.datetime,
    hours: int = CERTIFICATE_HOURS,
    addresses: tuple[str, ...] = ("127.0.0.1",),
) -> Credentials:
    """A new authority for ``member`` and a node certificate signed by it."""
    authority = make_authority(network, member, now=now)
    node_pem = issue_certificate(authority.pem, authority.key_pem, now=now, hours=hours, addresses=addresses)
    return Credentials(authority=authority, node_pem=node_pem)


class Authorities:
    """The members' authorities, each known by the hash that stands in its member's entry.

    TLS alone only shows that *some* authority of the pool signed a peer's certificate, and any member could
    sign one that carries another member's name. Who a peer is, is decided here: by whose authority signed.

    A member that changes its authority has two for a moment: from the block that accepted the change until it
    is in force, the present one and the next.
    """

    def __init__(self, pem: bytes, hashes_of: Mapping[int, bytes | Sequence[bytes]]) -> None:
        """Takes the authorities in ``pem`` that some member's entry names; others are not trusted.

        Args:
            pem: certificates, one behind the other.
            hashes_of: member number → ``tls_ca_hash``, or several where it is being changed.

        Raises:
            FormatError: not PEM certificates.
        """
        try:
            certificates = x509.load_pem_x509_certificates(pem)
        except ValueError as error:
            raise FormatError(f"expected PEM certificates of the members' authorities: {error}") from error
        by_hash = {sha256(each.public_bytes(serialization.Encoding.DER)): each for each in certificates}
        named = {
            number: (hashes,) if isinstance(hashes, bytes) else tuple(hashes)
            for number, hashes in hashes_of.items()
        }
        known = {
            number: [by_hash[each] for each in hashes if each in by_hash] for number, hashes in named.items()
        }
        self._of = {number: found for number, found in known.items() if found}
        self._pems_of = {
            number: tuple(each.public_bytes(serialization.Encoding.PEM).decode("ascii") for each in found)
            for number, found in self._of.items()
        }
        self.missing: dict[bytes, int] = {
            each: number for number, hashes in named.items() for each in hashes if each not in by_hash
        }
        """Hashes that stand on the ledger and whose certificate is not among ``pem`` → their member."""

    @property
    def members(self) -> tuple[int, ...]:
        """Numbers of the members whose authority is known, ascending."""
        return tuple(sorted(self._of))

    def pems_of(self, number: int) -> tuple[str, ...]:
        """The authorities of one member, to be the only ones trusted on a connection to that member.

        Raises:
            UnavailableError: none is known here.
        """
        if number not in self._pems_of:
            raise UnavailableError(f"member {number} is not active, or its TLS authority is not known here")
        return self._pems_of[number]

    def expiry_of(self, number: int) -> int | None:
        """When the newest authority of a member expires, in seconds since 1970; None where none is known."""
        return max((_validity(each).end_s for each in self._of.get(number, ())), default=None)

    def member_of(self, certificate_der: bytes) -> int:
        """The number of the member whose authority signed this certificate (that TLS has already checked).

        Raises:
            RefusedError: ``peer_unknown``, signed by no member's authority.
        """
        certificate = _load_der(certificate_der)
        for number, authority in ((number, each) for number, found in self._of.items() for each in found):
            try:
                certificate.verify_directly_issued_by(authority)
            except (InvalidSignature, ValueError, TypeError):
                continue
            return number
        raise RefusedError("peer_unknown", "the certificate is signed by no member's authority")


def _load_der(certificate_der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(certificate_der)
    except ValueError as error:
        raise RefusedError("peer_unknown", f"not a certificate: {error}") from error


def validity_of_der(certificate_der: bytes) -> Validity:
    """Of a peer's certificate as TLS gives it. Raises RefusedError ``peer_unknown`` where it is none."""
    return _validity(_load_der(certificate_der))
