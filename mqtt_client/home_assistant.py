"""What Home Assistant is told of the node: one message with the device and all that it measures.

Device-based discovery of Home Assistant's MQTT integration: topic
``homeassistant/device/<node>/config`` with ``device``, ``origin`` and
``components``. Readings are shown from the live topics only, so a backlog never
passes for the present, and the node's own state comes from its health.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mqtt_client.health import model
from mqtt_client.reading import UNITS
from mqtt_client.settings import NodeSettings
from mqtt_client.topics import Topics
from mqtt_client.version import own_version

STATUS_TOPIC = "homeassistant/status"
"""Home Assistant says ``online`` here when it has started."""
ORIGIN = "mqtt-sensor-bridge"
HEALTH_EXPIRES_S = 185
"""Three minutes' health messages and a little more."""

Component = dict[str, object]


class Kind(NamedTuple):
    """How Home Assistant shows a quantity."""

    device_class: str | None
    precision: int | None


KINDS = {
    "temperature": Kind("temperature", 1),
    "humidity": Kind("humidity", 1),
    "pressure": Kind("atmospheric_pressure", 1),
    "illuminance": Kind("illuminance", 0),
    "co2": Kind("carbon_dioxide", 0),
    "voltage": Kind("voltage", 3),
    "cpu_temperature": Kind("temperature", 1),
}
UNIT_NAMES = {"%RH": "%"}
"""Home Assistant's unit where it has another name than ours."""
TITLES = {"co2": "CO₂", "cpu_temperature": "CPU temperature"}


def topic_of(node: str) -> str:
    """Return the topic on which a node announces itself."""
    return f"homeassistant/device/{node}/config"


def removed(components: Iterable[str]) -> dict[str, Component]:
    """Return the entries that take components off; each is named ``platform/id``."""
    return {one.partition("/")[2]: {"platform": one.partition("/")[0]} for one in components}


def named(components: Mapping[str, Component]) -> list[str]:
    """Return the names ``platform/id`` of components."""
    return sorted(f"{one['platform']}/{key}" for key, one in components.items())


def announcement(settings: NodeSettings, components: Mapping[str, Component]) -> dict[str, object]:
    """Return the message with these components."""
    node, version = settings.node_id, own_version()
    return {
        "device": {"identifiers": [node], "name": node, "sw_version": version}
        | ({"model": model()} if model() else {}),
        "origin": {"name": ORIGIN, "sw_version": version},
        "availability": [{"topic": Topics(settings.mqtt_topic_prefix).availability(node)}],
        "qos": 1,
        "components": dict(components),
    }


def sensors(settings: NodeSettings, quantities: Mapping[str, Iterable[str]]) -> dict[str, Component]:
    """Return a component for each quantity of each sensor; ``quantities`` are by sensor."""
    return {
        f"{settings.node_id}_{spec.name}_{quantity}": _sensor(settings, spec.name, quantity)
        for spec in settings.node_sensors
        for quantity in quantities.get(spec.name, ())
    }


def _sensor(settings: NodeSettings, sensor: str, quantity: str) -> Component:
    """Return one quantity's component; a reading without it leaves what is shown as it is.

    Its template has brackets: to Jinja, ``value_json.values`` is the method of a mapping.
    """
    kind, unit = KINDS.get(quantity, Kind(None, None)), UNITS.get(quantity)
    title = TITLES.get(quantity, quantity.replace("_", " ").capitalize())
    found: Component = {
        "platform": "sensor",
        "unique_id": f"{settings.node_id}_{sensor}_{quantity}",
        "name": title if len(settings.node_sensors) == 1 else f"{sensor} {title}",
        "state_topic": Topics(settings.mqtt_topic_prefix).reading(settings.node_id, sensor),
        "value_template": f"{{{{ value_json['values']['{quantity}'] | default('') }}}}",
        "state_class": "measurement",
        "expire_after": expires_after_s(settings, quantity),
    }
    if unit:
        found["unit_of_measurement"] = UNIT_NAMES.get(unit, unit)
    if kind.device_class:
        found["device_class"] = kind.device_class
    if kind.precision is not None:
        found["suggested_display_precision"] = kind.precision
    if quantity == "cpu_temperature":
        found["entity_category"] = "diagnostic"
    return found


def expires_after_s(settings: NodeSettings, quantity: str) -> int:
    """Return after how many seconds without a message a value is no longer shown: twice its time, and five more."""
    every_s = max(settings.sample_interval, settings.outbox_commit_interval)
    if quantity in settings.node_deadband:
        every_s = max(every_s, settings.node_heartbeat)
    return math.ceil(2 * every_s) + 5


def diagnostics(settings: NodeSettings) -> dict[str, Component]:
    """Return the components that show the node's own state, from its health."""
    node, topic = settings.node_id, Topics(settings.mqtt_topic_prefix).health(settings.node_id)
    counted: Component = {"state_class": "measurement"}
    growing: Component = {"state_class": "total_increasing"}
    parts: dict[str, tuple[str, str, Component]] = {
        "outbox": ("Outbox", "value_json.outbox_depth", {**counted, "unit_of_measurement": "readings"}),
        "oldest": (
            "Oldest reading",
            "value_json.oldest_age_s | default(0, true)",
            {**counted, "device_class": "duration", "unit_of_measurement": "s", "suggested_display_precision": 0},
        ),
        "lost": ("Lost readings", "value_json.lost", {**growing, "unit_of_measurement": "readings"}),
        "reconnects": ("Reconnects", "value_json.reconnects", growing),
        "disk": (
            "Free disk space",
            "value_json.disk_free_bytes | default('', true)",
            {**counted, "device_class": "data_size", "unit_of_measurement": "B"},
        ),
        "processor": (
            "Processor temperature",
            "value_json.cpu_temperature | default('', true)",
            {**counted, "device_class": "temperature", "unit_of_measurement": "°C", "suggested_display_precision": 1},
        ),
        "clock": (
            "Clock",
            "value_json.clock",
            {"device_class": "enum", "options": ["synced", "unsynced", "implausible"]},
        ),
    }
    shared: Component = {
        "state_topic": topic,
        "entity_category": "diagnostic",
        "expire_after": HEALTH_EXPIRES_S,
    }
    found: dict[str, Component] = {
        f"{node}__{key}": {
            "platform": "sensor",
            "unique_id": f"{node}__{key}",
            "name": title,
            "value_template": f"{{{{ {value} }}}}",
            **shared,
            **more,
        }
        for key, (title, value, more) in parts.items()
    }
    found[f"{node}__problem"] = {
        "platform": "binary_sensor",
        "unique_id": f"{node}__problem",
        "name": "Problem",
        "device_class": "problem",
        "value_template": "{{ 'ON' if value_json.sensor_faults or value_json.troubles else 'OFF' }}",
        "json_attributes_topic": topic,
        "json_attributes_template": "{{ {'sensors': value_json.sensor_faults, 'troubles': value_json.troubles} "
        "| tojson }}",
        **shared,
    }
    return found
