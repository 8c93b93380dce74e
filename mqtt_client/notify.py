"""What the service manager is told: ready, stopping, how it is, and that there is progress (sd_notify(3)).

One datagram a message to the socket that systemd names in NOTIFY_SOCKET;
without it nothing is sent. The watchdog is fed by whoever calls
:meth:`Notifier.tell` only while work really moves on, so a process that hangs
is ended and started again by systemd, and nothing is lost by that.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

STATUS_S = 20.0
"""How often the status is told where no watchdog asks for more."""


class Notifier:
    """Speaks to the service manager that started this process."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Find the manager's socket and how often its watchdog wants to be fed: three times in its time."""
        self._socket: socket.socket | None = None
        self._every_s = min(STATUS_S, _watchdog_s(environment) / 3)
        self._due_at = 0.0
        address = environment.get("NOTIFY_SOCKET", "")
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
                self._socket.setblocking(False)
            except OSError:
                self.close()

    def ready(self, now: float) -> None:
        """Say that the start is over; how it is may be told at once."""
        self._due_at = now
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the end has begun, and nothing after it."""
        self._send("STOPPING=1")
        self.close()

    @property
    def deadline(self) -> float | None:
        """The monotonic time at which :meth:`tell` is due, None where nobody listens."""
        return self._due_at if self._socket else None

    def is_due(self, now: float) -> bool:
        """Whether it is time to tell how it is."""
        return self._socket is not None and now >= self._due_at

    def tell(self, status: str, now: float, *, is_moving: bool) -> None:
        """Say how it is in one line, and feed the watchdog if work moves on."""
        self._due_at = now + self._every_s
        self._send(f"STATUS={' '.join(status.split())}" + ("\nWATCHDOG=1" if is_moving else ""))

    def close(self) -> None:
        """Let the socket go."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the manager restarts, or its queue is full: the next one says it again
                self._socket.send(message.encode())


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """Return the watchdog's time in seconds, infinite where there is none for this process."""
    try:
        is_ours = int(environment.get("WATCHDOG_PID") or os.getpid()) == os.getpid()
        microseconds = int(environment.get("WATCHDOG_USEC", "0")) if is_ours else 0
    except ValueError:
        return float("inf")
    return microseconds / 1e6 if microseconds > 0 else float("inf")
