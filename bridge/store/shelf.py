"""The store as the archiver sees it: which readings are in which archive, and which may be forgotten.

An archive is an intent first (its names), then a fixed set of rows, then two
files. Each step is one short commit and long marks are made in chunks, so
that no other writer waits; after a kill the open intent says where to go on.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select, text, update
from sqlalchemy.engine import Row as SqlRow

from bridge.store import schema, sources
from bridge.store.database import Store
from bridge.store.schema import CLOCKS, ArchiveState, Forward
from mqtt_client.reading import reading_id

MARK_ROWS = 250
"""Changed in one transaction: others wait for one or two milliseconds."""
PAGE_ROWS = 5000
PAUSE_S = 0.002
"""Between two chunks: longer than a waiting writer sleeps before it looks at the lock again."""

_values = msgspec.json.Decoder(dict[str, float])


@dataclass(frozen=True)
class Archive:
    """One archive: two files with the same readings."""

    id: int
    state: ArchiveState
    created_ms: int
    csv_name: str
    xlsx_name: str
    csv_form: str
    rows: int | None = None
    first_ms: int | None = None
    last_ms: int | None = None
    csv_sha256: str | None = None
    xlsx_sha256: str | None = None


class Stored(NamedTuple):
    """A reading as the store holds it."""

    node: str
    sensor: str
    id: str
    time_ms: int
    clock: str
    values: dict[str, float]


class Held(NamedTuple):
    """Where a reading stands that no archive has yet."""

    row: int
    source_id: int
    seq: int


Claim = Callable[[Held], int | None]
"""Returns the archive that has this reading already, None when none has."""


class Abandoned(Exception):
    """Told to stop; the open intent says where the next pass goes on."""


def check(stop: threading.Event | None) -> None:
    """Return unless told to stop.

    Raises:
        Abandoned: told to stop.
    """
    if stop is not None and stop.is_set():
        raise Abandoned


@contextmanager
def chunk(store: Store) -> Iterator[Connection]:
    """Run one of many write transactions, then give way to other writers."""
    with store.write() as connection:
        yield connection
    time.sleep(PAUSE_S)


def waiting(store: Store) -> int:
    """Count the readings that are in no archive."""
    with store.read() as connection:
        query = select(func.count()).where(schema.readings.c.archive_id.is_(None))
        return connection.scalar(query) or 0


def open_archives(store: Store) -> list[Archive]:
    """Return the archives whose files are not in place yet, oldest first."""
    return _archives(store, schema.archives.c.state < ArchiveState.DONE)


def finished_archives(store: Store, created_ms: int) -> list[Archive]:
    """Return the archives that are done and were begun at created_ms or before, oldest first."""
    table = schema.archives.c
    return _archives(store, (table.state == ArchiveState.DONE) & (table.created_ms <= created_ms))


def archive_of_file(store: Store, name: str) -> Archive | None:
    """Return the archive that a file's name belongs to."""
    table = schema.archives.c
    return next(iter(_archives(store, (table.csv_name == name) | (table.xlsx_name == name))), None)


def known_names(store: Store) -> set[str]:
    """Return the names of the CSV files of all archives."""
    with store.read() as connection:
        return set(connection.scalars(select(schema.archives.c.csv_name)))


def _archives(store: Store, condition: ColumnElement[bool]) -> list[Archive]:
    with store.read() as connection:
        rows = connection.execute(select(schema.archives).where(condition).order_by(schema.archives.c.id)).all()
    return [_archive(row) for row in rows]


def _archive(row: SqlRow[tuple[object, ...]]) -> Archive:
    fields = dict(row._mapping)
    return Archive(**{**fields, "state": ArchiveState(fields["state"])})


def begin(store: Store, csv_name: str, xlsx_name: str, csv_form: str, created_ms: int) -> Archive:
    """Commit the intent to make an archive under these names."""
    archive = Archive(0, ArchiveState.MARKING, created_ms, csv_name, xlsx_name, csv_form)
    with store.write() as connection:
        return add(connection, archive)


def add(connection: Connection, archive: Archive) -> Archive:
    """Write an archive's row within a transaction; its id is given here."""
    values = {name: value for name, value in vars(archive).items() if name != "id"}
    made = connection.execute(insert(schema.archives).values(values))
    assert made.inserted_primary_key is not None
    return Archive(**{**values, "id": made.inserted_primary_key[0]})


def change(store: Store, archive: Archive, **values: object) -> Archive:
    """Commit new values of an archive's row."""
    with store.write() as connection:
        connection.execute(update(schema.archives).where(schema.archives.c.id == archive.id).values(values))
    return Archive(**{**vars(archive), **values})


def cancel(store: Store, archive: Archive) -> None:
    """Commit that an intent without readings is none."""
    with store.write() as connection:
        connection.execute(delete(schema.archives).where(schema.archives.c.id == archive.id))


def mark(
    store: Store, archive: Archive, limit: int, claimed: Claim | None = None, stop: threading.Event | None = None
) -> int:
    """Put readings that are in no archive into this one, oldest first, until it holds limit of them.

    Args:
        store: the store.
        archive: an open intent.
        limit: rows that it may hold.
        claimed: knows readings that another archive's file holds already; they are put there.
        stop: set to stop between two chunks.

    Returns:
        How many readings it holds.

    Raises:
        Abandoned: told to stop.
    """
    with store.read() as connection:
        query = select(func.count()).where(_READINGS.archive_id == archive.id)
        held = connection.scalar(query) or 0
    while held < limit:
        check(stop)
        wanted = min(MARK_ROWS, limit - held)
        with chunk(store) as connection:
            found = [Held(*row) for row in connection.execute(_MARK, {"into": archive.id, "rows": wanted})]
            elsewhere = [(one, other) for one in found if claimed and (other := claimed(one))]
            if elsewhere:
                connection.execute(_MOVE, [{"row": one.row, "into": other} for one, other in elsewhere])
        held += len(found) - len(elsewhere)
        if len(found) < wanted:
            break
    return held


_READINGS = schema.readings.c
_MARK = text(
    "UPDATE readings SET archive_id = :into WHERE id IN "
    "(SELECT id FROM readings WHERE archive_id IS NULL ORDER BY time_ms LIMIT :rows) "
    "RETURNING id, source_id, seq"
)
_MOVE = update(schema.readings).where(_READINGS.id == bindparam("row")).values(archive_id=bindparam("into"))


_PAGE = text(
    'SELECT id, source_id, seq, sensor, time_ms, clock, "values" FROM readings '
    "WHERE archive_id = :archive AND time_ms >= :time_ms AND (time_ms > :time_ms OR id > :id) "
    "ORDER BY time_ms, id LIMIT :rows"
)


def pages(store: Store, archive_id: int, stop: threading.Event | None = None) -> Iterator[list[Stored]]:
    """Read a sealed archive's readings by time, in lists of PAGE_ROWS.

    Each page is a transaction of its own: one that stays open would keep
    SQLite from emptying its log.

    Raises:
        Abandoned: told to stop.
    """
    names = source_names(store)
    place = {"archive": archive_id, "time_ms": -(1 << 62), "id": -1, "rows": PAGE_ROWS}
    while True:
        check(stop)
        with store.read() as connection:
            rows = connection.execute(_PAGE, place).all()
        if rows:
            yield [
                Stored(
                    names[source_id][0],
                    sensor,
                    reading_id(*names[source_id], seq),
                    time_ms,
                    CLOCKS[clock],
                    _values.decode(values),
                )
                for _, source_id, seq, sensor, time_ms, clock, values in rows
            ]
            place |= {"time_ms": rows[-1].time_ms, "id": rows[-1].id}
        if len(rows) < PAGE_ROWS:
            return


def source_names(store: Store) -> dict[int, tuple[str, str]]:
    """Return node and epoch of every source, by its id."""
    query = select(schema.sources.c.id, schema.nodes.c.name, schema.sources.c.epoch).join_from(
        schema.sources, schema.nodes
    )
    with store.read() as connection:
        return {row.id: (row.name, row.epoch) for row in connection.execute(query)}


def prune(store: Store, *, received_ms: int, forwarding: bool, stop: threading.Event | None = None) -> int:
    """Forget readings that everybody has: in a finished archive, settled, at or below ``through``, and old.

    The interval sets still know them as repeats. What refers to their rows
    goes with them, since SQLite may give a row's number again.

    Args:
        store: the store.
        received_ms: those committed at this time or before.
        forwarding: whether there is a server; without one, none waits for it.
        stop: set to stop between two chunks.

    Returns:
        How many were forgotten.

    Raises:
        Abandoned: told to stop.
    """
    with store.read() as connection:
        through = {source.id: source.through for source in sources.load_all(connection)}
    settled = {Forward.SETTLED, Forward.DUPLICATE, Forward.DROPPED}
    if not forwarding:
        settled |= {Forward.PENDING, Forward.CLAIMED}
    forgotten = 0
    for archive in finished_archives(store, received_ms):
        place = {"archive": archive.id, "time_ms": -(1 << 62), "id": -1, "rows": MARK_ROWS}
        rows: Sequence[SqlRow[tuple[object, ...]]] | None = None
        while rows is None or len(rows) == MARK_ROWS:
            check(stop)
            with chunk(store) as connection:
                rows = connection.execute(_TO_PRUNE, place).all()
                gone = [
                    row.id
                    for row in rows
                    if row.forward_state in settled
                    and row.received_ms <= received_ms
                    and row.seq <= through.get(row.source_id, 0)
                ]
                _forget(connection, gone)
            forgotten += len(gone)
            if rows:
                place |= {"time_ms": rows[-1].time_ms, "id": rows[-1].id}
    return forgotten


_TO_PRUNE = text(
    "SELECT id, source_id, seq, time_ms, received_ms, forward_state FROM readings "
    "WHERE archive_id = :archive AND time_ms >= :time_ms AND (time_ms > :time_ms OR id > :id) "
    "ORDER BY time_ms, id LIMIT :rows"
)


def _forget(connection: Connection, rows: Iterable[int]) -> None:
    keys = [{"row": row} for row in rows]
    if keys:
        letters, attempts = schema.dead_letters, schema.attempts
        connection.execute(
            update(letters).where(letters.c.reading_id == bindparam("row")).values(reading_id=None), keys
        )
        connection.execute(delete(attempts).where(attempts.c.reading_id == bindparam("row")), keys)
        connection.execute(delete(schema.readings).where(_READINGS.id == bindparam("row")), keys)
