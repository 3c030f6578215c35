"""What TLS between nodes takes from files: TLS 1.3 alone, both sides with a certificate."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TlsFiles", "client_context", "server_context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of one node: its key and certificate in one file, and the authorities of all members."""

    node: Path
    authorities: Path
    others: tuple[Path, ...] = ()
    """Keys and certificates under other authorities of this member, the next or a former one: for peers whose
    ledger does not know the present one yet.
    """


def server_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.node)
    context.load_verify_locations(files.authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(node: Path, authority_pems: tuple[str, ...]) -> ssl.SSLContext:
    """Trusts the authorities only of the member we mean to reach."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(node)
    context.load_verify_locations(cadata="".join(authority_pems))
    return context
