"""A disk that can be filled and emptied again: a small tmpfs where this may mount one, else a limit on file sizes."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

SIZE_BYTES = 512 * 1024 * 1024
PIECE = bytes(64 * 1024)


class SmallDisk:
    """A folder on a disk of its own, outside of where tests' folders lie and are tidied up."""

    def __init__(self, users: Callable[[], Iterable[int]]) -> None:
        """Make it; ``users`` returns the processes that write there, which matters where nothing can be mounted."""
        self.folder = folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
        self._users = users
        self._limited: list[int] = []
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=777", "tmpfs", str(folder)]
        self._is_mounted = (
            os.geteuid() == 0 and not subprocess.run(mount, check=False, capture_output=True).returncode
        )

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leave no room."""
        if not self._is_mounted:
            self._limited = [user for user in self._users() if _limit(user, 4096)]
            return
        with self._ballast.open("ab", buffering=0) as stream:
            try:
                os.posix_fallocate(stream.fileno(), 0, max(1, self._free_bytes()))
                while True:
                    stream.write(PIECE)
            except OSError as exc:
                if exc.errno != errno.ENOSPC:
                    raise

    def _free_bytes(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def empty(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)
        for user in self._limited:
            _limit(user, resource.RLIM_INFINITY)
        self._limited.clear()

    def end(self) -> None:
        """Let the disk go."""
        self.empty()
        if self._is_mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _works(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _limit(process: int, size_bytes: int) -> bool:
    with contextlib.suppress(OSError):
        _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (size_bytes, hard))
        return True
    return False
