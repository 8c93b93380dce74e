"""Sets of sequence numbers, kept as intervals: what is committed, lost, sent or covered by a receipt.

A set of a million numbers without holes is one pair, so a set costs by its
holes and not by its size. Nothing here touches a disk or a network.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Interval = tuple[int, int]
"""First and last number, both included."""


class Intervals:
    """A set of integers as sorted, disjoint intervals that never touch one another."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in intervals:
            self.add(first, last)

    def __iter__(self) -> Iterator[Interval]:
        return zip(self._firsts, self._lasts, strict=True)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Intervals) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # a mutable set

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._firsts, number) - 1
        return index >= 0 and number <= self._lasts[index]

    def __repr__(self) -> str:
        return f"Intervals({list(self)})"

    def copy(self) -> "Intervals":
        """Return an independent copy."""
        twin = Intervals()
        twin._firsts = self._firsts.copy()
        twin._lasts = self._lasts.copy()
        return twin

    @property
    def count(self) -> int:
        """How many numbers are in the set."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    @property
    def first(self) -> int | None:
        """The lowest number, None when empty."""
        return self._firsts[0] if self._firsts else None

    @property
    def last(self) -> int | None:
        """The highest number, None when empty."""
        return self._lasts[-1] if self._lasts else None

    def add(self, first: int, last: int) -> None:
        """Add the numbers from first to last, both included; an empty range adds nothing."""
        if first > last:
            return
        firsts, lasts = self._firsts, self._lasts
        if not firsts or first > lasts[-1] + 1:
            firsts.append(first)
            lasts.append(last)
            return
        if first == lasts[-1] + 1:
            lasts[-1] = last
            return
        low = bisect_right(lasts, first - 2)  # the first interval that reaches first - 1
        high = bisect_right(firsts, last + 1)  # one past the last that begins at last + 1 or before
        if low < high:
            first = min(first, firsts[low])
            last = max(last, lasts[high - 1])
        firsts[low:high] = [first]
        lasts[low:high] = [last]

    def remove(self, first: int, last: int) -> None:
        """Take the numbers from first to last, both included, out of the set."""
        if first > last:
            return
        firsts, lasts = self._firsts, self._lasts
        low = bisect_right(lasts, first - 1)
        high = bisect_right(firsts, last)
        kept: list[Interval] = []
        if low < high:
            if firsts[low] < first:
                kept.append((firsts[low], first - 1))
            if lasts[high - 1] > last:
                kept.append((last + 1, lasts[high - 1]))
        firsts[low:high] = [pair[0] for pair in kept]
        lasts[low:high] = [pair[1] for pair in kept]

    def holes(self, first: int, last: int) -> list[Interval]:
        """Return the intervals between first and last, both included, that are not in the set."""
        missing: list[Interval] = []
        cursor = first
        for index in range(bisect_right(self._lasts, first - 1), len(self._firsts)):
            if self._firsts[index] > last:
                break
            if self._firsts[index] > cursor:
                missing.append((cursor, self._firsts[index] - 1))
            cursor = self._lasts[index] + 1
        if cursor <= last:
            missing.append((cursor, last))
        return missing

    def within(self, first: int, last: int) -> list[Interval]:
        """Return the intervals of the set, cut to first and last, both included."""
        found: list[Interval] = []
        for index in range(bisect_right(self._lasts, first - 1), len(self._firsts)):
            if self._firsts[index] > last:
                break
            found.append((max(first, self._firsts[index]), min(last, self._lasts[index])))
        return found

    def covered_through(self, start: int) -> int:
        """Return the highest number up to which all from start are in the set; start - 1 when start is not."""
        index = bisect_right(self._firsts, start) - 1
        if index >= 0 and start <= self._lasts[index]:
            return self._lasts[index]
        return start - 1

    def above(self, number: int, limit: int) -> list[Interval]:
        """Return at most limit intervals of the numbers above number, lowest first."""
        index = bisect_right(self._lasts, number)
        firsts = self._firsts[index : index + limit]
        lasts = self._lasts[index : index + limit]
        return [(max(first, number + 1), last) for first, last in zip(firsts, lasts, strict=True)]
