"""New rows of ``readings``, as fast as the database takes them."""

from collections.abc import Sequence
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


_COLUMNS = ", ".join(f'"{name}"' for name in Row._fields)
_INSERT = f"INSERT INTO readings ({_COLUMNS}) VALUES ({', '.join('?' * len(Row._fields))})"  # noqa: S608  # no input
_COPY = f"COPY readings ({_COLUMNS}) FROM STDIN"


def insert_readings(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert rows within a transaction: by one prepared statement on SQLite, by COPY on PostgreSQL."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_INSERT, list(rows))
        return
    cursor = connection.connection.cursor()
    with cursor.copy(_COPY) as copy:
        for row in rows:
            copy.write_row(row)
    cursor.close()
