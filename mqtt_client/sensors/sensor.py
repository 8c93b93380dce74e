"""What every sensor can do: one driver, one file, one class with these three methods."""

from typing import Protocol


class Sensor(Protocol):
    """A source of measured values; one thread opens it, reads it and closes it."""

    def open(self) -> None:
        """Get ready to be read; called again after a failure.

        Raises:
            SensorFailed: it is not there now; it is tried again.
        """

    def read(self) -> dict[str, float] | None:
        """Return what it measures now, by quantity, in the units of reading.UNITS; None when it has nothing more.

        Raises:
            SensorFailed: it gave no value; the next beat tries again.
        """

    def close(self) -> None:
        """Let go of what :meth:`open` took."""
