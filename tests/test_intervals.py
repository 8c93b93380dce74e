"""Intervals against a plain set of integers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mqtt_client.intervals import Intervals

NUMBERS = st.integers(1, 60)
RANGES = st.tuples(NUMBERS, NUMBERS)
CHANGES = st.lists(st.tuples(st.booleans(), NUMBERS, NUMBERS), max_size=30)


def members(found: Intervals | list[tuple[int, int]]) -> set[int]:
    return {number for first, last in found for number in range(first, last + 1)}


def built(changes: list[tuple[bool, int, int]]) -> tuple[Intervals, set[int]]:
    intervals, model = Intervals(), set[int]()
    for adds, first, last in changes:
        if adds:
            intervals.add(first, last)
            model |= set(range(first, last + 1))
        else:
            intervals.remove(first, last)
            model -= set(range(first, last + 1))
    return intervals, model


@given(CHANGES)
def test_holds_what_was_added_and_not_removed(changes: list[tuple[bool, int, int]]) -> None:
    intervals, model = built(changes)

    assert members(intervals) == model
    assert intervals.count == len(model)
    assert (intervals.first, intervals.last) == (min(model, default=None), max(model, default=None))
    assert bool(intervals) == bool(model)
    assert all((number in intervals) == (number in model) for number in range(62))


@given(CHANGES)
def test_stays_sorted_disjoint_and_never_touching(changes: list[tuple[bool, int, int]]) -> None:
    pairs = list(built(changes)[0])

    assert all(first <= last for first, last in pairs)
    assert all(one[1] + 1 < two[0] for one, two in pairwise(pairs))


@given(CHANGES, RANGES)
def test_holes_and_within_divide_any_range(changes: list[tuple[bool, int, int]], span: tuple[int, int]) -> None:
    intervals, model = built(changes)
    whole = set(range(span[0], span[1] + 1))

    assert members(intervals.holes(*span)) == whole - model
    assert members(intervals.within(*span)) == whole & model


@given(CHANGES, NUMBERS, st.integers(0, 5))
def test_above_returns_the_lowest_ranges_above(changes: list[tuple[bool, int, int]], number: int, limit: int) -> None:
    intervals, model = built(changes)
    found = intervals.above(number, limit)

    assert len(found) <= limit
    assert found == intervals.above(number, 100)[:limit]
    assert members(intervals.above(number, 100)) == {one for one in model if one > number}


@given(CHANGES, NUMBERS)
def test_covered_through_is_the_end_of_the_run_from_start(changes: list[tuple[bool, int, int]], start: int) -> None:
    intervals, model = built(changes)
    expected = start - 1
    while expected + 1 in model:
        expected += 1

    assert intervals.covered_through(start) == expected


@given(CHANGES, CHANGES)
def test_a_copy_is_equal_and_independent(
    changes: list[tuple[bool, int, int]], more: list[tuple[bool, int, int]]
) -> None:
    intervals, model = built(changes)
    twin = intervals.copy()
    assert twin == intervals

    for adds, first, last in more:
        (twin.add if adds else twin.remove)(first, last)

    assert members(intervals) == model
