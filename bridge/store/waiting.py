"""How many readings wait where, how long, and what was lost: the numbers behind status, health and metrics."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, Executable, cast, func, select

from bridge.store import schema
from bridge.store.database import Store, now_ms
from bridge.store.schema import Forward, LetterState, RangeKind
from mqtt_client.messages import BridgeHealth
from mqtt_client.reading import format_time, from_ms

MOST_TOLD = 2**53
"""A greater number of lost readings, which only a stranger can claim, is told as this one."""


@dataclass(frozen=True)
class Waiting:
    """The numbers of one moment."""

    to_forward: int
    oldest_to_forward_ms: int | None
    """When the oldest of them was received."""
    to_archive: int
    oldest_to_archive_ms: int | None
    """When the oldest of them was measured."""
    dead_letters: int
    lost: int
    lost_unknown: int
    """Losses of unknown number."""
    repeats: int


def summed(numbers: ColumnElement[Any]) -> ColumnElement[float]:
    """Sum counts of sequence numbers as floats: what strangers claim to have lost may exceed 64 bits together."""
    return func.sum(cast(numbers, Double))


def waiting(connection: Connection) -> Waiting:
    """Count; every query is answered by an index, whatever the number of readings in the store."""
    readings = schema.readings.c
    to_go = readings.forward_state < Forward.SETTLED
    oldest = select(func.min(readings.id)).where(to_go).scalar_subquery()
    ranges = schema.ranges.c
    lost = select(summed(ranges.last - ranges.first + 1)).where(ranges.kind == RangeKind.LOST)
    return Waiting(
        to_forward=_number(connection, select(func.count()).select_from(schema.readings).where(to_go)),
        oldest_to_forward_ms=connection.scalar(select(readings.received_ms).where(readings.id == oldest)),
        to_archive=_number(
            connection, select(func.count()).select_from(schema.readings).where(readings.archive_id.is_(None))
        ),
        oldest_to_archive_ms=connection.scalar(
            select(func.min(readings.time_ms)).where(readings.archive_id.is_(None))
        ),
        dead_letters=_number(
            connection,
            select(func.count())
            .select_from(schema.dead_letters)
            .where(schema.dead_letters.c.state == LetterState.OPEN),
        ),
        lost=min(_number(connection, lost), MOST_TOLD),
        lost_unknown=_number(connection, select(func.sum(schema.sources.c.lost_unknown))),
        repeats=_number(connection, select(func.sum(schema.sources.c.repeats))),
    )


def bridge_health(store: Store, group: str | None, version: str) -> BridgeHealth:
    """Return what the bridge publishes of itself."""
    with store.read() as connection:
        numbers = waiting(connection)
    return BridgeHealth(
        store=store.id,
        group=group,
        version=version,
        time=format_time(from_ms(now_ms())),
        waiting_to_forward=numbers.to_forward,
        waiting_to_archive=numbers.to_archive,
        dead_letters=numbers.dead_letters,
        lost=numbers.lost,
    )


def _number(connection: Connection, query: Executable) -> int:
    return int(connection.scalar(query) or 0)
