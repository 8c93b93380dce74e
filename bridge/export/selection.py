"""Which readings are asked for."""

from dataclasses import dataclass

from bridge.store.shelf import Stored

FIRST_MS, LAST_MS = -(1 << 62), 1 << 62


@dataclass(frozen=True)
class Selection:
    """A range of time, nodes and quantities; what is empty means all."""

    from_ms: int = FIRST_MS
    to_ms: int = LAST_MS
    """Not included."""
    nodes: frozenset[str] = frozenset()
    quantities: tuple[str, ...] = ()

    def overlaps(self, first_ms: int | None, last_ms: int | None) -> bool:
        """Tell whether readings between these two times may belong to it; None: unknown."""
        return (last_ms is None or last_ms >= self.from_ms) and (first_ms is None or first_ms < self.to_ms)

    def take(self, reading: Stored) -> Stored | None:
        """Return a reading with what was asked for of it, None where that is nothing."""
        if not self.from_ms <= reading.time_ms < self.to_ms or (self.nodes and reading.node not in self.nodes):
            return None
        if not self.quantities:
            return reading
        values = {name: reading.values[name] for name in self.quantities if name in reading.values}
        return reading._replace(values=values) if values else None
