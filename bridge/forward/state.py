"""What the forwarder says of itself in the table ``jobs``."""

import time
from collections.abc import Iterable

from bridge.forward.pace import Health, Pace
from bridge.store.database import now_ms

_EVERY_S = 5.0
_SHOWN_NODES = 5


class ForwardState:
    """The state to report: ok, waiting (some nodes fail), paused (the set-up is wrong) or down."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._said: tuple[str, str] | None = None
        self._said_at = 0.0
        self._since_ms = now_ms()
        self._last_status: int | None = None
        self._last_success_ms: int | None = None
        self._settled = 0

    def note(self, status: int | None, settled: int) -> None:
        """Note an answer, and how many readings it settled."""
        self._last_status = status
        if settled:
            self._settled += settled
            self._last_success_ms = now_ms()

    def due(self, waiting: Iterable[int]) -> dict[str, object] | None:
        """Return the state when it has changed or was not reported for a while, else None."""
        now = time.monotonic()
        says = self._says()
        if says == self._said and now < self._said_at + _EVERY_S:
            return None
        if self._said is None or says[0] != self._said[0]:
            self._since_ms = now_ms()
        self._said, self._said_at = says, now
        next_due = self._pace.next_due(waiting)
        return {
            "state": says[0],
            "since_ms": self._since_ms,
            "reason": says[1],
            "last_status": self._last_status,
            "last_success_ms": self._last_success_ms,
            "next_try_ms": None if next_due is None else now_ms() + round(1000 * (next_due - now)),
            "settled": self._settled,
        }

    def _says(self) -> tuple[str, str]:
        failing = self._pace.failing()
        if self._pace.health is not Health.OK or not failing:
            return self._pace.health.value, self._pace.reason
        more = f" and {len(failing) - _SHOWN_NODES} more" if len(failing) > _SHOWN_NODES else ""
        return (
            "waiting",
            f"the server does not take what {', '.join(failing[:_SHOWN_NODES])}{more} sent; it is tried again",
        )
