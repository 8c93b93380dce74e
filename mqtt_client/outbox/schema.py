"""The outbox's tables, and the one way to its file.

WAL with synchronous FULL: a commit that returned is on the card. What a power
cut leaves behind is the last commit, whole.
"""

import secrets
import sqlite3
import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mqtt_client.errors import OutboxDamaged, PersonNeeded, StorageFull

VERSION = 1

TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS epochs (
    id INTEGER PRIMARY KEY,
    epoch TEXT NOT NULL UNIQUE,
    next_seq INTEGER NOT NULL,
    published_through INTEGER NOT NULL, -- up to here the broker acknowledged all, at least
    clean_from INTEGER,                 -- from here on nothing was ever published; null: that is not certain
    reference_ms INTEGER                -- the last reading's time, which a plausible clock is not behind
);
CREATE TABLE IF NOT EXISTS boots (id INTEGER PRIMARY KEY, boot TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS readings (
    epoch_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    payload BLOB NOT NULL,              -- as it goes over the wire
    time_ms INTEGER NOT NULL,
    boot_id INTEGER NOT NULL,
    monotonic_ms INTEGER NOT NULL,
    held INTEGER NOT NULL,              -- waits for the clock; its payload may still change
    PRIMARY KEY (epoch_id, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS held_readings ON readings (epoch_id, seq) WHERE held;
CREATE TABLE IF NOT EXISTS losses (
    id INTEGER PRIMARY KEY,
    epoch_id INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER,                       -- null: an unknown number
    reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS imported (entry BLOB PRIMARY KEY) WITHOUT ROWID;
"""


def lock_of(path: Path) -> Path:
    """Return the lock file of an outbox, which the node holds for as long as it runs."""
    return path.with_name(path.name + ".lock")


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file, without a transaction of the driver's own.

    Raises:
        PersonNeeded: it cannot be opened.
        OutboxDamaged: it is no database.
    """
    if path.is_dir():
        raise PersonNeeded(f"OUTBOX_PATH: {str(path)!r} was given, which is a folder; allowed is a file in it")
    mode = "ro" if read_only else "rwc"
    with translated(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA busy_timeout = 10000")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not read_only:
                for pragma in (
                    "journal_mode = WAL",
                    "synchronous = FULL",
                    "secure_delete = OFF",
                    "cache_size = -1024",
                    "wal_autocheckpoint = 100",  # pages: a small journal leaves a nearly full card its last room
                ):
                    connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate SQLite's errors into ours."""
    try:
        yield
    except sqlite3.DatabaseError as exc:
        text = str(exc)
        if any(sign in text for sign in ("malformed", "not a database", "unsupported file format", "corrupt")):
            raise OutboxDamaged(f"OUTBOX_PATH: {str(path)!r} is damaged ({text})") from exc
        if "full" in text or "disk I/O" in text or "locked" in text:
            raise StorageFull(f"the outbox {str(path)!r} cannot be written: {text}") from exc
        raise PersonNeeded(f"OUTBOX_PATH: {str(path)!r} cannot be used ({text})") from exc


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit a block, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def new_epoch_name() -> str:
    """Return a random name for an epoch."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
