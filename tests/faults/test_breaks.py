"""The harness can fail: with each deliberate break of the product it says what was lost or doubled."""

from pathlib import Path

import pytest

from tests.faults.breaks import BREAKS
from tests.faults.torture import torture
from tests.faults.world import Plan

TELLS = {
    "acknowledge-before-commit": "told as lost, and not given up by its node",
    "settle-on-puback": "taken, and neither received nor told as lost",
    "no-unique-index": "doubled at the receiver",
    "archive-without-intent": "in more than one CSV",
}


def test_each_break_is_looked_for() -> None:
    assert TELLS.keys() == BREAKS.keys()


@pytest.mark.timeout(280)
@pytest.mark.parametrize("name", BREAKS)
def test_a_product_that_is_broken_on_purpose_turns_it_red(name: str, tmp_path: Path) -> None:
    plan = Plan(nodes=2, bounded=False, archive_interval_s=1, worn_break=name)

    run = torture(tmp_path, plan, seconds=10, gap_s=0.8, longest_s=2.5, drain_s=20, only=BREAKS[name].faults)

    assert any(problem.startswith(TELLS[name]) for problem in run.verdict.problems), f"{run}\n{run.schedule.story}"
