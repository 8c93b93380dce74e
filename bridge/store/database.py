"""The store's database: opened, brought to this release's tables, and locked for a transaction.

SQLite runs in WAL mode with synchronous FULL: a commit that returned is on
the disk. A write transaction takes the write lock when it begins, so it never
fails half-way because another process was faster.
"""

import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from bridge.errors import StoreBusy, StoreDamaged, StoreUnusable
from bridge.store import schema
from mqtt_client.errors import StorageFull

BUSY_TIMEOUT_S = 30.0
WRITE_LOOK_S = 0.0005
"""Between two looks at the write lock. SQLite's own waiting sleeps longer each time, up to 100 ms, so that of two
busy processes one starves."""
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 4000",  # pages, 16 MB: a page that many commits change is written to the database once
    "cache_size = -8192",  # KiB a connection; with 32 MiB ten thousand nodes were no faster
    "foreign_keys = OFF",
)
HEAD = "0005"
"""The newest migration; a test compares it with the folder ``migrations``."""


Fence = Callable[[Connection], None]


class Store:
    """An open store; ``id`` is random, made with it, and told to every node."""

    def __init__(self, engine: Engine, store_id: str, fence: Fence | None = None) -> None:
        self.engine = engine
        self.id = store_id
        self._writing = engine.execution_options(writes=True)
        self._reading = engine if self.is_sqlite else engine.execution_options(isolation_level="REPEATABLE READ")
        self._fence = fence

    def fenced(self, fence: Fence) -> "Store":
        """Return the same store for a job: every write transaction calls fence last, which may forbid the commit."""
        return Store(self.engine, self.id, fence)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Run one write transaction: committed when the block ends, rolled back when it raises.

        Raises:
            StorageFull: the disk is full; nothing of the block was committed.
            StoreBusy: another process held the write lock for too long.
        """
        with translated(), self._writing.begin() as connection:
            yield connection
            if self._fence is not None and connection.in_transaction():
                self._fence(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Run one read transaction: all its queries see the same moment."""
        with translated(), self._reading.begin() as connection:
            yield connection

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a file of this machine."""
        return self.engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """Translate the database's errors into ours."""
    try:
        yield
    except DBAPIError as exc:
        text = str(exc.orig).strip()
        if not isinstance(exc.orig, sqlite3.Error):
            _raise_postgres(text, getattr(exc.orig, "sqlstate", None), exc)
        if "disk is full" in text or "disk I/O error" in text or "No space left" in text:
            raise StorageFull(f"the store's disk is full or failing: {text}") from exc
        if "locked" in text or "busy" in text:
            raise StoreBusy(f"the store is busy: {text}") from exc
        if is_damage(text):
            raise StoreDamaged(f"the store is damaged: {text}") from exc
        raise


def _raise_postgres(text: str, code: str | None, exc: DBAPIError) -> None:
    """Translate by SQLSTATE (PostgreSQL documentation, appendix A); return where it is a fault of ours."""
    if code == "53100":
        raise StorageFull(f"the store's disk is full: {text}") from exc
    if code is None or code[:2] in ("08", "40", "53", "55", "57"):  # connection, rollback, resources, locks, operator
        raise StoreBusy(f"the store cannot be used now: {text}") from exc


def is_damage(text: str) -> bool:
    """Tell whether a message of SQLite's says that the file is corrupt."""
    return any(sign in text for sign in ("malformed", "not a database", "unsupported file format", "corrupt"))


def sqlite_path(url: str) -> Path | None:
    """Return the file of a SQLite store, None for another database."""
    parsed = make_url(url)
    return Path(parsed.database) if parsed.drivername.startswith("sqlite") and parsed.database else None


def open_store(url: str, *, create: bool = True) -> Store:
    """Open the store, with the tables of this release.

    Raises:
        StoreUnusable: it cannot be opened, is missing while create is false, or is of a newer release.
        StoreDamaged: it is corrupt.
        StorageFull: the disk is full.
    """
    file = sqlite_path(url)
    if file is not None:
        if create:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise StoreUnusable(f"STORE_URL: cannot make the folder {str(file.parent)!r}: {exc}") from exc
        elif not file.exists():
            raise StoreUnusable(f"STORE_URL: there is no store at {str(file)!r} yet; `mqtt-bridge run` makes it")
    try:
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S} if file is not None else {})
    except ImportError as exc:
        raise StoreUnusable(
            "STORE_URL: PostgreSQL needs psycopg: install this project with [bridge,postgres]"
        ) from exc
    if file is not None:
        _set_up_sqlite(engine)
    try:
        with translated():
            _migrate(engine)
            return Store(engine, _store_id(engine))
    except OperationalError as exc:
        raise StoreUnusable(f"STORE_URL: cannot open the store ({exc.orig})") from exc


def now_ms() -> int:
    """Return the wall clock in milliseconds since 1970-01-01T00:00:00Z."""
    return time.time_ns() // 1_000_000


def _set_up_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy begins, not the driver
        for pragma in PRAGMAS:  # SQLite itself does not wait to make a new file a WAL one
            _execute_when_free(connection, f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("writes", False):
            _begin_writing(connection)
        else:
            connection.exec_driver_sql("BEGIN")


def _begin_writing(connection: Connection) -> None:
    """Begin with SQLite's write lock, waiting for it as long as BUSY_TIMEOUT_S."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        _execute_when_free(driver, "BEGIN IMMEDIATE")
    except sqlite3.Error:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # so that its error is SQLAlchemy's
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")


def _execute_when_free(driver: sqlite3.Connection, statement: str) -> None:
    """Execute a statement that needs a lock which another process may have; give up after BUSY_TIMEOUT_S."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            driver.execute(statement)
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(WRITE_LOOK_S)


def _migrate(engine: Engine) -> None:
    """Bring the tables to HEAD; Alembic is loaded only when they are not there yet."""
    with engine.connect() as connection:
        if inspect(connection).has_table("alembic_version"):
            version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            if version == HEAD:
                return
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it would tell of itself at a first start
    from bridge.store.migrate import upgrade  # heavy, and needed once a release

    upgrade(engine)


def _store_id(engine: Engine) -> str:
    """Return the store's id, making it with a new store."""
    query = select(schema.meta.c.value).where(schema.meta.c.key == "store_id")
    with engine.begin() as connection:
        known = connection.scalar(query)
    if known is None:
        dialect_insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
        with engine.execution_options(writes=True).begin() as connection:
            made = dialect_insert(schema.meta).values(key="store_id", value=secrets.token_hex(8))
            connection.execute(made.on_conflict_do_nothing())  # another process may have been faster
            known = connection.execute(query).scalar_one()
    return str(known)
