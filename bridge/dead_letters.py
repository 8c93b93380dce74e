"""Dead letters: what can never go on by itself, kept whole until the operator decides.

A letter is written in the transaction that found it: a power cut leaves
either the message unacknowledged at the broker or the letter in the store.
Payloads without an identity come from strangers, so they are capped in
number and size and the rest is only counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select, update

from bridge.errors import NotFound
from bridge.store import schema
from bridge.store.counters import count
from bridge.store.database import Store, now_ms
from bridge.store.schema import Forward, LetterState
from mqtt_client.reading import format_time, from_ms, reading_id

STRANGERS_KEPT = 1000
"""Letters without identity that are kept; the rest is counted as ``dead_letters_discarded``."""
STRANGERS_BYTES = 65_536
"""Bytes of such a letter's payload that are kept."""


@dataclass(frozen=True)
class DeadLetter:
    """One letter, as it is listed."""

    id: int
    at_ms: int
    reason: str
    topic: str | None
    payload: bytes
    reading_id: int | None
    node: str | None
    epoch: str | None
    seq: int | None
    status: int | None
    body: str | None

    @property
    def identity(self) -> str | None:
        """The reading's id, where one could be read."""
        if self.node is None or self.epoch is None or self.seq is None:
            return None
        return reading_id(self.node, self.epoch, self.seq)

    def __str__(self) -> str:
        """One line for a list."""
        what = self.identity or self.topic or "-"
        return f"{self.id}  {format_time(from_ms(self.at_ms))}  {what}  {self.reason}"

    def as_json(self) -> dict[str, object]:
        """The whole letter for programs and for ``show``; payload bytes that are no UTF-8 appear escaped."""
        return {
            "id": self.id,
            "time": format_time(from_ms(self.at_ms)),
            "reading": self.identity,
            "reason": self.reason,
            "status": self.status,
            "body": self.body,
            "topic": self.topic,
            "payload": self.payload.decode("utf-8", "backslashreplace"),
        }


_COLUMNS = [
    schema.dead_letters.c[name]
    for name in ("id", "at_ms", "reason", "topic", "payload", "reading_id", "node", "epoch", "seq", "status", "body")
]


class Room:
    """How many more of the strangers' letters are kept in one transaction: counted once, not for each letter.

    So a flood of rubbish costs little more than a flood of readings, and holds up nobody's.
    """

    def __init__(self) -> None:
        self.discarded = 0
        self._left: int | None = None

    def take(self, connection: Connection) -> bool:
        """Take the place of one letter; False when there is none, and the letter is discarded."""
        if self._left is None:
            table = schema.dead_letters.c
            open_ones = select(func.count()).where(table.state == LetterState.OPEN, table.seq.is_(None))
            self._left = STRANGERS_KEPT - (connection.scalar(open_ones) or 0)
        if self._left <= 0:
            self.discarded += 1
            return False
        self._left -= 1
        return True

    def save(self, connection: Connection) -> None:
        """Count what was discarded, at the end of the transaction."""
        count(connection, "dead_letters_discarded", self.discarded)


def put(
    connection: Connection,
    room: Room,
    reason: str,
    topic: str,
    payload: bytes,
    identity: tuple[str, str, int] | None = None,
) -> None:
    """Write the letter of a message that is no reading, or of a reading that cannot be kept."""
    node, epoch, seq = identity or (None, None, None)
    if identity is None:
        if not room.take(connection):
            return
        if len(payload) > STRANGERS_BYTES:
            reason += f" (the first {STRANGERS_BYTES} of {len(payload)} bytes are kept)"
            payload = payload[:STRANGERS_BYTES]
    connection.execute(
        insert(schema.dead_letters).values(
            state=LetterState.OPEN,
            at_ms=now_ms(),
            reason=reason,
            topic=topic.replace("\0", "\N{REPLACEMENT CHARACTER}"),  # PostgreSQL takes no NUL in a text
            payload=payload,
            node=node,
            epoch=epoch,
            seq=seq,
        )
    )


def pending(store: Store) -> list[DeadLetter]:
    """Return the open letters, oldest first."""
    table = schema.dead_letters
    with store.read() as connection:
        rows = connection.execute(select(*_COLUMNS).where(table.c.state == LetterState.OPEN).order_by(table.c.id))
        return [DeadLetter(*row) for row in rows]


def find(store: Store, letter_id: int) -> DeadLetter:
    """Return one open letter.

    Raises:
        NotFound: there is no such open letter.
    """
    table = schema.dead_letters
    with store.read() as connection:
        row = connection.execute(
            select(*_COLUMNS).where(table.c.id == letter_id, table.c.state == LetterState.OPEN)
        ).one_or_none()
    if row is None:
        raise NotFound(f"{letter_id} is no open dead letter; `mqtt-bridge dead-letters list` shows them")
    return DeadLetter(*row)


def drop(store: Store, letter_ids: Sequence[int]) -> int:
    """Give letters up, by the operator's decision; return how many were open."""
    return _settle(store, letter_ids, LetterState.DROPPED, Forward.DROPPED)


def retried(store: Store, letter_ids: Sequence[int]) -> int:
    """Close letters that were taken in again, and send readings that the server refused once more."""
    return _settle(store, letter_ids, LetterState.RETRIED, Forward.PENDING)


def _settle(store: Store, letter_ids: Sequence[int], state: LetterState, forward: Forward) -> int:
    letters, readings = schema.dead_letters, schema.readings
    settled = 0
    with store.write() as connection:
        for letter_id in letter_ids:
            row = connection.execute(
                update(letters)
                .where(letters.c.id == letter_id, letters.c.state == LetterState.OPEN)
                .values(state=state)
                .returning(letters.c.reading_id)
            ).one_or_none()
            if row is None:
                continue
            settled += 1
            if row.reading_id is not None:
                connection.execute(
                    update(readings)
                    .where(readings.c.id == row.reading_id, readings.c.forward_state == Forward.DEAD)
                    .values(forward_state=forward, forward_tries=0)
                )
    return settled
