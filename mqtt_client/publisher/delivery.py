"""Messages on their way to the broker, and how long to leave a topic alone that nobody takes."""

import random
from enum import Enum, auto

import msgspec

from mqtt_client.intervals import Interval
from mqtt_client.outbox.epoch import Loss


class Kind(Enum):
    """What a message is, which says what its answer means."""

    LIVE = auto()
    BACKLOG = auto()
    LOST = auto()
    STATE = auto()
    DISCOVERY = auto()
    """For Home Assistant, which other brokers' rules may refuse."""


class Delivery(msgspec.Struct):
    """A message without an answer yet."""

    kind: Kind
    sent_at: float
    epoch: str = ""
    ranges: list[Interval] = []
    loss: Loss | None = None


class Backoff:
    """Leaves a topic alone for a while after the broker could not deliver: 2 s, doubling to 60 s, jittered."""

    FIRST_S = 2.0
    LONGEST_S = 60.0

    def __init__(self) -> None:
        """Begin with nothing in the way."""
        self.trouble: str | None = None
        self.until = 0.0
        self._wait_s = self.FIRST_S

    def failed(self, reason: str, now: float) -> bool:
        """Note a refusal; say whether it is news."""
        is_news = self.trouble != reason
        if now >= self.until:  # what was under way beside the first refusal counts once
            self.until = now + self._wait_s * random.uniform(0.5, 1)
            self._wait_s = min(2 * self._wait_s, self.LONGEST_S)
        self.trouble = reason
        return is_news

    def succeeded(self) -> bool:
        """Note a delivery; say whether it is news."""
        is_news = self.trouble is not None
        self.trouble, self.until, self._wait_s = None, 0.0, self.FIRST_S
        return is_news

    def expire(self) -> None:
        """Let it be tried at once, and begin with short waits again: who was missing has come."""
        self.until, self._wait_s = 0.0, self.FIRST_S

    def is_open(self, now: float) -> bool:
        """Tell whether something may go."""
        return now >= self.until
