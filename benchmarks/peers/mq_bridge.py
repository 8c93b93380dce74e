"""mq-bridge (a Rust engine, from PyPI), a route from ``mqtt`` to ``http``.

Options: MQTT 5 with a client id, ``clean_session`` off, session expiry 1 h,
QoS 1, acknowledgement after processing (``delayed_ack`` off, its default),
keep-alive 60 s, ``max_inflight`` 1,000 as the broker allows, and a
``queue_capacity`` of 100,000: with its default of 100 it does not start over a
session in which more wait ("did not become ready within 5000ms"), and with
2,000 not always after the kill. POST with ``batch_concurrency`` 20, its
default. It sends no key; its log is not started.
"""

import json

from benchmarks.peers.peer import READINGS, PythonPeer, Way
from tests.processes import Process

PROGRAM = """
import json, sys
from mq_bridge import Route
Route.from_config(json.loads(sys.argv[1]), "readings").run()
"""


class MqBridge(PythonPeer):
    """Acknowledges a batch after it was posted."""

    name = "mq-bridge"
    version = "1.2.0"
    client_id = "mq-bridge"

    def start(self, way: Way) -> Process:
        """Start its route."""
        mqtt = {
            "url": f"tcp://127.0.0.1:{way.broker_port}",
            "topic": READINGS,
            "client_id": self.client_id,
            "qos": 1,
            "clean_session": False,
            "session_expiry_interval": 3600,
            "keep_alive_seconds": 60,
            "protocol": "v5",
            "max_inflight": 1000,
            "queue_capacity": 100_000,
        }
        http = {"url": way.url, "method": "POST", "custom_headers": {"Content-Type": "application/json"}}
        configuration = {"routes": {"readings": {"input": {"mqtt": mqtt}, "output": {"http": http}}}}
        python = self.program("python")
        return Process([python, "-c", PROGRAM, json.dumps(configuration)], way.folder / "mq-bridge.log")
