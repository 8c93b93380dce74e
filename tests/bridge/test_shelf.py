"""Marking, reading and pruning what is in archives."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from bridge.store import schema, shelf
from bridge.store.database import Store
from bridge.store.schema import ArchiveState, Forward, LetterState, RangeKind
from bridge.store.shelf import Abandoned, Archive
from tests.bridge.conftest import StoredReadings

LONG_AGO_MS = 1_000_000_000_000


def begin(store: Store, name: str = "archive") -> Archive:
    return shelf.begin(store, f"{name}.csv", f"{name}.xlsx", "standard", LONG_AGO_MS)


def finish(store: Store, archive: Archive) -> None:
    shelf.change(store, archive, state=ArchiveState.DONE)


@pytest.fixture
def archived(store: Store, stored_readings: StoredReadings) -> Store:
    """A store with ten settled readings of one node, all in a finished archive and covered by the receipt."""
    stored_readings(store, count=10)
    archive = begin(store)
    shelf.mark(store, archive, 100)
    finish(store, archive)
    with store.write() as connection:
        connection.execute(schema.readings.update().values(forward_state=Forward.SETTLED, received_ms=LONG_AGO_MS))
        connection.execute(
            schema.ranges.insert().values(source_id=1, kind=int(RangeKind.COMMITTED), first=1, last=10)
        )
    return store


def change_reading(store: Store, seq: int, **values: object) -> None:
    with store.write() as connection:
        connection.execute(schema.readings.update().where(schema.readings.c.seq == seq).values(**values))


def seqs(store: Store) -> list[int]:
    with store.read() as connection:
        return list(connection.scalars(select(schema.readings.c.seq).order_by(schema.readings.c.seq)))


def prune(store: Store, *, forwarding: bool = True) -> int:
    return shelf.prune(store, received_ms=LONG_AGO_MS, forwarding=forwarding)


def test_marks_take_the_oldest_readings_first_and_no_more_than_the_limit(
    store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, "late", 5, time_ms=9000)
    early = stored_readings(store, "early", 5, time_ms=1000)
    archive = begin(store)

    held = shelf.mark(store, archive, 5)

    assert held == 5
    assert [reading.id for page in shelf.pages(store, archive.id) for reading in page] == early
    assert shelf.waiting(store) == 5


def test_marks_go_on_after_what_an_earlier_pass_marked(store: Store, stored_readings: StoredReadings) -> None:
    stored_readings(store, count=10)
    archive = begin(store)
    shelf.mark(store, archive, 4)

    held = shelf.mark(store, archive, 7)

    assert held == 7
    assert shelf.waiting(store) == 3


def test_pages_are_sorted_by_time_and_hold_each_reading_once_also_when_all_have_one_time(
    store: Store, stored_readings: StoredReadings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "PAGE_ROWS", 3)
    one = stored_readings(store, "a", 10, time_ms=5000, step_ms=0)
    two = stored_readings(store, "b", 10, time_ms=1000, step_ms=500)
    archive = begin(store)
    shelf.mark(store, archive, 100)

    found = [reading for page in shelf.pages(store, archive.id) for reading in page]

    assert sorted(reading.id for reading in found) == sorted(one + two)
    assert [reading.time_ms for reading in found] == sorted(reading.time_ms for reading in found)


@pytest.mark.parametrize(
    "work", [lambda *a: shelf.mark(*a[:2], 9, None, a[2]), lambda *a: [*shelf.pages(a[0], 1, a[2])]]
)
def test_work_ends_when_told_to_stop(
    store: Store, stored_readings: StoredReadings, work: Callable[..., object]
) -> None:
    stored_readings(store, count=3)
    stop = threading.Event()
    stop.set()

    with pytest.raises(Abandoned):
        work(store, begin(store), stop)


def test_what_everybody_has_is_pruned_and_still_known_as_a_repeat(archived: Store) -> None:
    forgotten = prune(archived)

    assert forgotten == 10
    assert seqs(archived) == []
    with archived.read() as connection:
        assert connection.scalar(select(schema.ranges.c.last)) == 10


@pytest.mark.parametrize(
    "values",
    [
        {"forward_state": Forward.PENDING},
        {"forward_state": Forward.CLAIMED},
        {"forward_state": Forward.DEAD},
        {"received_ms": LONG_AGO_MS + 1},
        {"archive_id": None},
    ],
)
def test_what_somebody_still_needs_is_not_pruned(archived: Store, values: dict[str, object]) -> None:
    change_reading(archived, 4, **values)

    prune(archived)

    assert seqs(archived) == [4]


@pytest.mark.parametrize("state", [Forward.DUPLICATE, Forward.DROPPED])
def test_duplicates_and_dropped_readings_are_pruned(archived: Store, state: Forward) -> None:
    change_reading(archived, 4, forward_state=state)

    prune(archived)

    assert seqs(archived) == []


def test_nothing_waits_for_a_server_that_is_not_there(archived: Store) -> None:
    change_reading(archived, 4, forward_state=Forward.PENDING)

    prune(archived, forwarding=False)

    assert seqs(archived) == []


def test_what_is_above_a_hole_in_the_receipt_is_not_pruned(archived: Store) -> None:
    with archived.write() as connection:
        connection.execute(schema.ranges.update().values(last=6))

    prune(archived)

    assert seqs(archived) == [7, 8, 9, 10]


def test_what_is_lost_does_not_hold_up_pruning(archived: Store) -> None:
    with archived.write() as connection:
        connection.execute(schema.ranges.update().values(last=6))
        connection.execute(schema.ranges.insert().values(source_id=1, kind=int(RangeKind.LOST), first=7, last=10))

    prune(archived)

    assert seqs(archived) == []


def test_rows_of_an_open_intent_are_not_pruned(archived: Store) -> None:
    with archived.write() as connection:
        connection.execute(schema.archives.update().values(state=ArchiveState.SEALED))

    prune(archived)

    assert len(seqs(archived)) == 10


def test_what_refers_to_a_pruned_row_never_refers_to_the_next_one_with_its_number(archived: Store) -> None:
    change_reading(archived, 4, forward_state=Forward.DROPPED)
    with archived.write() as connection:
        row = connection.scalar(select(schema.readings.c.id).where(schema.readings.c.seq == 4))
        connection.execute(schema.attempts.insert().values(reading_id=row, at_ms=1, outcome="500"))
        connection.execute(
            schema.dead_letters.insert().values(
                state=LetterState.DROPPED, at_ms=1, reason="400", payload=b"{}", reading_id=row
            )
        )

    prune(archived)

    with archived.read() as connection:
        assert connection.scalar(select(func.count()).select_from(schema.attempts)) == 0
        assert connection.scalar(select(schema.dead_letters.c.reading_id)) is None
