"""Starts the node from its settings, and ends it on SIGTERM or SIGINT."""

import logging
import signal

from mqtt_client.clock import SystemTime
from mqtt_client.node import Node
from mqtt_client.outbox.opening import open_outbox
from mqtt_client.outbox.peek import read_state
from mqtt_client.sensors.registry import make_sensors
from mqtt_client.settings import NodeSettings

log = logging.getLogger("node")


def run_node(settings: NodeSettings) -> None:
    """Run a node until a signal ends it.

    Raises:
        PersonNeeded: it cannot begin; the message says why.
    """
    sensors = make_sensors(settings.node_sensors)
    source = SystemTime()
    outbox = open_outbox(settings.outbox_path, settings.node_id, source.boot, settings.outbox_max_readings)
    node = Node(settings, outbox, sensors, source, read_state(settings.outbox_path))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: node.stop())
    log.info(
        "node %s: epoch %s, %d readings wait, sensors %s every %g s",
        settings.node_id,
        outbox.current.name,
        outbox.waiting,
        ", ".join(sensors),
        settings.sample_interval,
    )
    node.run()
    log.info("stopped; %d readings wait", outbox.waiting)
