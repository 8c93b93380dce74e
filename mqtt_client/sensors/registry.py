"""Which driver makes which sensor; its module is imported when a sensor of it is made.

Users' own drivers are found by the entry point group ``mqtt_sensor_bridge.sensors``:
a callable that takes the argument's text and returns a sensor. Every argument may end with ``median=N``: the
sensor is then read so often at each beat, and the median counts; an MCP3008, whose conversions are fast and
noisy, does so five times unless told otherwise.
"""

import re
from collections.abc import Callable
from importlib import import_module
from typing import cast

from mqtt_client.errors import SettingsError
from mqtt_client.sensors.median import Median
from mqtt_client.sensors.sensor import Sensor
from mqtt_client.setting_values import SensorSpec

ENTRY_POINTS = "mqtt_sensor_bridge.sensors"

DRIVERS = {
    "simulated": ("mqtt_client.sensors.simulated", "Simulated"),
    "fixed": ("mqtt_client.sensors.fixed", "Fixed"),
    "replay": ("mqtt_client.sensors.replay", "Replay"),
    "cpu": ("mqtt_client.sensors.cpu", "Cpu"),
    "mcp3008": ("mqtt_client.sensors.mcp3008", "Mcp3008"),
    "iio": ("mqtt_client.sensors.iio", "Iio"),
    "w1": ("mqtt_client.sensors.w1", "W1"),
}
MEDIANS = {"mcp3008": 5}
"""How often a sensor of this driver is read at each beat, once unless it says so here."""
MEDIAN = re.compile(r"(?:(.*),)?\s*median\s*=\s*(\d{1,3})\s*", re.DOTALL)


def make_sensors(specs: tuple[SensorSpec, ...]) -> dict[str, Sensor]:
    """Make the sensors of NODE_SENSORS, not yet opened.

    Raises:
        SettingsError: drivers that are unknown or refuse their arguments, all told at once.
    """
    faults: list[str] = []
    sensors: dict[str, Sensor] = {}
    for spec in specs:
        try:
            sensors[spec.name] = _make(spec)
        except (ValueError, LookupError, ImportError) as exc:
            faults.append(f"NODE_SENSORS: {spec.name}={spec.driver} was given ({exc}); allowed is {_allowed()}")
    if faults:
        raise SettingsError(faults)
    return sensors


def _make(spec: SensorSpec) -> Sensor:
    match = MEDIAN.fullmatch(spec.argument)
    argument, number = (match[1] or "", int(match[2])) if match else (spec.argument, MEDIANS.get(spec.driver, 1))
    sensor = _driver(spec.driver)(argument)
    return sensor if number == 1 else Median(sensor, number)


def _driver(name: str) -> Callable[[str], Sensor]:
    """Return what makes sensors of this driver."""
    if name in DRIVERS:
        module, kind = DRIVERS[name]
        return cast(Callable[[str], Sensor], getattr(import_module(module), kind))
    from importlib.metadata import entry_points  # slow, and needed only for drivers that are not ours

    for entry_point in entry_points(group=ENTRY_POINTS, name=name):
        return cast(Callable[[str], Sensor], entry_point.load())
    raise LookupError("no such driver")


def _allowed() -> str:
    return f"one of {', '.join(sorted(DRIVERS))}, or a driver of the entry point group {ENTRY_POINTS}"
