"""Threads that post: each has a kept connection and works through one job at a time.

A node is never in two jobs, so its readings leave in order. What came back is
put on a queue as soon as it is known; nothing is remembered here.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from bridge.forward import body
from bridge.forward.answers import Answer, Kind, Verdict, judge
from bridge.forward.pace import Stage
from bridge.forward.transport import Connection, Server
from bridge.store.outgoing import OutgoingReading

log = logging.getLogger("forwarder")

_HALVED = frozenset({Kind.REFUSED, Kind.DUPLICATE})
"""Of an array these mean one of its elements, nobody knows which: halves are posted until it stands alone."""


@dataclass(frozen=True)
class Job:
    """Requests that one thread posts in order, each a list of readings."""

    requests: Sequence[Sequence[OutgoingReading]]
    stage: Stage = Stage.HEAD
    alone: bool = False
    """Of a node that fails, apart from others."""

    @property
    def nodes(self) -> set[int]:
        """The nodes whose readings it holds."""
        return {reading.node_id for request in self.requests for reading in request}


@dataclass(frozen=True)
class Posted:
    """What came back for some readings of a job; without a verdict they were not sent."""

    job: Job
    readings: Sequence[OutgoingReading]
    verdict: Verdict | None = None
    answer: Answer | None = None


@dataclass(frozen=True)
class Done:
    """A job has ended; all that came of it was put before."""

    job: Job
    took_s: float


@dataclass(frozen=True)
class Form:
    """How readings are posted."""

    timezone: tzinfo
    as_array: bool
    expect: str | None


class Poster:
    """The threads, and the queue of what came back."""

    def __init__(self, server: Server, form: Form, threads: int, wake: threading.Event) -> None:
        """Start the threads; none connects before its first job.

        Raises:
            SettingsError: SERVER_URL or SERVER_TOKEN cannot be used.
        """
        self.came_back: deque[Posted | Done] = deque()
        self.largest_array: int | None = None
        """Set when the server said that an array is too large (413)."""
        self.failure: Exception | None = None
        """A fault of ours that ended a thread."""
        self.idle = threads
        self._form = form
        self._wake = wake
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._finishing = threading.Event()
        self._connections = [Connection(server) for _ in range(threads)]
        for number, connection in enumerate(self._connections):
            # daemon: a name lookup that hangs must not keep the process from ending
            threading.Thread(target=self._run, args=(connection,), name=f"poster-{number}", daemon=True).start()

    def start(self, job: Job) -> None:
        """Give a job to an idle thread."""
        self.idle -= 1
        self._jobs.put(job)

    def take(self) -> list[Posted | Done]:
        """Take what came back since the last call."""
        taken: list[Posted | Done] = []
        while self.came_back:
            item = self.came_back.popleft()
            if isinstance(item, Done):
                self.idle += 1
            taken.append(item)
        return taken

    def abort_overdue(self) -> None:
        """End requests whose time is over."""
        for connection in self._connections:
            connection.abort_overdue()

    def finish(self) -> None:
        """Let each thread end after the request that is under way; the rest of its job comes back unsent."""
        self._finishing.set()
        for _ in self._connections:
            self._jobs.put(None)

    def abandon(self) -> None:
        """Cut off the requests that are still under way."""
        for connection in self._connections:
            connection.abort()

    def _run(self, connection: Connection) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                began = time.monotonic()
                self._work(connection, job)
                self.came_back.append(Done(job, time.monotonic() - began))
                self._wake.set()
            connection.close()
        except Exception as exc:  # the thread's outermost frame; the forwarder ends with it  # noqa: BLE001
            self.failure = exc
            self._wake.set()

    def _work(self, connection: Connection, job: Job) -> None:
        left = deque(job.requests)
        halted: set[int] = set()
        all_halted = False
        while left:
            request = left.popleft()
            readings = [reading for reading in request if reading.node_id not in halted]
            if len(readings) < len(request):
                self.came_back.append(Posted(job, [reading for reading in request if reading.node_id in halted]))
            if not readings:
                continue
            if all_halted or self._finishing.is_set():
                self.came_back.append(Posted(job, readings))
                continue
            answer, verdict = self._post(connection, readings)
            if len(readings) > 1 and verdict.kind in _HALVED:
                middle = len(readings) // 2
                if answer.status == 413:
                    self.largest_array = middle
                left.extendleft((readings[middle:], readings[:middle]))
                continue
            if verdict.kind in (Kind.AGAIN, Kind.SETUP):
                halted.update(reading.node_id for reading in readings)
                all_halted = all_halted or verdict.down or verdict.kind is Kind.SETUP
            self.came_back.append(Posted(job, readings, verdict, answer))

    def _post(self, connection: Connection, readings: Sequence[OutgoingReading]) -> tuple[Answer, Verdict]:
        if self._form.as_array:
            answer = connection.post(body.array(readings, self._form.timezone), None)
        else:
            (reading,) = readings
            answer = connection.post(body.single(reading, self._form.timezone), reading.key)
        unknown_before = any(reading.unknown for reading in readings)
        return answer, judge(answer, unknown_before=unknown_before, expect=self._form.expect)
