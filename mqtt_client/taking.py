"""How a sample becomes a reading: stamped, held back where the clock cannot be right, committed to the outbox.

A reading is taken when that commit returns. What came in between two commits
is in memory alone, and what a power cut leaves behind is the last commit.
"""

import logging
import time

from mqtt_client.clock import Timekeeper, TimeSource
from mqtt_client.outbox.epoch import Draft, Row
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.reading import format_time, from_ms
from mqtt_client.sensors.sampler import Sample

log = logging.getLogger("node")

CLOCK_S = 1.0
FLUSH_MORE_S = 0.2
LINGER_S = 0.03
"""Sensors of one beat come so close together, and share a commit."""


class Taking:
    """The samples that wait for their commit, and when the outbox is written."""

    def __init__(
        self, outbox: Outbox, keeper: Timekeeper, source: TimeSource, interval_s: float, commit_interval_s: float
    ) -> None:
        """Let go what earlier boots held, and go on holding what an earlier process of this boot did."""
        self.interval_s = interval_s
        """Seconds between two readings of a sensor."""
        self.taken = 0
        """Readings that this run has taken."""
        self._outbox = outbox
        self._keeper = keeper
        self._source = source
        self._commit_interval_s = commit_interval_s
        self._drafts: list[Draft] = []
        self._commit_at: float | None = None
        self._flush_at: float | None = None
        self._clock_at = 0.0
        outbox.release(None, None)
        if any(epoch.held for epoch in outbox.epochs):
            keeper.resume(source.monotonic_ms())

    @property
    def deadline(self) -> float | None:
        """When something is due here, None when nothing is."""
        clock_at = self._clock_at if self._keeper.is_holding else None
        return min((at for at in (self._commit_at, self._flush_at, clock_at) if at is not None), default=None)

    def put(self, sample: Sample, *, is_alone: bool) -> None:
        """Stamp a sample for the next commit; one that is not alone waits a moment for the others of its beat."""
        stamp = self._keeper.stamp(sample.wall_ms, sample.monotonic_ms)
        if stamp.held and not self._drafts and self._clock_at == 0.0:
            log.warning(
                "the clock says %s, which cannot be; readings wait for it", format_time(from_ms(stamp.time_ms))
            )
            self._clock_at = time.monotonic() + CLOCK_S
        self._drafts.append(
            Draft(sample.sensor, sample.values, stamp.time_ms, sample.monotonic_ms, stamp.clock, stamp.held)
        )
        if self._commit_at is None:
            linger_s = 0.0 if is_alone else min(LINGER_S, self.interval_s / 4)
            self._commit_at = time.monotonic() + max(self._commit_interval_s, linger_s)

    def hurry(self) -> None:
        """Commit what waits without waiting any longer."""
        self._commit_at = time.monotonic() if self._drafts else None

    def is_due(self, now: float) -> bool:
        """Tell whether samples are to be committed now."""
        return self._commit_at is not None and now >= self._commit_at

    def commit(self) -> list[Row]:
        """Commit what waits; return the readings that may go out at once.

        Raises:
            StorageFull: they were not taken, and are told as lost with the next commit.
        """
        drafts, self._drafts, self._commit_at = self._drafts, [], None
        rows = self._outbox.put(drafts)
        self.taken += len(rows)
        self._flush_at = None
        return [row for row, draft in zip(rows, drafts, strict=True) if not draft.held]

    def release_held(self, now: float) -> None:
        """Let go what waited for the clock, once that was set or the wait is over."""
        if not self._keeper.is_holding or now < self._clock_at or self._drafts:
            return
        self._clock_at = now + CLOCK_S
        verdict = self._keeper.verdict()
        if verdict.go:
            number = self._outbox.release(self._source.boot, verdict.offset_ms)
            self._keeper.released()
            self._clock_at = 0.0
            how = "corrected" if verdict.offset_ms is not None else "not corrected, the clock was not set in time"
            log.info("%d readings that waited for the clock go out, %s", number, how)

    def flush_due(self, now: float) -> None:
        """Write deletions that no commit has taken along for a while."""
        if not self._outbox.has_changes:
            self._flush_at = None
        elif self._flush_at is None:
            self.flush_later(now)
        elif now >= self._flush_at:
            self._flush_at = now + FLUSH_MORE_S  # many deletions go in several commits
            self._outbox.flush()

    def flush_later(self, now: float) -> None:
        """Give the next commit the time to take along what waits."""
        self._flush_at = now + min(60.0, max(1.0, 1.2 * self.interval_s))
