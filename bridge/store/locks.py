"""One process for each job: lock files beside a SQLite store, leases in a PostgreSQL one.

``ingest``, ``forward``, ``schedule`` and ``web`` are held for as long as the
job runs; ``archive`` for one run of it, so that commands by hand wait their
turn. Over PostgreSQL every bridge has its own but for ``archive``, and for
``alarms``, which one of them raises while the others stand by.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from bridge.settings import BridgeSettings
from bridge.store.database import sqlite_path
from mqtt_client.errors import LockHeld
from mqtt_client.lock import FileLock

SHARED = frozenset({"archive", "alarms"})
"""Jobs that only one of all bridges over a store does at a time."""


class Lock(Protocol):
    """A lock that is held."""

    def release(self) -> None:
        """Let it go."""

    def check(self, connection: Connection) -> None:
        """Make sure, within a transaction that is about to commit, that it is still held.

        Raises:
            LeaseLost: another process has it.
        """


class Beside(FileLock):
    """A lock file beside the store; while its process lives, nobody else gets it."""

    def check(self, _connection: Connection) -> None:
        """Do nothing: the kernel keeps it."""


def name_of(settings: BridgeSettings, job: str) -> str:
    """Return the name of the lock or lease of a job of this bridge."""
    return job if job in SHARED else f"{job}:{settings.bridge_id}"


def take(settings: BridgeSettings, job: str) -> Lock:
    """Take the lock of a job.

    Raises:
        LockHeld: another process does this job.
    """
    file = sqlite_path(settings.store_url)
    if file is None:
        from bridge.store.leases import Lease

        return Lease(settings.store_url, name_of(settings, job), job)
    file.parent.mkdir(parents=True, exist_ok=True)
    return Beside(lock_path(file, job), job)


def lock_path(file: Path, job: str) -> Path:
    """Return the lock file of a job beside a SQLite store."""
    return file.with_name(f"{file.name}.{job}.lock")


@contextmanager
def held(settings: BridgeSettings, job: str) -> Iterator[Lock]:
    """Hold the lock of a job for a block; see :func:`take`."""
    lock = take(settings, job)
    try:
        yield lock
    finally:
        lock.release()


def is_free(settings: BridgeSettings, job: str) -> bool:
    """Tell whether nobody does this job."""
    try:
        take(settings, job).release()
    except LockHeld:
        return False
    return True
