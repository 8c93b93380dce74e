"""Roll-ups: count, least, greatest and sum of each quantity by minute and by hour, and its newest value.

They stay when readings are pruned.

A burst queues its readings in the transaction that commits them, for the
price of one short row; :class:`Rollups` adds them up later, and takes the
queue's rows away in the transaction that does. So each reading counts exactly
once, however late or out of order it comes, and a power cut between the two
leaves it in the queue. Minutes are kept for MINUTES_KEPT_DAYS, hours for ever.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec
from sqlalchemy import Connection, Table, bindparam, case, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bridge.store import schema
from bridge.store.database import Store, now_ms

log = logging.getLogger("rollups")

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
MINUTES_KEPT_DAYS = 92
QUEUED_AT_ONCE = 1000
"""Readings in one row of the queue, and in one transaction that empties it: other writers wait some milliseconds."""
PRUNED_AT_ONCE = 5000
SERIES_OF_A_NODE = 256
"""Quantities of sensors of one node that have roll-ups; a node that invents more of them fills no disk with it."""


class Queueable(Protocol):
    """A row for ``readings``."""

    @property
    def node_id(self) -> int:
        """The node's row."""

    @property
    def sensor(self) -> str:
        """A name, so it needs no escape in JSON."""

    @property
    def time_ms(self) -> int:
        """When it was measured."""

    @property
    def values(self) -> str:
        """A JSON object."""


def queue(connection: Connection, rows: Sequence[Queueable]) -> None:
    """Queue readings within the transaction that commits them."""
    connection.execute(
        insert(schema.rollup_queue),
        [
            {
                "count": len(some),
                "readings": "["
                + ",".join([f'[{row.node_id},"{row.sensor}",{row.time_ms},{row.values}]' for row in some])
                + "]",
            }
            for some in (rows[at : at + QUEUED_AT_ONCE] for at in range(0, len(rows), QUEUED_AT_ONCE))
        ],
    )


def queued(connection: Connection) -> int:
    """Count the readings that are in no roll-up yet."""
    return int(connection.scalar(select(func.sum(schema.rollup_queue.c.count))) or 0)


_readings = msgspec.json.Decoder(list[tuple[int, str, int, dict[str, float]]])

Key = tuple[int, str, str]
"""A node's row, a sensor, a quantity."""
Sums = dict[tuple[int, int], list[float]]
"""By series and start: count, minimum, maximum, total."""


class Rollups:
    """Empties the queue; remembers the series' numbers, which never change. One thread owns it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._series: dict[Key, int | None] = {}
        self._of_node: dict[int, int] = {}
        self.more_wait = False
        """Whether the last :meth:`add` left some in the queue; what came since is not worth a transaction yet."""

    def add(self) -> int:
        """Add up some queued readings in one transaction; return how many, 0 when none wait.

        Raises:
            StorageFull, StoreBusy: nothing changed; call again later.
        """
        table = schema.rollup_queue
        with self._store.read() as connection:
            rows = connection.execute(select(table).order_by(table.c.id).limit(QUEUED_AT_ONCE)).all()
        taken: list[int] = []
        readings: list[tuple[int, str, int, dict[str, float]]] = []
        for number, count, text in rows:
            if readings and len(readings) + count > QUEUED_AT_ONCE:
                break
            taken.append(number)
            readings += _readings.decode(text)
        self.more_wait = len(taken) < len(rows) or len(rows) == QUEUED_AT_ONCE
        if not taken:
            return 0
        with self._store.write() as connection:
            gone = connection.execute(delete(table).where(table.c.id.in_(taken)))
            if gone.rowcount != len(taken):
                connection.rollback()  # another process was faster; look again
                return len(readings)
            try:
                self._add(connection, readings)
            except BaseException:
                self._series.clear()
                self._of_node.clear()
                raise
        return len(readings)

    def _add(self, connection: Connection, readings: list[tuple[int, str, int, dict[str, float]]]) -> None:
        minutes: Sums = {}
        hours: Sums = {}
        newest: dict[int, tuple[int, float]] = {}
        for node_id, sensor, time_ms, values in readings:
            minute = time_ms - time_ms % MINUTE_MS
            for quantity, value in values.items():
                number = self._number(connection, (node_id, sensor, quantity))
                if number is not None:
                    _count(minutes, (number, minute), value)
                    if number not in newest or time_ms >= newest[number][0]:
                        newest[number] = (time_ms, value)
        for (number, minute), sums in minutes.items():
            _join(hours, (number, minute - minute % HOUR_MS), sums)
        _merge(connection, schema.rollups_minute, minutes)
        _merge(connection, schema.rollups_hour, hours)
        _note_newest(connection, newest)

    def _number(self, connection: Connection, key: Key) -> int | None:
        """Return a series' number, making its row at first; None when its node has too many already."""
        if key not in self._series:
            self._series[key] = self._find(connection, key)
        return self._series[key]

    def _find(self, connection: Connection, key: Key) -> int | None:
        table = schema.series
        node_id, sensor, quantity = key
        known = connection.scalar(select(table.c.id).filter_by(node_id=node_id, sensor=sensor, quantity=quantity))
        if known is not None:
            return int(known)
        if node_id not in self._of_node:
            number = connection.scalar(select(func.count()).where(table.c.node_id == node_id))
            self._of_node[node_id] = number or 0
        if self._of_node[node_id] >= SERIES_OF_A_NODE:
            log.warning("a node has more than %d quantities; %r is in no chart", SERIES_OF_A_NODE, quantity)
            return None
        made = connection.execute(insert(table).values(node_id=node_id, sensor=sensor, quantity=quantity))
        self._of_node[node_id] += 1
        assert made.inserted_primary_key is not None
        return int(made.inserted_primary_key[0])

    def prune(self, series_id: int) -> int:
        """Forget some minutes of one series that are older than MINUTES_KEPT_DAYS; return how many."""
        table = schema.rollups_minute
        before_ms = now_ms() - MINUTES_KEPT_DAYS * 24 * HOUR_MS
        old = select(table.c.start_ms).where(table.c.series_id == series_id, table.c.start_ms < before_ms)
        with self._store.read() as connection:
            starts = connection.scalars(old.order_by(table.c.start_ms).limit(PRUNED_AT_ONCE)).all()
        if starts:
            with self._store.write() as connection:
                connection.execute(
                    delete(table).where(table.c.series_id == series_id, table.c.start_ms <= starts[-1])
                )
        return len(starts)


def _count(sums: Sums, key: tuple[int, int], value: float) -> None:
    known = sums.get(key)
    if known is None:
        sums[key] = [1, value, value, value]
        return
    known[0] += 1
    if value < known[1]:
        known[1] = value
    elif value > known[2]:
        known[2] = value
    known[3] += value


def _join(sums: Sums, key: tuple[int, int], more: list[float]) -> None:
    known = sums.get(key)
    if known is None:
        sums[key] = list(more)
    else:
        sums[key] = [known[0] + more[0], min(known[1], more[1]), max(known[2], more[2]), known[3] + more[3]]


def _note_newest(connection: Connection, newest: dict[int, tuple[int, float]]) -> None:
    """Note the newest value of each series; what is late replaces nothing."""
    if not newest:
        return
    table = schema.series.c
    older = table.last_ms.is_(None) | (table.last_ms <= bindparam("time"))
    connection.execute(
        update(schema.series)
        .where(table.id == bindparam("number"), older)
        .values(last_ms=bindparam("time"), last_value=bindparam("content")),
        [
            {"number": number, "time": time_ms, "content": value}
            for number, (time_ms, value) in sorted(newest.items())
        ],
    )


def _merge(connection: Connection, table: Table, sums: Sums) -> None:
    if not sums:
        return
    dialect_insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = dialect_insert(table)
    new, held = statement.excluded, table.c
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["series_id", "start_ms"],
            set_={
                "count": held["count"] + new["count"],
                "minimum": case((new.minimum < held.minimum, new.minimum), else_=held.minimum),
                "maximum": case((new.maximum > held.maximum, new.maximum), else_=held.maximum),
                "total": held.total + new.total,
            },
        ),
        [
            {"series_id": number, "start_ms": start, "count": count, "minimum": low, "maximum": high, "total": total}
            for (number, start), (count, low, high, total) in sorted(
                sums.items()
            )  # in one order, so two bridges never wait for each other
        ],
    )
