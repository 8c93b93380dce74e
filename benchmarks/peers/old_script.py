"""The script that the product replaces: ``requests.post`` in paho's ``on_message``.

It gets what it never had: MQTT QoS 1 in a persistent session (it had a clean
one), and paho's acknowledgement after the callback, so after the answer. No
keep-alive between POSTs, as it was. An error of a POST ends it.
"""

import importlib.metadata

from benchmarks.peers.peer import READINGS, Peer, Way
from tests.processes import Process, python

PROGRAM = """
import json, sys
import paho.mqtt.client as mqtt
import requests
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="old-script", clean_session=False)
url = sys.argv[2]
def on_message(client, data, message):
    requests.post(url, json=json.loads(message.payload), timeout=10).raise_for_status()
client.on_message = on_message
client.on_connect = lambda *_: client.subscribe(sys.argv[3], 1)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
"""


class OldScript(Peer):
    """One thread, one connection for each POST."""

    name = "old script"
    client_id = "old-script"

    def install(self) -> str:
        """Return what it is made of; the product's environment has it."""
        return f"old script, requests {importlib.metadata.version('requests')}"

    def start(self, way: Way) -> Process:
        """Start it."""
        return Process(python("-c", PROGRAM, str(way.broker_port), way.url, READINGS), way.folder / "old-script.log")
