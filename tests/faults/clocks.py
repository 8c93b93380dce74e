"""A wall clock that a test can move, by years if it likes, while the programs that wear it run.

The offset lies in a file of eight bytes that they map; the monotonic clock is
left alone, as the kernel leaves it when somebody sets the time. Needs nothing
of the system, unlike libfaketime, and reaches what the product reads:
``time.time``, ``time.time_ns`` and ``datetime.now`` in the jobs that use it.
"""

import mmap
import struct
import sys
import time
from datetime import datetime, tzinfo
from importlib import import_module
from pathlib import Path

OFFSET = struct.Struct("q")  # nanoseconds
S = 1_000_000_000
READERS_OF_DATETIME = {
    "forward": ("bridge.forward.answers",),
    "archive": ("bridge.archive.archiver", "bridge.archive.cleanup"),
    "cleanup": ("bridge.archive.archiver", "bridge.archive.cleanup"),
}


class MovableClock:
    """The harness's end: makes the file, and moves the clock of those who wear it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(OFFSET.pack(0))

    def jump(self, offset_s: float) -> None:
        """Let the clock go wrong by so many seconds, counted from the right time."""
        with self.path.open("r+b") as stream:
            stream.write(OFFSET.pack(int(offset_s * S)))


def wear(path: str) -> None:
    """Let this process read the time of a :class:`MovableClock`."""
    with open(path, "r+b") as stream:
        shared = mmap.mmap(stream.fileno(), OFFSET.size)
    right = time.time_ns

    def time_ns() -> int:
        return right() + int(OFFSET.unpack_from(shared)[0])

    class MovedDatetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(time_ns() / S, tz)

    time.time_ns = time_ns
    time.time = lambda: time_ns() / S
    for word in sys.orig_argv:
        for name in READERS_OF_DATETIME.get(word, ()):
            import_module(name).datetime = MovedDatetime  # type: ignore[attr-defined]
