"""A client beside a real broker that sees everything and speaks as a node would."""

import json

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from tests.processes import eventually


class Peer:
    """A client that sees everything under ``sensors`` and speaks as a node would."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe("sensors/#", 1)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload)))

    def publish(self, topic: str, *payloads: bytes) -> None:
        """Publish with QoS 1, and wait for the broker's word."""
        infos = [self._client.publish(topic, payload, qos=1) for payload in payloads]
        eventually(lambda: all(info.is_published() for info in infos))

    def last(self, topic: str) -> bytes | None:
        """Return the last message of a topic."""
        return next((payload for name, payload in reversed(self.messages) if name == topic), None)

    def receipt(self) -> dict[str, object]:
        """Return the last receipt of the node kitchen."""
        return json.loads(self.last("sensors/kitchen/receipt") or b"{}")

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
