"""The store's front door: a burst of messages becomes rows, interval sets and dead letters in one commit.

What it remembers between bursts (nodes and sources, as they are in the
database) is thrown away when a commit fails. A power cut leaves the burst
either committed, or unacknowledged at the broker.
"""

import logging
from collections.abc import Iterable
from collections.abc import Sequence as Items
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, func, insert, select, update

from bridge import dead_letters
from bridge.store import rollups, schema, sources
from bridge.store.bulk import Row, insert_readings
from bridge.store.database import Store, now_ms
from bridge.store.directory import Directory
from bridge.store.schema import CLOCKS
from bridge.store.sources import FORGOTTEN, Source
from mqtt_client import messages
from mqtt_client.errors import InvalidReading
from mqtt_client.intervals import Interval
from mqtt_client.messages import Backlog, Health, Info, Lost
from mqtt_client.reading import Reading, Sequence, decode, reading_id
from mqtt_client.topics import Topics, is_name, is_node_name

log = logging.getLogger("ingest")

TOPICS_REMEMBERED = 100_000
CLOCK_INDEX = {name: index for index, name in enumerate(CLOCKS)}


class Message(NamedTuple):
    """What came from the broker."""

    topic: str
    payload: bytes


class Identity(msgspec.Struct):
    """The least that must be readable for a dead letter to count as committed."""

    node: str
    epoch: str
    seq: Sequence


_identity = msgspec.json.Decoder(Identity)
_values = msgspec.json.Encoder()


class Intake:
    """Judges messages and commits them. One thread, and on SQLite one process, owns it."""

    def __init__(self, store: Store, topics: Topics) -> None:
        self._store = store
        self._topics = topics
        self._routes: dict[str, tuple[str, str, str]] = {}
        self._directory = Directory(store)
        self.received = 0
        self.repeats = 0

    def put(self, burst: Items[Message]) -> list[Source]:
        """Commit a burst; return the sources of which a receipt is due.

        Raises:
            StorageFull, StoreBusy: nothing was committed; put the same burst again later.
        """
        step = _Step(now_ms())
        try:
            with self._store.write() as connection:
                self._directory.begin(connection, filter(None, (self._route(message.topic)[1] for message in burst)))
                for message in burst:
                    self._judge(connection, step, message)
                self._save(connection, step)
        except BaseException:
            self._directory.forget()
            raise
        for source in step.touched:
            source.saved()
        self.received += len(step.rows)
        self.repeats += step.repeats
        return list(step.touched)

    def every_source(self) -> list[Source]:
        """Return all sources of the store, a node's own epoch last, for the receipts of a new connection."""
        return self._directory.every_source()

    def take_again(self, message: Message, identity: tuple[str, str, int] | None) -> None:
        """Commit a dead letter's message, which has been judged before.

        With an identity its number counts as committed already, so only the row is inserted; without one
        the interval sets change, so the caller holds the lock of ingest.

        Raises:
            InvalidReading: it is still refused.
        """
        step = _Step(now_ms())
        with self._store.write() as connection:
            if identity is None:
                self._judge_strictly(connection, step, message)
            else:
                step.rows.append(self._row_again(connection, step, message, identity))
            self._save(connection, step)

    def rehearse(self, message: Message) -> None:
        """Judge a message and change nothing.

        Raises:
            InvalidReading: it would be refused.
        """
        with self._store.write() as connection:
            try:
                self._judge_strictly(connection, _Step(now_ms()), message)
            finally:
                connection.rollback()
                self._directory.forget()

    def _judge_strictly(self, connection: Connection, step: "_Step", message: Message) -> None:
        """Judge a message; a dead letter by it is an error.

        Raises:
            InvalidReading: with the letter's reason.
        """
        letters = schema.dead_letters.c
        before = connection.scalar(select(func.max(letters.id))) or 0
        self._judge(connection, step, message)
        reason = connection.scalar(select(letters.reason).where(letters.id > before))
        if reason is not None:
            raise InvalidReading(reason)
        if step.room.discarded:
            raise InvalidReading("it is no reading, and there is no room for another letter")

    def _row_again(
        self, connection: Connection, step: "_Step", message: Message, identity: tuple[str, str, int]
    ) -> "Row":
        reading = decode(message.payload)
        if (reading.node, reading.epoch, reading.seq) != identity:
            raise InvalidReading("its identity is not the one that it was refused with")
        source = self._directory.source(connection, reading.node, reading.epoch, step.at_ms)
        held = connection.scalar(
            select(schema.readings.c.id).where(
                schema.readings.c.source_id == source.id, schema.readings.c.seq == reading.seq
            )
        )
        if held is not None:
            raise InvalidReading("another content is held under its identity")
        return _row(source, reading, step.at_ms)

    # Judging one message ------------------------------------------------------------------------

    def _judge(self, connection: Connection, step: "_Step", message: Message) -> None:
        kind, node, sensor = self._route(message.topic)
        if not node:
            dead_letters.put(
                connection, step.room, f"no topic of a node: {message.topic!r}", message.topic, message.payload
            )
        elif kind == "reading":
            self._judge_reading(connection, step, message.topic, node, sensor, message.payload)
        elif message.payload or kind in ("backlog", "lost"):
            try:
                self._judge_other(connection, step, kind, node, message)
            except InvalidReading as exc:
                dead_letters.put(connection, step.room, f"no {kind} message: {exc}", message.topic, message.payload)
        else:
            self._forget_state(connection, kind, node)

    def _judge_other(self, connection: Connection, step: "_Step", kind: str, name: str, message: Message) -> None:
        if kind == "backlog":
            backlog = messages.decode(Backlog, message.payload)
            source = self._directory.source(connection, name, backlog.epoch, step.at_ms)
            self._lose(connection, step, source, source.tell_floor(backlog.floor), FORGOTTEN)
            step.touched[source] = None
            for raw in backlog.readings:
                self._judge_reading(connection, step, message.topic, name, "", raw)
        elif kind == "lost":
            lost = messages.decode(Lost, message.payload)
            source = self._directory.source(connection, name, lost.epoch, step.at_ms)
            if lost.last is None:
                self._lose_unknown(connection, step, source, lost)
            self._lose(connection, step, source, source.lose(lost.first, lost.last), lost.reason)
            self._give_reason(connection, source, lost)
            step.touched[source] = None
        else:
            self._note_state(connection, step, kind, name, message.payload)

    def _judge_reading(
        self, connection: Connection, step: "_Step", topic: str, node: str, sensor: str, payload: bytes | msgspec.Raw
    ) -> None:
        try:
            reading = decode(payload)
            if reading.node != node:
                raise InvalidReading(f"the payload names node {reading.node!r}, the topic {node!r}")
            if sensor and reading.sensor != sensor:
                raise InvalidReading(f"the payload names sensor {reading.sensor!r}, the topic {sensor!r}")
        except InvalidReading as exc:
            self._refuse(connection, step, topic, node, bytes(payload), str(exc))
            return
        source = self._directory.source(connection, node, reading.epoch, step.at_ms)
        step.touched[source] = None
        row = _row(source, reading, step.at_ms)
        if source.commit(reading.seq):
            step.rows.append(row)
            newest = step.newest.get(row.node_id)
            if newest is None or row.time_ms >= newest.time_ms:
                step.newest[row.node_id] = row
        else:
            step.repeats += 1
            self._compare(connection, step, topic, reading, row, bytes(payload))

    def _refuse(
        self, connection: Connection, step: "_Step", topic: str, node: str, payload: bytes, reason: str
    ) -> None:
        """Make a dead letter; with a readable identity of this node it counts as committed, once."""
        try:
            claimed = _identity.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            claimed = None
        if claimed is None or claimed.node != node or not is_name(claimed.epoch):
            dead_letters.put(connection, step.room, reason, topic, payload)
            return
        source = self._directory.source(connection, node, claimed.epoch, step.at_ms)
        step.touched[source] = None
        if source.commit(claimed.seq):
            dead_letters.put(connection, step.room, reason, topic, payload, (node, claimed.epoch, claimed.seq))
        else:
            step.repeats += 1

    def _compare(
        self, connection: Connection, step: "_Step", topic: str, reading: Reading, row: Row, payload: bytes
    ) -> None:
        """Look whether a repeat says what the row says that is still held; else it is an identity conflict."""
        columns = schema.readings.c
        told: tuple[object, ...] | None = step.content(row)
        if told is None:
            held = connection.execute(
                select(columns.sensor, columns.time_ms, columns.clock, columns["values"]).where(
                    columns.source_id == row.source_id, columns.seq == row.seq
                )
            ).one_or_none()
            told = tuple(held) if held else None
        if told is None or told == (row.sensor, row.time_ms, row.clock, row.values):
            return
        letters = schema.dead_letters
        identity = (reading.node, reading.epoch, reading.seq)
        known = connection.scalar(
            select(letters.c.id).where(
                letters.c.node == reading.node, letters.c.seq == reading.seq, letters.c.payload == payload
            )
        )
        if known is None:
            log.warning("identity conflict: %s came again with other content", reading_id(*identity))
            dead_letters.put(connection, step.room, "identity conflict", topic, payload, identity)

    # What is noted beside the readings ----------------------------------------------------------

    def _note_state(self, connection: Connection, step: "_Step", kind: str, name: str, payload: bytes) -> None:
        values: dict[str, object]
        if kind == "availability":
            if payload not in (messages.ONLINE, messages.OFFLINE):
                raise InvalidReading(f"{payload[:40]!r}; allowed is online or offline")
            values = {"availability": payload.decode(), "availability_ms": step.at_ms}
        else:
            state = messages.decode(Info, payload) if kind == "info" else messages.decode(Health, payload)
            source = self._directory.source(connection, name, state.epoch, step.at_ms)
            self._lose(connection, step, source, source.tell_floor(state.floor), FORGOTTEN)
            step.touched[source] = None
            values = {kind: messages.encode(state).decode()} | ({"health_ms": step.at_ms} if kind == "health" else {})
            if kind == "info":
                self._directory.announce(name, state.epoch)
        node_id = self._directory.node(connection, name)
        connection.execute(update(schema.nodes).where(schema.nodes.c.id == node_id).values(values))

    def _forget_state(self, connection: Connection, kind: str, name: str) -> None:
        """Forget what a node said of itself: its retained message was cleared, as for a node that was removed."""
        connection.execute(update(schema.nodes).where(schema.nodes.c.name == name).values({kind: None}))

    def _lose(
        self, connection: Connection, step: "_Step", source: Source, news: Iterable[Interval], reason: str
    ) -> None:
        for first, last in news:
            log.warning("%s lost readings %d to %d of epoch %s: %s", source.node, first, last, source.epoch, reason)
            connection.execute(
                insert(schema.losses).values(
                    source_id=source.id, first=first, last=last, reason=reason, at_ms=step.at_ms
                )
            )

    def _give_reason(self, connection: Connection, source: Source, lost: Lost) -> None:
        """Put the node's own reason where its floor, which may come first, had told the loss already."""
        losses = schema.losses.c
        told = (losses.source_id == source.id) & (losses.reason == FORGOTTEN)
        within = (losses.first >= lost.first) & (losses.last <= (lost.last or 0))
        connection.execute(update(schema.losses).where(told, within).values(reason=lost.reason))

    def _lose_unknown(self, connection: Connection, step: "_Step", source: Source, lost: Lost) -> None:
        """Record a loss of unknown number; told again it is known by where it begins."""
        losses, table = schema.losses.c, schema.sources
        known = connection.scalar(
            select(losses.id).where(losses.source_id == source.id, losses.first == lost.first, losses.last.is_(None))
        )
        if known is not None:
            return
        log.warning("%s lost readings from %d of epoch %s on: %s", source.node, lost.first, lost.epoch, lost.reason)
        connection.execute(
            insert(schema.losses).values(
                source_id=source.id, first=lost.first, last=None, reason=lost.reason, at_ms=step.at_ms
            )
        )
        connection.execute(update(table).where(table.c.id == source.id).values(lost_unknown=table.c.lost_unknown + 1))

    # Nodes and sources, as the database has them ------------------------------------------------

    def _route(self, topic: str) -> tuple[str, str, str]:
        """Return what kind of message a topic carries, its node ('' where it is none) and its sensor."""
        route = self._routes.get(topic)
        if route is None:
            levels = self._topics.levels(topic) or []
            known = len(levels) == 2 and levels[1] in ("backlog", "lost", "availability", "info", "health")
            if len(levels) == 3 and levels[1] == "reading" and is_node_name(levels[0]) and is_name(levels[2]):
                route = ("reading", levels[0], levels[2])
            elif known and is_node_name(levels[0]):
                route = (levels[1], levels[0], "")
            else:
                route = ("", "", "")
            if len(self._routes) >= TOPICS_REMEMBERED:
                self._routes.clear()
            self._routes[topic] = route
        return route

    def _save(self, connection: Connection, step: "_Step") -> None:
        if step.rows:
            insert_readings(connection, step.rows)
            rollups.queue(connection, step.rows)
        sources.save(connection, step.touched)
        step.room.save(connection)
        if step.newest:
            table = schema.nodes.c
            older = table.last_time_ms.is_(None) | (table.last_time_ms <= bindparam("time"))
            connection.execute(
                update(schema.nodes)
                .where(table.id == bindparam("node"), older)
                .values(
                    last_time_ms=bindparam("time"),
                    last_received_ms=bindparam("received"),
                    last_sensor=bindparam("from_sensor"),
                    last_values=bindparam("content"),
                ),
                [
                    {
                        "node": row.node_id,
                        "time": row.time_ms,
                        "received": row.received_ms,
                        "from_sensor": row.sensor,
                        "content": row.values,
                    }
                    for row in step.newest.values()
                ],
            )


def _row(source: Source, reading: Reading, at_ms: int) -> Row:
    return Row(
        source.id,
        source.node_id,
        reading.seq,
        reading.sensor,
        reading.time_ms,
        CLOCK_INDEX[reading.clock],
        _values.encode(reading.values).decode(),
        at_ms,
    )


class _Step:
    """What one burst has brought so far."""

    __slots__ = ("_known", "at_ms", "newest", "repeats", "room", "rows", "touched")

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms
        self.rows: list[Row] = []
        self.touched: dict[Source, None] = {}
        self.newest: dict[int, Row] = {}
        self.repeats = 0
        self.room = dead_letters.Room()
        self._known: dict[tuple[int, int], Row] = {}

    def content(self, row: Row) -> tuple[object, ...] | None:
        """Return what the burst's own row of the same identity says, None where it has none."""
        for one in self.rows[len(self._known) :]:  # made when repeats come, at one look for each row
            self._known[one.source_id, one.seq] = one
        twin = self._known.get((row.source_id, row.seq))
        return (twin.sensor, twin.time_ms, twin.clock, twin.values) if twin else None
