"""The custodian's book of consents: subjects' keys, artefacts, instructions, uses and their sealed pieces.

A store of its own beside the vault, so that no upload holds a disclosure up. In the clear stand only what is on
the ledger (ids, numbers, counts) and keyed hashes of subjects; pieces are sealed to their recipient, so the
custodian itself can't read them again.

The order of durability of a use:

    1. the pieces, and the signed ``consent.use`` that commits to them: one synced commit (``plan``)
    2. ``consent.use`` is certified
    3. before a piece leaves, that it may have left is synced (``leaves``)
    4. the signed ``consent.use_close``, saying what may have left: one commit (``close``), then it is certified

So after a crash at any point: nothing left that 1 does not cover, and the close never says less than what left.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from taxledger.ledger import canonical
from taxledger.ledger.consent import decode_artefact
from taxledger.nodes.custodian.custodylayout import (
    CLOSES,
    CUSTODY,
    GRANTS,
    INSTRUCTIONS,
    close_place,
    grant_place,
    instruction_place,
    place_of_close,
    place_of_instruction,
    use_place,
)
from taxledger.nodes.own import OwnTransactions, Signed, StoredTransactions
from taxledger.nodes.sealed.providers import KeyProvider
from taxledger.nodes.sealed.store import sealed_store

__all__ = [
    "CLOSES",
    "CUSTODY",
    "GRANTS",
    "INSTRUCTIONS",
    "CustodyBook",
    "ShownRecord",
    "SubjectKey",
    "Use",
    "close_place",
    "grant_place",
    "instruction_place",
    "place_of_close",
    "place_of_instruction",
    "use_place",
]

_SHOWN = struct.Struct(">37sIH")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectKey:
    """A key that the custodian has registered for a subject.

    Attributes:
        number: from 1; the newest one is in force.
        public_key: 32 bytes.
        authentication: how the person that brought it was identified; ``reason`` why a former one was replaced.
        registered_ms: when.
    """

    number: int
    public_key: bytes
    authentication: str
    reason: str | None
    registered_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A planned disclosure.

    Attributes:
        consent: 16 bytes; ``sequence`` the number of the use.
        request: 16 bytes that the recipient chose: the same request again is the same use.
        member: the recipient.
        hashes: SHA-256 of every piece, the frame first.
        counts: records in every piece; 0 for the frame.
        salt: 32 bytes.
        hpke_key: public key to which the pieces are sealed.
        may_have_left: how many pieces may have left, from the first on.
    """

    consent: bytes
    sequence: int
    request: bytes
    member: int
    hashes: tuple[bytes, ...]
    counts: tuple[int, ...]
    salt: bytes
    hpke_key: bytes
    may_have_left: int = 0

    @property
    def planned(self) -> int:
        """Records in all pieces."""
        return sum(self.counts)


class ShownRecord(NamedTuple):
    """A record of a use that may be pledged: at which version it was shown, and in which piece."""

    key: bytes
    version: int
    piece: int


class CustodyBook:
    """The store. Its methods block; the node calls them on other threads."""

    def __init__(self, path: Path, keys: KeyProvider, own: OwnTransactions) -> None:
        """Opens the book, and makes it where there is none; errors as ``sealed_store``."""
        self._store = sealed_store(path, CUSTODY, keys)
        self._database = self._store.database
        self.transactions = StoredTransactions(self._database, own)

    def close_store(self) -> None:
        self._store.close()

    def subject_of(self, subject: str) -> bytes:
        """The keyed hash under which a subject's rows stand, 16 bytes."""
        return self._store.lookup(subject.encode())

    # --- subjects ---------------------------------------------------------------------------

    def subject_keys(self, subject: str) -> list[SubjectKey]:
        """The keys registered for a subject, oldest first; the last is in force."""
        place = self.subject_of(subject)
        rows = self._database.all(
            "SELECT number, sealed FROM subjects WHERE subject = ? ORDER BY number", (place,)
        )
        keys = []
        for number, sealed in rows:
            public_key, authentication, reason, registered_ms = canonical.decode(
                self._store.open(b"subjects", place, number, sealed)
            )
            keys.append(
                SubjectKey(
                    number=number,
                    public_key=public_key,
                    authentication=authentication,
                    reason=reason,
                    registered_ms=registered_ms,
                )
            )
        return keys

    def add_subject_key(self, subject: str, key: SubjectKey) -> None:
        place = self.subject_of(subject)
        content = canonical.encode([key.public_key, key.authentication, key.reason, key.registered_ms])
        with self._store.write() as connection:
            connection.execute(
                "INSERT INTO subjects VALUES (?, ?, ?)",
                (place, key.number, self._store.seal(b"subjects", place, key.number, content)),
            )

    # --- consents ---------------------------------------------------------------------------

    def artefact(self, consent: bytes) -> bytes | None:
        """The artefact of a consent that was put, or is about to be put, on the ledger."""
        row = self._database.one("SELECT sealed FROM consents WHERE consent = ?", (consent,))
        return None if row is None else self._store.open(b"consents", consent, 1, row[0])

    def subject_hash(self, consent: bytes) -> bytes | None:
        """``subject_of`` whose consent it is; None where it is not known here."""
        row = self._database.one("SELECT subject FROM consents WHERE consent = ?", (consent,))
        return None if row is None else row[0]

    def add_consent(self, consent: bytes, subject: str, artefact: bytes, signed: Signed) -> None:
        """Artefact and signed grant in one commit; nothing is submitted before."""
        with self._store.write() as connection:
            connection.execute(
                "INSERT INTO consents VALUES (?, ?, ?)",
                (consent, self.subject_of(subject), self._store.seal(b"consents", consent, 1, artefact)),
            )
            self.transactions.store(connection, grant_place(consent), signed)

    def consents_of(self, subject: str) -> list[tuple[bytes, bytes]]:
        """(consent, artefact) of a subject, ascending by id."""
        rows = self._database.all(
            "SELECT consent, sealed FROM consents WHERE subject = ? ORDER BY consent",
            (self.subject_of(subject),),
        )
        return [(consent, self._store.open(b"consents", consent, 1, sealed)) for consent, sealed in rows]

    def recipients_of(self, subject: str) -> list[tuple[int, bytes]]:
        """(member, consent) of every consent of a subject: who may hold what it was shown."""
        return [(decode_artefact(raw).terms.recipient, consent) for consent, raw in self.consents_of(subject)]

    # --- instructions -----------------------------------------------------------------------

    def last_instruction(self, consent: bytes) -> tuple[int, bytes] | None:
        """(number, bytes) of the newest instruction about a consent."""
        row = self._database.one(
            "SELECT number, sealed FROM instructions WHERE consent = ? ORDER BY number DESC LIMIT 1",
            (consent,),
        )
        return None if row is None else (row[0], self._store.open(b"instructions", consent, row[0], row[1]))

    def instruction(self, consent: bytes, number: int) -> bytes | None:
        """The bytes of an instruction about a consent, or None."""
        row = self._database.one(
            "SELECT sealed FROM instructions WHERE consent = ? AND number = ?", (consent, number)
        )
        return None if row is None else self._store.open(b"instructions", consent, number, row[0])

    def add_instruction(self, consent: bytes, number: int, raw: bytes, signed: Signed) -> None:
        with self._store.write() as connection:
            connection.execute(
                "INSERT INTO instructions VALUES (?, ?, ?)",
                (consent, number, self._store.seal(b"instructions", consent, number, raw)),
            )
            self.transactions.store(connection, instruction_place(consent, number), signed)

    # --- uses -------------------------------------------------------------------------------

    def plan(
        self, use: Use, pieces: Sequence[bytes], signed: Signed, shown: Sequence[ShownRecord] = ()
    ) -> None:
        """Step 1: pieces and signed ``consent.use`` in one commit, and which records in them may be pledged."""
        content = canonical.encode([use.hashes, use.counts, use.salt, use.hpke_key])
        with self._store.write() as connection:
            connection.execute(
                "INSERT INTO uses VALUES (?, ?, ?, ?, ?, 0, NULL, ?)",
                (
                    use.consent,
                    use.sequence,
                    use.request,
                    use.member,
                    len(pieces),
                    self._store.seal(b"uses", use.consent, use.sequence, content),
                ),
            )
            connection.executemany(
                "INSERT INTO pieces VALUES (?, ?, ?, ?)",
                [(use.consent, use.sequence, number, piece) for number, piece in enumerate(pieces)],
            )
            if shown:
                packed = b"".join([_SHOWN.pack(*each) for each in shown])
                connection.execute(
                    "INSERT INTO use_records VALUES (?, ?, ?)",
                    (
                        use.consent,
                        use.sequence,
                        self._store.seal(b"use_records", use.consent, use.sequence, packed),
                    ),
                )
            self.transactions.store(connection, use_place(use.consent, use.sequence), signed)

    def shown(self, consent: bytes, sequence: int, keys: Collection[bytes]) -> dict[bytes, ShownRecord]:
        """Those of some record keys that were planned to be shown in a use and may be pledged."""
        row = self._database.one(
            "SELECT sealed FROM use_records WHERE consent = ? AND sequence = ?", (consent, sequence)
        )
        if row is None:
            return {}
        wanted = frozenset(keys)
        packed = self._store.open(b"use_records", consent, sequence, row[0])
        found = (ShownRecord(*each) for each in _SHOWN.iter_unpack(packed))
        return {each.key: each for each in found if each.key in wanted}

    def drop_use(self, consent: bytes, sequence: int, transaction: bytes) -> None:
        """A planned use whose transaction (id, 32 bytes) the ledger refused: nothing left, its number is free again.

        Another that was planned under this number since is left alone.
        """
        with self._store.write() as connection:
            dropped = connection.execute(
                "DELETE FROM sent WHERE place = ? AND id = ?", (use_place(consent, sequence), transaction)
            ).rowcount
            for table in ("pieces", "use_records", "uses") if dropped else ():
                connection.execute(
                    f"DELETE FROM {table} WHERE consent = ? AND sequence = ?",  # noqa: S608 — our own names
                    (consent, sequence),
                )

    def _use(self, where: str, parameters: tuple[object, ...]) -> Use | None:
        row = self._database.one(
            "SELECT consent, sequence, request, member, may_have_left, sealed FROM uses WHERE "  # noqa: S608
            + where,
            parameters,
        )
        if row is None:
            return None
        consent, sequence, request, member, left, sealed = row
        opened = canonical.decode(self._store.open(b"uses", consent, sequence, sealed))
        hashes, counts, salt, hpke_key = opened
        return Use(
            consent=consent,
            sequence=sequence,
            request=request,
            member=member,
            hashes=tuple(hashes),
            counts=tuple(counts),
            salt=salt,
            hpke_key=hpke_key,
            may_have_left=left,
        )

    def use(self, consent: bytes, sequence: int) -> Use | None:
        return self._use("consent = ? AND sequence = ?", (consent, sequence))

    def use_of_request(self, consent: bytes, request: bytes) -> Use | None:
        return self._use("consent = ? AND request = ?", (consent, request))

    def last_use(self, consent: bytes) -> Use | None:
        """The newest one planned under a consent."""
        return self._use("consent = ? ORDER BY sequence DESC LIMIT 1", (consent,))

    def leaves(self, consent: bytes, sequence: int, piece: int) -> bytes | None:
        """Step 3: that pieces up to this one may have left is synced; then the piece. None when it is gone."""
        row = self._database.one(
            "SELECT content FROM pieces WHERE consent = ? AND sequence = ? AND piece = ?",
            (consent, sequence, piece),
        )
        if row is None:
            return None
        with self._store.write() as connection:
            connection.execute(
                "UPDATE uses SET may_have_left = max(may_have_left, ?) WHERE consent = ? AND sequence = ?",
                (piece + 1, consent, sequence),
            )
        content: bytes = row[0]
        return content

    def close(self, consent: bytes, sequence: int, signed: Signed, ended_ms: int) -> None:
        """Step 4: the signed close is durable; nothing more leaves under this use but what may have left."""
        with self._store.write() as connection:
            connection.execute(
                "UPDATE uses SET ended_ms = ? WHERE consent = ? AND sequence = ?",
                (ended_ms, consent, sequence),
            )
            self.transactions.store(connection, close_place(consent, sequence), signed)

    def has_ended(self, consent: bytes, sequence: int) -> bool:
        """Whether step 4 was reached."""
        return self.transactions.sent(close_place(consent, sequence)) is not None

    def open_uses(self) -> list[tuple[bytes, int]]:
        """(consent, sequence) of every use whose close is not durable yet."""
        return [
            (consent, sequence)
            for consent, sequence in self._database.all(
                "SELECT consent, sequence FROM uses WHERE ended_ms IS NULL ORDER BY consent, sequence"
            )
        ]

    # --- forgetting -------------------------------------------------------------------------

    def forget_pieces(self, ended_before_ms: int) -> int:
        """Drops the pieces of uses that ended before an instant; the number of pieces."""
        with self._store.write() as connection:
            return connection.execute(
                "DELETE FROM pieces WHERE EXISTS (SELECT 1 FROM uses WHERE uses.consent = pieces.consent "
                "AND uses.sequence = pieces.sequence AND uses.ended_ms < ?)",
                (ended_before_ms,),
            ).rowcount

    def forget_consents(self, consents: Sequence[bytes]) -> None:
        """Drops all pieces under some consents, and which records they were of, because records in them were erased;
        they are gone when it returns. A use that is open then can't go on: it is closed with what may have left.
        """
        with self._store.write() as connection:
            for table in ("pieces", "use_records"):
                connection.executemany(
                    f"DELETE FROM {table} WHERE consent = ?",  # noqa: S608 — our own names
                    [(each,) for each in consents],
                )
        # Also where nothing was found: an attempt before this one may have got no further.
        self._store.scrub()
