"""Takes from a damaged outbox what can still be read, into a new file beside it.

First through SQLite, from both ends of the table; where that meets damage, the
bytes of the file and its journal are searched for readings, which name
themselves. That may bring back readings that were settled already: the bridge
knows them as repeats. What else was there is told as lost with an unknown
number, under the old epoch. The interval that a command has set goes along.

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
STATE = re.compile(rb'\{"time_ms":(\d{1,16}),"interval":(null|[0-9.e+-]{1,25})')
"""How the node's state begins (health.py): where nothing of it can be read but this, this is kept."""
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
                    book.keep_interval(source)
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
        self._needs_state = False
        self._state_ms = 0

    def copy(self, path: Path) -> bool:
        """Copy what SQLite can read; return whether that was all."""
        self._needs_state = True
        try:
            source = connect(path)
        except OutboxDamaged:
            return False
        try:
            whole = [
                self._copy_meta(source),
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

    def _copy_meta(self, source: sqlite3.Connection) -> bool:
        """Copy the counts of what was lost, and the state where it is of this node."""
        try:
            owned = source.execute("SELECT 1 FROM meta WHERE key = 'node' AND value = ?", (self._node,)).fetchone()
        except sqlite3.DatabaseError:
            return False
        self._needs_state = False
        state = "SELECT key, value FROM meta WHERE key = 'state'"
        whole = not owned or self._copy_table(source, state, "meta VALUES (?, ?)")
        counts = "SELECT key, value FROM meta WHERE key LIKE 'lost%'"
        return self._copy_table(source, counts, "meta VALUES (?, ?)") and whole

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

    def keep_interval(self, source: Path) -> None:
        """Take the newest interval that is found in the bytes of a file, where the state itself was unreadable."""
        for found in _search(source, STATE) if self._needs_state else ():
            if int(found[1]) >= self._state_ms:
                self._state_ms = int(found[1])
                self._target.execute("INSERT OR REPLACE INTO meta VALUES ('state', ?)", (found[0] + b"}",))

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
    for match in _search(path, READING):
        try:
            yield decode(match[0]), match[0]
        except InvalidReading:
            continue


def _search(path: Path, pattern: re.Pattern[bytes]) -> Iterator[re.Match[bytes]]:
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
        yield from pattern.finditer(content)


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
