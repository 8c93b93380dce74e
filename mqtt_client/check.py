"""What ``mqtt-node check`` finds: one line for each thing that is right or wrong. It changes nothing."""

import os
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mqtt_client.clock import SystemTime, Timekeeper
from mqtt_client.errors import SensorBridgeError, SensorFailed, SettingsError
from mqtt_client.health import decode_state
from mqtt_client.outbox.peek import glance
from mqtt_client.reading import UNITS, format_time, from_ms
from mqtt_client.sensors.quality import Quality
from mqtt_client.sensors.registry import make_sensors
from mqtt_client.sensors.sampler import PAUSES_S
from mqtt_client.sensors.sensor import Sensor
from mqtt_client.settings import NodeSettings
from mqtt_client.status import NEVER_RECEIPTED, is_running
from mqtt_client.unknown_names import unknown_names

PREFIXES = ("MQTT_", "NODE_", "OUTBOX_", "SAMPLE_")


class Finding(NamedTuple):
    """One thing that was looked at."""

    verdict: str
    """``ok``, ``note`` or ``FAULT``."""
    text: str


def find(settings: NodeSettings) -> Iterator[Finding]:
    """Look at everything that the node needs before it runs, the broker aside."""
    yield Finding("ok", f"settings: node {settings.node_id}, broker {settings.mqtt_host}:{settings.broker_port}")
    yield from (Finding("note", doubt) for doubt in settings.doubts())
    yield from _sensors(settings)
    yield from _outbox(settings)
    yield Finding("ok", f"time zone: {settings.timezone.key}")
    yield _clock(settings)


def strangers(variables: Mapping[str, str]) -> Iterator[Finding]:
    """Tell the variables of an env file that are nearly one of ours, or look like ours and are not."""
    yield from (Finding("note", told) for told in unknown_names(variables, NodeSettings, PREFIXES))


def read_once(sensor: Sensor, settings: NodeSettings) -> tuple[dict[str, float], list[str]]:
    """Read a sensor once, with the tries that the node allows it; return its values and what is wrong."""
    wrong: list[str] = []
    measured: Mapping[str, float] | None = None
    for pause_s in (0.0, *PAUSES_S):
        time.sleep(pause_s)
        try:
            measured, wrong = _measured(sensor), []
            break
        except SensorFailed as exc:
            measured, wrong = exc.values, [str(exc)]
    if measured is None:
        return {}, ["it has no values"]
    good, doubted = Quality(settings.node_calibration, {}, settings.node_heartbeat).judge(measured, time.monotonic())
    return good, wrong + doubted


def _measured(sensor: Sensor) -> dict[str, float] | None:
    try:
        sensor.open()
        try:
            return sensor.read()
        finally:
            sensor.close()
    except SensorFailed:
        raise
    except Exception as exc:  # a user's driver may raise anything, and the others are still to be read
        raise SensorFailed(f"{type(exc).__name__}: {exc}") from exc


def describe(values: Mapping[str, float]) -> str:
    """Return values with their units, for people."""
    return ", ".join(f"{name} {value:g} {UNITS.get(name, '')}".rstrip() for name, value in values.items())


def _sensors(settings: NodeSettings) -> Iterator[Finding]:
    try:
        sensors = make_sensors(settings.node_sensors)
    except SettingsError as exc:
        yield from (Finding("FAULT", fault) for fault in exc.faults)
        return
    for name, sensor in sensors.items():
        values, wrong = read_once(sensor, settings)
        if values:
            yield Finding("ok", f"sensor {name}: {describe(values)}")
        yield from (Finding("FAULT", f"sensor {name}: {one}") for one in wrong)


def _outbox(settings: NodeSettings) -> Iterator[Finding]:
    path = settings.outbox_path
    if not path.exists():
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            yield Finding("ok", f"outbox: {path} will be made")
        else:
            yield Finding("FAULT", f"OUTBOX_PATH: {str(path)!r} cannot be made: {str(folder)!r} cannot be written")
        return
    try:
        found = glance(path)
    except SensorBridgeError as exc:
        yield Finding("FAULT", str(exc))
        return
    if not os.access(path, os.W_OK) or not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        yield Finding("FAULT", f"OUTBOX_PATH: {str(path)!r} cannot be written")
    elif found.node not in ("", settings.node_id) and found.waiting:
        yield Finding(
            "FAULT", f"NODE_ID: {settings.node_id!r} was given, but the outbox holds readings of {found.node!r}"
        )
    else:
        using = ", a node is running on it" if is_running(path) else ""
        yield Finding("ok", f"outbox: {path}, {found.waiting} of {settings.outbox_max_readings} readings wait{using}")
    if settings.node_confirm == "bridge" and found.next_seq > 1 and decode_state(found.state).receipt is None:
        yield Finding("note", NEVER_RECEIPTED)


def _clock(settings: NodeSettings) -> Finding:
    source = SystemTime()
    wall_ms = source.wall_ms()
    time_ = format_time(from_ms(wall_ms))
    keeper = Timekeeper(source, settings.node_clock_wait, None)
    if not keeper.is_plausible(wall_ms):
        return Finding(
            "FAULT", f"clock: {time_} cannot be; readings wait {settings.node_clock_wait:g} s for it to be set"
        )
    return Finding("ok", f"clock: {time_}, {keeper.state}")
