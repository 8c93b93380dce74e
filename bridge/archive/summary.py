"""What a run of readings amounts to: by node and day, how many, how they were, and where some are missing.

Readings pass by once, sorted by time; kept is one entry for each node and
day, however many readings there are.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf, isfinite, log2
from zoneinfo import ZoneInfo

from bridge.local_times import LocalTimes
from bridge.store.shelf import Stored

GAP_FACTOR = 3.0
"""A gap is a spacing of more than this many times the line's median …"""
GAP_LEAST_MS = 5000
"""… and of more than this: below, a late reading is no gap."""

_BUCKETS_AN_OCTAVE = 4


@dataclass(slots=True)
class Spread:
    """Count, lowest, highest and sum of one quantity."""

    count: int = 0
    low: float = inf
    high: float = -inf
    total: float = 0.0

    def add(self, value: float) -> None:
        """Take in one value."""
        self.count += 1
        self.total += value
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value

    @property
    def mean(self) -> float:
        """The mean of all values; the middle between the extremes where their sum is too large for a number."""
        mean = self.total / self.count
        return mean if isfinite(mean) else self.low / 2 + self.high / 2


@dataclass(slots=True)
class Day:
    """One node's day; the day is Excel's number of the local date."""

    node: str
    day: int
    readings: int = 0
    spreads: dict[str, Spread] = field(default_factory=dict)
    spacings: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often the readings of a sensor stood how far apart (bucket of the logarithm)."""


class Summary:
    """The summary of readings that pass by sorted by time."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.rows = 0
        self.first_ms: int | None = None
        self.last_ms: int | None = None
        self.quantities: set[str] = set()
        self._times = LocalTimes(zone)
        self._days: dict[tuple[str, int], Day] = {}
        self._last: dict[tuple[str, str], int] = {}

    def add(self, readings: Iterable[Stored]) -> None:
        """Take in readings."""
        for node, sensor, _, time_ms, _, values in readings:
            day = self._day(node, self._times.day(time_ms))
            day.readings += 1
            for quantity, value in values.items():
                spread = day.spreads.get(quantity)
                if spread is None:
                    spread = day.spreads[quantity] = Spread()
                    self.quantities.add(quantity)
                spread.add(value)
            spacing_ms = time_ms - self._last.get((node, sensor), time_ms)
            if spacing_ms > 0:
                day.spacings[sensor, int(_BUCKETS_AN_OCTAVE * log2(spacing_ms))] += 1
            self._last[node, sensor] = time_ms
            if self.first_ms is None:
                self.first_ms = time_ms
            self.last_ms = time_ms
            self.rows += 1

    def _day(self, node: str, number: int) -> Day:
        day = self._days.get((node, number))
        if day is None:
            day = self._days[node, number] = Day(node, number)
        return day

    @property
    def days(self) -> list[Day]:
        """All days, by node, then by date."""
        return [self._days[key] for key in sorted(self._days)]

    def gaps(self) -> dict[tuple[str, int], int]:
        """Return how many gaps each (node, day) has; a gap counts where it ends."""
        by_line: dict[tuple[str, str], Counter[int]] = {}
        for day in self._days.values():
            for (sensor, bucket), count in day.spacings.items():
                by_line.setdefault((day.node, sensor), Counter())[bucket] += count
        limits = {line: _gap_bucket(spacings) for line, spacings in by_line.items()}
        return {
            key: sum(count for (sensor, bucket), count in day.spacings.items() if bucket > limits[day.node, sensor])
            for key, day in self._days.items()
        }


def _gap_bucket(spacings: Counter[int]) -> float:
    """Return the bucket above which a spacing is a gap."""
    half, passed = (spacings.total() + 1) // 2, 0
    for bucket in sorted(spacings):
        passed += spacings[bucket]
        if passed >= half:
            return max(bucket + _BUCKETS_AN_OCTAVE * log2(GAP_FACTOR), _BUCKETS_AN_OCTAVE * log2(GAP_LEAST_MS))
    return inf
