"""What of a sensor's values is worth sending: plausible, calibrated, and moved (report by exception)."""

from collections.abc import Mapping
from math import isfinite

from mqtt_client.reading import UNITS

PLAUSIBLE = {
    "temperature": (-60.0, 150.0),
    "humidity": (0.0, 105.0),  # a capacitive sensor in fog reads a little more than 100
    "pressure": (300.0, 1250.0),
    "illuminance": (0.0, 200_000.0),
    "co2": (0.0, 50_000.0),
    "cpu_temperature": (-40.0, 150.0),
}
"""What can be true anywhere on earth and in its devices; other quantities only have to be finite."""


class Quality:
    """The rules for one sensor; remembers what was reported last."""

    def __init__(self, calibration: Mapping[str, float], deadband: Mapping[str, float], heartbeat_s: float) -> None:
        """Take the rules by quantity: what to add, and by how much it has to move to be reported."""
        self._calibration = calibration
        self._deadband = deadband
        self._heartbeat_s = heartbeat_s
        self._reported: dict[str, tuple[float, float]] = {}

    def judge(
        self, values: Mapping[str, float], now: float, *, everything: bool = False
    ) -> tuple[dict[str, float], list[str]]:
        """Return what to report at this monotonic time in seconds, and what was refused and why.

        With ``everything``, what has not moved is reported too.
        """
        good: dict[str, float] = {}
        refused: list[str] = []
        for quantity, measured in values.items():
            value = measured
            if quantity in self._calibration:
                value = round(measured + self._calibration[quantity], 6)
            low, high = PLAUSIBLE.get(quantity, (float("-inf"), float("inf")))
            if not isfinite(value) or not low <= value <= high:
                refused.append(f"{quantity} {value:g} {UNITS.get(quantity, '')}".rstrip() + " is not plausible")
            elif everything or self._is_due(quantity, value, now):
                good[quantity] = value
        for quantity, value in good.items():
            self._reported[quantity] = (value, now)
        return good, refused

    def _is_due(self, quantity: str, value: float, now: float) -> bool:
        if quantity not in self._deadband or quantity not in self._reported:
            return True
        last, at = self._reported[quantity]
        return abs(value - last) >= self._deadband[quantity] or now - at >= self._heartbeat_s
