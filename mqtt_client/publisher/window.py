"""The node's own window: what is under way to the broker, never more than it allows.

Readings that are under way, or about to go live, are known here so that
nothing goes twice in one connection.
"""

from collections import deque

from mqtt_client.intervals import Intervals
from mqtt_client.messages import BACKLOG_MAX_BYTES
from mqtt_client.outbox.epoch import Row
from mqtt_client.publisher.delivery import Delivery, Kind

BACKLOG_WINDOW = 8
"""So many backlog messages at once keep the line busy; live readings have the rest."""


class Window:
    """Messages without an answer, and live readings that wait for room."""

    def __init__(self) -> None:
        """Begin empty."""
        self.size = 1
        self.message_bytes = BACKLOG_MAX_BYTES
        self.live: deque[tuple[Row, float]] = deque()
        """Readings that may still go live, each with the monotonic time until which it may."""
        self._in_flight: dict[int, Delivery] = {}
        self._under_way: dict[str, Intervals] = {}

    def busy(self, epoch: str) -> Intervals:
        """Return the readings of an epoch that are under way or about to go live."""
        return self._under_way.setdefault(epoch, Intervals())

    def offer(self, row: Row, until: float) -> None:
        """Let a reading go live, if it can before that time."""
        self.live.append((row, until))
        self.busy(row.epoch).add(row.seq, row.seq)

    def take_live(self) -> Row:
        """Take the first live reading out."""
        row, _ = self.live.popleft()
        self.busy(row.epoch).remove(row.seq, row.seq)
        return row

    def forget_live(self, epoch: str) -> None:
        """Let no reading go live whose epoch has ended."""
        self.live.clear()
        self._under_way.pop(epoch, None)

    def add(self, mid: int, delivery: Delivery) -> None:
        """Note a message that was handed to the broker."""
        for part in delivery.ranges:
            self.busy(delivery.epoch).add(*part)
        self._in_flight[mid] = delivery

    def answered(self, mid: int) -> Delivery | None:
        """Take out the message that was answered, None where it was given up before."""
        delivery = self._in_flight.pop(mid, None)
        if delivery is not None:
            self._free(delivery)
        return delivery

    def give_up(self) -> list[Delivery]:
        """Take out all messages, as after the end of a connection."""
        deliveries = list(self._in_flight.values())
        self._in_flight.clear()
        for delivery in deliveries:
            self._free(delivery)
        return deliveries

    def _free(self, delivery: Delivery) -> None:
        for part in delivery.ranges:
            self.busy(delivery.epoch).remove(*part)

    @property
    def is_empty(self) -> bool:
        """Whether all messages were answered."""
        return not self._in_flight

    @property
    def has_room(self) -> bool:
        """Whether another message may go."""
        return len(self._in_flight) < self.size

    @property
    def oldest_at(self) -> float | None:
        """When the message was sent that has waited longest for its answer."""
        return next((one.sent_at for one in self._in_flight.values()), None)

    def holds_loss(self) -> bool:
        """Tell whether a loss is under way."""
        return any(one.kind is Kind.LOST for one in self._in_flight.values())

    def has_room_for_backlog(self, *, is_probing: bool) -> bool:
        """Tell whether another backlog message may go; a probe goes alone."""
        under_way = sum(one.kind is Kind.BACKLOG for one in self._in_flight.values())
        most = 1 if is_probing else min(BACKLOG_WINDOW, (self.size + 1) // 2)
        return self.has_room and under_way < most
