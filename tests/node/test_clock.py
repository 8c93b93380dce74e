"""Clock honesty, with clocks that obey the test."""

from datetime import UTC, datetime

from mqtt_client.clock import Timekeeper
from mqtt_client.reading import to_ms

NOW_MS = to_ms(datetime(2026, 11, 24, 20, 0, tzinfo=UTC))
YEAR_MS = 365 * 86_400_000


class ObedientTime:
    """Clocks that a test sets."""

    boot = "boot-1"

    def __init__(self, wall_ms: int = NOW_MS, *, synchronised: bool = False) -> None:
        self.wall = wall_ms
        self.monotonic = 1000
        self.synchronised = synchronised

    def wall_ms(self) -> int:
        return self.wall

    def monotonic_ms(self) -> int:
        return self.monotonic

    def is_synchronised(self) -> bool:
        return self.synchronised

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += int(seconds * 1000)
        self.monotonic += int(seconds * 1000)


def stamp(keeper: Timekeeper, source: ObedientTime) -> tuple[str, bool]:
    found = keeper.stamp(source.wall_ms(), source.monotonic_ms())
    return found.clock, found.held


def test_a_clock_that_is_merely_not_synchronised_holds_nothing() -> None:
    source = ObedientTime()

    assert stamp(Timekeeper(source, 600, None), source) == ("unsynced", False)


def test_a_synchronised_clock_says_so_and_a_change_is_noticed() -> None:
    source = ObedientTime(synchronised=True)
    keeper = Timekeeper(source, 600, None)

    assert stamp(keeper, source) == ("synced", False)
    source.synchronised = False
    source.pass_s(11)
    assert stamp(keeper, source) == ("unsynced", False)


def test_1970_is_held_until_the_clock_is_set_and_then_corrected() -> None:
    source = ObedientTime(0)
    keeper = Timekeeper(source, 600, None)
    assert stamp(keeper, source) == ("unsynced", True)
    held_at = source.monotonic_ms()
    source.pass_s(30)
    assert not keeper.verdict().go

    source.wall = NOW_MS
    verdict = keeper.verdict()
    keeper.released()

    assert verdict.go
    assert verdict.offset_ms is not None
    assert held_at + verdict.offset_ms == NOW_MS - 30_000
    assert stamp(keeper, source) == ("unsynced", False)


def test_last_week_is_behind_the_last_reading_and_held() -> None:
    source = ObedientTime(NOW_MS - 7 * 86_400_000)

    assert stamp(Timekeeper(source, 600, NOW_MS), source) == ("unsynced", True)


def test_a_step_of_some_seconds_back_is_no_reason_to_doubt() -> None:
    source = ObedientTime(NOW_MS - 3000)

    assert stamp(Timekeeper(source, 600, NOW_MS), source) == ("unsynced", False)


def test_after_the_wait_readings_go_uncorrected_and_later_ones_at_once() -> None:
    source = ObedientTime(0)
    keeper = Timekeeper(source, 600, NOW_MS)
    stamp(keeper, source)

    source.pass_s(599)
    early = keeper.verdict().go
    source.pass_s(2)
    late = keeper.verdict()
    keeper.released()
    source.pass_s(1)

    assert (early, late.go, late.offset_ms) == (False, True, None)
    assert stamp(keeper, source) == ("unsynced", False)


def test_a_jump_years_ahead_makes_the_right_time_wait_once_and_no_more() -> None:
    source = ObedientTime()
    keeper = Timekeeper(source, 600, NOW_MS)
    source.wall += 10 * YEAR_MS
    assert stamp(keeper, source) == ("unsynced", False)
    source.wall -= 10 * YEAR_MS
    assert stamp(keeper, source) == ("unsynced", True)
    source.pass_s(601)
    assert keeper.verdict() == (True, None)
    keeper.released()

    for _ in range(3):
        source.pass_s(5)
        assert stamp(keeper, source) == ("unsynced", False)


def test_a_kernel_that_is_sure_is_believed_behind_a_last_reading_from_the_future() -> None:
    source = ObedientTime(synchronised=True)

    assert stamp(Timekeeper(source, 600, NOW_MS + 10 * YEAR_MS), source) == ("synced", False)


def test_while_readings_wait_all_later_ones_wait_behind_them() -> None:
    source = ObedientTime(0)
    keeper = Timekeeper(source, 600, None)
    stamp(keeper, source)

    source.wall = NOW_MS

    assert stamp(keeper, source) == ("unsynced", True), "the first ones are corrected and go out before it"
    assert keeper.state == "implausible"
