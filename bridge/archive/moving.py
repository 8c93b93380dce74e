"""A file moved to another folder: never over another file, whole at any moment, and only when nobody has it open.

Within a file system that is one rename. Across, the copy reaches the disk
under another name, gets its own name without replacing, and only then the
original goes. A kill in between leaves the original, or both: the next move
sees by the checksum that the copy is whole, and removes the original.
"""

import errno
import fcntl
import os
import shutil
import signal
from contextlib import suppress
from enum import Enum
from pathlib import Path

from bridge.archive import durable


class Moved(Enum):
    """What became of a move."""

    MOVED = "moved"
    FINISHED = "finished"
    """The target was there already, whole, from a move that was interrupted."""
    TAKEN = "taken"
    """Another file has the name; both are as they were."""
    IN_USE = "in use"
    """Somebody has it open; it stays where it is."""


def move(source: Path, folder: Path) -> Moved:
    """Move a file into a folder that exists.

    Raises:
        OSError: it cannot be read or written.
    """
    if is_in_use(source):
        return Moved.IN_USE
    target = folder / source.name
    if target.exists() and target.stat().st_size:
        return _finish(source, target)
    try:
        durable.rename_new(source, target)
    except FileExistsError:
        return _finish(source, target)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        return _copy(source, target)
    durable.sync_folder(folder)
    durable.sync_folder(source.parent)
    return Moved.MOVED


def _finish(source: Path, target: Path) -> Moved:
    if not target.is_file() or durable.sha256(source) != durable.sha256(target):
        return Moved.TAKEN
    durable.sync_file(target)
    durable.sync_folder(target.parent)
    source.unlink()
    durable.sync_folder(source.parent)
    return Moved.FINISHED


def _copy(source: Path, target: Path) -> Moved:
    beside = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, beside)
        with suppress(PermissionError):  # some file systems keep no times or modes
            shutil.copystat(source, beside)
        durable.sync_file(beside)
        try:
            durable.rename_new(beside, target)
        except FileExistsError:
            return _finish(source, target)
    finally:
        beside.unlink(missing_ok=True)
    durable.sync_folder(target.parent)
    source.unlink()
    durable.sync_folder(source.parent)
    return Moved.MOVED


def is_in_use(path: Path) -> bool:
    """Tell whether somebody has a file open, as far as the system can tell.

    LibreOffice and Excel put a file of their own beside it. For others the
    kernel is asked for a lease (fcntl(2), F_SETLEASE), which it gives only for
    a file that nobody else has open; file systems without leases, and files of
    other users, are asked for a lock instead.
    """
    beside = (path.with_name(f".~lock.{path.name}#"), path.with_name(f"~${path.name}"))
    if any(mark.exists() for mark in beside):
        return True
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            # Who opens the file meanwhile makes the kernel send a signal; the usual one, SIGIO, would end us.
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as exc:
            if exc.errno == errno.EAGAIN:
                return True
            return _is_locked(descriptor)
        return False
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks here either: nobody can tell
    return False
