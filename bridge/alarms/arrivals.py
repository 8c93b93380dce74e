"""Readings as they are committed, each once: what an alarm is judged by.

Nothing is kept: at a start the newest rows are looked at again, and whoever
judges them knows by their times what it has seen. Rows are followed by their
numbers, which on PostgreSQL are not in the order of commits; so there what may
still be under way is looked at again, and what was seen is passed over.
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from sqlalchemy import func, select, text

from bridge.store import schema
from bridge.store.database import Store
from bridge.store.schema import CLOCKS

PAGE_ROWS = 5000
AT_START_ROWS = 20_000
COMMITS_WITHIN_S = 10.0
"""On PostgreSQL: a row that takes longer from its number to its commit is not seen."""

_PAGE = text(
    'SELECT id, node_id, sensor, time_ms, clock, received_ms, "values" FROM readings '
    "WHERE id > :after AND id <= :top AND (time_ms >= :oldest_ms OR clock = :unsynced) ORDER BY id LIMIT :rows"
)
_UNSYNCED = CLOCKS.index("unsynced")
_values = msgspec.json.Decoder(dict[str, float])


class Arrival(NamedTuple):
    """A reading that was committed."""

    node: str
    sensor: str
    time_ms: int
    unsynced: bool
    received_ms: int
    values: dict[str, float]


class Arrivals:
    """Follows the table of readings; for one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._overlap_s = 0.0 if store.is_sqlite else COMMITS_WITHIN_S
        self._nodes: dict[int, str] = {}
        self._floor = max(0, self._top() - AT_START_ROWS)
        """All that was committed at or below it was seen."""
        self._seen: set[int] = set()
        self._tops: deque[tuple[float, int]] = deque()

    def new(self, oldest_ms: int) -> Iterator[list[Arrival]]:
        """Return what was committed since the last call, in pages; what was measured before oldest_ms is left out.

        Readings of a node whose clock is not synchronised come whatever their time.
        """
        looked_at, top = time.monotonic(), self._top()
        self._floor = min(self._floor, top)  # SQLite gives the numbers of pruned rows again
        after, rows = self._floor, None
        while rows is None or len(rows) == PAGE_ROWS:
            with self._store.read() as connection:
                place = {"after": after, "top": top, "oldest_ms": oldest_ms, "unsynced": _UNSYNCED, "rows": PAGE_ROWS}
                rows = connection.execute(_PAGE, place).all()
            if rows:
                after = rows[-1].id
                yield [self._arrival(*row[1:]) for row in rows if row.id not in self._seen]
                if self._overlap_s:
                    self._seen.update(row.id for row in rows)
        self._tops.append((looked_at, top))
        while self._tops and self._tops[0][0] <= looked_at - self._overlap_s:
            self._floor = self._tops.popleft()[1]
        self._seen = {one for one in self._seen if one > self._floor}

    def _arrival(self, node_id: int, sensor: str, time_ms: int, clock: int, received_ms: int, values: str) -> Arrival:
        return Arrival(self._node(node_id), sensor, time_ms, clock == _UNSYNCED, received_ms, _values.decode(values))

    def _node(self, node_id: int) -> str:
        if node_id not in self._nodes:
            with self._store.read() as connection:
                self._nodes = {
                    row.id: row.name for row in connection.execute(select(schema.nodes.c.id, schema.nodes.c.name))
                }
        return self._nodes[node_id]

    def _top(self) -> int:
        with self._store.read() as connection:
            return connection.scalar(select(func.max(schema.readings.c.id))) or 0
