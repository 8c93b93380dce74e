"""The service: each job in a process of its own, started, watched, and ended together.

A job that dies is started again with a growing delay; one that says that a
person is needed ends them all. Each holds a line to the service (pulse.py):
when the service itself is killed they read its end, and stop in order. A job
whose pulse is not felt any more is ended and started again; where even that
does not help, the service manager's watchdog is not fed.
"""

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from bridge.pulse import Stop
from bridge.settings import BridgeSettings
from bridge.store import damage, locks
from bridge.store.database import sqlite_path
from mqtt_client.notify import Notifier

log = logging.getLogger("service")

END_WITHIN_S = 4.0
JOBS_LIVE_ON_S = 6.0
"""How long the jobs of a killed service may hold their locks."""
LEASES_LIVE_ON_S = 12.0
"""How long leases in a PostgreSQL store may outlive their holders."""
STEADY_S = 60.0
DELAY_MAX_S = 30.0
USAGE_OR_SETTINGS = 2
STORE_DAMAGED = 3
"""A job's own word to its service, which then sets the store aside."""
SILENT_S = {"ingest": 120.0, "forward": 120.0, "archive": 900.0, "alarms": 120.0, "web": 120.0}
"""A job that has not asked for so long whether to stop hangs: plots and large files take minutes, no commit does."""
KILL_AFTER_S = 5.0
"""A job that was aborted and is still there, since it is stopped or cannot even write where it hangs, is killed."""


class Job:
    """One job's process."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._command = list(command)
        self._line: socket.socket | None = None
        self._felt_at = 0.0
        self._aborted_at: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._delay_s = 0.5
        self._start_at = 0.0

    def tend(self, now: float) -> int | None:
        """Start the process where it is due; return its exit status in the turn in which it has ended."""
        if self._process is None:
            if now >= self._start_at:
                self._start(now)
            return None
        self._feel(now)
        status = self._process.poll()
        if status is None:
            return None
        self._process = None
        self._delay_s = 0.5 if now - self._started_at > STEADY_S else min(DELAY_MAX_S, self._delay_s * 2)
        self._start_at = now + self._delay_s
        return status

    def _start(self, now: float) -> None:
        if self._line is not None:
            self._line.close()
        self._line, theirs = socket.socketpair()
        self._line.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(self._command, stdin=theirs.fileno())  # noqa: S603  # our own command
        self._started_at = self._felt_at = now
        self._aborted_at = None

    def _feel(self, now: float) -> None:
        assert self._line is not None
        with suppress(BlockingIOError, ConnectionError):
            if self._line.recv(4096):
                self._felt_at = now

    def is_silent(self, now: float) -> bool:
        """Tell whether its process has not moved on for longer than its work can take."""
        return self._process is not None and now - self._felt_at > SILENT_S[self.name]

    def abort(self, now: float) -> None:
        """End a process that hangs, so that it tells where; it is started again when it is gone."""
        if self._process is None:
            return
        if self._aborted_at is None:
            self._aborted_at = now
            log.error("%s has not moved on for %g s, and is ended where it hangs", self.name, SILENT_S[self.name])
            self._process.send_signal(signal.SIGABRT)
        elif now - self._aborted_at > KILL_AFTER_S:
            self._process.kill()

    def end(self) -> None:
        """Ask the process to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait for the process to end; at the deadline it is killed, and the next start finds all as it was."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("%s did not end in time and is killed; nothing is lost by it", self.name)
            self._process.kill()
            self._process.wait()
        self._process = None

    def close(self) -> None:
        """Let go of its line."""
        if self._line is not None:
            self._line.close()


LOCKS = {"archive": "schedule", "alarms": "alarm-job"}
"""Jobs that hold another lock than that of their name; see bridge/store/locks.py."""


def lock_of(job: str) -> str:
    """Return the lock that a job holds for as long as it runs."""
    return LOCKS.get(job, job)


def _locks_of(jobs: Sequence[str]) -> list[str]:
    """Return the locks of all that may have the store open; ``archive`` is that of commands by hand."""
    return [*map(lock_of, jobs), "archive"]


def make_store_whole(settings: BridgeSettings, jobs: Sequence[str]) -> None:
    """Set a damaged store aside before these jobs begin.

    Raises:
        LockHeld: another service does one of them already.
    """
    damage.make_whole(settings, _locks_of(jobs))


def run_service(
    settings: BridgeSettings, jobs: Sequence[str], arguments: Sequence[str], stop: threading.Event
) -> int:
    """Run these jobs until told to stop; return the exit status.

    Args:
        settings: the bridge's.
        jobs: names as ``run --only`` takes them.
        arguments: options to hand on, such as ``--env-file``.
        stop: set to end.

    Raises:
        LockHeld: another service does one of these jobs already.
    """
    _wait_for_locks(settings, jobs)
    children = [
        Job(name, [sys.executable, "-m", "bridge", "run", "--only", name, "--lifeline", *arguments]) for name in jobs
    ]
    notifier = Notifier()
    notifier.ready(time.monotonic())
    log.info("running %s", ", ".join(jobs))
    status = 0
    try:
        while not stop.is_set() and status == 0:
            now, is_damaged = time.monotonic(), False
            for job in children:
                ended = job.tend(now)
                if ended == USAGE_OR_SETTINGS:
                    status = ended
                elif ended == STORE_DAMAGED:
                    is_damaged = True
                elif ended is not None:
                    log.error("%s ended with %s; starting it again", job.name, _status_text(ended))
                elif job.is_silent(now):
                    job.abort(now)
            if is_damaged:
                _end(children)
                damage.make_whole(settings, _locks_of(jobs), is_known=True)
            if notifier.is_due(now):
                _tell(notifier, children, now)
            stop.wait(0.1)
    finally:
        notifier.stopping()
        _end(children)
        for job in children:
            job.close()
    return status


def _end(jobs: Sequence[Job]) -> None:
    """End all processes in order."""
    deadline = time.monotonic() + END_WITHIN_S
    for job in jobs:
        job.end()
    for job in jobs:
        job.wait(deadline)


def _tell(notifier: Notifier, jobs: Sequence[Job], now: float) -> None:
    """Tell the service manager which jobs run, and feed its watchdog unless one of them hangs."""
    silent = [job.name for job in jobs if job.is_silent(now)]
    running = f"running {', '.join(job.name for job in jobs)}"
    notifier.tell(f"{', '.join(silent)} hangs" if silent else running, now, is_moving=not silent)


def stop_at_signals() -> Stop:
    """Return an event that SIGTERM and SIGINT set."""
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread, since the main one may hold the event's lock just now.
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    return stop


def _wait_for_locks(settings: BridgeSettings, jobs: Sequence[str]) -> None:
    """Give the jobs of a service that was just killed the time to stop."""
    live_on_s = JOBS_LIVE_ON_S if sqlite_path(settings.store_url) else LEASES_LIVE_ON_S
    deadline = time.monotonic() + live_on_s
    for name in jobs:
        while not locks.is_free(settings, lock_of(name)) and time.monotonic() < deadline:
            time.sleep(0.1)
        locks.take(settings, lock_of(name)).release()


def _status_text(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
