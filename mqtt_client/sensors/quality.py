"""What of a sensor's values is worth sending: plausible, calibrated, and moved (report by exception).

A value that cannot be true is told once and never sent. One that stands still for a day is sent, since it may be
true, and told. All is remembered in memory only, so a restart reports every quantity once.
"""

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

NEVER_STILL = frozenset({"temperature", "humidity", "pressure", "co2", "cpu_temperature"})
"""What moves with the day wherever it is measured; a light may be off for weeks, and a voltage hold."""
STUCK_S = 86_400.0


class Quality:
    """The rules for one sensor; remembers what was reported last, and since when each value stands still."""

    def __init__(
        self,
        calibration: Mapping[str, float],
        deadband: Mapping[str, float],
        heartbeat_s: float,
        *,
        may_stand_still: bool = False,
    ) -> None:
        """Take the rules by quantity: what to add, and by how much it has to move to be reported."""
        self._calibration = calibration
        self._deadband = deadband
        self._heartbeat_s = heartbeat_s
        self._may_stand_still = may_stand_still
        self._reported: dict[str, tuple[float, float]] = {}
        self._refused: dict[str, str] = {}
        self._still: dict[str, tuple[float, float]] = {}

    def judge(
        self, values: Mapping[str, float], now: float, *, everything: bool = False
    ) -> tuple[dict[str, float], list[str]]:
        """Return what to report at this monotonic time in seconds, and what is wrong, in words that stay the same.

        With ``everything``, what has not moved is reported too.
        """
        good: dict[str, float] = {}
        wrong: list[str] = []
        for quantity, measured in values.items():
            value = measured
            if quantity in self._calibration:
                value = round(measured + self._calibration[quantity], 6)
            low, high = PLAUSIBLE.get(quantity, (float("-inf"), float("inf")))
            if not isfinite(value) or not low <= value <= high:
                wrong.append(self._refuse(quantity, value))
                continue
            self._refused.pop(quantity, None)
            if quantity in NEVER_STILL and value != self._still.get(quantity, (None, now))[0]:
                self._still[quantity] = (value, now)
            if everything or self._is_due(quantity, value, now):
                good[quantity] = value
        for quantity, value in good.items():
            self._reported[quantity] = (value, now)
        return good, wrong + self._stuck(now)

    def _refuse(self, quantity: str, value: float) -> str:
        """Return what is told of an implausible value, the first one's words until there is a plausible one."""
        text = f"{quantity} {value:g} {UNITS.get(quantity, '')}".rstrip() + " is not plausible"
        return self._refused.setdefault(quantity, text)

    def _stuck(self, now: float) -> list[str]:
        """Tell when nothing that moves with the day has moved for one; one quantity that moves clears the others."""
        since = max((at for _, at in self._still.values()), default=now)
        if self._may_stand_still or now - since < STUCK_S:
            return []
        values = ", ".join(f"{quantity} {value:g}" for quantity, (value, _) in self._still.items())
        return [f"nothing has moved for a day ({values}); the sensor may be stuck"]

    def _is_due(self, quantity: str, value: float, now: float) -> bool:
        if quantity not in self._deadband or quantity not in self._reported:
            return True
        last, at = self._reported[quantity]
        return abs(value - last) >= self._deadband[quantity] or now - at >= self._heartbeat_s
