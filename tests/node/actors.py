"""Who else is on the stage: a bridge that does as the test says, and the real node as a process."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from mqtt_client.outbox.epoch import Draft
from tests.processes import Process, eventually, python

TIME_MS = 1_795_500_000_000


def drafts(number: int, *, start: int = 0, held: bool = False) -> list[Draft]:
    """Return drafts whose temperature counts up."""
    return [
        Draft("main", {"temperature": float(start + index)}, TIME_MS + start + index, start + index, "unsynced", held)
        for index in range(number)
    ]


class FakeBridge:
    """Subscribes as the bridge does and remembers every message in order; receipts are the test's."""

    def __init__(self, port: int, *, node: str = "kitchen", subscribes: bool = True) -> None:
        self.port = port
        self.node = node
        self.messages: list[tuple[str, bytes]] = []
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"bridge-{id(self)}", protocol=MQTTv5)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if subscribes:
            self.subscribe()

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload)))

    def subscribe(self) -> None:
        """Subscribe to all that nodes say."""
        topics = ("reading/+", "backlog", "lost", "info", "health", "availability")
        self._client.subscribe([(f"sensors/+/{topic}", 1) for topic in topics])

    def say(self, topic: str, payload: object, *, retain: bool = True) -> None:
        """Publish something as the bridge, and wait until the broker has it."""
        text = payload if isinstance(payload, str) else json.dumps(payload)
        self._client.publish(topic, text, 1, retain).wait_for_publish(10)

    def go_online(self, name: str = "main") -> None:
        """Say that the bridge is online."""
        self.say(f"sensors/bridge/{name}/availability", "online")

    def receipt(
        self, epoch: str, through: int, beyond: list[tuple[int, int]] | None = None, store: str = "s1"
    ) -> None:
        """Send a retained receipt."""
        self.say(
            f"sensors/{self.node}/receipt",
            {"store": store, "epoch": epoch, "through": through, "beyond": beyond or []},
        )

    def payloads(self, ending: str) -> list[Any]:
        """Return the JSON payloads so far of topics that end so."""
        return [json.loads(payload) for topic, payload in self.messages if topic.endswith(ending)]

    @property
    def live(self) -> list[Any]:
        """Readings that came live, in order."""
        return [json.loads(payload) for topic, payload in self.messages if "/reading/" in topic]

    @property
    def backlog(self) -> list[Any]:
        """Readings that came as backlog, in order."""
        return [reading for message in self.payloads("/backlog") for reading in message["readings"]]

    @property
    def received(self) -> set[tuple[str, int]]:
        """Identities of all readings so far."""
        return {(reading["epoch"], reading["seq"]) for reading in (*self.live, *self.backlog)}

    def availability(self) -> list[str]:
        """Return what the node's availability was, in order."""
        return [payload.decode() for topic, payload in self.messages if topic.endswith("/availability")]

    def stop(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


def environment(folder: Path, port: int, settings: dict[str, object]) -> dict[str, str]:
    """Return an environment in which the node runs with these settings."""
    return {
        **os.environ,
        "MQTT_HOST": "127.0.0.1",
        "MQTT_PORT": str(port),
        "NODE_ID": "kitchen",
        "OUTBOX_PATH": str(folder / "data" / "outbox.db"),
        "SAMPLE_INTERVAL": "0.1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: str(value) for name, value in settings.items()},
    }


class RunningNode(Process):
    """``mqtt-node run``."""

    def __init__(self, folder: Path, port: int, settings: dict[str, object]) -> None:
        self.folder = folder
        self._port = port
        self._settings = settings
        super().__init__(
            python("-m", "mqtt_client", "run"), folder / "node.log", environment(folder, port, settings), folder
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run another command of ``mqtt-node`` with the same settings."""
        return subprocess.run(
            python("-m", "mqtt_client", *arguments),
            env=environment(self.folder, self._port, self._settings),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def status(self) -> Any:
        """Return what ``status --json`` says."""
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def wait_for_log(self, text: str) -> None:
        """Wait until it has logged this."""
        eventually(lambda: text in self.output(), told=self.output)
