"""Migrations lead to the tables that the code uses."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bridge.store import database, schema
from bridge.store.database import Store
from bridge.store.migrate import scripts


def test_the_migrations_end_where_the_code_says() -> None:
    assert scripts().get_heads() == [database.HEAD]


def test_migrated_tables_are_those_of_the_code(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
