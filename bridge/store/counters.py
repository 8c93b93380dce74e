"""Counters that outlive their process, such as readings sent again after an unknown outcome."""

from sqlalchemy import Connection, select, text

from bridge.store import schema
from bridge.store.database import Store

_COUNT = text(
    "INSERT INTO counters (name, value) VALUES (:name, :amount) "
    "ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value"
)


def count(connection: Connection, name: str, amount: int) -> None:
    """Add amount to a counter, in the transaction of what is counted."""
    if not amount:
        return
    connection.execute(_COUNT, {"name": name, "amount": amount})


def counted(store: Store) -> dict[str, int]:
    """Return all counters by name."""
    with store.read() as connection:
        return {row.name: row.value for row in connection.execute(select(schema.counters))}
