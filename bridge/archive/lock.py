"""The archive lock: one process at a time makes archives, moves them or draws them.

It is held for one run of the job only, so that ``archive``, ``plot`` and
``cleanup`` by hand beside the service wait their turn. A killed holder lets go;
the lock's ``check`` keeps one that was cut off from committing.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from bridge.settings import BridgeSettings
from bridge.store import locks, shelf
from bridge.store.locks import Lock
from mqtt_client.errors import LockHeld

LOOK_AGAIN_S = 0.1


def archive_lock(settings: BridgeSettings, stop: threading.Event | None = None) -> AbstractContextManager[Lock]:
    """Hold the archive lock for a block; see :func:`shared_lock`."""
    return shared_lock(settings, "archive", stop)


@contextmanager
def shared_lock(settings: BridgeSettings, job: str, stop: threading.Event | None = None) -> Iterator[Lock]:
    """Hold the lock of a job for a block; wait for it as long as another has it.

    Raises:
        Abandoned: told to stop while waiting.
    """
    waiting = threading.Event() if stop is None else stop
    while True:
        shelf.check(stop)
        try:
            lock = locks.take(settings, job)
            break
        except LockHeld:
            waiting.wait(LOOK_AGAIN_S)
    try:
        yield lock
    finally:
        lock.release()
