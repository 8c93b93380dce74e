"""Files on the disk: made durable, placed without replacing another, told apart by their checksum.

A file that was placed here is whole: it was written under another name,
reached the disk, and only then got its own. After a power cut it is there
under one of the two names, or under both.
"""

import ctypes
import errno
import hashlib
import os
from pathlib import Path

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK})


def sync_file(path: Path) -> None:
    """Return when the file's content is on the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Return when the names in this folder are on the disk."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def rename_new(source: Path, target: Path) -> None:
    """Rename within one file system, but never over another file.

    The kernel's RENAME_NOREPLACE does it in one step. File systems that do
    not know it get a hard link first, those without links (FAT, CIFS) an
    empty file that reserves the name; a kill may leave that behind, so an
    empty target counts as free.

    Raises:
        FileExistsError: the target is there already, and not empty.
        OSError: with errno EXDEV when the two are on different file systems.
    """
    try:
        _rename_no_replace(source, target)
    except FileExistsError:
        if target.stat().st_size or not source.stat().st_size:
            raise
        os.replace(source, target)
    except OSError as exc:
        if exc.errno not in _NOT_SUPPORTED:
            raise
        _link_or_reserve(source, target)


def _rename_no_replace(source: Path, target: Path) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    status = library.renameat2(
        _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(_RENAME_NOREPLACE)
    )
    if status != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(source), None, str(target))


def _link_or_reserve(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
        os.unlink(source)
    except FileExistsError:
        raise
    except OSError as exc:
        if exc.errno not in _NOT_SUPPORTED:
            raise
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        os.replace(source, target)
