"""One process for each job: locks beside the store.

``ingest``, ``forward``, ``schedule`` and ``web`` are held for as long as the
job runs; ``archive`` for one run of it, so that commands by hand wait their turn.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.store.database import sqlite_path
from mqtt_client.errors import LockHeld
from mqtt_client.lock import FileLock


def lock_path(store_url: str, job: str) -> Path:
    """Return the lock file of a job on this machine."""
    file = sqlite_path(store_url) or Path("data/bridge")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.with_name(f"{file.name}.{job}.lock")


def take(store_url: str, job: str) -> FileLock:
    """Take the lock of a job.

    Raises:
        LockHeld: another process does this job.
    """
    return FileLock(lock_path(store_url, job), f"mqtt-bridge {job}")


@contextmanager
def held(store_url: str, job: str) -> Iterator[None]:
    """Hold the lock of a job for a block; see :func:`take`."""
    lock = take(store_url, job)
    try:
        yield
    finally:
        lock.release()


def is_free(store_url: str, job: str) -> bool:
    """Tell whether nobody does this job."""
    try:
        take(store_url, job).release()
    except LockHeld:
        return False
    return True
