"""The table ``epochs``, and how an epoch's sets come back from the disk at the start."""

import sqlite3

from mqtt_client.intervals import Intervals
from mqtt_client.outbox.epoch import Epoch
from mqtt_client.outbox.schema import new_epoch_name


def load(connection: sqlite3.Connection) -> tuple[list[Epoch], int | None]:
    """Return the epochs, oldest first, and the time of the last reading."""
    epochs: list[Epoch] = []
    reference_ms: int | None = None
    query = "SELECT id, epoch, next_seq, published_through, clean_from, reference_ms FROM epochs ORDER BY id"
    for epoch_id, name, next_seq, through, clean_from, at_ms in connection.execute(query).fetchall():
        epoch = Epoch(epoch_id, name, next_seq, next_seq if clean_from is None else clean_from)
        epoch.published.add(1, through)
        epoch.rows = _load_rows(connection, epoch_id)
        epoch.held = load_held(connection, epoch_id)
        epochs.append(epoch)
        reference_ms = at_ms
    return epochs, reference_ms


def load_held(connection: sqlite3.Connection, epoch_id: int) -> Intervals:
    """Return which readings of an epoch wait for the clock."""
    query = "SELECT seq FROM readings WHERE epoch_id = ? AND held ORDER BY seq"
    return Intervals((seq, seq) for (seq,) in connection.execute(query, (epoch_id,)))


def _load_rows(connection: sqlite3.Connection, epoch_id: int) -> Intervals:
    query = "SELECT count(*), min(seq), max(seq) FROM readings WHERE epoch_id = ?"
    count, first, last = connection.execute(query, (epoch_id,)).fetchone()
    if not count:
        return Intervals()
    if last - first + 1 == count:
        return Intervals([(first, last)])
    query = "SELECT seq FROM readings WHERE epoch_id = ? ORDER BY seq"
    return Intervals((seq, seq) for (seq,) in connection.execute(query, (epoch_id,)))


def insert(connection: sqlite3.Connection) -> Epoch:
    """Begin an epoch under a new random name, within the caller's transaction."""
    name = new_epoch_name()
    cursor = connection.execute(
        "INSERT INTO epochs (epoch, next_seq, published_through, clean_from) VALUES (?, 1, 0, 1)", (name,)
    )
    assert cursor.lastrowid is not None
    return Epoch(cursor.lastrowid, name, 1, 1)


def save(
    connection: sqlite3.Connection, epoch: Epoch, new: int, *, is_publishing: bool, reference_ms: int | None
) -> None:
    """Write an epoch's row within the caller's transaction; ``new`` readings of it are in that transaction too."""
    last = epoch.next_seq - 1 - new
    if epoch.held.first is not None:
        last = min(last, epoch.held.first - 1)
    missing = epoch.unpublished(epoch.floor, last)
    through = missing[0][0] - 1 if missing else last
    clean_from = None if is_publishing else epoch.certain_from
    connection.execute(
        "UPDATE epochs SET next_seq = ?, published_through = ?, clean_from = ?, reference_ms = ? WHERE id = ?",
        (epoch.next_seq, through, clean_from, reference_ms, epoch.id),
    )


def forget(connection: sqlite3.Connection, epoch: Epoch) -> None:
    """Delete all of an epoch within the caller's transaction."""
    connection.execute("DELETE FROM readings WHERE epoch_id = ?", (epoch.id,))
    connection.execute("DELETE FROM losses WHERE epoch_id = ?", (epoch.id,))
    connection.execute("DELETE FROM epochs WHERE id = ?", (epoch.id,))
