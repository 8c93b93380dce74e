"""What a message means for the store: a reading, a repeat, a loss, a state, or a dead letter.

Judging writes nothing but what is rare (dead letters, losses, states); new
readings are gathered in the burst, which writes them at its end.
"""

import logging
from collections.abc import Iterable

import msgspec
from sqlalchemy import insert, select, update

from bridge import dead_letters
from bridge.store import schema
from bridge.store.bulk import Row
from bridge.store.burst import Burst
from bridge.store.directory import Directory
from bridge.store.sources import FORGOTTEN, Source
from mqtt_client import messages
from mqtt_client.errors import InvalidReading
from mqtt_client.intervals import Interval
from mqtt_client.messages import Backlog, Health, Info, Lost, SoundBacklog
from mqtt_client.reading import Reading, Sequence, check, decode, reading_id
from mqtt_client.topics import Topics, is_name, is_node_name

log = logging.getLogger("ingest")

TOPICS_REMEMBERED = 100_000

Route = tuple[str, str, str]
"""What kind of message a topic carries, its node ('' where it is none) and its sensor."""
Payload = bytes | msgspec.Raw
Piles = dict[Source, list[tuple[Reading, str, Payload]]]
"""Sound readings with their topic and payload, by source, in the order in which they came."""


class Identity(msgspec.Struct):
    """The least that must be readable for a dead letter to count as committed."""

    node: str
    epoch: str
    seq: Sequence


_identity = msgspec.json.Decoder(Identity)


class Judge:
    """Judges one message after the other; remembers which topic is whose."""

    def __init__(self, directory: Directory, topics: Topics) -> None:
        self._directory = directory
        self._topics = topics
        self._routes: dict[str, Route] = {}

    def node_of(self, topic: str) -> str:
        """Return the node that a topic belongs to, '' where it is none."""
        return (self._routes.get(topic) or self._route(topic))[1]

    def judge(self, burst: Burst, sent: Iterable[tuple[str, bytes, *tuple[int, ...]]]) -> None:
        """Judge messages, which begin with topic and payload, in their order, within the burst's transaction.

        Only readings that follow one another are sorted by their source, since many of one source cost
        less together.
        """
        piles: Piles = {}
        for message in sent:
            topic, payload = message[0], message[1]
            kind, node, sensor = self._routes.get(topic) or self._route(topic)
            if kind == "reading":
                self._pile(burst, piles, topic, node, sensor, payload)
                continue
            self._take(burst, piles)
            if not node:
                dead_letters.put(burst.connection, burst.room, f"no topic of a node: {topic!r}", topic, payload)
            elif payload or kind in ("backlog", "lost"):
                try:
                    self._judge_other(burst, topic, kind, node, payload)
                except InvalidReading as exc:
                    dead_letters.put(burst.connection, burst.room, f"no {kind} message: {exc}", topic, payload)
            else:
                self._forget_state(burst, kind, node)
        self._take(burst, piles)

    def _route(self, topic: str) -> Route:
        levels = self._topics.levels(topic) or []
        known = len(levels) == 2 and levels[1] in ("backlog", "lost", "availability", "info", "health")
        route = ("", "", "")
        if len(levels) == 3 and levels[1] == "reading" and is_node_name(levels[0]) and is_name(levels[2]):
            route = ("reading", levels[0], levels[2])
        elif known and is_node_name(levels[0]):
            route = (levels[1], levels[0], "")
        if len(self._routes) >= TOPICS_REMEMBERED:
            self._routes.clear()
        self._routes[topic] = route
        return route

    # Readings -----------------------------------------------------------------------------------

    def _pile(self, burst: Burst, piles: Piles, topic: str, node: str, sensor: str, payload: Payload) -> None:
        """Put a sound reading on its source's pile; refuse another, after what came before it is taken."""
        try:
            reading = decode(payload)
            if reading.node != node:
                raise InvalidReading(f"the payload names node {reading.node!r}, the topic {node!r}")
            if sensor and reading.sensor != sensor:
                raise InvalidReading(f"the payload names sensor {reading.sensor!r}, the topic {sensor!r}")
        except InvalidReading as exc:
            self._take(burst, piles)
            self._refuse(burst, topic, node, bytes(payload), str(exc))
            return
        source = self._directory.known(node, reading.epoch) or self._source(burst, node, reading.epoch)
        pile = piles.get(source)
        if pile is None:
            pile = piles[source] = []
        pile.append((reading, topic, payload))

    def _take(self, burst: Burst, piles: Piles) -> None:
        """Take what is on the piles, at once where a pile is all new."""
        for source, pile in piles.items():
            if burst.take_run(source, [reading for reading, _, _ in pile]):
                continue
            for reading, topic, payload in pile:
                row = burst.row(source, reading)
                if not burst.take(source, row):
                    self._compare(burst, topic, reading, row, bytes(payload))
        piles.clear()

    def _judge_backlog(self, burst: Burst, topic: str, node: str, payload: bytes) -> None:
        sound = _sound(payload, node)
        if sound is not None:
            self._take_floor(burst, node, sound.epoch, sound.floor)
            if burst.take_run(self._source(burst, node, sound.readings[0].epoch), sound.readings):
                return
        backlog = messages.decode(Backlog, payload)
        self._take_floor(burst, node, backlog.epoch, backlog.floor)
        piles: Piles = {}
        for raw in backlog.readings:
            self._pile(burst, piles, topic, node, "", raw)
        self._take(burst, piles)

    def _refuse(self, burst: Burst, topic: str, node: str, payload: bytes, reason: str) -> None:
        """Make a dead letter; with a readable identity of this node it counts as committed, once."""
        try:
            claimed = _identity.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            claimed = None
        if claimed is None or claimed.node != node or not is_name(claimed.epoch):
            dead_letters.put(burst.connection, burst.room, reason, topic, payload)
            return
        source = self._source(burst, node, claimed.epoch)
        burst.touched[source] = None
        if source.commit(claimed.seq):
            identity = (node, claimed.epoch, claimed.seq)
            dead_letters.put(burst.connection, burst.room, reason, topic, payload, identity)
        else:
            burst.repeats += 1

    def _compare(self, burst: Burst, topic: str, reading: Reading, row: Row, payload: bytes) -> None:
        """Look whether a repeat says what the row says that is still held; else it is an identity conflict."""
        columns = schema.readings.c
        told: tuple[object, ...] | None = burst.content(row)
        if told is None:
            held = burst.connection.execute(
                select(columns.sensor, columns.time_ms, columns.clock, columns["values"]).where(
                    columns.source_id == row.source_id, columns.seq == row.seq
                )
            ).one_or_none()
            told = tuple(held) if held else None
        if told is None or told == (row.sensor, row.time_ms, row.clock, row.values):
            return
        letters = schema.dead_letters
        known = burst.connection.scalar(
            select(letters.c.id).where(
                letters.c.node == reading.node, letters.c.seq == reading.seq, letters.c.payload == payload
            )
        )
        if known is None:
            identity = (reading.node, reading.epoch, reading.seq)
            log.warning("identity conflict: %s came again with other content", reading_id(*identity))
            dead_letters.put(burst.connection, burst.room, "identity conflict", topic, payload, identity)

    # What is told beside the readings -----------------------------------------------------------

    def _judge_other(self, burst: Burst, topic: str, kind: str, node: str, payload: bytes) -> None:
        if kind == "backlog":
            self._judge_backlog(burst, topic, node, payload)
        elif kind == "lost":
            self._judge_lost(burst, node, messages.decode(Lost, payload))
        else:
            self._note_state(burst, kind, node, payload)

    def _judge_lost(self, burst: Burst, node: str, lost: Lost) -> None:
        source = self._source(burst, node, lost.epoch)
        if lost.last is None:
            self._lose_unknown(burst, source, lost)
        self._lose(burst, source, source.lose(lost.first, lost.last), lost.reason)
        self._give_reason(burst, source, lost)
        burst.touched[source] = None

    def _note_state(self, burst: Burst, kind: str, node: str, payload: bytes) -> None:
        values: dict[str, object]
        if kind == "availability":
            if payload not in (messages.ONLINE, messages.OFFLINE):
                raise InvalidReading(f"{payload[:40]!r}; allowed is online or offline")
            values = {"availability": payload.decode(), "availability_ms": burst.at_ms}
        else:
            state = messages.decode(Info, payload) if kind == "info" else messages.decode(Health, payload)
            self._take_floor(burst, node, state.epoch, state.floor)
            values = {kind: messages.encode(state).decode()} | (
                {"health_ms": burst.at_ms} if kind == "health" else {}
            )
            if kind == "info":
                self._directory.announce(node, state.epoch)
        node_id = self._directory.node(burst.connection, node)
        burst.connection.execute(update(schema.nodes).where(schema.nodes.c.id == node_id).values(values))

    def _forget_state(self, burst: Burst, kind: str, node: str) -> None:
        """Forget what a node said of itself: its retained message was cleared, as for a node that was removed."""
        burst.connection.execute(update(schema.nodes).where(schema.nodes.c.name == node).values({kind: None}))

    def _take_floor(self, burst: Burst, node: str, epoch: str, floor: int) -> None:
        """Take in the lowest number that the node still holds; what is below and not here is lost."""
        source = self._source(burst, node, epoch)
        self._lose(burst, source, source.tell_floor(floor), FORGOTTEN)
        burst.touched[source] = None

    def _lose(self, burst: Burst, source: Source, news: Iterable[Interval], reason: str) -> None:
        for first, last in news:
            log.warning("%s lost readings %d to %d of epoch %s: %s", source.node, first, last, source.epoch, reason)
            burst.connection.execute(
                insert(schema.losses).values(
                    source_id=source.id, first=first, last=last, reason=reason, at_ms=burst.at_ms
                )
            )

    def _give_reason(self, burst: Burst, source: Source, lost: Lost) -> None:
        """Put the node's own reason where its floor, which may come first, had told the loss already."""
        losses = schema.losses.c
        told = (losses.source_id == source.id) & (losses.reason == FORGOTTEN)
        within = (losses.first >= lost.first) & (losses.last <= (lost.last or 0))
        burst.connection.execute(update(schema.losses).where(told, within).values(reason=lost.reason))

    def _lose_unknown(self, burst: Burst, source: Source, lost: Lost) -> None:
        """Record a loss of unknown number; told again it is known by where it begins."""
        losses, table = schema.losses.c, schema.sources
        known = burst.connection.scalar(
            select(losses.id).where(losses.source_id == source.id, losses.first == lost.first, losses.last.is_(None))
        )
        if known is not None:
            return
        log.warning("%s lost readings from %d of epoch %s on: %s", source.node, lost.first, lost.epoch, lost.reason)
        burst.connection.execute(
            insert(schema.losses).values(
                source_id=source.id, first=lost.first, last=None, reason=lost.reason, at_ms=burst.at_ms
            )
        )
        more = table.c.lost_unknown + 1
        burst.connection.execute(update(table).where(table.c.id == source.id).values(lost_unknown=more))

    def _source(self, burst: Burst, node: str, epoch: str) -> Source:
        return self._directory.source(burst.connection, node, epoch, burst.at_ms)


def _sound(payload: bytes, node: str) -> SoundBacklog | None:
    """Decode a backlog message of which each reading is sound and of one epoch; None where one is not."""
    try:
        backlog = messages.decode(SoundBacklog, payload)
        for reading in backlog.readings:
            check(reading)
    except InvalidReading:
        return None
    whose = {(reading.node, reading.epoch) for reading in backlog.readings}
    return backlog if len(whose) == 1 and whose.pop()[0] == node else None
