"""Takes from a damaged outbox what can still be read, into a new file beside it.

First through SQLite, from both ends of the table; where that meets damage, the
bytes of the file and its journal are searched for readings, which name
themselves. That may bring back readings that were settled already: the bridge
knows them as repeats. What else was there is told as lost with an unknown
number, under the old epoch.

The new file is complete when it has its name ``….salvaged``; a kill before
leaves the damaged one as it was, a kill after is finished by the next start.
"""

import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

from mqtt_client.errors import InvalidReading, OutboxDamaged
from mqtt_client.outbox.schema import TABLES, VERSION, connect, new_epoch_name, transaction
from mqtt_client.reading import Reading, decode

log = logging.getLogger("outbox")

READING = re.compile(rb'\{"v":1,"node":"[^{}]{1,400}\{[^{}]{1,4000}\}\}')
REASON = "the outbox was damaged"
INSERT = (
    "INSERT INTO readings VALUES (?, ?, ?, ?, 0, 0, 0) ON CONFLICT DO UPDATE SET payload = excluded.payload, "
    'time_ms = excluded.time_ms WHERE instr(readings.payload, CAST(\'"clock":"corrected"\' AS BLOB)) = 0'
)


def replace_damaged(path: Path, node: str) -> Path:
    """Set the damaged outbox aside and put what can be read of it in its place; return where it went."""
    _salvage(path, node)
    return finish_replacing(path)


def finish_replacing(path: Path) -> Path:
    """Put the salvaged file in the damaged one's place; return where that went."""
    aside = _free_name(path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"))
    for ending in ("-wal", "-shm", ""):
        source = path.with_name(path.name + ending)
        if source.exists():
            source.rename(aside.with_name(aside.name + ending))
    salvaged_name(path).rename(path)
    _sync_folder(path.parent)
    return aside


def salvaged_name(path: Path) -> Path:
    """Return the name under which the new file is complete."""
    return path.with_name(path.name + ".salvaged")


def _salvage(path: Path, node: str) -> None:
    draft = path.with_name(path.name + ".salvaging")
    draft.unlink(missing_ok=True)
    target = sqlite3.connect(draft, isolation_level=None)
    try:
        target.executescript(TABLES)
        with transaction(target):
            book = _Book(target, node)
            if not book.copy(path):
                for source in (path, path.with_name(path.name + "-wal")):
                    for reading, payload in _carve(source):
                        book.put(reading, payload)
                book.tell_unreadable()
            book.finish()
        (number,) = target.execute("SELECT count(*) FROM readings").fetchone()
    finally:
        target.close()
    log.warning("salvaged %d readings from the damaged outbox %s", number, path)
    with draft.open("rb") as stream:
        os.fsync(stream.fileno())
    draft.rename(salvaged_name(path))
    _sync_folder(path.parent)


class _Book:
    """The new file while it is written."""

    def __init__(self, target: sqlite3.Connection, node: str) -> None:
        self._target = target
        self._node = node
        self._ids: dict[str, int] = {}

    def copy(self, path: Path) -> bool:
        """Copy what SQLite can read; return whether that was all."""
        try:
            source = connect(path)
        except OutboxDamaged:
            return False
        try:
            whole = [
                self._copy_table(source, "SELECT key, value FROM meta WHERE key LIKE 'lost%'", "meta VALUES (?, ?)"),
                self._copy_table(source, "SELECT entry FROM imported", "imported VALUES (?)"),
                self._copy_epochs(source),
            ]
            whole += [self._copy_readings(source, "ASC"), self._copy_readings(source, "DESC")]
            return all(whole) and self._is_sound(source)
        finally:
            source.close()

    def _is_sound(self, source: sqlite3.Connection) -> bool:
        try:
            return bool(source.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
        except sqlite3.DatabaseError:
            return False

    def _copy_table(self, source: sqlite3.Connection, query: str, into: str) -> bool:
        try:
            for row in source.execute(query):
                self._target.execute(f"INSERT OR REPLACE INTO {into}", row)  # texts of ours
        except sqlite3.DatabaseError:
            return False
        return True

    def _copy_epochs(self, source: sqlite3.Connection) -> bool:
        epochs = "SELECT id, epoch, next_seq, published_through, NULL, reference_ms FROM epochs"
        whole = self._copy_table(source, epochs, "epochs VALUES (?, ?, ?, ?, ?, ?)")
        self._ids = {name: row_id for row_id, name in self._target.execute("SELECT id, epoch FROM epochs")}
        losses = "SELECT id, epoch_id, first, last, reason FROM losses"
        return self._copy_table(source, losses, "losses VALUES (?, ?, ?, ?, ?)") and whole

    def _copy_readings(self, source: sqlite3.Connection, order: str) -> bool:
        try:
            for (payload,) in source.execute(
                f"SELECT payload FROM readings ORDER BY epoch_id {order}, seq {order}"  # noqa: S608  # texts of ours
            ):
                try:
                    self.put(decode(payload), payload)
                except (InvalidReading, TypeError):
                    return False
        except sqlite3.DatabaseError:
            return False
        return True

    def put(self, reading: Reading, payload: bytes) -> None:
        """Take in one reading of this node."""
        if reading.node == self._node:
            row = (self._epoch(reading.epoch), reading.seq, payload, reading.time_ms)
            self._target.execute(INSERT, row)

    def _epoch(self, name: str) -> int:
        if name not in self._ids:
            cursor = self._target.execute("INSERT INTO epochs VALUES (NULL, ?, 1, 0, NULL, NULL)", (name,))
            self._ids[name] = cursor.lastrowid or 0
        return self._ids[name]

    def tell_unreadable(self) -> None:
        """Tell an unknown number as lost in every epoch that the file may have held, in one of its own if none."""
        if not self._ids:
            self._epoch(new_epoch_name())
        query = (
            "SELECT max(1 + coalesce((SELECT max(seq) FROM readings WHERE epoch_id = id), 0), next_seq) "
            "FROM epochs WHERE id = ?"
        )
        for epoch_id in self._ids.values():
            (first,) = self._target.execute(query, (epoch_id,)).fetchone()
            self._target.execute("INSERT INTO losses VALUES (NULL, ?, ?, NULL, ?)", (epoch_id, first, REASON))
            self._target.execute(
                "INSERT INTO meta VALUES ('lost_unknown', 1) ON CONFLICT DO UPDATE SET value = value + 1"
            )

    def finish(self) -> None:
        """Close the old epochs and begin a new one."""
        self._target.execute(
            "UPDATE epochs SET next_seq = max(next_seq, "
            "1 + coalesce((SELECT max(seq) FROM readings WHERE epoch_id = id), 0), "
            "1 + coalesce((SELECT max(first) FROM losses WHERE epoch_id = epochs.id), 0))"
        )
        self._target.execute(
            "INSERT INTO epochs SELECT NULL, ?, 1, 0, 1, max(reference_ms) FROM epochs", (new_epoch_name(),)
        )
        meta = [("node", self._node), ("version", VERSION)]
        self._target.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta)


def _carve(path: Path) -> Iterator[tuple[Reading, bytes]]:
    """Search the bytes of a file for readings."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
        for match in READING.finditer(content):
            try:
                yield decode(match[0]), match[0]
            except InvalidReading:
                continue


def _free_name(wanted: Path) -> Path:
    number = 1
    name = wanted
    while name.exists() or name.with_name(name.name + "-wal").exists():
        number += 1
        name = wanted.with_name(f"{wanted.name}_{number}")
    return name


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
