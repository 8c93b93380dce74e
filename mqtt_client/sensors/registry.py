"""Which driver makes which sensor; its module is imported when a sensor of it is made.

Users' own drivers are found by the entry point group ``mqtt_sensor_bridge.sensors``:
a callable that takes the argument's text and returns a sensor.
"""

from importlib import import_module
from typing import cast

from mqtt_client.errors import SettingsError
from mqtt_client.sensors.sensor import Sensor
from mqtt_client.setting_values import SensorSpec

ENTRY_POINTS = "mqtt_sensor_bridge.sensors"

DRIVERS = {
    "simulated": ("mqtt_client.sensors.simulated", "Simulated"),
    "fixed": ("mqtt_client.sensors.fixed", "Fixed"),
    "replay": ("mqtt_client.sensors.replay", "Replay"),
    "cpu": ("mqtt_client.sensors.cpu", "Cpu"),
}


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
    if spec.driver in DRIVERS:
        module, name = DRIVERS[spec.driver]
        return cast(Sensor, getattr(import_module(module), name)(spec.argument))
    from importlib.metadata import entry_points  # slow, and needed only for drivers that are not ours

    for entry_point in entry_points(group=ENTRY_POINTS, name=spec.driver):
        return cast(Sensor, entry_point.load()(spec.argument))
    raise LookupError("no such driver")


def _allowed() -> str:
    return f"one of {', '.join(sorted(DRIVERS))}, or a driver of the entry point group {ENTRY_POINTS}"
