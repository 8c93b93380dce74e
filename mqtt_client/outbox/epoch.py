"""What the outbox keeps in memory of each epoch, and the rows that go in and out.

Which seqs are held, published or to be deleted are sets of intervals, so every
decision is made without a query, and costs by holes and not by readings.
"""

from typing import NamedTuple

import msgspec

from mqtt_client.intervals import Interval, Intervals
from mqtt_client.reading import Clock


class Draft(NamedTuple):
    """A sample that wants to become a reading."""

    sensor: str
    values: dict[str, float]
    time_ms: int
    monotonic_ms: int
    clock: Clock
    held: bool = False


class Row(NamedTuple):
    """A reading in the outbox; its identity is (epoch, seq)."""

    epoch: str
    seq: int
    sensor: str
    payload: bytes
    monotonic_ms: int


class Loss(NamedTuple):
    """Seqs that the node had to give up; ``last`` None is an unknown number."""

    id: int
    epoch: str
    first: int
    last: int | None
    reason: str


class Epoch(msgspec.Struct):
    """One epoch: the seqs from 1 to ``next_seq`` - 1."""

    id: int
    name: str
    next_seq: int
    certain_from: int
    """From here on, what was published is known for certain, since it was published by this process."""
    rows: Intervals = msgspec.field(default_factory=Intervals)
    published: Intervals = msgspec.field(default_factory=Intervals)
    """Acknowledged by the broker; only what is not in it goes out for the first time."""
    attempted: Intervals = msgspec.field(default_factory=Intervals)
    """Handed to the broker by this process, whatever became of it."""
    doomed: Intervals = msgspec.field(default_factory=Intervals)
    """Settled, and to be deleted with the next commit."""
    held: Intervals = msgspec.field(default_factory=Intervals)
    """Waiting for the clock."""

    @property
    def floor(self) -> int:
        """The lowest seq still in the outbox; the next one when it is empty."""
        return self.next_seq if self.rows.first is None else self.rows.first

    def settle(self, ranges: list[Interval]) -> int:
        """Take the ranges out of the outbox, to be deleted later; return how many readings that were."""
        number = 0
        for first, last in ranges:
            for part in self.rows.within(first, last):
                self.doomed.add(*part)
                self.rows.remove(*part)
                self.held.remove(*part)
                number += part[1] - part[0] + 1
        return number

    def lowest(self, number: int) -> list[Interval]:
        """Return the intervals of the lowest so many readings."""
        found: list[Interval] = []
        for first, last in self.rows:
            if number <= 0:
                break
            found.append((first, min(last, first + number - 1)))
            number -= last - first + 1
        return found

    def unpublished(self, first: int, last: int) -> list[Interval]:
        """Return what between first and last is held here, was not published and does not wait for the clock."""
        found: list[Interval] = []
        for hole in self.published.holes(first, last):
            for part in self.rows.within(*hole):
                found.extend(self.held.holes(*part))
        return found

    def is_foreign(self, covered: list[Interval]) -> bool:
        """Tell whether a receipt covers what this outbox certainly never published.

        Then somebody published under this epoch whom this outbox does not
        remember: it is an older image of itself, or there are two of it.
        """
        for first, last in covered:
            if last >= self.next_seq:
                return True
            for part in self.rows.within(max(first, self.certain_from), last):
                if self.attempted.holes(*part):
                    return True
        return False
