"""Starts the node from its settings, and ends it on SIGTERM or SIGINT."""

import logging
import signal
from pathlib import Path

from mqtt_client import logs
from mqtt_client.clock import SystemTime
from mqtt_client.errors import OutboxDamaged, TryLater
from mqtt_client.exits import settings_from, told
from mqtt_client.indicator import Indicator
from mqtt_client.node import Node
from mqtt_client.notify import Notifier
from mqtt_client.outbox.opening import open_outbox
from mqtt_client.outbox.peek import read_state
from mqtt_client.sensors.registry import make_sensors
from mqtt_client.sensors.sensor import Sensor
from mqtt_client.settings import NodeSettings

log = logging.getLogger("node")


def run_from(env_file: Path | None) -> None:
    """Run a node with the settings of the environment and an env file; end the process with 1 or 2 if it cannot."""
    logs.set_up()
    with told():
        run_node(settings_from(env_file))


def run_node(settings: NodeSettings) -> None:
    """Run a node until a signal ends it.

    Raises:
        PersonNeeded: it cannot begin; the message says why.
    """
    sensors = make_sensors(settings.node_sensors)
    source = SystemTime()
    indicator = _indicator(settings)
    is_damaged = False
    try:
        while True:
            try:
                _run(settings, sensors, source, indicator, is_damaged=is_damaged)
                return
            except OutboxDamaged as exc:
                log.error("%s; opening it anew", exc)
                is_damaged = True
    finally:
        if indicator is not None:
            indicator.close()


def _indicator(settings: NodeSettings) -> Indicator | None:
    """Return the LED where one is set; a node whose LED cannot be had measures all the same."""
    if settings.node_led_pin is None:
        return None
    try:
        return Indicator(settings.node_led_pin)
    except TryLater as exc:
        log.error("NODE_LED_PIN: %s; the node runs without its LED", exc)
        return None


def _run(
    settings: NodeSettings,
    sensors: dict[str, Sensor],
    source: SystemTime,
    indicator: Indicator | None,
    *,
    is_damaged: bool,
) -> None:
    """Run until stopped, or until the outbox is found damaged."""
    path, room = settings.outbox_path, settings.outbox_max_readings
    outbox = open_outbox(path, settings.node_id, source.boot, room, is_damaged=is_damaged)
    node = Node(settings, outbox, sensors, source, read_state(path), Notifier(), indicator)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: node.stop())
    log.info(
        "node %s: epoch %s, %d readings wait, sensors %s every %g s",
        settings.node_id,
        outbox.current.name,
        outbox.waiting,
        ", ".join(sensors),
        node.interval_s,
    )
    node.run()
    log.info("stopped; %d readings wait", outbox.waiting)
