"""The receipt arithmetic, against plain sets."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from bridge.store.sources import BEYOND_LIMIT, Source

seqs = st.integers(1, 40)
events = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), seqs, st.none()),
        st.tuples(st.just("lose"), seqs, st.integers(0, 10)),
        st.tuples(st.just("floor"), seqs, st.none()),
    ),
    max_size=60,
)


@dataclass
class Model:
    """The same with sets of numbers."""

    start: int | None = None
    committed: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)

    def through(self) -> int:
        reached = (self.start or 1) - 1
        while reached + 1 in self.committed | self.lost:
            reached += 1
        return reached


def play(history: list[tuple[str, int, int | None]]) -> tuple[Source, Model, list[int]]:
    """Let the source and the model live through the same; return them with every ``through`` on the way."""
    source, model, marks = Source(1, 1, "kitchen", "e", None), Model(), []
    for event, number, width in history:
        if event == "commit":
            assert source.commit(number) == (number not in model.committed)
            model.committed.add(number)
            model.lost.discard(number)
        elif event == "lose":
            source.lose(number, number + (width or 0))
            model.lost |= set(range(number, number + (width or 0) + 1)) - model.committed
        else:
            source.tell_floor(number)
            if model.start is None:
                model.start = number
            else:
                model.lost |= set(range(model.start, number)) - model.committed
        marks.append(source.through)
    return source, model, marks


@given(events)
def test_a_source_holds_what_the_sets_hold(history: list[tuple[str, int, int | None]]) -> None:
    source, model, _ = play(history)

    assert {n for first, last in source.committed for n in range(first, last + 1)} == model.committed
    assert {n for first, last in source.lost for n in range(first, last + 1)} == model.lost
    assert source.through == model.through()


@given(events)
def test_the_mark_never_goes_back(history: list[tuple[str, int, int | None]]) -> None:
    _, _, marks = play(history)

    assert marks == sorted(marks)


@given(events)
def test_a_receipt_covers_only_what_is_committed_or_lost_or_before_the_start(
    history: list[tuple[str, int, int | None]],
) -> None:
    source, model, _ = play(history)

    receipt = source.receipt("store")

    known = model.committed | model.lost | set(range(1, model.start or 1))
    assert set(range(1, receipt.through + 1)) <= known
    beyond = [number for first, last in receipt.beyond for number in range(first, last + 1)]
    assert set(beyond) <= model.committed
    assert all(number > receipt.through for number in beyond)
    assert len(receipt.beyond) <= BEYOND_LIMIT


def test_an_unknown_epoch_begins_at_the_floor_and_loses_nothing() -> None:
    source = Source(1, 1, "kitchen", "e", None)
    source.commit(500)

    news = source.tell_floor(500)

    assert news == []
    assert source.receipt("s").through == 500


def test_holes_below_the_floor_of_a_known_epoch_are_lost() -> None:
    source = Source(1, 1, "kitchen", "e", 1)
    for seq in (1, 2, 5):
        source.commit(seq)

    news = source.tell_floor(8)

    assert news == [(3, 4), (6, 7)]
    assert source.receipt("s").through == 7


def test_a_lost_reading_that_arrives_after_all_is_committed_and_no_longer_lost() -> None:
    source = Source(1, 1, "kitchen", "e", 1)
    source.lose(1, 3)

    assert source.commit(2)

    assert list(source.lost) == [(1, 1), (3, 3)]
    assert source.through == 3


def test_a_loss_of_unknown_number_takes_every_hole_and_its_first() -> None:
    source = Source(1, 1, "kitchen", "e", 1)
    for seq in (1, 2, 6):
        source.commit(seq)

    news = source.lose(3, None)

    assert news == [(3, 5)]
    assert source.through == 6
    assert source.lose(9, None) == [(9, 9)]
