"""Losses: seqs that the node had to give up, kept and told until the bridge's receipt covers them.

A loss is on disk with the commit that deletes its readings, never before and
never after; neighbours of one reason merge into one range.
"""

import sqlite3

from mqtt_client.outbox.epoch import Loss


class Losses:
    """The losses of all epochs, in the order in which they happened."""

    def __init__(self, connection: sqlite3.Connection, names: dict[int, str]) -> None:
        """Load what the file holds; ``names`` maps the epochs' row ids to their names."""
        self._names = names
        self._ids = {name: epoch_id for epoch_id, name in names.items()}
        self.told: list[Loss] = []
        """Committed, so they may be published."""
        for row in connection.execute("SELECT id, epoch_id, first, last, reason FROM losses ORDER BY id").fetchall():
            self.told.append(Loss(row[0], names[row[1]], row[2], row[3], row[4]))
        self._next_id = 1 + max((loss.id for loss in self.told), default=0)
        counts = dict(
            connection.execute("SELECT key, value FROM meta WHERE key IN ('lost', 'lost_unknown')").fetchall()
        )
        self._counts = (int(counts.get("lost", 0)), int(counts.get("lost_unknown", 0)))
        self._new: list[Loss] = []
        self._settled: list[Loss] = []
        self._written: tuple[list[Loss], tuple[int, int], int] | None = None

    @property
    def count(self) -> int:
        """How many readings of known number were ever given up here."""
        return self._counts[0]

    @property
    def unknown_count(self) -> int:
        """How often an unknown number was given up."""
        return self._counts[1]

    @property
    def has_changes(self) -> bool:
        """Whether something waits for the next commit."""
        return bool(self._new or self._settled)

    def of(self, epoch: str) -> list[Loss]:
        """Return the losses of an epoch, also those that are not yet committed."""
        return [loss for loss in (*self.told, *self._new) if loss.epoch == epoch]

    def name_epoch(self, epoch_id: int, name: str) -> None:
        """Get to know a new epoch."""
        self._names[epoch_id] = name
        self._ids[name] = epoch_id

    def add(self, epoch: str, first: int, last: int | None, reason: str) -> None:
        """Note a loss for the next commit, which also deletes its readings."""
        before = self._new[-1] if self._new else None
        if before and (before.epoch, before.reason, before.last) == (epoch, reason, first - 1):
            first = self._new.pop().first
        self._new.append(Loss(0, epoch, first, last, reason))

    def settle(self, epoch: str, through: int) -> None:
        """Forget the losses of an epoch that a receipt covers."""
        for loss in self.told.copy():
            if loss.epoch == epoch and (loss.first if loss.last is None else loss.last) <= through:
                self.remove(loss)

    def remove(self, loss: Loss) -> None:
        """Forget one loss with the next commit."""
        self.told.remove(loss)
        self._settled.append(loss)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write what is new within the caller's transaction."""
        if not self.has_changes:
            return
        told, (known, unknown), next_id = self.told.copy(), self._counts, self._next_id
        connection.executemany("DELETE FROM losses WHERE id = ?", [(loss.id,) for loss in self._settled])
        for loss in self._new:
            epoch_id = self._ids[loss.epoch]
            if loss.last is None:
                unknown += 1
            else:
                known += loss.last - loss.first + 1
                query = "DELETE FROM readings WHERE epoch_id = ? AND seq BETWEEN ? AND ?"
                connection.execute(query, (epoch_id, loss.first, loss.last))
            before = told[-1] if told else None
            if before and (before.epoch, before.reason, before.last) == (loss.epoch, loss.reason, loss.first - 1):
                told[-1] = Loss(before.id, loss.epoch, before.first, loss.last, loss.reason)
            else:
                told.append(Loss(next_id, loss.epoch, loss.first, loss.last, loss.reason))
                next_id += 1
            row = (told[-1].id, epoch_id, told[-1].first, told[-1].last, loss.reason)
            connection.execute("INSERT OR REPLACE INTO losses VALUES (?, ?, ?, ?, ?)", row)
        counts = [("lost", known), ("lost_unknown", unknown)]
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", counts)
        self._written = told, (known, unknown), next_id

    def written(self) -> None:
        """Take over what was written, after its commit."""
        if self._written is not None:
            self.told, self._counts, self._next_id = self._written
            self._new.clear()
            self._settled.clear()
            self._written = None
