"""The readings that are asked for, from the store and the archives together, each once, sorted by time.

Everything happens in one transaction of the store, which sees one moment
however long it takes; files are opened when their time has come.
"""

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection, select

from bridge.export.files import readings_of
from bridge.export.selection import Selection
from bridge.export.whereabouts import Place, Whereabouts
from bridge.store import schema
from bridge.store.schema import CLOCKS
from bridge.store.shelf import Stored
from mqtt_client.reading import reading_id

PAGE_ROWS = 5000

_values = msgspec.json.Decoder(dict[str, float])


class Readings:
    """What is asked for; it can be read several times, and is the same each time."""

    def __init__(
        self, connection: Connection, whereabouts: Whereabouts, selection: Selection, zone: ZoneInfo
    ) -> None:
        self._connection = connection
        self._whereabouts = whereabouts
        self._selection = selection
        self._zone = zone
        nodes, sources = schema.nodes.c, schema.sources.c
        query = select(sources.id, nodes.name, sources.epoch).join_from(schema.sources, schema.nodes)
        self._names = {row.id: (row.name, row.epoch) for row in connection.execute(query)}

    def pages(self) -> Iterator[list[Stored]]:
        """Read them in lists of PAGE_ROWS.

        Raises:
            NoArchive: a file is not what it was when it was recorded.
            OSError: a file cannot be read.
        """
        taken = filter(None, map(self._selection.take, self._merged()))
        while page := list(islice(taken, PAGE_ROWS)):
            yield page

    def _merged(self) -> Iterator[Stored]:
        """Merge all places by time; those that begin later are opened later."""
        waiting = sorted(self._whereabouts.places, key=_first_ms, reverse=True)
        heap: list[tuple[int, int, Stored, Iterator[Stored]]] = []
        number = 0
        while waiting or heap:
            while waiting and (not heap or _first_ms(waiting[-1]) <= heap[0][0]):
                opened = self._open(waiting.pop())
                reading = next(opened, None)
                if reading is not None:
                    number += 1
                    heapq.heappush(heap, (reading.time_ms, number, reading, opened))
            if not heap:
                continue
            _, key, reading, source = heap[0]
            yield reading
            following = next(source, None)
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (following.time_ms, key, following, source))

    def _open(self, place: Place) -> Iterator[Stored]:
        if place.path is None:
            return self.rows(place.archive_id)
        return self._within(readings_of(self._whereabouts.path_of(place), self._zone))

    def _within(self, readings: Iterable[Stored]) -> Iterator[Stored]:
        """Pass over what is before the range, and end after it."""
        for reading in readings:
            if reading.time_ms >= self._selection.to_ms:
                return
            if reading.time_ms >= self._selection.from_ms:
                yield reading

    def rows(self, archive_id: int | None) -> Iterator[Stored]:
        """Read the store's rows of an archive, or of none yet, within the range; of all nodes, with all values."""
        columns = schema.readings.c
        query = (
            select(columns.source_id, columns.seq, columns.sensor, columns.time_ms, columns.clock, columns["values"])
            .where(
                columns.archive_id == archive_id if archive_id is not None else columns.archive_id.is_(None),
                columns.time_ms >= self._selection.from_ms,
                columns.time_ms < self._selection.to_ms,
            )
            .order_by(columns.time_ms, columns.id)
            .execution_options(yield_per=PAGE_ROWS)
        )
        for source_id, seq, sensor, time_ms, clock, values in self._connection.execute(query):
            node, epoch = self._names[source_id]
            yield Stored(node, sensor, reading_id(node, epoch, seq), time_ms, CLOCKS[clock], _values.decode(values))


def _first_ms(place: Place) -> int:
    return -(1 << 62) if place.first_ms is None else place.first_ms
