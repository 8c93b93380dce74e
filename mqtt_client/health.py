"""What the node says of itself: its birth message, its health each minute, and its state for ``status``."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from mqtt_client.messages import Info, Receipt, SensorInfo
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.reading import UNITS
from mqtt_client.settings import NodeSettings
from mqtt_client.version import own_version

MODEL = Path("/proc/device-tree/model")
CPU = Path("/sys/class/thermal/thermal_zone0/temp")


class NodeState(msgspec.Struct, frozen=True):
    """What the running node last wrote into its outbox for ``status``."""

    time_ms: int
    interval: float | None = None
    """Seconds that a command has set, None for the setting's own; so far ahead that a salvage finds it."""
    is_connected: bool = False
    bridge_online: bool = False
    troubles: list[str] = []
    sensor_faults: dict[str, str] = {}
    certificates: list[str] = []
    clock: str = ""
    rate_per_s: float = 0.0
    """Readings taken a second."""
    store: str | None = None
    receipt: Receipt | None = None
    receipt_ms: int | None = None
    reconnects: int = 0
    quantities: dict[str, list[str]] = {}
    announced: list[str] = []
    """What Home Assistant knows; see discovery.py."""


def decode_state(raw: bytes | None) -> NodeState:
    """Return the state as written, an empty one where none was or where it cannot be read."""
    try:
        return msgspec.json.decode(raw or b"", type=NodeState)
    except msgspec.MsgspecError:
        return NodeState(0)


def encode_state(state: NodeState) -> bytes:
    """Return the state as it is written."""
    return msgspec.json.encode(state)


def birth(settings: NodeSettings, outbox: Outbox, quantities: Mapping[str, Iterable[str]]) -> Info:
    """Return the birth message; ``quantities`` are those seen so far, by sensor."""
    sensors = {
        spec.name: SensorInfo(spec.driver, {name: UNITS.get(name) for name in quantities.get(spec.name, ())})
        for spec in settings.node_sensors
    }
    epoch = outbox.current
    return Info(epoch.name, outbox.floor(epoch), own_version(), sensors, settings.sample_interval, model())


def hours_until_full(room: int, rate_per_s: float) -> float | None:
    """Return in how many hours so much room is used up, None where nothing is taken."""
    return round(max(room, 0) / rate_per_s / 3600, 2) if rate_per_s > 0 else None


def model() -> str:
    """Return the machine's model, such as ``Raspberry Pi 4 Model B Rev 1.4``; empty where it does not say."""
    try:
        return MODEL.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def cpu_temperature() -> float | None:
    """Return the processor's temperature in °C, None where the machine does not say."""
    try:
        return round(int(CPU.read_text(encoding="ascii")) / 1000, 1)
    except (OSError, ValueError):
        return None


def disk_free_bytes(path: Path) -> int | None:
    """Return the free space of the disk under a file."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
