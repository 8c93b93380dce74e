"""Many rows at once, as fast as the database takes them: plain tuples, which nobody looks at on their way."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from sqlalchemy import Connection


class Row(NamedTuple):
    """A row for ``readings``, in the order of the INSERT."""

    source_id: int
    node_id: int
    seq: int
    sensor: str
    time_ms: int
    clock: int
    values: str
    received_ms: int


ROWS_AT_ONCE = 500
"""In one statement on SQLite: each run of a statement costs a fifth of what a row costs."""
_COLUMNS = ", ".join(f'"{name}"' for name in Row._fields)
_PLACES = f"({', '.join('?' * len(Row._fields))})"
_INSERT = f"INSERT INTO readings ({_COLUMNS}) VALUES {_PLACES}"  # noqa: S608  # no input
_INSERT_AT_ONCE = f"{_INSERT}{f', {_PLACES}' * (ROWS_AT_ONCE - 1)}"
_COPY = f"COPY readings ({_COLUMNS}) FROM STDIN"


def insert_readings(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert rows within a transaction: ROWS_AT_ONCE by one statement on SQLite, by COPY on PostgreSQL."""
    if connection.dialect.name == "sqlite":
        rest = len(rows) - len(rows) % ROWS_AT_ONCE
        for start in range(0, rest, ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            connection.exec_driver_sql(_INSERT_AT_ONCE, tuple(chain.from_iterable(some)))
        run(connection, _INSERT, rows[rest:])
        return
    cursor = connection.connection.cursor()
    with cursor.copy(_COPY) as copy:
        for row in rows:
            copy.write_row(row)
    cursor.close()


def run(connection: Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Run a statement, with a ``?`` for each value, once for each row of values."""
    if rows:
        places = statement if connection.dialect.name == "sqlite" else statement.replace("?", "%s")
        connection.exec_driver_sql(places, list(rows))
