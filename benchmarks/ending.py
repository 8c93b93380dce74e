"""Lets a benchmark that is told to end (SIGTERM, as by ``timeout``) end what it has started, as Ctrl-C does."""

import signal
import sys
from types import FrameType


def end_in_order_when_told() -> None:
    """Turn SIGTERM into an exception, so that every ``finally`` runs."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
