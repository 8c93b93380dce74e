"""Reads a store beside the bridge that works with it: nothing is made, migrated or written."""

from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine, inspect, select

from bridge.errors import StoreUnusable
from bridge.store import schema
from bridge.store.database import HEAD, Store, sqlite_path, translated


def peek(url: str) -> Store | None:
    """Open a store to read it; None where there is none yet.

    Raises:
        StoreUnusable: it is damaged, or has the tables of another release.
        StoreBusy: its database cannot be reached now.
    """
    file = sqlite_path(url)
    if file is not None and not file.exists():
        return None
    engine = create_engine(url if file is None else _read_only(file))
    with translated(), engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            engine.dispose()
            return None
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        if version != HEAD:
            engine.dispose()
            raise StoreUnusable(
                f"STORE_URL: the store has the tables of another release ({version}, this one's are {HEAD})"
            )
        store_id = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == "store_id"))
    return Store(engine, store_id or "")


def _read_only(file: Path) -> str:
    return f"sqlite:///file:{quote(str(file.absolute()))}?mode=ro&uri=true"
