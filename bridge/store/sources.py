"""What this store knows of one epoch of one node, and the receipt that follows from it.

Two interval sets, *committed* and *lost*, decide everything: a repeat is a
sequence number in *committed*, and the receipt passes over what is in either.
They change in memory while a transaction is prepared and are saved with it;
when it fails, the object is thrown away and read again.
"""

import json
from collections.abc import Collection, Iterable

from sqlalchemy import Connection, insert, select, update

from bridge.store import bulk, schema
from bridge.store.schema import RangeKind
from mqtt_client.intervals import Interval, Intervals
from mqtt_client.messages import Receipt

BEYOND_LIMIT = 32
FORGOTTEN = "the node had forgotten it before this store had it (the store is new or was restored)"

_REMOVE_RANGE = "DELETE FROM ranges WHERE source_id = ? AND kind = ? AND first = ?"
_WRITE_RANGE = (
    "INSERT INTO ranges (source_id, kind, first, last) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (source_id, kind, first) DO UPDATE SET last = excluded.last"
)


_COMMITTED, _LOST = int(RangeKind.COMMITTED), int(RangeKind.LOST)


class Source:
    """One epoch of one node."""

    __slots__ = (
        "_saved",
        "_saved_start",
        "_through",
        "_unsaved",
        "committed",
        "epoch",
        "id",
        "is_announced",
        "lost",
        "new_repeats",
        "node",
        "node_id",
        "start",
    )

    def __init__(self, source_id: int, node_id: int, node: str, epoch: str, start: int | None) -> None:
        self.id = source_id
        self.node_id = node_id
        self.node = node
        self.epoch = epoch
        self.start = start
        """First seq that this store answers for; None until the node has told its floor."""
        self.committed = Intervals()
        self.lost = Intervals()
        self.new_repeats = 0
        self.is_announced = False
        """The node's info names it as the epoch of its new readings."""
        self._saved: dict[tuple[int, int], int] = {}  # rows of ``ranges``: kind and first, last
        self._unsaved = self._saved
        self._saved_start = start
        self._through = 0

    def commit(self, seq: int) -> bool:
        """Take a reading's number in; return False when it is a repeat."""
        if seq in self.committed:
            self.new_repeats += 1
            return False
        self.committed.add(seq, seq)
        if self.lost and seq in self.lost:
            self.lost.remove(seq, seq)
        return True

    def commit_run(self, seqs: list[int]) -> bool:
        """Take numbers in if they are in order and above all that were met; else return False and take none."""
        first, last = seqs[0], seqs[-1]
        if first <= max(self.committed.last or 0, self.lost.last or 0):
            return False
        if seqs == list(range(first, first + len(seqs))):
            self.committed.add(first, last)
            return True
        if seqs != sorted(set(seqs)):
            return False
        for seq in seqs:
            self.committed.add(seq, seq)
        return True

    def lose(self, first: int, last: int | None) -> list[Interval]:
        """Take in what the node gave up; return what was neither committed nor known as lost.

        With ``last`` None the number is unknown: every hole up to the highest number seen, and first itself.
        """
        if last is None:
            last = max(first, self.committed.last or 0, self.lost.last or 0)
        news = [hole for gap in self.committed.holes(first, last) for hole in self.lost.holes(*gap)]
        for interval in news:
            self.lost.add(*interval)
        return news

    def tell_floor(self, floor: int) -> list[Interval]:
        """Take in the lowest number that the node still holds; return what is lost by it.

        An epoch that this store did not know begins at the floor. In a known
        one, what is below the floor and not here will never come.
        """
        if self.start is None:
            self.start = floor
            return []
        return self.lose(self.start, floor - 1) if floor > self.start else []

    @property
    def through(self) -> int:
        """The highest number up to which all is committed or lost; it never goes back."""
        reached = max(self._through, (self.start or 1) - 1)
        while True:
            further = max(self.committed.covered_through(reached + 1), self.lost.covered_through(reached + 1))
            if further <= reached:
                self._through = reached
                return reached
            reached = further

    def receipt(self, store_id: str) -> Receipt:
        """Return the receipt for what is committed and lost now."""
        through = self.through
        return Receipt(store_id, self.epoch, through, self.committed.above(through, BEYOND_LIMIT))

    def changes(self) -> tuple[list[tuple[int, int, int, int]], list[tuple[int, int, int]]]:
        """Return rows of ``ranges`` to write and keys of rows to delete since the last :meth:`saved`."""
        before = self._saved
        self._unsaved = now = {(_COMMITTED, first): last for first, last in self.committed}
        if self.lost:
            now |= {(_LOST, first): last for first, last in self.lost}
        written = [(self.id, *key, last) for key, last in now.items() if before.get(key) != last]
        removed = [(self.id, *key) for key in before if key not in now]
        return written, removed

    def saved(self) -> None:
        """Note that the last :meth:`changes` are in the database."""
        self._saved = self._unsaved
        self._saved_start = self.start
        self.new_repeats = 0

    @property
    def start_changed(self) -> bool:
        """Whether the start has to be saved."""
        return self.start != self._saved_start

    @classmethod
    def load(cls, connection: Connection, node_id: int, node: str, epoch: str, at_ms: int) -> "Source":
        """Read a source, making its row where this store meets the epoch for the first time."""
        table = schema.sources
        info = connection.scalar(select(schema.nodes.c.info).where(schema.nodes.c.id == node_id))
        row = connection.execute(
            select(table.c.id, table.c.start).where(table.c.node_id == node_id, table.c.epoch == epoch)
        ).one_or_none()
        if row is None:
            made = connection.execute(insert(table).values(node_id=node_id, epoch=epoch, first_seen_ms=at_ms))
            assert made.inserted_primary_key is not None
            source = cls(made.inserted_primary_key[0], node_id, node, epoch, None)
            source.is_announced = _epoch_of(info) == epoch
            return source
        source = cls(row.id, node_id, node, epoch, row.start)
        source.is_announced = _epoch_of(info) == epoch
        table = schema.ranges
        for kind, first, last in connection.execute(
            select(table.c.kind, table.c.first, table.c.last).where(table.c.source_id == source.id)
        ):
            source.restore(kind, first, last)
        return source

    def restore(self, kind: int, first: int, last: int) -> None:
        """Take in a range as the database has it."""
        (self.committed if kind == RangeKind.COMMITTED else self.lost).add(first, last)
        self._saved[kind, first] = last


def _epoch_of(info: str | None) -> object:
    return json.loads(info).get("epoch") if info else None


def load_all(connection: Connection, of_nodes: Collection[int] | None = None) -> list[Source]:
    """Read all sources, or those of some nodes, in the order in which this store met them."""
    table, nodes, ranges = schema.sources, schema.nodes, schema.ranges
    wanted = select(table, nodes.c.name, nodes.c.info).join_from(table, nodes)
    covered = select(ranges.c.source_id, ranges.c.kind, ranges.c.first, ranges.c.last)
    if of_nodes is not None:
        wanted = wanted.where(table.c.node_id.in_(of_nodes))
        covered = covered.join_from(ranges, table).where(table.c.node_id.in_(of_nodes))
    found: dict[int, Source] = {}
    for row in connection.execute(wanted.order_by(table.c.id)):
        source = found[row.id] = Source(row.id, row.node_id, row.name, row.epoch, row.start)
        source.is_announced = _epoch_of(row.info) == row.epoch
    for source_id, kind, first, last in connection.execute(covered):
        found[source_id].restore(kind, first, last)
    return list(found.values())


def save(connection: Connection, sources: Iterable[Source]) -> None:
    """Write what changed in these sources."""
    written: list[tuple[int, int, int, int]] = []
    removed: list[tuple[int, int, int]] = []
    for source in sources:
        rows, keys = source.changes()
        written += rows
        removed += keys
        if source.start_changed or source.new_repeats:
            connection.execute(
                update(schema.sources)
                .where(schema.sources.c.id == source.id)
                .values(start=source.start, repeats=schema.sources.c.repeats + source.new_repeats)
            )
    bulk.run(connection, _REMOVE_RANGE, removed)
    bulk.run(connection, _WRITE_RANGE, written)
