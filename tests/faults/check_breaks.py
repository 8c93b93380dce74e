"""The harness can fail: the same troubles are green, and with each deliberate break of the product they are red.

It tries the tests and not the product, so it runs when they change, and not with every run::

    python -m pytest tests/faults/check_breaks.py
"""

from pathlib import Path

import pytest

from tests.faults.breaks import BREAKS
from tests.faults.judge import judge
from tests.faults.world import Plan, World
from tests.processes import eventually

UNASKED = "told as lost, and not given up by its node"
TELLS = {
    "acknowledge-before-commit": (UNASKED,),
    "settle-on-puback": (UNASKED, "taken, and neither received nor told as lost"),
    "no-unique-index": ("doubled at the receiver",),
    "archive-without-intent": ("in more than one CSV",),
}
"""What a verdict says, one of these at least."""


def goes_on(world: World) -> None:
    """Wait until the server has got some more."""
    before = world.count_received()
    eventually(lambda: world.count_received() > before + 20, told=world.logs, within_s=90)


def kill_ingest_at_work(world: World) -> None:
    goes_on(world)
    killed = eventually(lambda: world.job("ingest"))
    world.kill_job("ingest")
    eventually(lambda: world.job("ingest") not in (None, killed))


def reset_after_storing(world: World) -> None:
    world.server.mood = "reset"
    eventually(lambda: world.server.answers.get(0, 0) >= 3, told=world.logs, within_s=60)
    world.server.mood = ""


def empty_the_broker_while_the_bridge_is_away(world: World) -> None:
    world.links["bridge"].refuse()
    before = world.count_taken()
    eventually(lambda: world.count_taken() > before + 50, told=world.logs)
    world.empty_broker()
    world.links["bridge"].heal()
    world.start("broker")
    goes_on(world)


def archive_twice(world: World) -> None:
    """Let the archiver work, and die in the middle where the break says so."""
    for _ in range(2):
        goes_on(world)
        world.run("archive", check=False)


def test_each_break_is_looked_for() -> None:
    assert TELLS.keys() == BREAKS.keys()


@pytest.mark.timeout(290)
@pytest.mark.parametrize("worn_break", [None, *BREAKS])
def test_the_same_troubles_are_green_and_with_each_break_red(worn_break: str | None, tmp_path: Path) -> None:
    world = World(tmp_path, Plan(nodes=1, bounded=False, archive_interval_s=3600, worn_break=worn_break))
    try:
        for trouble in (
            kill_ingest_at_work,
            kill_ingest_at_work,
            reset_after_storing,
            empty_the_broker_while_the_bridge_is_away,
            archive_twice,
        ):
            trouble(world)
        is_drained = world.drain(30 if worn_break else 120)
        world.run("archive")
        verdict = judge(world)
    finally:
        world.end()

    if worn_break is None:
        assert is_drained
        assert verdict.problems == []
    else:
        assert any(problem.startswith(TELLS[worn_break]) for problem in verdict.problems), verdict
