"""The alarms in the store: what is out of bounds now, and the newest events.

What was raised, what is about to be, and the events are written in one
commit, so a power cut leaves all of a change or nothing of it; the job that
writes them finds them again at its next start.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

from sqlalchemy import bindparam, delete, func, insert, select

from bridge.store import schema
from bridge.store.counters import count
from bridge.store.database import Store

EVENTS_KEPT = 10_000
RAISED, CLEARED = "raised", "cleared"


class Key(NamedTuple):
    """What an alarm is known by."""

    rule: str
    node: str
    """Empty: of the bridge as a whole."""
    what: str
    """Sensor and quantity, or a folder, or empty."""


@dataclass(frozen=True)
class Alarm:
    """Something out of bounds; times in milliseconds since 1970-01-01T00:00:00Z."""

    rule: str
    node: str
    what: str
    severity: str
    sensor: str | None
    quantity: str | None
    since_ms: int
    raised_ms: int | None
    """None while the rule's delay is not over: not an alarm yet."""
    value: float | None
    text: str
    """One sentence in UI_LANGUAGE."""

    @property
    def key(self) -> Key:
        """What it is known by."""
        return Key(self.rule, self.node, self.what)


@dataclass(frozen=True)
class Event:
    """An alarm was raised or cleared."""

    at_ms: int
    event: str
    """raised or cleared"""
    rule: str
    node: str
    what: str
    severity: str
    sensor: str | None
    quantity: str | None
    value: float | None
    text: str

    @property
    def key(self) -> Key:
        """What the alarm is known by."""
        return Key(self.rule, self.node, self.what)


def load(store: Store) -> list[Alarm]:
    """Return all alarms, also those whose delay is not over."""
    with store.read() as connection:
        return [Alarm(**row) for row in connection.execute(select(schema.alarms)).mappings()]


def raised(store: Store) -> list[Alarm]:
    """Return what is out of bounds now, the newest first."""
    alarms = [alarm for alarm in load(store) if alarm.raised_ms is not None]
    return sorted(alarms, key=lambda alarm: (-(alarm.raised_ms or 0), alarm.key))


def events(store: Store, limit: int = 100) -> list[Event]:
    """Return the newest events, the newest first."""
    table = schema.alarm_events
    query = select(*(column for column in table.c if column.name != "id")).order_by(table.c.id.desc()).limit(limit)
    with store.read() as connection:
        return [Event(**row) for row in connection.execute(query).mappings()]


def save(store: Store, changed: Iterable[Alarm], removed: Iterable[Key], news: Iterable[Event]) -> None:
    """Commit alarms that are new or changed, those that are over, and the events.

    Raises:
        StorageFull, StoreBusy: nothing was committed.
    """
    alarms, table = list(changed), schema.alarms
    gone = [*removed, *(alarm.key for alarm in alarms)]
    keys = [{"of_rule": key.rule, "of_node": key.node, "of_what": key.what} for key in gone]
    rows = [asdict(event) for event in news]
    with store.write() as connection:
        if keys:
            connection.execute(
                delete(table).where(
                    table.c.rule == bindparam("of_rule"),
                    table.c.node == bindparam("of_node"),
                    table.c.what == bindparam("of_what"),
                ),
                keys,
            )
        if alarms:
            connection.execute(insert(table), [asdict(alarm) for alarm in alarms])
        if rows:
            connection.execute(insert(schema.alarm_events), rows)
            ids = schema.alarm_events.c.id
            newest = connection.scalar(select(func.max(ids))) or 0
            connection.execute(delete(schema.alarm_events).where(ids <= newest - EVENTS_KEPT))
            count(connection, "alarms_raised", sum(row["event"] == RAISED for row in rows))
