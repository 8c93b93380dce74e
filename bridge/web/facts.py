"""All that the page shows of this moment, read from the store at most once a second however many look."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, func, select

from bridge import dead_letters
from bridge.dead_letters import DeadLetter
from bridge.settings import BridgeSettings
from bridge.status import Status, read_status
from bridge.store import schema
from bridge.store.database import Store, now_ms
from bridge.store.schema import ArchiveState, RangeKind
from bridge.store.waiting import summed
from bridge.web.way import Stage, Totals, stages
from mqtt_client.errors import SensorBridgeError

log = logging.getLogger("web")

FRESH_S = 0.5
LETTERS_SHOWN = 50
ARCHIVES_SHOWN = 50


@dataclass(frozen=True)
class ArchiveFiles:
    """An archive that is done, and which of its files are still in one of the two folders."""

    created_ms: int
    rows: int
    first_ms: int | None
    last_ms: int | None
    sizes_bytes: dict[str, int | None]
    """By file name; None where the file is no longer here."""


@dataclass(frozen=True)
class Alarm:
    """What is out of bounds now."""

    node: str
    severity: str
    text: str
    since_ms: int


@dataclass(frozen=True)
class Line:
    """One quantity of one sensor that has roll-ups."""

    id: int
    node: str
    sensor: str
    quantity: str
    last_ms: int | None
    last_value: float | None


@dataclass(frozen=True)
class Facts:
    """One moment; ``fault`` says why it could not be read anew."""

    at_ms: int
    status: Status
    totals: Totals
    stages: list[Stage]
    lines: list[Line]
    alarms: list[Alarm]
    letters: list[DeadLetter]
    archives: list[ArchiveFiles]
    fault: str = ""


def read_facts(settings: BridgeSettings, store: Store) -> Facts:
    """Read everything now."""
    status = read_status(settings, store)
    with store.read() as connection:
        totals = read_totals(connection)
        lines = _lines(connection)
        alarms = _alarms(connection)
        archives = _archives(connection, (settings.archive_directory, settings.backup_directory))
    return Facts(
        at_ms=totals.now_ms,
        status=status,
        totals=totals,
        stages=stages(settings, status, totals),
        lines=lines,
        alarms=alarms,
        letters=dead_letters.pending(store)[:LETTERS_SHOWN] if status.waiting.dead_letters else [],
        archives=archives,
    )


def read_totals(connection: Connection) -> Totals:
    """Read what the status does not say."""
    ranges, meta = schema.ranges.c, schema.meta.c
    received = connection.scalar(
        select(summed(ranges.last - ranges.first + 1)).where(ranges.kind == RangeKind.COMMITTED)
    )
    last_archive = connection.scalar(select(meta.value).where(meta.key == "last_archive_ms"))
    first_seen_ms = connection.scalar(select(func.min(schema.sources.c.first_seen_ms)))
    return Totals(int(received or 0), int(last_archive) if last_archive else None, first_seen_ms, now_ms())


def find_file(settings: BridgeSettings, name: str) -> Path | None:
    """Return where a file of an archive lies now."""
    for folder in (settings.archive_directory, settings.backup_directory):
        if (folder / name).is_file():
            return (folder / name).absolute()
    return None


def _lines(connection: Connection) -> list[Line]:
    series, nodes = schema.series, schema.nodes
    columns = (series.c.id, nodes.c.name, series.c.sensor, series.c.quantity, series.c.last_ms, series.c.last_value)
    query = select(*columns).join_from(series, nodes)
    return [Line(*row) for row in connection.execute(query.order_by(nodes.c.name, series.c.id))]


def _alarms(connection: Connection) -> list[Alarm]:
    alarms = schema.alarms.c
    query = select(alarms.node, alarms.severity, alarms.text, alarms.raised_ms).where(alarms.raised_ms.is_not(None))
    return [Alarm(*row) for row in connection.execute(query.order_by(alarms.raised_ms.desc()))]


def _archives(connection: Connection, folders: tuple[Path, Path]) -> list[ArchiveFiles]:
    table = schema.archives.c
    newest = select(schema.archives).where(table.state == ArchiveState.DONE).order_by(table.id.desc())
    return [
        ArchiveFiles(
            row.created_ms,
            row.rows or 0,
            row.first_ms,
            row.last_ms,
            {name: _size_bytes(name, folders) for name in (row.csv_name, row.xlsx_name)},
        )
        for row in connection.execute(newest.limit(ARCHIVES_SHOWN))
    ]


def _size_bytes(name: str, folders: tuple[Path, Path]) -> int | None:
    for folder in folders:
        try:
            return (folder / name).stat().st_size
        except OSError:
            continue
    return None


class Watch:
    """The facts, read again when they are older than FRESH_S; any number of threads may look."""

    def __init__(self, read: Callable[[], Facts]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._facts: Facts | None = None
        self._read_at = 0.0

    def look(self, *, anew: bool = False) -> Facts:
        """Return the facts; where they cannot be read the last ones, with the fault.

        Raises:
            SensorBridgeError: they could never be read.
        """
        with self._lock:
            if self._facts is not None and not anew and time.monotonic() < self._read_at + FRESH_S:
                return self._facts
            try:
                self._facts = self._read()
            except SensorBridgeError as exc:
                if self._facts is None:
                    raise
                if not self._facts.fault:
                    log.warning("the page shows the last state known: %s", exc)
                self._facts = replace(self._facts, fault=str(exc))
            self._read_at = time.monotonic()
            return self._facts
