"""Nodes and sources as the database has them, read once and kept in memory by the process that writes them."""

from sqlalchemy import Connection, insert, select

from bridge.store import schema, sources
from bridge.store.database import Store
from bridge.store.sources import Source


class Directory:
    """The nodes and sources that were met; after a failed commit they are forgotten and read again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._nodes: dict[str, int] = {}
        self._sources: dict[tuple[str, str], Source] = {}

    def forget(self) -> None:
        """Forget everything, since it may not be what the database has."""
        self._nodes.clear()
        self._sources.clear()

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

    def source(self, connection: Connection, name: str, epoch: str, at_ms: int) -> Source:
        """Return a source, making its row where this store meets the epoch for the first time."""
        source = self._sources.get((name, epoch))
        if source is None:
            source = Source.load(connection, self.node(connection, name), name, epoch, at_ms)
            self._sources[name, epoch] = source
        return source

    def every_source(self) -> list[Source]:
        """Return all sources of the store, a node's newest epoch last."""
        with self._store.read() as connection:
            for source in sources.load_all(connection):
                self._sources.setdefault((source.node, source.epoch), source)
        return sorted(self._sources.values(), key=lambda source: source.id)
