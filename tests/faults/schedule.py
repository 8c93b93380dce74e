"""A random schedule of faults, the same for the same seed: what is broken when, for how long, and how it is healed.

What a process does in between is its own; the order and the lengths of the
faults are the seed's.
"""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tests.faults.bad_server import MOODS
from tests.faults.world import JOBS, World
from tests.processes import python

YEAR_S = 365 * 86400.0
Heal = Callable[[], None]


def _nothing() -> None:
    pass


class Under(NamedTuple):
    """A fault that has begun."""

    target: str
    until: float
    heal: Heal


class Schedule:
    """Breaks a world until it is told that it is enough."""

    def __init__(self, world: World, seed: int, gap_s: float, longest_s: float, only: frozenset[str] = frozenset()):
        self.counts: Counter[str] = Counter()
        """How often each kind of fault was done."""
        self.story: list[str] = []
        self._world = world
        self._random = random.Random(seed)
        self._gap_s, self._longest_s = gap_s, longest_s
        self._under: list[Under] = []
        self._next_at = time.monotonic() + gap_s
        self._began = time.monotonic()
        self._faults = [fault for fault in self._every() if not only or fault[0] in only]
        self._deck: list[tuple[str, str, Callable[[], Heal]]] = []

    def _every(self) -> list[tuple[str, str, Callable[[], Heal]]]:
        """Return all faults: kind, target, and what begins it and returns what heals it."""
        world = self._world
        found: list[tuple[str, str, Callable[[], Heal]]] = []
        for name in ("broker", "bridge", "receiver", *world.node_names):
            kind = "node" if name in world.node_names else name
            found.append((f"kill {kind}", name, partial(self._kill, name)))
            found.append((f"pause {kind}", name, partial(self._pause, partial(self._pid, name))))
        found.append(("empty broker", "broker", self._empty_broker))
        found.append(("kill service alone", "bridge", self._kill_service))
        for job in JOBS:
            found.append((f"kill {job}", "bridge", partial(self._kill_job, job)))
            found.append((f"pause {job}", "bridge", partial(self._pause, partial(world.job, job))))
        for command in ("archive", "cleanup"):
            found.append((f"kill {command} by hand", f"hand {command}", partial(self._by_hand, command)))
        for name in world.links:
            kind = "node" if name in world.node_names else name
            for how in ("cut", "reset", "stall", "delay", "truncate", "refuse"):
                found.append((f"{how} {kind}", f"link {name}", partial(self._link, name, how)))
        for mood in MOODS:
            found.append((f"server {mood}", "server", partial(self._mood, mood)))
        for name in world.disks:
            found.append((f"full disk {name}", f"disk {name}", partial(self._fill, name)))
        for name in (*world.node_names, "bridge"):
            kind = "node" if name in world.node_names else name
            found.append((f"clock {kind}", f"clock {name}", partial(self._jump, name)))
        return found

    # The schedule -------------------------------------------------------------------------------

    def tend(self) -> None:
        """Heal what has lasted long enough, and break the next thing where it is time."""
        now = time.monotonic()
        for fault in [one for one in self._under if one.until <= now]:
            self._under.remove(fault)
            fault.heal()
        if now >= self._next_at:
            self._next_at = now + self._random.uniform(0.3, 1.7) * self._gap_s
            self._break(now)

    def _break(self, now: float) -> None:
        if not self._deck:  # each fault once before one comes again
            self._deck = self._random.sample(self._faults, len(self._faults))
        kind, target, begin = self._deck.pop()
        length_s = self._random.uniform(0.2, 1.0) * self._longest_s
        if any(one.target == target for one in self._under):
            return
        self.story.append(f"{now - self._began:7.1f} s  {kind:24} {target}, {length_s:.1f} s")
        self.counts[kind] += 1
        self._under.append(Under(target, now + length_s, begin()))

    def end(self) -> None:
        """Heal everything."""
        for fault in self._under:
            fault.heal()
        self._under.clear()

    # The faults ---------------------------------------------------------------------------------

    def _kill(self, name: str) -> Heal:
        self._world.kill(name)
        return lambda: self._world.start(name)

    def _empty_broker(self) -> Heal:
        self._world.empty_broker()
        return lambda: self._world.start("broker")

    def _kill_service(self) -> Heal:
        """Kill the service and none of its jobs: they end by themselves, and the next one waits for them."""
        self._world.kill_service()
        return lambda: self._world.start("bridge")

    def _kill_job(self, job: str) -> Heal:
        self._world.kill_job(job)
        return _nothing

    def _pid(self, name: str) -> int:
        return self._world.process(name).process.pid

    def _pause(self, find: Callable[[], int | None]) -> Heal:
        pid = find()
        if pid is None:
            return _nothing

        def heal() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        return heal

    def _by_hand(self, command: str) -> Heal:
        """Run a command of the archive by hand beside the service, and kill it somewhere."""
        world = self._world
        running = subprocess.Popen(
            python("-m", "bridge", command),
            env=world.environment("bridge"),
            cwd=world.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def heal() -> None:
            running.kill()
            running.wait()

        return heal

    def _link(self, name: str, how: str) -> Heal:
        link = self._world.links[name]
        match how:
            case "cut":
                link.cut()
            case "reset":
                link.cut(reset=True)
            case "stall":
                link.stall()
            case "delay":
                link.delay(self._random.uniform(0.02, 0.5))
            case "truncate":
                link.truncate(self._random.randrange(1, 200))
            case "refuse":
                link.refuse()
        return link.heal

    def _mood(self, mood: str) -> Heal:
        self._world.server.mood = mood

        def heal() -> None:
            self._world.server.mood = ""

        return heal

    def _fill(self, name: str) -> Heal:
        disk = self._world.disks[name]
        disk.fill()
        return disk.empty

    def _jump(self, name: str) -> Heal:
        clock = self._world.clocks[name]
        clock.jump(self._random.choice((-56, -3, -0.01, 0.01, 2, 12)) * YEAR_S)
        return lambda: clock.jump(0)
