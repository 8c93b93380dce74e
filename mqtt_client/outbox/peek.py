"""Reads an outbox beside the node that runs on it, without its lock and without writing."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mqtt_client.errors import PersonNeeded
from mqtt_client.outbox.schema import connect, translated


class Glance(NamedTuple):
    """What the disk says."""

    node: str
    waiting: int
    oldest_ms: int | None
    lost: int
    lost_unknown: int
    epoch: str
    next_seq: int
    state: bytes | None


def read_state(path: Path) -> bytes | None:
    """Return what the running node last wrote of itself, None where there is nothing."""
    with _opened(path) as connection:
        found = connection.execute("SELECT value FROM meta WHERE key = 'state'").fetchone()
    return bytes(found[0]) if found else None


def glance(path: Path) -> Glance:
    """Return what the outbox holds now.

    Raises:
        PersonNeeded: there is none, or it cannot be read.
    """
    if not path.exists():
        raise PersonNeeded(f"OUTBOX_PATH: there is no outbox at {str(path)!r} yet; `mqtt-node run` makes it")
    with _opened(path) as connection, translated(path):
        connection.execute("BEGIN")
        meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        (waiting,) = connection.execute("SELECT count(*) FROM readings").fetchone()
        oldest = connection.execute("SELECT time_ms FROM readings ORDER BY epoch_id, seq LIMIT 1").fetchone()
        epoch = connection.execute("SELECT epoch, next_seq FROM epochs ORDER BY id DESC LIMIT 1").fetchone()
        connection.execute("ROLLBACK")
    return Glance(
        str(meta.get("node", "")),
        waiting,
        oldest[0] if oldest else None,
        int(meta.get("lost", 0)),
        int(meta.get("lost_unknown", 0)),
        epoch[0] if epoch else "",
        epoch[1] if epoch else 1,
        meta.get("state"),
    )


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(path, read_only=True)
    try:
        yield connection
    finally:
        connection.close()
