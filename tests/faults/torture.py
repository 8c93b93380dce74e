"""``python -m tests.faults.torture``: a fleet of real processes under a random schedule of faults, judged by sets.

The seed is printed and gives the same schedule again. Exit status 0: nothing
lost that was not told, nothing doubled, each reading in exactly one archive.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults.breaks import BREAKS
from tests.faults.judge import Verdict, judge
from tests.faults.schedule import Schedule
from tests.faults.world import Plan, World

TURN_S = 0.1
ABSORB_S = 2.0


@dataclass
class Run:
    """A run that has ended."""

    plan: Plan
    verdict: Verdict
    schedule: Schedule
    seconds: float
    logs: str

    def __str__(self) -> str:
        """The figures, and what is needed to do it again."""
        kills = sum(number for kind, number in self.schedule.counts.items() if kind.startswith(("kill", "empty")))
        faults = sum(self.schedule.counts.values())
        return f"seed {self.plan.seed}: {faults} faults ({kills} kills) in {self.seconds:.0f} s; {self.verdict}"


def torture(
    folder: Path,
    plan: Plan,
    *,
    seconds: float,
    gap_s: float = 4.0,
    longest_s: float = 8.0,
    drain_s: float = 180.0,
    only: Iterable[str] = (),
    told: bool = False,
) -> Run:
    """Run a world under faults for so long, heal it, let it drain, and judge it.

    Args:
        folder: an empty one; may be deleted afterwards.
        plan: how the world is made.
        seconds: how long faults go on.
        gap_s: mean time from one fault to the next.
        longest_s: how long one lasts at most.
        drain_s: how long all that was taken may need to arrive afterwards.
        only: kinds of faults; all unless given.
        told: print each fault as it begins.
    """
    world = World(folder, plan)
    began = time.monotonic()
    schedule = Schedule(world, plan.seed, gap_s, longest_s, frozenset(only))
    try:
        absorb_at, shown = 0.0, 0
        while time.monotonic() - began < seconds:
            schedule.tend()
            if time.monotonic() >= absorb_at:
                world.tend()
                absorb_at = time.monotonic() + ABSORB_S
            while told and shown < len(schedule.story):
                print(schedule.story[shown], flush=True)
                shown += 1
            time.sleep(TURN_S)
        schedule.end()
        is_drained = world.drain(drain_s)
        world.run("archive")
        verdict = judge(world)
        if not is_drained:
            verdict.problems.append(f"not all had arrived {drain_s:.0f} s after the last fault")
        return Run(plan, verdict, schedule, time.monotonic() - began, world.logs() if verdict.problems else "")
    finally:
        schedule.end()
        world.end()


def main() -> int:
    """Run by hand; see the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10_000)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--interval", type=float, default=0.02, help="seconds between two readings of a node")
    parser.add_argument("--batch-size", type=int, help="readings in one POST; 1 or 50 by the seed unless given")
    parser.add_argument("--gap", type=float, default=4.0, help="mean seconds from one fault to the next")
    parser.add_argument("--archive-interval", type=float, help="seconds; 3, in a long run 30, unless given")
    parser.add_argument("--longest", type=float, default=8.0, help="seconds that a fault lasts at most")
    parser.add_argument("--only", action="append", default=[], help="a kind of fault, such as 'kill node'; several")
    parser.add_argument("--break", dest="worn_break", choices=sorted(BREAKS), help="break the product on purpose")
    parser.add_argument("--keep", type=Path, help="keep everything in this folder, which must be new")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    plan = plan_of(
        given.seed, given.nodes, given.interval, given.batch_size, given.worn_break, long=given.seconds > 300
    )
    if given.archive_interval:
        plan = replace(plan, archive_interval_s=given.archive_interval)
    folder = given.keep or Path(tempfile.mkdtemp(prefix="torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run = torture(
            folder,
            plan,
            seconds=given.seconds,
            gap_s=given.gap,
            longest_s=given.longest,
            drain_s=max(180.0, given.seconds / 2),
            only=given.only or (BREAKS[given.worn_break].faults if given.worn_break else ()),
            told=True,
        )
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    if run.verdict.problems:
        print(run.logs)
    for kind, number in sorted(run.schedule.counts.items()):
        print(f"{number:5} {kind}")
    print(run)
    return 1 if run.verdict.problems else 0


def plan_of(
    seed: int, nodes: int, interval_s: float, batch_size: int | None, worn_break: str | None, *, long: bool = False
) -> Plan:
    """Return the plan of a seed: some have a broker that keeps few messages, some post arrays."""
    return Plan(
        seed=seed,
        nodes=nodes,
        interval_s=interval_s,
        batch_size=batch_size or (1 if seed % 2 else 50),
        queued_messages=1_000_000 if seed % 3 else 100,
        archive_interval_s=30.0 if long else 3.0,
        cleanup_interval_s=100.0 if long else 8.0,
        worn_break=worn_break,
    )


if __name__ == "__main__":
    sys.exit(main())
