"""The store's front door: a burst of messages becomes rows, interval sets and dead letters in one commit.

What it remembers between bursts (nodes and sources, as they are in the
database) is thrown away when a commit fails. A power cut leaves the burst
either committed, or unacknowledged at the broker.
"""

from collections.abc import Sequence as Items
from typing import NamedTuple

from sqlalchemy import func, select

from bridge.store import schema
from bridge.store.bulk import Row
from bridge.store.burst import Burst
from bridge.store.database import Store, now_ms
from bridge.store.directory import Directory
from bridge.store.judge import Judge
from bridge.store.sources import Source
from mqtt_client.errors import InvalidReading
from mqtt_client.reading import decode
from mqtt_client.topics import Topics


class Message(NamedTuple):
    """What came from the broker."""

    topic: str
    payload: bytes


class Intake:
    """Judges messages and commits them. One thread, and on SQLite one process, owns it."""

    def __init__(self, store: Store, topics: Topics) -> None:
        self._store = store
        self._directory = Directory(store)
        self._judge = Judge(self._directory, topics)
        self.received = 0
        self.repeats = 0

    def put(self, messages: Items[tuple[str, bytes, *tuple[int, ...]]]) -> list[Source]:
        """Commit a burst; return the sources of which a receipt is due.

        Args:
            messages: each begins with topic and payload.

        Raises:
            StorageFull, StoreBusy: nothing was committed; put the same burst again later.
        """
        try:
            with self._store.write() as connection:
                burst = Burst(connection, now_ms())
                self._directory.begin(connection, (self._judge.node_of(message[0]) for message in messages))
                self._judge.judge(burst, messages)
                burst.save()
        except BaseException:
            self._directory.forget()
            raise
        for source in burst.touched:
            source.saved()
        self.received += len(burst.rows)
        self.repeats += burst.repeats
        return list(burst.touched)

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
        with self._store.write() as connection:
            burst = Burst(connection, now_ms())
            if identity is None:
                self._judge_strictly(burst, message)
            else:
                burst.rows.append(self._row_again(burst, message, identity))
            burst.save()

    def rehearse(self, message: Message) -> None:
        """Judge a message and change nothing.

        Raises:
            InvalidReading: it would be refused.
        """
        with self._store.write() as connection:
            try:
                self._judge_strictly(Burst(connection, now_ms()), message)
            finally:
                connection.rollback()
                self._directory.forget()

    def _judge_strictly(self, burst: Burst, message: Message) -> None:
        """Judge a message; a dead letter by it is an error.

        Raises:
            InvalidReading: with the letter's reason.
        """
        letters = schema.dead_letters.c
        before = burst.connection.scalar(select(func.max(letters.id))) or 0
        self._judge.judge(burst, [message])
        reason = burst.connection.scalar(select(letters.reason).where(letters.id > before))
        if reason is not None:
            raise InvalidReading(reason)
        if burst.room.discarded:
            raise InvalidReading("it is no reading, and there is no room for another letter")

    def _row_again(self, burst: Burst, message: Message, identity: tuple[str, str, int]) -> Row:
        reading = decode(message.payload)
        if (reading.node, reading.epoch, reading.seq) != identity:
            raise InvalidReading("its identity is not the one that it was refused with")
        source = self._directory.source(burst.connection, reading.node, reading.epoch, burst.at_ms)
        held = burst.connection.scalar(
            select(schema.readings.c.id).where(
                schema.readings.c.source_id == source.id, schema.readings.c.seq == reading.seq
            )
        )
        if held is not None:
            raise InvalidReading("another content is held under its identity")
        return burst.row(source, reading)
