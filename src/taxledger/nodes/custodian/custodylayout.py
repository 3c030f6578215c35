"""The tables of the custodian's book, and where in it transactions stand, by what they are for."""

from __future__ import annotations

from taxledger.nodes.own import SENT_TABLE
from taxledger.nodes.sealed.layout import SealedColumn, StoreLayout

__all__ = [
    "CLOSES",
    "CUSTODY",
    "GRANTS",
    "INSTRUCTIONS",
    "close_place",
    "grant_place",
    "instruction_place",
    "place_of_close",
    "place_of_instruction",
    "use_place",
]

CUSTODY = StoreLayout(
    name="custody",
    tables=(
        SENT_TABLE,
        """
        CREATE TABLE IF NOT EXISTS subjects (
            subject BLOB NOT NULL, number INTEGER NOT NULL, sealed BLOB NOT NULL,
            PRIMARY KEY (subject, number)) WITHOUT ROWID
        """,
        """
        CREATE TABLE IF NOT EXISTS consents (
            consent BLOB PRIMARY KEY, subject BLOB NOT NULL, sealed BLOB NOT NULL) WITHOUT ROWID
        """,
        """
        CREATE INDEX IF NOT EXISTS consents_subject ON consents (subject)
        """,
        """
        CREATE TABLE IF NOT EXISTS instructions (
            consent BLOB NOT NULL, number INTEGER NOT NULL, sealed BLOB NOT NULL,
            PRIMARY KEY (consent, number)) WITHOUT ROWID
        """,
        """
        CREATE TABLE IF NOT EXISTS uses (
            consent BLOB NOT NULL, sequence INTEGER NOT NULL, request BLOB NOT NULL, member INTEGER NOT NULL,
            pieces INTEGER NOT NULL, may_have_left INTEGER NOT NULL, ended_ms INTEGER, sealed BLOB NOT NULL,
            PRIMARY KEY (consent, sequence)) WITHOUT ROWID
        """,
        """
        CREATE TABLE IF NOT EXISTS pieces (
            consent BLOB NOT NULL, sequence INTEGER NOT NULL, piece INTEGER NOT NULL, content BLOB NOT NULL,
            PRIMARY KEY (consent, sequence, piece)) WITHOUT ROWID
        """,
        # Of uses under consents that allow pledging: see ``permitting.py``.
        """
        CREATE TABLE IF NOT EXISTS use_records (
            consent BLOB NOT NULL, sequence INTEGER NOT NULL, sealed BLOB NOT NULL,
            PRIMARY KEY (consent, sequence)) WITHOUT ROWID
        """,
    ),
    columns=(
        SealedColumn(table="subjects", key="subject", version="number"),
        SealedColumn(table="consents", key="consent"),
        SealedColumn(table="instructions", key="consent", version="number"),
        SealedColumn(table="uses", key="consent", version="sequence"),
        SealedColumn(table="use_records", key="consent", version="sequence"),
    ),
)


GRANTS, INSTRUCTIONS, CLOSES = b"grant", b"order", b"close"
"""What the places of transactions begin with, by what these are for."""


def grant_place(consent: bytes) -> bytes:
    """Where the transaction of a grant is stored."""
    return GRANTS + consent


def instruction_place(consent: bytes, number: int) -> bytes:
    return INSTRUCTIONS + consent + number.to_bytes(8, "big")


def place_of_instruction(place: bytes) -> tuple[bytes, int]:
    """(consent, number) of an ``instruction_place``."""
    return place[5:21], int.from_bytes(place[21:], "big")


def use_place(consent: bytes, sequence: int) -> bytes:
    return b"use__" + consent + sequence.to_bytes(4, "big")


def close_place(consent: bytes, sequence: int) -> bytes:
    return CLOSES + consent + sequence.to_bytes(4, "big")


def place_of_close(place: bytes) -> tuple[bytes, int]:
    """(consent, number of the use) of a ``close_place``."""
    return place[5:21], int.from_bytes(place[21:], "big")
