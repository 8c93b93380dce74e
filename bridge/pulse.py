"""How the service feels that a job moves on, and a job that the service is gone: a line between the two.

Every job asks in each turn of its loop whether to stop, so asking is the sign
of life: it sends one byte a second at most over the socket that the job has as
its standard input. When the service is gone, however it went, the job reads
the line's end and stops in order. Nothing is remembered on disk.
"""

import faulthandler
import os
import socket
import threading
import time
from contextlib import suppress

EVERY_S = 1.0
LINE = 0
"""A job has its line to the service as standard input."""


class Stop(threading.Event):
    """The order to stop; the main thread that asks for it, or waits for it, is alive."""

    def __init__(self) -> None:
        """Begin without an order, and without a line to send pulses on."""
        super().__init__()
        self._line: socket.socket | None = None
        self._next_at = 0.0

    def hold_line(self) -> None:
        """Send pulses to the service from now on, stop when it is gone, and tell where it hangs when aborted."""
        faulthandler.enable()
        self._line = socket.socket(fileno=os.dup(LINE))

        def watch() -> None:
            with suppress(ConnectionError):  # the service was killed before it had read all pulses
                while os.read(LINE, 1):
                    pass
            self.set()

        threading.Thread(target=watch, name="line", daemon=True).start()

    def is_set(self) -> bool:
        """Tell whether to stop."""
        self._beat()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the order, at most so many seconds; return whether it has come."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._beat()
            left_s = EVERY_S if deadline is None else deadline - time.monotonic()
            if super().wait(max(0.0, min(left_s, EVERY_S))):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def _beat(self) -> None:
        now = time.monotonic()
        if self._line is None or now < self._next_at or threading.current_thread() is not threading.main_thread():
            return
        self._next_at = now + EVERY_S
        with suppress(OSError):  # the service is gone, which the other thread finds, or it does not listen now
            self._line.send(b".", socket.MSG_DONTWAIT)
