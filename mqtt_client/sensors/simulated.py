"""A room that follows the day: warmest in the afternoon, dampest before dawn, never quite still."""

import math
import random
import time

DAY_S = 86_400
WARMEST_S = 15 * 3600


class Simulated:
    """Temperature and humidity on a daily curve, with noise that wanders as a room's does."""

    def __init__(self, argument: str) -> None:
        """Begin; an argument, if any, is a number that makes the noise repeatable.

        Raises:
            ValueError: the argument is no whole number.
        """
        self._random = random.Random(int(argument) if argument else None)
        self._drift = 0.0

    def open(self) -> None:
        """Need nothing."""

    def read(self) -> dict[str, float]:
        """Return what such a room would have now."""
        wave = math.cos((time.time() - WARMEST_S) / DAY_S * math.tau)
        self._drift = 0.98 * self._drift + self._random.gauss(0, 0.05)
        temperature = 20.5 + 2.5 * wave + self._drift
        humidity = 50 - 9 * wave - 1.5 * self._drift + self._random.gauss(0, 0.2)
        return {"temperature": round(temperature, 2), "humidity": round(min(max(humidity, 0.0), 100.0), 2)}

    def close(self) -> None:
        """Hold nothing."""
