"""What time it is, whether the kernel is sure of it, and whether it can be true.

A Pi without a clock chip boots with the time at which it was switched off, or
with 1970. The monotonic clock is right all the same, so a reading taken under
an implausible time waits, and is corrected when the time has been set. Nothing
waits where the clock is merely not synchronised: many machines never say that
they are.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from mqtt_client.reading import Clock, to_ms

BUILT_MS = to_ms(datetime(2025, 1, 1, tzinfo=UTC))
"""The date that no right clock is behind; well before this release was built."""
TOLERANCE_MS = 5000
"""So much a clock may be set back without being doubted."""
SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


class TimeSource(Protocol):
    """The machine's clocks; tests bring their own."""

    boot: str
    """What tells this uptime of the machine from others."""

    def wall_ms(self) -> int:
        """Return the wall clock in milliseconds since 1970-01-01T00:00:00Z."""

    def monotonic_ms(self) -> int:
        """Return milliseconds since this boot, sleep included."""

    def is_synchronised(self) -> bool:
        """Tell whether the kernel knows the wall clock to be right."""


class SystemTime:
    """The clocks of this machine."""

    def __init__(self) -> None:
        """Learn which boot this is."""
        try:
            self.boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:  # no Linux: the start of the machine, to the minute
            self.boot = str(int(time.time() - time.monotonic()) // 60)
        self._clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def wall_ms(self) -> int:
        """Return the wall clock in milliseconds since 1970-01-01T00:00:00Z."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Return milliseconds since this boot, sleep included."""
        return time.clock_gettime_ns(self._clock) // 1_000_000

    def is_synchronised(self) -> bool:
        """Tell whether the kernel, or systemd's time service, has synchronised the wall clock."""
        return SYNCHRONISED.exists() or _kernel_is_synchronised()


def _kernel_is_synchronised() -> bool:
    import ctypes  # only here, and only where systemd has not said it already

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = libc.adjtimex(ctypes.create_string_buffer(512))  # struct timex, modes 0: read only
    except (OSError, AttributeError):
        return False
    return 0 <= int(state) < _TIME_ERROR


class Stamp(NamedTuple):
    """When a sample was taken, as far as it is known now."""

    time_ms: int
    clock: Clock
    held: bool


class Timekeeper:
    """Judges the wall clock, and says when held readings may go.

    What it goes by outlasts a restart with the outbox: the last reading's
    time, and the held rows themselves.
    """

    CHECK_S = 10.0

    def __init__(self, source: TimeSource, wait_s: float, reference_ms: int | None) -> None:
        """Begin; ``reference_ms`` is the time of the outbox's last reading, None where there is none."""
        self.source = source
        self._wait_ms = wait_s * 1000
        self._reference_ms = reference_ms
        self._held_since_ms: int | None = None
        self._is_synchronised = False
        self._checked_ms: int | None = None

    @property
    def is_holding(self) -> bool:
        """Whether readings wait for the clock."""
        return self._held_since_ms is not None

    @property
    def state(self) -> str:
        """``synced``, ``unsynced``, or ``implausible`` while readings wait."""
        if self.is_holding:
            return "implausible"
        return "synced" if self.is_synchronised() else "unsynced"

    def is_synchronised(self) -> bool:
        """Tell the kernel's state, asked every ten seconds."""
        now = self.source.monotonic_ms()
        if self._checked_ms is None or now - self._checked_ms >= self.CHECK_S * 1000:
            self._is_synchronised = self.source.is_synchronised()
            self._checked_ms = now
        return self._is_synchronised

    def is_plausible(self, wall_ms: int) -> bool:
        """Tell whether the wall clock can be right.

        A clock that the kernel has synchronised is believed even behind the
        last reading, which must then have been stamped too late.
        """
        if wall_ms < BUILT_MS:
            return self._reference_ms is not None and self._reference_ms < BUILT_MS and not self._is_behind(wall_ms)
        return not self._is_behind(wall_ms) or self.is_synchronised()

    def _is_behind(self, wall_ms: int) -> bool:
        return self._reference_ms is not None and wall_ms < self._reference_ms - TOLERANCE_MS

    def resume(self, monotonic_ms: int) -> None:
        """Go on holding what an earlier process of this boot held from this moment on."""
        self._held_since_ms = monotonic_ms

    def stamp(self, wall_ms: int, monotonic_ms: int) -> Stamp:
        """Judge the moment of a sample."""
        if self.is_holding or not self.is_plausible(wall_ms):
            if self._held_since_ms is None:
                self._held_since_ms = monotonic_ms
            return Stamp(wall_ms, "unsynced", True)
        self._reference_ms = wall_ms
        return Stamp(wall_ms, "synced" if self.is_synchronised() else "unsynced", False)

    def verdict(self) -> "Verdict":
        """Say what becomes of held readings now."""
        wall_ms, monotonic_ms = self.source.wall_ms(), self.source.monotonic_ms()
        if self._held_since_ms is None:
            return Verdict(False, None)
        if self.is_plausible(wall_ms):
            return Verdict(True, wall_ms - monotonic_ms)
        return Verdict(monotonic_ms - self._held_since_ms >= self._wait_ms, None)

    def released(self) -> None:
        """Stop holding; from now on readings are stamped with the clock as it is."""
        self._held_since_ms = None
        self._reference_ms = self.source.wall_ms()


class Verdict(NamedTuple):
    """Whether held readings go now, and the wall clock minus the monotonic one where that can correct them."""

    go: bool
    offset_ms: int | None
