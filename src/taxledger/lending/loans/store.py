"""Loans as they are stored: the current state, every event, every file, each step in one transaction.

    store = open_store("sqlite:////folder/loans.sqlite")
    with store.hold(loan_id):
        loan = store.load(loan_id)
        loan = store.append(loan, event, files)

Invariants:

* ``append`` is the only write. State, event and files of a step become durable together, or not at all.
* It compares and sets: the row must still be at the loan's ``sequence``, and takes the row's lock with it. Of two
  workers that go on from the same loan, one is told to read again.
* ``load`` verifies the chain of events against the head in the row, and folds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice

import sqlalchemy as sa

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import (
    FormatError,
    LimitError,
    RefusedError,
    UnavailableError,
    VerificationError,
)
from taxledger.ledger.hashing import sha256
from taxledger.lending.loans.contract import check_loan_id
from taxledger.lending.loans.database import Database
from taxledger.lending.loans.events import Event, verify_chain
from taxledger.lending.loans.history import fold
from taxledger.lending.loans.loan import Loan
from taxledger.lending.loans.schema import EVENTS, FILES, LOANS

__all__ = ["LoanStore", "LoanSummary", "open_store"]

LIST_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanSummary:
    """A loan in a list; ``line`` and ``principal`` in minor units, ``currency`` None before it is accepted."""

    id: str
    state: str
    active: bool
    subject: str
    product: str
    opened_ms: int
    changed_ms: int
    currency: str | None
    line: int
    principal: int


class LoanStore:
    """The loans of one database. Threads may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Closes all connections."""
        self._database.close()

    def hold(self, loan: str, *, wait_s: int = 30) -> AbstractContextManager[None]:
        """Hold a loan against every other worker.

        Raises:
            RefusedError: ``loan_unknown``: no loan can have this id. Its lock is a file that it names.
            UnavailableError: another holds it all that time.
        """
        try:
            check_loan_id(loan)
        except FormatError as error:
            raise RefusedError("loan_unknown", f"no loan {loan!r:.40}") from error
        return self._database.hold(f"loan-{loan}", wait_s=wait_s)

    def hold_subject(self, subject: str) -> AbstractContextManager[None]:
        """Hold an enterprise's loans together against every other worker; as ``hold``."""
        return self._database.hold(f"subject-{sha256(subject.encode()).hex()}")

    def find(self, loan: str) -> Loan | None:
        """The loan, None where there is none.

        Raises:
            VerificationError: ``loan_events_broken``: what is stored is not what was stored.
            UnavailableError: the database.
        """
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(LOANS.c.sequence, LOANS.c.head).where(LOANS.c.id == loan)
            ).one_or_none()
            if row is None:
                return None
            events = self._events(connection, loan, row.sequence)
        verify_chain(events, loan)
        if not events or (events[-1].sequence, events[-1].hash) != (row.sequence, bytes(row.head)):
            raise VerificationError("loan_events_broken", f"{loan}: events are missing at the end")
        return fold(events)

    def load(self, loan: str) -> Loan:
        """As ``find``. Raises RefusedError ``loan_unknown`` where there is none."""
        found = self.find(loan)
        if found is None:
            raise RefusedError("loan_unknown", f"no loan {loan!r:.40}")
        return found

    def events(self, loan: str) -> tuple[Event, ...]:
        """All events of a loan; none where there is no loan. Not verified: ``find`` does."""
        with self._database.reading() as connection:
            return self._events(connection, loan, limits.integer_max)

    @staticmethod
    def _events(connection: sa.Connection, loan: str, last: int) -> tuple[Event, ...]:
        rows = connection.execute(
            sa.select(EVENTS)
            .where(EVENTS.c.loan == loan, EVENTS.c.sequence <= last)
            .order_by(EVENTS.c.sequence)
        )
        return tuple(
            Event(
                loan=row.loan,
                sequence=row.sequence,
                kind=row.kind,
                key=row.key,
                at_ms=row.at_ms,
                body=bytes(row.body),
                previous=bytes(row.previous),
                hash=bytes(row.hash),
            )
            for row in rows
        )

    def by_key(self, key: str) -> tuple[str, int] | None:
        """Loan and sequence of the event with this key, None where there is none."""
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(EVENTS.c.loan, EVENTS.c.sequence).where(EVENTS.c.key == key)
            ).one_or_none()
        return None if row is None else (row.loan, row.sequence)

    def file(self, loan: str, digest: bytes) -> bytes:
        """A file of a loan by its SHA-256.

        Raises:
            VerificationError: ``loan_file_broken``: it is not there, or was changed.
        """
        with self._database.reading() as connection:
            data = connection.execute(
                sa.select(FILES.c.data).where(FILES.c.loan == loan, FILES.c.digest == digest)
            ).scalar_one_or_none()
        if data is None or sha256(bytes(data)) != digest:
            raise VerificationError(
                "loan_file_broken", f"{loan}: file {digest.hex()} is not there, or was changed"
            )
        return bytes(data)

    def append(self, loan: Loan | None, event: Event, files: Sequence[bytes] = ()) -> Loan:
        """Append an event, and what it names; returns the loan after it. When this returns, both are durable.

        Args:
            loan: as it was read; None for the first event.
            event: the next one.
            files: named in the event by their SHA-256.

        Raises:
            UnavailableError: another worker was faster, or the database: read again, nothing or all was written.
            RefusedError: ``key_used``: an event with this key exists.
            LimitError: files of more than ``limits.loan_files_bytes_max`` bytes.
        """
        if sum(map(len, files)) > limits.loan_files_bytes_max:
            raise LimitError(f"expected files of at most {limits.loan_files_bytes_max} bytes together")
        after = fold([event], loan)
        try:
            with self._database.writing() as connection:
                self._set_row(connection, loan, after, event)
                connection.execute(EVENTS.insert().values(**_event_row(event)))
                self._add_files(connection, event.loan, files)
        except sa.exc.IntegrityError as error:
            raise RefusedError("key_used", f"{event.loan}: an event with key {event.key!r} exists") from error
        return after

    @staticmethod
    def _set_row(connection: sa.Connection, loan: Loan | None, after: Loan, event: Event) -> None:
        row = _loan_row(after)
        if loan is None:
            connection.execute(LOANS.insert().values(opened_ms=event.at_ms, **row))
            return
        done = connection.execute(
            LOANS.update()
            .where(LOANS.c.id == loan.id, LOANS.c.sequence == loan.sequence, LOANS.c.head == loan.head)
            .values(**row)
        )
        if done.rowcount != 1:
            raise UnavailableError(f"{loan.id}: another worker was faster; read it again")

    @staticmethod
    def _add_files(connection: sa.Connection, loan: str, files: Sequence[bytes]) -> None:
        by_digest = {sha256(each): each for each in files}
        if not by_digest:
            return
        there = connection.execute(
            sa.select(FILES.c.digest).where(FILES.c.loan == loan, FILES.c.digest.in_(by_digest))
        ).scalars()
        for known in [bytes(each) for each in there]:
            del by_digest[known]
        for digest, data in by_digest.items():
            connection.execute(FILES.insert().values(loan=loan, digest=digest, data=data))

    def list(
        self,
        *,
        state: str | None = None,
        subject: str | None = None,
        active: bool | None = None,
        channel: str | None = None,
        limit: int = LIST_MAX,
    ) -> tuple[LoanSummary, ...]:
        """Loans, the newest first, at most ``limit``; those of a state, a subject, a channel, or that wait for the
        engine.
        """
        columns = [LOANS.c[each] for each in LoanSummary.__slots__]
        query = sa.select(*columns).order_by(LOANS.c.opened_ms.desc(), LOANS.c.id)
        for column, value in ((LOANS.c.state, state), (LOANS.c.subject, subject), (LOANS.c.active, active)):
            if value is not None:
                query = query.where(column == value)
        limit = min(limit, LIST_MAX)
        with self._database.reading() as connection:
            if channel is None:
                rows = connection.execute(query.limit(limit))
                return tuple(LoanSummary(**row._mapping) for row in rows)
            # The channel stands in the first event alone: read beside each row, until there are enough.
            first = sa.and_(EVENTS.c.loan == LOANS.c.id, EVENTS.c.sequence == 1)
            rows = connection.execute(query.add_columns(EVENTS.c.body).join(EVENTS, first))
            of_channel = (row for row in rows if canonical.decode(bytes(row.body))[3] == channel)
            return tuple(
                LoanSummary(**{name: row._mapping[name] for name in LoanSummary.__slots__})
                for row in islice(of_channel, limit)
            )


def open_store(url: str) -> LoanStore:
    """The loans of a database, made or brought to the newest schema where needed.

    Args:
        url: ``sqlite:////folder/loans.sqlite`` or ``postgresql+psycopg://…``.

    Raises:
        FormatError: another kind of database, or one that a newer version has made.
        UnavailableError: it can't be opened.
    """
    return LoanStore(Database(url))


def _loan_row(loan: Loan) -> dict[str, object]:
    contract = loan.contract
    return {
        "id": loan.id,
        "sequence": loan.sequence,
        "head": loan.head,
        "state": loan.state.value,
        "active": loan.active,
        "subject": loan.application.subject,
        "product": loan.application.product,
        "changed_ms": loan.changed_ms,
        "currency": None if contract is None else contract.offer.currency,
        "line": 0 if contract is None else contract.line,
        "principal": loan.principal,
    }


def _event_row(event: Event) -> dict[str, object]:
    return {name: getattr(event, name) for name in Event.__slots__}
