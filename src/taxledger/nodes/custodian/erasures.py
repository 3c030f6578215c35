"""What the vault knows of erasures, and the commit that destroys.

A row of ``erased`` is all that stays of a record here: its key, which is on the ledger anyway, and how far the
ledger has been told. It holds no content, no secret, no subject.

Which columns stay, and why they tell nothing. The tombstone's key is the ledger's: its tag is a pseudonym that
only the year's RSA key links to a subject, its rid has lost its seed. ``years`` stays, for it serves every other
enterprise: whoever opens it (it is sealed apart) can still test a guess of a *subject* by its tag, and of an
invoice by a fingerprint where one is on the ledger. ``outbox`` holds what went, or goes, to the ledger.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from taxledger.ledger import canonical, limits
from taxledger.ledger.consent import PREDICATE_KIND
from taxledger.ledger.errors import check
from taxledger.ledger.statekeys import RECORD_KEY_BYTES
from taxledger.nodes.custodian.batches import Batches
from taxledger.nodes.custodian.vault import Vault

__all__ = [
    "CERTIFIED",
    "NEVER_ATTESTED",
    "SAID",
    "UNSAID",
    "Erasures",
    "Notice",
    "Recipient",
    "erased_months",
    "is_erased",
]

UNSAID, SAID, CERTIFIED, NEVER_ATTESTED = range(4)
"""Of an erased record: the ledger must be told; a transaction is in the outbox; done; the ledger never had it."""

_DESTROYED, _SCRUBBED, _NOTIFYING = range(3)
"""Of an erasure: rows are deleted; nothing of them is left; notices are made, and sent until confirmed."""

_ERASURES, _NOTICES = b"erasures", b"notices"
_TAG_AT, _TAG_END = 4, 20

Recipient = tuple[int, bytes]
"""A member that may have been shown records, and the id of the consent (16 bytes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What one recipient is told.

    Attributes:
        notice: its name, 16 bytes; ``member`` whom it is for.
        consents: ids of the subject's consents to that member.
        keys: of erased records, ascending; empty once it is confirmed.
        answers: ``[consent, sequence, reason, salt]`` of what was destroyed there; empty until it is confirmed.
        confirmed: whether it is.
    """

    notice: bytes
    member: int
    consents: tuple[bytes, ...]
    keys: tuple[bytes, ...]
    answers: tuple[tuple[bytes, int, str, bytes], ...]
    confirmed: bool


def erased_months(vault: Vault, prefix: bytes) -> frozenset[int]:
    """Month bytes below a tag's prefix (20 bytes) of which records were erased."""
    rows = vault.database.all(
        "SELECT DISTINCT substr(key, 21, 1) FROM erased WHERE key >= ? AND key < ?", (prefix, _after(prefix))
    )
    return frozenset(month[0] for (month,) in rows)


def is_erased(vault: Vault, key: bytes) -> bool:
    """Whether a record was erased here."""
    return vault.database.one("SELECT 1 FROM erased WHERE key = ?", (key,)) is not None


class Erasures:
    """The tables ``erasures``, ``erased`` and ``notices`` of a vault. Methods block."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._database = vault.database
        self._store = vault.store

    # --- destroying -------------------------------------------------------------------------

    def destroy(
        self,
        prefixes: Mapping[bytes, tuple[int, int]],
        recipients: Sequence[Recipient],
        reason: str,
        now_ms: int,
    ) -> int:
        """Deletes everything below some record prefixes, in one commit; how many records those were.

        Under ``Vault.exclusive`` only. ``finish`` has to follow.

        Args:
            prefixes: (kind, year) by record prefix (20 or 21 bytes).
            recipients: who must be told.
            reason: in words; sealed.
            now_ms: milliseconds since 1970.
        """
        with self._store.write() as connection:
            keys = [key for prefix in prefixes for key in _keys(connection, prefix)]
            if keys:
                erasure = os.urandom(16)
                told = [[member, consent] for member, consent in sorted(set(recipients))]
                content = canonical.encode([reason, now_ms, told])
                connection.execute(
                    "INSERT INTO erasures VALUES (?, ?, ?)",
                    (erasure, _DESTROYED, self._store.seal(_ERASURES, erasure, 1, content)),
                )
                connection.executemany(
                    "INSERT OR REPLACE INTO erased VALUES (?, ?, ?, NULL)",
                    [(key, erasure, UNSAID) for key in keys],
                )
            Batches(self._vault).forget(connection, keys)
            for prefix, (kind, year) in prefixes.items():
                _delete(connection, prefix, kind, year)
            for prefix in prefixes:
                _delete_tag(connection, prefix[:_TAG_END])
        return len(keys)

    def is_unfinished(self) -> bool:
        """Whether rows are deleted that may still stand in unused parts of the file."""
        return self._database.one("SELECT 1 FROM erasures WHERE state = ?", (_DESTROYED,)) is not None

    def unfinished_predicates(self) -> list[bytes]:
        """Keys of the answers to predicates among those."""
        rows = self._database.all(
            "SELECT key FROM erased JOIN erasures USING (erasure) WHERE erasures.state = ?", (_DESTROYED,)
        )
        return [key for (key,) in rows if key[3] == PREDICATE_KIND]

    def consents(self) -> list[bytes]:
        """Ids of the consents (16 bytes) under which what is being erased may have been prepared to leave."""
        rows = self._database.all("SELECT erasure, sealed FROM erasures WHERE state < ?", (_NOTIFYING,))
        found: set[bytes] = set()
        for erasure, sealed in rows:
            _reason, _made_ms, told = canonical.decode(self._store.open(_ERASURES, erasure, 1, sealed))
            found.update(consent for _member, consent in told)
        return sorted(found)

    def scrub(self) -> None:
        """See ``SealedStore.scrub``."""
        self._store.scrub()

    def note_scrubbed(self) -> None:
        """Nothing of what ``destroy`` deleted is left, here or with other stores of this node."""
        with self._database.write() as connection:
            connection.execute("UPDATE erasures SET state = ? WHERE state = ?", (_SCRUBBED, _DESTROYED))

    # --- telling the ledger -----------------------------------------------------------------

    def unsaid(self) -> list[bytes]:
        """Keys of the records of which the ledger must be told, ascending."""
        return [
            row[0]
            for row in self._database.all("SELECT key FROM erased WHERE state = ? ORDER BY key", (UNSAID,))
        ]

    def has_unsettled(self) -> bool:
        """Whether the ledger has still to be told of some, or to answer."""
        return self._database.one("SELECT 1 FROM erased WHERE state < ?", (CERTIFIED,)) is not None

    def note_states(self, states: Mapping[bytes, int]) -> None:
        """States by key, for records that need no transaction."""
        with self._database.write() as connection:
            connection.executemany(
                "UPDATE erased SET state = ? WHERE key = ?", [(state, key) for key, state in states.items()]
            )

    @staticmethod
    def note_said(connection: sqlite3.Connection, keys: Sequence[bytes], sequence: int) -> None:
        """Into the commit that makes their transaction durable. ``Outbox`` notes what becomes of it."""
        connection.executemany(
            "UPDATE erased SET state = ?, sequence = ? WHERE key = ?", [(SAID, sequence, key) for key in keys]
        )

    # --- telling recipients -----------------------------------------------------------------

    def is_ready(self) -> bool:
        """Whether there are erasures of which recipients can be told."""
        return bool(self._ready())

    def _ready(self) -> list[tuple[bytes, bytes]]:
        return [
            (erasure, sealed)
            for erasure, sealed in self._database.all(
                "SELECT erasure, sealed FROM erasures WHERE state = ? AND NOT EXISTS "
                "(SELECT 1 FROM erased WHERE erased.erasure = erasures.erasure AND erased.state < ?)",
                (_SCRUBBED, CERTIFIED),
            )
        ]

    def make_notices(self) -> None:
        """Makes the notices of every erasure that the ledger knows in full.

        Not earlier: a recipient destroys nothing before its own certified ledger says that it is erased.
        """
        for erasure, sealed in self._ready():
            reason, made_ms, told = canonical.decode(self._store.open(_ERASURES, erasure, 1, sealed))
            keys = [
                row[0]
                for row in self._database.all(
                    "SELECT key FROM erased WHERE erasure = ? AND state = ? ORDER BY key",
                    (erasure, CERTIFIED),
                )
            ]
            with self._store.write() as connection:
                for member in sorted({member for member, _consent in told}):
                    consents = [consent for each, consent in told if each == member]
                    for at in range(0, len(keys), limits.notice_records_max):
                        self._insert_notice(
                            connection, erasure, member, consents, keys[at : at + limits.notice_records_max]
                        )
                content = canonical.encode([reason, made_ms, []])
                connection.execute(
                    "UPDATE erasures SET state = ?, sealed = ? WHERE erasure = ?",
                    (_NOTIFYING, self._store.seal(_ERASURES, erasure, 1, content), erasure),
                )

    def _insert_notice(
        self,
        connection: sqlite3.Connection,
        erasure: bytes,
        member: int,
        consents: list[bytes],
        keys: list[bytes],
    ) -> None:
        notice = os.urandom(16)
        content = canonical.encode([member, consents, keys, []])
        connection.execute(
            "INSERT INTO notices VALUES (?, ?, 0, ?)",
            (notice, erasure, self._store.seal(_NOTICES, notice, 1, content)),
        )

    def waiting_notices(self) -> list[Notice]:
        """Those that are not confirmed yet."""
        return self._notices("SELECT notice, confirmed, sealed FROM notices WHERE confirmed = 0", ())

    def note_confirmed(self, notice: Notice, answers: Sequence[tuple[bytes, int, str, bytes]]) -> None:
        """The recipient has opened the digests of what it destroyed, and they are on the ledger."""
        content = canonical.encode(
            [notice.member, list(notice.consents), [], [list(each) for each in answers]]
        )
        with self._store.write() as connection:
            connection.execute(
                "UPDATE notices SET confirmed = 1, sealed = ? WHERE notice = ?",
                (self._store.seal(_NOTICES, notice.notice, 1, content), notice.notice),
            )

    def _notices(self, select: str, parameters: Sequence[object]) -> list[Notice]:
        found = []
        for notice, confirmed, sealed in self._database.all(select, parameters):
            opened = canonical.decode(self._store.open(_NOTICES, notice, 1, sealed))
            member, consents, keys, answers = opened
            found.append(
                Notice(
                    notice=notice,
                    member=member,
                    consents=tuple(consents),
                    keys=tuple(keys),
                    answers=tuple((each[0], each[1], each[2], each[3]) for each in answers),
                    confirmed=bool(confirmed),
                )
            )
        return found

    # --- what became of it ------------------------------------------------------------------

    def outcome(self, prefixes: Sequence[bytes]) -> tuple[int, list[bytes], list[Notice], bool]:
        """Of all that was ever erased below some record prefixes: (number of records, ids of the certified
        transactions, notices, whether the ledger and the notices are all made).
        """
        records, settled = 0, True
        transactions: dict[bytes, int] = {}
        erasures: set[bytes] = set()
        for prefix in prefixes:
            rows = self._database.all(
                "SELECT erased.state, erased.sequence, outbox.id, erased.erasure, erasures.state FROM erased "
                "JOIN erasures USING (erasure) LEFT JOIN outbox ON outbox.sequence = erased.sequence "
                "WHERE key >= ? AND key < ?",
                (prefix, _after(prefix)),
            )
            records += len(rows)
            for state, sequence, transaction, erasure, stage in rows:
                settled = settled and state >= CERTIFIED and stage == _NOTIFYING
                erasures.add(erasure)
                if state == CERTIFIED and transaction is not None:
                    transactions[transaction] = sequence
        notices = [
            notice
            for erasure in sorted(erasures)
            for notice in self._notices(
                "SELECT notice, confirmed, sealed FROM notices WHERE erasure = ?", (erasure,)
            )
        ]
        return records, sorted(transactions, key=transactions.__getitem__), notices, settled


def _keys(connection: sqlite3.Connection, prefix: bytes) -> Iterator[bytes]:
    """Every record below a prefix of which anything is kept; also such as the ledger refused."""
    rows = connection.execute(
        "SELECT key FROM records WHERE key >= ?1 AND key < ?2 UNION "
        "SELECT key FROM refused_records WHERE key >= ?1 AND key < ?2 ORDER BY key",
        (prefix, _after(prefix)),
    ).fetchall()
    return (row[0] for row in rows)


def _delete(connection: sqlite3.Connection, prefix: bytes, kind: int, year: int) -> None:
    """Rows of all versions, with their keyed hashes, secrets and reasons; what is staged of them; the seeds."""
    check(len(prefix) in (_TAG_END, _TAG_END + 1), "a record prefix has 20 or 21 bytes")
    below = (prefix, _after(prefix))
    for table in ("records", "refused_records", "reasons"):
        connection.execute(f"DELETE FROM {table} WHERE key >= ? AND key < ?", below)  # noqa: S608
    place = prefix[_TAG_AT:]
    # Of new records (place: tag, month, …), then of changes (place: key, version).
    for stage, start in ((1, place), (2, prefix)):
        connection.execute(
            "DELETE FROM staged WHERE stage = ? AND kind = ? AND year = ? AND place >= ? AND place < ?",
            (stage, kind, year, start, start + b"\xff" * 64),
        )
    connection.execute("DELETE FROM rid_seeds WHERE place >= ? AND place < ?", (place, place + b"\xff" * 2))


def _delete_tag(connection: sqlite3.Connection, prefix: bytes) -> None:
    """The subject's row of a kind and year, when no record of it is left."""
    left = connection.execute(
        "SELECT 1 FROM records WHERE key >= ?1 AND key < ?2 UNION ALL "
        "SELECT 1 FROM refused_records WHERE key >= ?1 AND key < ?2 LIMIT 1",
        (prefix, _after(prefix)),
    ).fetchone()
    if left is None:
        connection.execute("DELETE FROM tags WHERE tag = ?", (prefix[_TAG_AT:],))


def _after(prefix: bytes) -> bytes:
    return prefix + b"\xff" * (RECORD_KEY_BYTES + 1 - len(prefix))
