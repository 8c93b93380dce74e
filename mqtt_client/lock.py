"""One process for one job: a lock on a file, which the kernel lets go of when its holder dies, however it dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mqtt_client.errors import LockHeld

LOOK_S = 0.3
"""Somebody who only looks, by :func:`is_held`, has the lock too, for a moment much shorter than this."""


class FileLock:
    """A lock that is held until :meth:`release`, or until the process ends."""

    def __init__(self, path: Path, job: str, *, wait: bool = False) -> None:
        """Take the lock.

        Args:
            path: the lock's file, made where it is missing and left in place.
            job: what is locked, for the message to a second process.
            wait: wait for the holder instead of failing.

        Raises:
            LockHeld: another process holds it; the message says which.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take(wait)
        except BlockingIOError as exc:
            holder = os.pread(self._descriptor, 64, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise LockHeld(f"{job}: process {holder} does this already (lock {str(path)!r})") from exc
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def _take(self, wait: bool) -> None:
        if wait:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            return
        deadline = time.monotonic() + LOOK_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.02)

    def release(self) -> None:
        """Let the lock go."""
        os.close(self._descriptor)


def is_held(path: Path) -> bool:
    """Tell whether a living process holds the lock of this file, in whatever container it runs.

    The process id in the file says nothing of that: an id is given again, and a
    container has its own. Where the file may not be read, a holder is assumed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        return isinstance(exc, PermissionError)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def locked(path: Path, job: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock for a block; see :class:`FileLock`."""
    lock = FileLock(path, job, wait=wait)
    try:
        yield
    finally:
        lock.release()
