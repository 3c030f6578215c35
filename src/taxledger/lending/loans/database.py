"""The database of loans: SQLite in a file by default, PostgreSQL by its URL.

What durability rests on, checked when it is opened and not assumed:

* SQLite: write-ahead log and ``synchronous=FULL``: a commit returns once the log is synced. Writers begin with
  ``BEGIN IMMEDIATE``, so that none fails half-way because another was faster.
* PostgreSQL: ``fsync`` on, and ``synchronous_commit`` not off for this session: a commit returns once the server's
  log is synced.
* Migrations run in one transaction, one process at a time: a crash leaves the old schema or the new one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from taxledger.ledger.errors import FormatError, UnavailableError
from taxledger.ledger.hashing import domain_hash
from taxledger.lending.loans.holding import hold_file

__all__ = ["Database"]

MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_S = 30
_POLL_S = 0.01
_WRITES = "taxledger_writes"


class Database:
    """Connections, transactions and locks of one database; raises UnavailableError where it fails."""

    def __init__(self, url: str) -> None:
        """Opens the database and brings its tables to the newest revision.

        Args:
            url: of SQLAlchemy: ``sqlite:////folder/loans.sqlite`` or ``postgresql+psycopg://…``.

        Raises:
            FormatError: another kind of database, one in memory, or one that a newer version has made.
            UnavailableError: it can't be opened, or does not promise what durability needs.
        """
        try:
            parsed = sa.make_url(url)
        except sa.exc.ArgumentError as error:
            raise FormatError("expected the URL of a database") from error
        self._locks: Path | None = None
        if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
            if not parsed.database or parsed.database == ":memory:":
                raise FormatError("expected a database in a file, got one in memory")
            self._locks = Path(f"{parsed.database}.locks")
            _make_private(Path(parsed.database))
            self._engine = sa.create_engine(parsed, connect_args={"timeout": _BUSY_S})
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        elif parsed.drivername in ("postgresql", "postgresql+psycopg"):
            try:
                self._engine = sa.create_engine(
                    parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True
                )
            except ModuleNotFoundError as error:
                raise FormatError("PostgreSQL needs taxledger[lending-postgres]") from error
        else:
            raise FormatError(f"expected sqlite or postgresql+psycopg, got {parsed.drivername}")
        self._lock_engine = sa.create_engine(
            self._engine.url, poolclass=sa.pool.NullPool, isolation_level="AUTOCOMMIT"
        )
        try:
            with unavailable():
                self._check_durable()
                with self.hold("schema"):
                    self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()
        self._lock_engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads."""
        with unavailable(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction; when the block has ended without an error, what it wrote is durable."""
        with unavailable(), self._engine.connect() as connection:
            writer = connection.execution_options(**{_WRITES: True})
            with writer.begin():
                yield writer

    @contextmanager
    def hold(self, name: str, *, wait_s: int = _BUSY_S) -> Iterator[None]:
        """Hold a name against every other worker on this database until the block ends.

        Raises:
            UnavailableError: another holds it all that time.
        """
        until = time.monotonic() + wait_s
        while True:
            with ExitStack() as stack:
                if stack.enter_context(self._try_hold(name)):
                    yield
                    return
            if time.monotonic() >= until:
                raise UnavailableError(f"{name}: another worker is at it")
            time.sleep(_POLL_S)

    @contextmanager
    def _try_hold(self, name: str) -> Iterator[bool]:
        if self._locks is not None:
            with hold_file(self._locks, name) as held:
                yield held
            return
        number = int.from_bytes(domain_hash("loan_hold", name.encode())[:8], "big", signed=True)
        with ExitStack() as stack:
            with unavailable():
                connection = stack.enter_context(self._lock_engine.connect())
                held = connection.execute(sa.select(sa.func.pg_try_advisory_lock(number))).scalar_one()
            try:
                yield bool(held)
            finally:
                # The end of the session lets go too, but only when the server has seen it.
                with suppress(sa.exc.DBAPIError):
                    if held:
                        connection.execute(sa.select(sa.func.pg_advisory_unlock(number)))

    def _check_durable(self) -> None:
        if self._locks is not None:
            return
        with self._engine.begin() as connection:
            for name in ("fsync", "synchronous_commit"):
                if connection.exec_driver_sql(f"SHOW {name}").scalar_one() == "off":
                    raise UnavailableError(f"expected a PostgreSQL server with {name}, got it off")

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        script = ScriptDirectory.from_config(config)
        with self._engine.begin() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": "loans_revision"})
            present = context.get_current_revision()
        if present == script.get_current_head():
            return
        if present is not None and present not in {each.revision for each in script.walk_revisions()}:
            raise FormatError(f"expected a database of this version or an older one, got revision {present}")
        with self.writing() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _make_private(path: Path) -> None:
    """The file, for its owner alone: enterprises' plain data is in it. SQLite gives what stands beside it its mode."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(handle).st_mode & 0o077:  # of an older version, which left it to the umask
                os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    except OSError as error:
        raise UnavailableError(f"the database of loans: {error.strerror or error}") from error


@contextmanager
def unavailable() -> Iterator[None]:
    """What a database reports when it is not there, busy or gone, as UnavailableError; a commit that was under way
    may have happened or not, and whoever asks again finds out.
    """
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        if isinstance(error, sa.exc.IntegrityError | sa.exc.ProgrammingError | sa.exc.DataError):
            raise
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise UnavailableError(f"the database of loans: {reason:.200}") from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would begin transactions by itself, and not for DDL
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "trusted_schema=OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
