"""A loan's archive: one file that anyone who holds the lender's policy and key can check offline (docs/lending.md)."""

from __future__ import annotations

from taxledger.lending.archive.check import verify_archive, write_archive
from taxledger.lending.archive.format import (
    Archive,
    NamedPolicy,
    PaymentDigest,
    decode_archive,
    encode_archive,
    name_policy,
    named_files,
)
from taxledger.lending.archive.gather import gather_archive, payment_files
from taxledger.lending.archive.report import ArchiveReport

__all__ = [
    "Archive",
    "ArchiveReport",
    "NamedPolicy",
    "PaymentDigest",
    "decode_archive",
    "encode_archive",
    "gather_archive",
    "name_policy",
    "named_files",
    "payment_files",
    "verify_archive",
    "write_archive",
]
