"""Bring a store's tables to this release (Alembic); a second process that starts meanwhile waits its turn."""

from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from bridge.errors import StoreUnusable
from bridge.store import schema

ADVISORY_LOCK = 6_720_114
"""Any number that nobody else takes in this database."""
MIGRATIONS = Path(__file__).with_name("migrations")


def scripts() -> ScriptDirectory:
    """Return the migrations of this release."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(config)


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Run what is missing in one transaction, so that a kill in the middle leaves the tables as they were.

    Raises:
        StoreUnusable: the store was made by a newer release.
    """
    directory = scripts()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.execution_options(writes=True).begin() as connection:

        def steps(current: Any, _context: object) -> object:
            known = {script.revision for script in directory.walk_revisions()}
            unknown = {str(one) for one in _as_tuple(current)} - known
            if unknown:
                raise StoreUnusable(
                    f"STORE_URL: the store is of a newer release (tables {', '.join(unknown)}); install that release"
                )
            return directory._upgrade_revs(revision, current)

        if engine.dialect.name == "postgresql":  # SQLite's transaction has the write lock already
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        with EnvironmentContext(config, directory, fn=steps) as environment:
            environment.configure(connection=connection, target_metadata=schema.metadata)
            environment.run_migrations()


def _as_tuple(current: object) -> tuple[object, ...]:
    if current is None or current == ():
        return ()
    return current if isinstance(current, tuple) else (current,)
