"""When which node is posted, with a clock that the test turns."""

import pytest

from bridge.forward.answers import Kind, Verdict
from bridge.forward.pace import LONGEST_PAUSE_S, Health, Pace, Stage

AGAIN = Verdict(Kind.AGAIN, "503 Service Unavailable")
NOBODY = Verdict(Kind.AGAIN, "connection refused", down=True)
SETUP = Verdict(Kind.SETUP, "404 Not Found")
ASKED = Verdict(Kind.AGAIN, "503 Service Unavailable", wait_s=100.0)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    """Waits are at their longest, so that they can be told."""
    return Pace("http://server/data", 3, clock, lambda _low, high: high)


def go(pace: Pace, *waiting: int, busy: tuple[int, ...] = ()) -> list[int]:
    return pace.may_go(waiting, busy, idle=not busy)


def test_a_node_that_fails_waits_alone(pace: Pace, clock: Clock) -> None:
    pace.failed(1, AGAIN, Stage.HEAD, [1, 2])

    assert go(pace, 1, 2) == [2]
    clock.now += 1
    assert go(pace, 1, 2) == [2, 1]  # sound nodes first
    assert pace.is_alone(1)
    assert not pace.is_alone(2)


def test_a_busy_node_is_left_out(pace: Pace) -> None:
    assert go(pace, 1, 2, busy=(2,)) == [1]


def test_waits_double_with_each_failure_and_end_with_a_success(pace: Pace, clock: Clock) -> None:
    waits = []
    for _ in range(2):
        pace.failed(1, AGAIN, Stage.HEAD, [1, 2])
        waits.append(pace.node(1).due - clock.now)
    pace.passed(1)
    pace.failed(1, AGAIN, Stage.HEAD, [1, 2])

    assert [*waits, pace.node(1).due - clock.now] == [1, 2, 1]


def test_what_the_server_asks_for_is_waited_even_in_a_pause(pace: Pace, clock: Clock) -> None:
    pace.failed(1, ASKED, Stage.HEAD, [1, 2])
    pace.failed(2, NOBODY, Stage.HEAD, [1, 2])

    clock.now += 99
    assert go(pace, 1) == []
    clock.now += 1
    assert go(pace, 1) == [1]


@pytest.mark.parametrize(("verdict", "health"), [(NOBODY, Health.DOWN), (SETUP, Health.PAUSED)])
def test_when_it_is_the_server_one_probe_at_a_time_goes_and_more_and_more_rarely(
    pace: Pace, clock: Clock, verdict: Verdict, health: Health
) -> None:
    pauses = []
    for _ in range(8):
        pace.failed(1, verdict, Stage.HEAD, [1, 2])
        began = clock.now
        while not go(pace, 1, 2):
            clock.now += 0.5
        pauses.append(clock.now - began)

    assert pace.health is health
    assert verdict.told in pace.reason
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert max(pauses) == LONGEST_PAUSE_S
    assert len(go(pace, 1, 2)) == 1
    assert pace.may_go([1, 2], (), idle=False) == []


def test_probes_go_round_the_nodes(pace: Pace, clock: Clock) -> None:
    probed = []
    pace.failed(1, NOBODY, Stage.HEAD, [1, 2, 3])
    for _ in range(4):
        clock.now += 60
        (node_id,) = go(pace, 1, 2, 3)
        probed.append(node_id)
        pace.failed(node_id, NOBODY, Stage.HEAD, [1, 2, 3])

    assert probed == [2, 3, 1, 2]


def test_a_probe_that_passes_lets_all_go_at_once(pace: Pace) -> None:
    for node_id in (1, 2, 3):
        pace.failed(node_id, AGAIN, Stage.HEAD, [1, 2, 3, 4])
    assert pace.health is Health.DOWN

    pace.passed(4)

    assert pace.health is Health.OK
    assert sorted(go(pace, 1, 2, 3, 4)) == [1, 2, 3, 4]


def test_one_node_failing_alone_is_the_server_after_three_tries_when_nobody_else_waits(pace: Pace) -> None:
    healths = []
    for _ in range(3):
        pace.failed(1, AGAIN, Stage.HEAD, [1])
        healths.append(pace.health)

    assert healths == [Health.OK, Health.OK, Health.DOWN]


def test_a_suspected_reading_has_a_last_chance_after_a_later_one_passed(pace: Pace) -> None:
    stages = []
    for _ in range(2):
        pace.failed(1, AGAIN, Stage.HEAD, [1, 2])
        stages.append(pace.node(1).stage)
    pace.passed(1, Stage.PROBE)
    stages.append(pace.node(1).stage)
    pace.gave_up(1)

    assert stages == [Stage.HEAD, Stage.PROBE, Stage.LAST_CHANCE]
    assert (pace.node(1).stage, pace.node(1).failures) == (Stage.HEAD, 0)


def test_a_probe_that_fails_proves_nothing_against_the_first_reading(pace: Pace) -> None:
    pace.failed(1, AGAIN, Stage.HEAD, [1, 2])
    pace.failed(1, AGAIN, Stage.HEAD, [1, 2])

    pace.failed(1, AGAIN, Stage.PROBE, [1, 2])

    assert pace.node(1).stage is Stage.HEAD


@pytest.mark.parametrize("verdict", [NOBODY, SETUP])
def test_a_server_that_is_away_or_wrongly_set_up_makes_no_reading_suspect(pace: Pace, verdict: Verdict) -> None:
    for _ in range(20):
        pace.failed(1, verdict, Stage.HEAD, [1])

    assert pace.node(1).stage is Stage.HEAD
    assert pace.failing() == []


def test_arrays_shrink_when_they_fail_and_grow_again(pace: Pace) -> None:
    sizes: list[int | None] = []
    for size in (8, 4):
        pace.failed(1, AGAIN, Stage.HEAD, [1, 2], size=size)
        sizes.append(pace.node(1).batch_size)
    for _ in range(2):
        pace.passed(1, batch_size=8)
        sizes.append(pace.node(1).batch_size)

    assert sizes == [4, 2, 4, None]
