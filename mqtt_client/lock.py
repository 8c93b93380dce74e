"""One process for one job: a lock on a file, which the kernel lets go of when its holder dies, however it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mqtt_client.errors import LockHeld


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
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as exc:
            holder = os.pread(self._descriptor, 64, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise LockHeld(f"{job}: process {holder} does this already (lock {str(path)!r})") from exc
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Let the lock go."""
        os.close(self._descriptor)


@contextmanager
def locked(path: Path, job: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock for a block; see :class:`FileLock`."""
    lock = FileLock(path, job, wait=wait)
    try:
        yield
    finally:
        lock.release()
