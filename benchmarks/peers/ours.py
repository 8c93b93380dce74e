"""The product: ``mqtt-bridge run --only ingest`` and ``--only forward``, default settings, a new SQLite store.

``mqtt-bridge run`` starts these two and, besides, archiver, alarms and live
page, which no peer has.
"""

import os
import shlex

from benchmarks.peers.peer import Peer, Way
from bridge.ingest.ingest import filters
from mqtt_client.topics import Topics
from mqtt_client.version import own_version
from tests.processes import Process, python

BOTH = " & ".join(shlex.join(python("-m", "bridge", "run", "--only", job)) for job in ("ingest", "forward"))


class Ours(Peer):
    """One POST a reading, each under its idempotency key; or arrays, with the keys as ids."""

    client_id = "mqtt-bridge-main"
    filters = tuple(filters(Topics(), None))
    killed_readings = 5.0

    def __init__(self, batch_size: int = 1) -> None:
        self.name = "mqtt-bridge" if batch_size == 1 else f"mqtt-bridge, arrays of {batch_size}"
        self.readings = 1.0 if batch_size == 1 else 20.0
        self._batch_size = batch_size

    def install(self) -> str:
        """Return the version; it stands here."""
        return self.name.replace("mqtt-bridge", f"mqtt-bridge {own_version()}")

    def start(self, way: Way) -> Process:
        """Start both jobs in one process group."""
        variables = {
            "MQTT_HOST": "127.0.0.1",
            "MQTT_PORT": str(way.broker_port),
            "STORE_URL": f"sqlite:///{way.folder}/bridge.db",
            "SERVER_URL": way.url,
            "SERVER_BATCH_SIZE": str(self._batch_size),
        }
        command = ["sh", "-c", f"{BOTH} & wait"]
        return Process(command, way.folder / "bridge.log", {**os.environ, **variables}, way.folder)
