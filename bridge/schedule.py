"""When archives are made and the folder is tidied: on fixed intervals that outlive a restart.

The time of the last run of each is kept in the store, so a bridge that is
restarted every half hour still archives every hour. A run that fails is told
and tried again at its next turn; nothing is lost by it.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import delete, insert, select

from bridge.errors import StoreDamaged
from bridge.priority import give_way
from bridge.rollups import keep_rollups
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import Store, now_ms
from bridge.store.jobs import job_name, report
from mqtt_client.errors import PersonNeeded, TryLater

log = logging.getLogger("archive")

RETRY_S = 60.0
REPORT_INTERVAL_S = 5.0


@dataclass
class Task:
    """One thing to do each interval_s; its last run is ``meta`` row ``last_<name>_ms``."""

    name: str
    interval_s: float
    do: Callable[[], object]
    last_ms: int = 0
    retry_ms: int = 0

    def due_ms(self) -> int:
        """When it runs next; what lies in the future (the clock was set back) counts from now on as now."""
        now, interval_ms = now_ms(), int(self.interval_s * 1000)
        self.last_ms = min(self.last_ms, now)
        self.retry_ms = min(self.retry_ms, now + interval_ms)
        return max(self.last_ms + interval_ms, self.retry_ms)


def run_schedule(settings: BridgeSettings, store: Store, stop: threading.Event) -> None:
    """Archive and clean up on their intervals until told to stop; a thread beside keeps the roll-ups."""

    def make_archive() -> object:
        from bridge.archive.archiver import archive  # heavy, and needed only when a run is due

        return archive(settings, store, stop=stop)

    def clean_up() -> object:
        from bridge.archive.cleanup import cleanup  # heavy, and needed only when a run is due

        return cleanup(settings, store, stop=stop)

    tasks = [
        Task("archive", settings.archive_interval, make_archive),
        Task("cleanup", settings.cleanup_interval, clean_up),
    ]
    for task in tasks:
        task.last_ms = _last_run(store, task.name)
    name = job_name("schedule", settings.bridge_id, settings.bridge_share_group)
    trouble, report_at = "", 0.0
    rollups = keep_rollups(store, stop)
    give_way()
    while not stop.is_set():
        if time.monotonic() >= report_at:
            report_at = time.monotonic() + REPORT_INTERVAL_S
            _report(store, name, "failing" if trouble else "ok", trouble, tasks)
        task = min(tasks, key=Task.due_ms)
        wait_s = (task.due_ms() - now_ms()) / 1000
        if wait_s > 0:
            stop.wait(min(wait_s, 1.0))
            continue
        task.last_ms = _last_run(store, task.name)  # another bridge over the same store may have run it
        if task.due_ms() <= now_ms():
            _report(store, name, "running", trouble, tasks)
            trouble = _run(store, task)
            report_at = 0.0
    rollups.join()
    _report(store, name, "stopped", trouble, tasks)


def _report(store: Store, name: str, state: str, reason: str, tasks: list[Task]) -> None:
    """Say how it goes; what cannot be said now is said again soon."""
    next_runs = {f"next_{task.name}_ms": task.due_ms() for task in tasks}
    with suppress(TryLater):
        report(store, name, {"state": state, "reason": reason, **next_runs})


def _run(store: Store, task: Task) -> str:
    """Run a task; return what went wrong, nothing where all is well."""
    started_ms = now_ms()
    try:
        task.do()
        _note_run(store, task.name, started_ms)
    except StoreDamaged:
        raise
    except (TryLater, PersonNeeded, OSError) as exc:
        log.error("%s failed and is tried again in %.0f s; nothing is lost: %s", task.name, RETRY_S, exc)
        task.retry_ms = now_ms() + int(min(RETRY_S, task.interval_s) * 1000)
        return f"{task.name} failed: {exc}"
    task.last_ms = started_ms
    return ""


def _last_run(store: Store, name: str) -> int:
    """Return when a task last ran; the first interval of a new store, or after a run in the future, begins now."""
    table = schema.meta
    with store.read() as connection:
        known = connection.scalar(select(table.c.value).where(table.c.key == f"last_{name}_ms"))
    now = now_ms()
    if known is not None and int(known) <= now:
        return int(known)
    _note_run(store, name, now)
    return now


def _note_run(store: Store, name: str, at_ms: int) -> None:
    table = schema.meta
    with store.write() as connection:
        connection.execute(delete(table).where(table.c.key == f"last_{name}_ms"))
        connection.execute(insert(table).values(key=f"last_{name}_ms", value=str(at_ms)))
