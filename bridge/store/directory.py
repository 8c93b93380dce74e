"""Nodes and sources as the database has them, read once and kept in memory by the process that writes them."""

from collections.abc import Iterable

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects import postgresql

from bridge.store import schema, sources
from bridge.store.database import Store
from bridge.store.sources import Source


class Directory:
    """The nodes and sources that were met; after a failed commit they are forgotten and read again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_shared = not store.is_sqlite
        self._nodes: dict[str, int] = {}
        self._sources: dict[tuple[str, str], Source] = {}

    def forget(self) -> None:
        """Forget everything, since it may not be what the database has."""
        self._nodes.clear()
        self._sources.clear()

    def begin(self, connection: Connection, names: Iterable[str]) -> None:
        """Begin a transaction that will touch these nodes.

        On PostgreSQL other bridges write too: the nodes' rows are locked, in the order of their names, and
        everything about them is read anew.
        """
        if not self._is_shared:
            return
        self.forget()
        table = schema.nodes
        wanted = sorted(set(names))
        if wanted:
            made = postgresql.insert(table).on_conflict_do_nothing()
            connection.execute(made, [{"name": name} for name in wanted])
        rows = connection.execute(
            select(table.c.name, table.c.id).where(table.c.name.in_(wanted)).order_by(table.c.name).with_for_update()
        )
        self._nodes = {row.name: row.id for row in rows}
        for source in sources.load_all(connection, self._nodes.values()):
            self._sources[source.node, source.epoch] = source

    def node(self, connection: Connection, name: str) -> int:
        """Return a node's row number, making its row where this store meets it for the first time."""
        node_id = self._nodes.get(name)
        if node_id is None:
            table = schema.nodes
            node_id = connection.scalar(select(table.c.id).where(table.c.name == name))
            if node_id is None:
                made = connection.execute(insert(table).values(name=name))
                assert made.inserted_primary_key is not None
                node_id = int(made.inserted_primary_key[0])
            self._nodes[name] = node_id
        return node_id

    def known(self, name: str, epoch: str) -> Source | None:
        """Return a source that was met already."""
        return self._sources.get((name, epoch))

    def source(self, connection: Connection, name: str, epoch: str, at_ms: int) -> Source:
        """Return a source, making its row where this store meets the epoch for the first time."""
        source = self._sources.get((name, epoch))
        if source is None:
            source = Source.load(connection, self.node(connection, name), name, epoch, at_ms)
            self._sources[name, epoch] = source
        return source

    def announce(self, name: str, epoch: str) -> None:
        """Note which epoch a node's info names."""
        for source in self._sources.values():
            if source.node == name:
                source.is_announced = source.epoch == epoch

    def every_source(self) -> list[Source]:
        """Return all sources of the store, a node's own epoch last."""
        if self._is_shared:
            self.forget()
        with self._store.read() as connection:
            for source in sources.load_all(connection):
                self._sources.setdefault((source.node, source.epoch), source)
        return sorted(self._sources.values(), key=lambda source: (source.is_announced, source.id))
