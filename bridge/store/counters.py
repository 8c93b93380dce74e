"""Counters that outlive their process, such as readings sent again after an unknown outcome."""

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from bridge.store import schema
from bridge.store.database import Store


def count(connection: Connection, name: str, amount: int) -> None:
    """Add amount to a counter, in the transaction of what is counted."""
    if not amount:
        return
    dialect_insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = dialect_insert(schema.counters).values(name=name, value=amount)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"value": schema.counters.c.value + statement.excluded.value}
        )
    )


def counted(store: Store) -> dict[str, int]:
    """Return all counters by name."""
    with store.read() as connection:
        return {row.name: row.value for row in connection.execute(select(schema.counters))}
