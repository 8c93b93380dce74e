"""A burst on its way into the store: what its transaction has gathered so far, and has to write at its end."""

from functools import partial
from itertools import repeat
from operator import itemgetter

import msgspec
from sqlalchemy import Connection

from bridge import dead_letters
from bridge.store import bulk, rollups, sources
from bridge.store.bulk import Row
from bridge.store.schema import CLOCKS
from bridge.store.sources import Source
from mqtt_client.reading import MILLISECOND, UNIX_EPOCH, Reading

_CLOCK_INDEX = {name: index for index, name in enumerate(CLOCKS)}
_encode_values = msgspec.json.Encoder().encode
_as_row = partial(tuple.__new__, Row)  # a named tuple's own constructor takes three times as long
_TIME_MS = itemgetter(Row._fields.index("time_ms"))

_NOTE_NEWEST = (
    "UPDATE nodes SET last_time_ms = ?, last_received_ms = ?, last_sensor = ?, last_values = ? "
    "WHERE id = ? AND (last_time_ms IS NULL OR last_time_ms <= ?)"
)


class Burst:
    """One transaction's readings, and the sources that it touches.

    Attributes:
        connection: its transaction.
        at_ms: when it came.
        rows: its new readings.
        touched: sources of which a receipt is due.
        repeats: readings that the store had already.
        room: for dead letters of strangers.
    """

    __slots__ = ("_known", "_newest", "at_ms", "connection", "repeats", "room", "rows", "touched")

    def __init__(self, connection: Connection, at_ms: int) -> None:
        self.connection = connection
        self.at_ms = at_ms
        self.rows: list[Row] = []
        self.touched: dict[Source, None] = {}
        self.repeats = 0
        self.room = dead_letters.Room()
        self._newest: dict[int, Row] = {}
        self._known: dict[tuple[int, int], Row] = {}

    def row(self, source: Source, reading: Reading) -> Row:
        """Return the row of a reading."""
        return Row(
            source.id,
            source.node_id,
            reading.seq,
            reading.sensor,
            reading.time_ms,
            _CLOCK_INDEX[reading.clock],
            _encode_values(reading.values).decode(),
            self.at_ms,
        )

    def take(self, source: Source, row: Row) -> bool:
        """Take a row in; return False when its number is a repeat."""
        self.touched[source] = None
        if not source.commit(row.seq):
            self.repeats += 1
            return False
        self.rows.append(row)
        self._note_newest(row)
        return True

    def take_run(self, source: Source, readings: list[Reading]) -> bool:
        """Take readings of one source in if all are new and in order; else return False and take none.

        Column by column: a list at once costs a third of what its elements cost one by one.
        """
        seqs = [reading.seq for reading in readings]
        if not source.commit_run(seqs):
            return False
        self.touched[source] = None
        columns = (
            repeat(source.id),
            repeat(source.node_id),
            seqs,
            [reading.sensor for reading in readings],
            [(reading.time - UNIX_EPOCH) // MILLISECOND for reading in readings],
            [_CLOCK_INDEX[reading.clock] for reading in readings],
            [_encode_values(reading.values).decode() for reading in readings],
            repeat(self.at_ms),
        )
        rows: list[Row] = list(map(_as_row, zip(*columns, strict=False)))  # ends with the shortest
        self.rows += rows
        self._note_newest(max(rows, key=_TIME_MS))
        return True

    def _note_newest(self, row: Row) -> None:
        known = self._newest.get(row.node_id)
        if known is None or row.time_ms >= known.time_ms:
            self._newest[row.node_id] = row

    def content(self, row: Row) -> tuple[object, ...] | None:
        """Return what the burst's own row of the same identity says, None where it has none."""
        for one in self.rows[len(self._known) :]:  # made when repeats come, at one look for each row
            self._known[one.source_id, one.seq] = one
        twin = self._known.get((row.source_id, row.seq))
        return (twin.sensor, twin.time_ms, twin.clock, twin.values) if twin else None

    def save(self) -> None:
        """Write everything, at the end of the transaction."""
        if self.rows:
            bulk.insert_readings(self.connection, self.rows)
            rollups.queue(self.connection, self.rows)
        sources.save(self.connection, self.touched)
        self.room.save(self.connection)
        bulk.run(
            self.connection,
            _NOTE_NEWEST,
            [
                (row.time_ms, row.received_ms, row.sensor, row.values, row.node_id, row.time_ms)
                for row in self._newest.values()
            ],
        )
