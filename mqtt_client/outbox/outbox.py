"""The outbox: every reading from the commit that makes it taken until a receipt covers it.

One transaction carries all that waits to be written: new readings, deletions
of settled ones, losses, the state for ``status``. So a beat of the sensors
costs one commit. What a power cut leaves behind is the last commit; what was
deleted in memory only comes back and is sent again, which the bridge knows as
a repeat.

Rows keep the identity they were published with, so the outbox may hold several
epochs; only the last one grows.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mqtt_client.errors import InvalidReading, OutboxDamaged, StorageFull
from mqtt_client.intervals import Interval
from mqtt_client.outbox import epoch_table, rewriting
from mqtt_client.outbox.epoch import Draft, Epoch, Row
from mqtt_client.outbox.losses import Losses
from mqtt_client.outbox.schema import transaction, translated
from mqtt_client.reading import Reading, decode, encode, from_ms

DELETE_AT_ONCE = 20_000
PUT_AT_ONCE = 1000
CLOSE_S = 2.0
FULL = "the outbox was full"
UNWRITTEN = "the card was full"
UNREADABLE = "damaged in the outbox"


class Outbox:
    """The open outbox of one node; use :func:`mqtt_client.outbox.opening.open_outbox`.

    Every method may raise StorageFull where it commits, and OutboxDamaged
    where it finds the file corrupt. It belongs to the thread that opened it.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        node: str,
        boot: str,
        max_readings: int,
        release: Callable[[], None],
    ) -> None:
        """Load what the file holds; ``release`` lets go of its lock."""
        self.path = path
        self.node = node
        self.max_readings = max_readings
        self._connection = connection
        self._release = release
        self.commits = 0
        self._is_closed = False
        self._is_publishing = False
        self._state: bytes | None = None
        with translated(path), transaction(connection):
            connection.execute("INSERT OR IGNORE INTO boots (boot) VALUES (?)", (boot,))
            (self._boot_id,) = connection.execute("SELECT id FROM boots WHERE boot = ?", (boot,)).fetchone()
            self.epochs, self._reference_ms = epoch_table.load(connection)
            if not self.epochs:
                self.epochs.append(epoch_table.insert(connection))
            self.losses = Losses(connection, {epoch.id: epoch.name for epoch in self.epochs})

    @property
    def current(self) -> Epoch:
        """The epoch of new readings."""
        return self.epochs[-1]

    @property
    def waiting(self) -> int:
        """How many readings no receipt covers yet."""
        return sum(epoch.rows.count for epoch in self.epochs)

    @property
    def reference_ms(self) -> int | None:
        """The time of the last reading that was not held, None before the first."""
        return self._reference_ms

    @property
    def has_changes(self) -> bool:
        """Whether something waits for the next commit."""
        return bool(self._state or self.losses.has_changes or any(epoch.doomed for epoch in self.epochs))

    def put(self, drafts: Sequence[Draft], entries: Sequence[bytes] = ()) -> list[Row]:
        """Commit readings; from then on they are taken.

        Full, the outbox gives up its oldest readings in the same commit.

        Args:
            drafts: what was measured, in order.
            entries: for an import, what each one is known by; such an old
                reading's time says nothing about the clock.

        Raises:
            StorageFull: these were not taken; their seqs are told as lost with the next commit.
        """
        rows: list[Row] = []
        step = min(PUT_AT_ONCE, self.max_readings)
        for start in range(0, len(drafts), step):
            rows += self._put(drafts[start : start + step], entries[start : start + step])
        return rows

    def _put(self, drafts: Sequence[Draft], entries: Sequence[bytes]) -> list[Row]:
        epoch = self.current
        first = epoch.next_seq
        rows = [self._row(epoch.name, first + index, draft) for index, draft in enumerate(drafts)]
        last = epoch.next_seq = first + len(rows)
        last -= 1
        self._make_room(len(rows))
        reference_ms = self._reference_ms
        if not entries:
            reference_ms = next((draft.time_ms for draft in reversed(drafts) if not draft.held), reference_ms)
        try:
            self._commit(list(zip(rows, drafts, strict=True)), entries, reference_ms)
        except StorageFull:
            if entries:
                epoch.next_seq = first  # nothing is lost: the file that is imported still has them
            else:
                self.losses.add(epoch.name, first, last, UNWRITTEN)
            raise
        epoch.rows.add(first, last)
        for row, draft in zip(rows, drafts, strict=True):
            if draft.held:
                epoch.held.add(row.seq, row.seq)
        return rows

    def _row(self, epoch: str, seq: int, draft: Draft) -> Row:
        reading = Reading(1, self.node, draft.sensor, epoch, seq, from_ms(draft.time_ms), draft.clock, draft.values)
        return Row(epoch, seq, draft.sensor, encode(reading), draft.monotonic_ms)

    def _make_room(self, number: int) -> None:
        """Give up the oldest readings when the outbox is full, one in a hundred at once."""
        surplus = self.waiting + number - self.max_readings
        surplus = max(surplus, self.max_readings // 100) if surplus > 0 else 0
        for epoch in self.epochs:
            ranges = epoch.lowest(surplus)
            surplus -= epoch.settle(ranges)
            for first, last in ranges:
                self.losses.add(epoch.name, first, last, FULL)

    def pending(self, epoch: Epoch, first: int, last: int, limit: int, size_bytes: int) -> list[Row]:
        """Return readings from first to last, at most so many and so many bytes, at least one if there is one.

        A row that is no reading any more is given up as lost.
        """
        rows: list[Row] = []
        with translated(self.path):
            found = self._connection.execute(
                "SELECT seq, payload, monotonic_ms FROM readings "
                "WHERE epoch_id = ? AND seq BETWEEN ? AND ? AND NOT held ORDER BY seq LIMIT ?",
                (epoch.id, first, last, limit),
            ).fetchall()
        if not found:
            raise OutboxDamaged(f"OUTBOX_PATH: {str(self.path)!r} has lost rows {first} to {last} of {epoch.name}")
        for seq, payload, monotonic_ms in found:
            if seq not in epoch.rows:
                continue
            size_bytes -= len(payload) + 1
            if rows and size_bytes < 0:
                break
            sensor = self._sensor_of(epoch, seq, payload)
            if sensor is None:
                epoch.settle([(seq, seq)])
                self.losses.add(epoch.name, seq, seq, UNREADABLE)
            else:
                rows.append(Row(epoch.name, seq, sensor, payload, monotonic_ms))
        return rows

    def _sensor_of(self, epoch: Epoch, seq: int, payload: bytes) -> str | None:
        try:
            reading = decode(payload)
        except InvalidReading:
            return None
        return reading.sensor if (reading.node, reading.epoch, reading.seq) == (self.node, epoch.name, seq) else None

    def settle(self, name: str, through: int, beyond: Sequence[Interval]) -> bool:
        """Forget what a receipt covers; deletions ride along with the next commit.

        A receipt that covers what was never published from here begins a new
        epoch first, and takes along what it would have settled by mistake.

        Returns:
            Whether a new epoch began.
        """
        epoch = self.find(name)
        if epoch is None:
            return False
        covered = [(1, through), *((first, last) for first, last in beyond)]
        is_foreign = epoch is self.current and epoch.is_foreign(covered)
        if is_foreign:
            self.begin_epoch()
        epoch.settle(covered)
        self.losses.settle(epoch.name, through)
        self._forget_empty_epochs()
        return is_foreign

    def find(self, name: str) -> Epoch | None:
        """Return the epoch of this name, None where the outbox holds nothing of it."""
        return next((epoch for epoch in self.epochs if epoch.name == name), None)

    def floor(self, epoch: Epoch) -> int:
        """Return the lowest seq that the bridge may still hear of: of a reading that is held, or of an untold loss.

        A bridge that meets the epoch for the first time begins there, so a loss below it would never be known.
        """
        return min([epoch.floor, *(loss.first for loss in self.losses.of(epoch.name))])

    def flush(self) -> None:
        """Commit what waits for a commit."""
        if self.has_changes:
            self._commit([], (), self._reference_ms)

    def note(self, state: bytes) -> None:
        """Keep the running node's own state, JSON, with the next commit."""
        self._state = state

    def begin_publishing(self) -> None:
        """Remember, before the first publish of this process, that rows on disk may have been published."""
        if not self._is_publishing:
            self._is_publishing = True
            try:
                self._commit([], (), self._reference_ms)
            except StorageFull:
                self._is_publishing = False
                raise

    def release(self, boot: str | None, offset_ms: int | None) -> int:
        """Let readings go that waited for the clock, their times corrected where that can be done.

        Args:
            boot: the boot of this uptime; None releases only those of earlier ones.
            offset_ms: wall clock minus monotonic clock, None when it is still not known.
        """
        number = 0
        with translated(self.path), transaction(self._connection):
            for epoch in self.epochs:
                for part in epoch.held:
                    number += rewriting.release(
                        self._connection, epoch, part, self._boot_id, boot is not None, offset_ms
                    )
        for epoch in self.epochs:
            epoch.held = epoch_table.load_held(self._connection, epoch.id)
        return number

    def oldest(self) -> int | None:
        """Return the time of the oldest reading that waits, None where none does."""
        for epoch in self.epochs:
            if epoch.rows:
                query = "SELECT time_ms FROM readings WHERE epoch_id = ? AND seq = ?"
                with translated(self.path):
                    found = self._connection.execute(query, (epoch.id, epoch.floor)).fetchone()
                return int(found[0]) if found else None
        return None

    def is_imported(self, entry: bytes) -> bool:
        """Tell whether an import has taken this entry before."""
        with translated(self.path):
            found = self._connection.execute("SELECT 1 FROM imported WHERE entry = ?", (entry,)).fetchone()
        return found is not None

    def begin_epoch(self) -> None:
        """Begin a new epoch; what was certainly never published goes along under a new identity."""
        old = self.current
        parts = [
            part for own in old.rows.within(old.certain_from, old.next_seq) for part in old.attempted.holes(*own)
        ]
        with translated(self.path), transaction(self._connection):
            new = epoch_table.insert(self._connection)
            for part in parts:
                rewriting.move(self._connection, old, new, part)
            self._save(new, 0, self._reference_ms)
        for part in parts:
            old.rows.remove(*part)
            old.held.remove(*part)
        self.epochs.append(new)
        self.losses.name_epoch(new.id, new.name)

    def close(self) -> None:
        """Commit what waits, where there is room, and let the file and its lock go; again, do nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        deadline = time.monotonic() + CLOSE_S
        try:
            while self.has_changes and time.monotonic() < deadline:
                self.flush()
        except StorageFull:
            pass  # deletions only: they come back and are settled again
        finally:
            self._connection.close()
            self._release()

    def _commit(self, new: Sequence[tuple[Row, Draft]], entries: Sequence[bytes], reference_ms: int | None) -> None:
        """Write all that waits; on a full disk once more, with the room that the journal took."""
        try:
            self._write(new, entries, reference_ms)
        except StorageFull:
            with translated(self.path):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._write(new, entries, reference_ms)

    def _write(self, new: Sequence[tuple[Row, Draft]], entries: Sequence[bytes], reference_ms: int | None) -> None:
        """Write all that waits in one transaction, and nothing of it where that fails."""
        epoch = self.current
        execute = self._connection.execute
        deleted: list[tuple[Epoch, int, int]] = []
        with translated(self.path), transaction(self._connection):
            for one in self.epochs:
                for first, last in one.doomed.above(0, 64):
                    last = min(last, first + DELETE_AT_ONCE)
                    execute("DELETE FROM readings WHERE epoch_id = ? AND seq BETWEEN ? AND ?", (one.id, first, last))
                    deleted.append((one, first, last))
            self.losses.write(self._connection)
            self._connection.executemany(
                "INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (epoch.id, row.seq, row.payload, draft.time_ms, self._boot_id, draft.monotonic_ms, draft.held)
                    for row, draft in new
                ],
            )
            self._connection.executemany("INSERT INTO imported VALUES (?)", [(entry,) for entry in entries])
            for one in self.epochs:
                self._save(one, len(new) if one is epoch else 0, reference_ms)
            if self._state is not None:
                execute("INSERT OR REPLACE INTO meta VALUES ('state', ?)", (self._state,))
        self.commits += 1
        self._state = None
        self._reference_ms = reference_ms
        self.losses.written()
        for one, first, last in deleted:
            one.doomed.remove(first, last)

    def _save(self, epoch: Epoch, new: int, reference_ms: int | None) -> None:
        epoch_table.save(self._connection, epoch, new, is_publishing=self._is_publishing, reference_ms=reference_ms)

    def _forget_empty_epochs(self) -> None:
        """Drop the old epochs of which nothing is left."""
        for epoch in self.epochs[:-1]:
            if not epoch.rows and not self.losses.of(epoch.name):
                with translated(self.path), transaction(self._connection):
                    epoch_table.forget(self._connection, epoch)
                self.epochs.remove(epoch)
