"""A short torture for every run of the tests; `make torture` runs longer ones."""

from pathlib import Path

import pytest

from tests.faults.torture import plan_of, torture


@pytest.mark.timeout(280)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_untold_or_doubled_whatever_breaks(seed: int, tmp_path: Path) -> None:
    plan = plan_of(seed, nodes=3, interval_s=0.02, batch_size=None, worn_break=None)

    run = torture(tmp_path, plan, seconds=12, gap_s=0.7, longest_s=3)

    assert not run.verdict.problems, f"{run}\n{run.schedule.story}\n{run.logs}"
    assert run.verdict.taken > 300
    assert sum(run.schedule.counts.values()) > 5
