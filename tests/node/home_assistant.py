"""What Home Assistant demands of a device's announcement, as facts taken from its MQTT integration.

Sources: homeassistant/components/mqtt/schemas.py (DEVICE_DISCOVERY_SCHEMA), sensor.py and binary_sensor.py
(their DISCOVERY_SCHEMA), and homeassistant/components/sensor/const.py (units by device class).
"""

import re
from typing import Any

ROOT_REQUIRED = {"device", "origin", "components"}
ROOT_ALLOWED = ROOT_REQUIRED | {
    "availability",
    "availability_mode",
    "availability_template",
    "availability_topic",
    "payload_available",
    "payload_not_available",
    "state_topic",
    "command_topic",
    "qos",
    "encoding",
}
DEVICE_ALLOWED = {
    "identifiers",
    "connections",
    "manufacturer",
    "model",
    "model_id",
    "name",
    "hw_version",
    "serial_number",
    "sw_version",
    "via_device",
    "suggested_area",
    "configuration_url",
}
ORIGIN_ALLOWED = {"name", "sw_version", "support_url"}
ENTITY_ALLOWED = {
    "platform",
    "unique_id",
    "name",
    "state_topic",
    "value_template",
    "device_class",
    "entity_category",
    "expire_after",
    "json_attributes_topic",
    "json_attributes_template",
}
PLATFORM_ALLOWED = {
    "sensor": ENTITY_ALLOWED
    | {"state_class", "unit_of_measurement", "suggested_display_precision", "options", "force_update"},
    "binary_sensor": ENTITY_ALLOWED | {"payload_on", "payload_off", "off_delay", "force_update"},
}
STATE_CLASSES = {"measurement", "total", "total_increasing"}
UNITS_BY_DEVICE_CLASS: dict[str, set[str | None]] = {
    "temperature": {"°C", "°F", "K"},
    "humidity": {"%"},
    "atmospheric_pressure": {"hPa", "mbar", "Pa", "kPa", "bar", "mmHg", "inHg", "psi", "cbar"},
    "illuminance": {"lx"},
    "carbon_dioxide": {"ppm"},
    "voltage": {"V", "mV", "µV", "kV", "MV"},
    "duration": {"d", "h", "min", "s", "ms", "µs"},
    "data_size": {"bit", "B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB"},
    "enum": {None},
}
BINARY_DEVICE_CLASSES = {"problem", "connectivity", "running"}
TOPIC = re.compile(r"homeassistant/device/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")


def faults(message: dict[str, Any]) -> list[str]:
    """Return everything in an announcement that Home Assistant would refuse or leave out."""
    found = [f"{key} is missing" for key in ROOT_REQUIRED - message.keys()]
    found += [f"{key} is unknown" for key in message.keys() - ROOT_ALLOWED]
    device, origin = message["device"], message["origin"]
    if not (device.get("identifiers") or device.get("connections")):
        found.append("device has no identifier")
    found += [f"device.{key} is unknown" for key in device.keys() - DEVICE_ALLOWED]
    found += [
        f"device.{key} is no text" for key in device.keys() - {"identifiers", "connections"} if not text(device[key])
    ]
    found += [f"origin.{key} is unknown" for key in origin.keys() - ORIGIN_ALLOWED]
    if not text(origin.get("name")):
        found.append("origin has no name")
    if "availability" in message and "availability_topic" in message:
        found.append("availability and availability_topic exclude one another")
    found += [f"availability {one} has no topic" for one in message["availability"] if not text(one.get("topic"))]
    ids = [one["unique_id"] for one in message["components"].values() if "unique_id" in one]
    if len(set(ids)) < len(ids):
        found.append("two components have one unique_id")
    for key, component in message["components"].items():
        found += [f"{key}: {fault}" for fault in component_faults(component)]
    return found


def component_faults(one: dict[str, Any]) -> list[str]:
    """Return what is wrong with a component; one that has only a platform takes it off."""
    if one.get("platform") not in PLATFORM_ALLOWED:
        return ["platform is missing or unknown"]
    if one.keys() == {"platform"}:
        return []
    found = [f"{key} is missing" for key in {"unique_id", "state_topic"} - one.keys()]
    found += [f"{key} is unknown" for key in one.keys() - PLATFORM_ALLOWED[one["platform"]]]
    if one.get("entity_category", "diagnostic") != "diagnostic":
        found.append("entity_category of something read-only is diagnostic or none")
    expires = one.get("expire_after", 0)
    if type(expires) is not int or expires < 0:
        found.append("expire_after is no positive whole number")
    if any(sign in one["state_topic"] for sign in "+#"):
        found.append("state_topic has a wildcard")
    return found + (sensor_faults(one) if one["platform"] == "sensor" else binary_faults(one))


def sensor_faults(one: dict[str, Any]) -> list[str]:
    """Return what is wrong with a sensor's classes and unit."""
    device_class, state_class, unit = one.get("device_class"), one.get("state_class"), one.get("unit_of_measurement")
    found = []
    if device_class is not None and unit not in UNITS_BY_DEVICE_CLASS[device_class]:
        found.append(f"unit {unit} does not go with device_class {device_class}")
    if state_class is not None and state_class not in STATE_CLASSES:
        found.append(f"state_class {state_class} is unknown")
    if (device_class == "enum") != ("options" in one):
        found.append("options and device_class enum go together")
    if device_class == "enum" and (state_class or unit):
        found.append("an enum has neither state_class nor unit")
    precision = one.get("suggested_display_precision", 0)
    if type(precision) is not int or precision < 0:
        found.append("suggested_display_precision is no positive whole number")
    return found


def binary_faults(one: dict[str, Any]) -> list[str]:
    """Return what is wrong with a binary sensor's class."""
    return [] if one.get("device_class", "problem") in BINARY_DEVICE_CLASSES else ["device_class is unknown"]


def text(value: object) -> bool:
    """Tell whether a value is a text that is not empty."""
    return isinstance(value, str) and bool(value)
