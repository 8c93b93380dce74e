"""Nodes and sources as the database has them, read once and kept in memory by the process that writes them."""

from collections import defaultdict
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
        self._made: set[str] = set()
        self._sources: defaultdict[str, dict[str, Source]] = defaultdict(dict)
        """By the node's name, then by epoch."""

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
        wanted = sorted(set(names) - {""})
        self._make_rows([name for name in wanted if name not in self._made])
        lock = select(table.c.name, table.c.id).where(table.c.name.in_(wanted)).order_by(table.c.name)
        lock = lock.with_for_update(key_share=True)
        self._nodes = {row.name: row.id for row in connection.execute(lock)}
        for source in sources.load_all(connection, self._nodes.values()):
            self._sources[source.node][source.epoch] = source

    def _make_rows(self, names: list[str]) -> None:
        """Make the rows of nodes that this process has not met, in a transaction of their own: none waits in it."""
        if names:
            with self._store.write() as connection:
                made = postgresql.insert(schema.nodes).on_conflict_do_nothing()
                connection.execute(made, [{"name": name} for name in names])
            self._made.update(names)

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
        of_node = self._sources.get(name)
        return of_node.get(epoch) if of_node else None

    def source(self, connection: Connection, name: str, epoch: str, at_ms: int) -> Source:
        """Return a source, making its row where this store meets the epoch for the first time."""
        source = self.known(name, epoch)
        if source is None:
            source = Source.load(connection, self.node(connection, name), name, epoch, at_ms)
            self._sources[name][epoch] = source
        return source

    def announce(self, name: str, epoch: str) -> None:
        """Note which epoch a node's info names."""
        for source in self._sources[name].values():
            source.is_announced = source.epoch == epoch

    def every_source(self) -> list[Source]:
        """Return all sources of the store, a node's own epoch last."""
        if self._is_shared:
            self.forget()
        with self._store.read() as connection:
            for source in sources.load_all(connection):
                self._sources[source.node].setdefault(source.epoch, source)
        found = [source for of_node in self._sources.values() for source in of_node.values()]
        return sorted(found, key=lambda source: (source.is_announced, source.id))
