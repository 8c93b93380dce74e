"""When which node's readings may be posted: back-off for one node, a pause for all when it is the server.

A node that fails waits alone while the others go on. When nobody is there, when
whoever is tried fails, or when the set-up is wrong, all wait, and one reading at a
time probes. A reading that failed SERVER_MAX_TRIES - 1 times is suspected: a later
one probes in its place, and when that passes the suspect has its last chance.
Nothing here is kept over a restart; counting then begins again, which costs tries
and no reading. Times are seconds of the monotonic clock.
"""

import logging
import random
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from enum import Enum

from bridge.forward.answers import Kind, Verdict, back_off_s

log = logging.getLogger("forwarder")

LONGEST_PAUSE_S = 30.0
_FIRST_PAUSE_S = 1.0
_FAILING = 3
"""So many nodes failing in a row, or so many tries once all that wait have failed, mean that it is the server."""


class Health(Enum):
    """How it stands with the server; the words are those of the job's state."""

    OK = "ok"
    DOWN = "down"
    PAUSED = "paused"


class Stage(Enum):
    """What is posted next of a node."""

    HEAD = "its first readings"
    PROBE = "a later reading, since the first one is suspected"
    LAST_CHANCE = "the first one once more, since the later one passed"


@dataclass(slots=True)
class NodePace:
    """What is remembered of one node."""

    name: str = ""
    failures: int = 0
    stage: Stage = Stage.HEAD
    due: float = 0.0
    asked_until: float = 0.0
    """The server asked for silence until then (Retry-After)."""
    tried_at: float = 0.0
    failed_at: float = 0.0
    passed_at: float = 0.0
    batch_size: int | None = None
    """Readings in its next array since a larger one failed; None: as many as are allowed."""


class Pace:
    """The order of posting."""

    def __init__(
        self,
        server: str,
        max_tries: int,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.health = Health.OK
        self.reason = ""
        """What is wrong with the server, for people; empty while it takes readings."""
        self._server = server
        self._suspect_after = max(1, max_tries - 1)
        self._clock = clock
        self._jitter = jitter
        self._nodes: dict[int, NodePace] = {}
        self._pause_s = 0.0
        self._resume = 0.0
        self._failed_since_success: list[int] = []

    def node(self, node_id: int) -> NodePace:
        """Return what is remembered of a node."""
        if node_id not in self._nodes:
            self._nodes[node_id] = NodePace()
        return self._nodes[node_id]

    def may_go(self, waiting: Iterable[int], busy: Container[int], *, idle: bool) -> list[int]:
        """Return the nodes whose turn it is, the sound ones first; during a pause one, and only while all is idle."""
        now = self._clock()
        free = [node_id for node_id in waiting if node_id not in busy and self.node(node_id).asked_until <= now]
        if self.health is Health.OK:
            return sorted((node_id for node_id in free if self.node(node_id).due <= now), key=self.is_alone)
        if not free or not idle or now < self._resume:
            return []
        return [min(free, key=lambda node_id: self.node(node_id).tried_at)]

    def is_alone(self, node_id: int) -> bool:
        """Tell whether a node is posted one request at a time and apart from others, since something failed."""
        node = self.node(node_id)
        return self.health is not Health.OK or node.failures > 0 or node.batch_size is not None

    def next_due(self, waiting: Iterable[int]) -> float | None:
        """Return when the next of these nodes may go; None where none has to wait for its time."""
        now = self._clock()
        if self.health is not Health.OK:
            return max(self._resume, now)
        later = [due for node_id in waiting if (due := self.node(node_id).due) > now]
        return min(later, default=None)

    def failing(self) -> list[str]:
        """Return the names of the nodes that fail."""
        return [node.name for node in self._nodes.values() if node.failures]

    def passed(self, node_id: int, stage: Stage = Stage.HEAD, *, batch_size: int = 1) -> None:
        """Note that the server took a reading of this node, or refused it for good; arrays hold up to batch_size."""
        node = self.node(node_id)
        node.due = node.tried_at = node.passed_at = self._clock()
        self._failed_since_success.clear()
        self._become(Health.OK, "")
        if stage is Stage.PROBE:
            node.stage = Stage.LAST_CHANCE
            return
        if node.failures:
            log.info("node %s goes on", node.name)
        node.failures, node.stage = 0, Stage.HEAD
        if node.batch_size is not None:
            node.batch_size = node.batch_size * 2 if node.batch_size * 2 < batch_size else None

    def failed(self, node_id: int, verdict: Verdict, stage: Stage, waiting: Iterable[int], *, size: int = 1) -> None:
        """Note a try that has to be made again.

        Args:
            node_id: the node; its name is known already.
            verdict: what the answer means.
            stage: what was posted.
            waiting: all nodes with something to post.
            size: how many readings were in the request.
        """
        now = self._clock()
        node = self.node(node_id)
        node.tried_at = now
        node.stage = Stage.HEAD
        if verdict.kind is Kind.SETUP or verdict.down:  # whichever reading it was
            self._pause(Health.DOWN if verdict.down else Health.PAUSED, verdict)
            return
        node.failed_at = now
        node.failures += 1
        if node.failures == 1 and self.health is Health.OK:
            log.warning("node %s waits: %s at %s", node.name, verdict.told, self._server)
        if stage is Stage.HEAD and node.failures >= self._suspect_after:
            node.stage = Stage.PROBE
        if size > 1:
            node.batch_size = size // 2
        asked_s = verdict.wait_s or 0.0
        node.asked_until = now + asked_s
        node.due = now + (asked_s if asked_s >= 1 else back_off_s(node.failures, self._jitter))
        self._failed_since_success.append(node_id)
        failed = set(self._failed_since_success)
        all_fail = len(self._failed_since_success) >= _FAILING and failed.issuperset(waiting)
        if self.health is not Health.OK or len(failed) >= _FAILING or all_fail:
            self._pause(Health.DOWN, verdict)

    def gave_up(self, node_id: int) -> None:
        """Note that the node's first reading became a dead letter: the next one has done nothing wrong yet."""
        node = self.node(node_id)
        node.failures, node.stage, node.due = 0, Stage.HEAD, self._clock()

    def without_probe(self, node_id: int) -> None:
        """Note that a suspected node has no later reading: another node's that passed since then serves as well."""
        node = self.node(node_id)
        passed_at = max((other.passed_at for other in self._nodes.values() if other is not node), default=0.0)
        node.stage = Stage.LAST_CHANCE if passed_at > node.failed_at else Stage.HEAD

    def _pause(self, health: Health, verdict: Verdict) -> None:
        told = "the set-up is wrong" if health is Health.PAUSED else "the server is down"
        self._become(health, f"{told}: {verdict.told} at {self._server}")
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2 or _FIRST_PAUSE_S)
        self._resume = self._clock() + max(verdict.wait_s or 0.0, self._pause_s * self._jitter(0.5, 1.0))

    def _become(self, health: Health, reason: str) -> None:
        self.reason = reason
        if health is self.health:
            return
        self.health = health
        self._pause_s = 0.0
        if health is Health.OK:
            log.info("the server takes readings at %s", self._server)
            for node in self._nodes.values():
                node.due = 0.0
        else:
            log.warning("%s; nothing is lost, one reading probes every %g s at most", reason, LONGEST_PAUSE_S)
