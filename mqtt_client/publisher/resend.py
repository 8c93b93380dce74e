"""When and what to send again: what the broker acknowledged and no receipt covers.

A PUBACK from the broker is not durable, so after each reconnect, and when the
receipt has not moved for a while, all that was published and not receipted
goes again, as long as a bridge is there to take it.
"""

from mqtt_client.intervals import Interval, Intervals
from mqtt_client.outbox.epoch import Epoch

FIRST_WAIT_S = 30.0
LONGEST_WAIT_S = 900.0
LIMIT = 500
"""So many re-sent readings may be without a receipt at a time, in one epoch."""


class Resend:
    """The plan of one epoch."""

    def __init__(self, now: float) -> None:
        """Begin at this monotonic time, in seconds."""
        self._due: Intervals = Intervals()
        self._sent: Intervals = Intervals()
        self._wait_s = FIRST_WAIT_S
        self._deadline = now + FIRST_WAIT_S

    def restart(self, epoch: Epoch, now: float) -> None:
        """Plan to send again all that is published and not receipted."""
        self._due = epoch.published.copy()
        self._sent = Intervals()
        self._deadline = now + self._wait_s

    def receipt_moved(self, now: float) -> None:
        """Note that the receipt has moved."""
        self._wait_s = FIRST_WAIT_S
        self._deadline = now + self._wait_s

    def deadline(self, epoch: Epoch) -> float | None:
        """Return when all is sent again unless the receipt moves, None where nothing waits for one."""
        return self._deadline if self._waiting(epoch) else None

    def tick(self, epoch: Epoch, now: float) -> bool:
        """Start again when the receipt has not moved for long enough; say whether it did."""
        if not self._waiting(epoch):
            self._deadline = now + self._wait_s
            return False
        if now < self._deadline:
            return False
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        self.restart(epoch, now)
        return True

    def _waiting(self, epoch: Epoch) -> bool:
        first, last = epoch.rows.first, epoch.rows.last
        return first is not None and last is not None and bool(epoch.published.within(first, last))

    def next_range(self, epoch: Epoch) -> tuple[Interval, int] | None:
        """Return the next range to send again, and how many of it at most; None where there is nothing or no room."""
        waiting = sum(last - first + 1 for part in self._sent for first, last in epoch.rows.within(*part))
        if waiting >= LIMIT or not self._due:
            return None
        for due in self._due:
            for part in epoch.rows.within(*due):
                return part, LIMIT - waiting
        self._due = Intervals()
        return None

    def sent(self, first: int, last: int) -> None:
        """Note that what there is from first to last has been sent again."""
        self._due.remove(0, last)
        self._sent.add(first, last)

    def failed(self, ranges: list[Interval]) -> None:
        """Note that the broker did not take these; they go out with what was never published."""
        for first, last in ranges:
            self._sent.remove(first, last)
