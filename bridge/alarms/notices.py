"""What is out of bounds now, as retained messages: ``…/<node>/alarm``, and ``…/bridge/<BRIDGE_ID>/alarm``.

A connection of its own, so that ingest never waits for it. Nothing is queued:
the wanted content of each topic is held, and published whenever it is not yet
what the broker has; on each new connection all of it again.
"""

import logging
import time

import msgspec
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bridge.alarms.board import Alarm
from bridge.settings import BridgeSettings
from mqtt_client.broker import KEEPALIVE_S, connect_properties, new_client
from mqtt_client.reading import UNITS, format_time, from_ms
from mqtt_client.topics import Topics

log = logging.getLogger("alarms")

RECONNECT_MAX_S = 30
LAST_WORDS_S = 1.0


class Notices:
    """The retained topics of one bridge's alarms. Its methods belong to one thread."""

    def __init__(self, settings: BridgeSettings) -> None:
        self._topics = Topics(settings.mqtt_topic_prefix)
        self._bridge_id = settings.bridge_id
        self._where = f"{settings.mqtt_host}:{settings.broker_port}"
        self._wanted: dict[str, bytes] = {}
        self._told: dict[str, bytes] = {}
        self._connection = 0
        self._told_on = 0
        # No lock of ours is ever held around publish: paho calls back under a lock that publish needs.
        self._published: set[int] = set()
        self._confirmed: set[int] = set()
        self.reason = "not connected yet"
        """Why nothing is published; empty when all is well."""
        self._client = client = new_client(settings, f"mqtt-bridge-{settings.bridge_id}-alarms")
        client.reconnect_delay_set(1, RECONNECT_MAX_S)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.connect_async(
            settings.mqtt_host,
            settings.broker_port,
            KEEPALIVE_S,
            clean_start=True,
            properties=connect_properties(session_expiry_s=0),
        )
        client.loop_start()

    def show(self, node: str, alarms: list[Alarm]) -> None:
        """Make these the alarms of a node, or of the bridge as a whole where the node is empty."""
        topic = self._topics.alarm(node) if node else self._topics.bridge_alarm(self._bridge_id)
        self._wanted[topic] = payload(alarms)

    def publish(self) -> None:
        """Publish what the broker does not have yet, where it can be reached."""
        connection = self._connection
        if self.reason or not self._client.is_connected():
            return
        if connection != self._told_on:
            self._told, self._told_on = {}, connection
        for topic, content in self._wanted.items():
            if self._told.get(topic) == content:
                continue
            self._published.add(self._client.publish(topic, content, qos=1, retain=True).mid)
            self._told[topic] = content

    def close(self) -> None:
        """Give the last messages a moment to be confirmed, and disconnect."""
        deadline = time.monotonic() + LAST_WORDS_S
        while self._published - self._confirmed and self._client.is_connected() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._client.disconnect()
        self._client.loop_stop()

    # paho's callbacks, in its thread; an exception here would end it ------------------------------

    def _on_connect(
        self, client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._say(f"the broker at {self._where} refuses the connection: {reason}")
            return
        if hasattr(client, "drop_out_messages"):
            client.drop_out_messages()
        self._published.clear()
        self._confirmed.clear()
        self._connection += 1
        self._say("")

    def _on_disconnect(
        self,
        _client: Client,
        _data: object,
        _flags: DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if not self.reason:
            self._say(f"the connection to the broker at {self._where} ended")

    def _on_publish(
        self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._confirmed.add(mid)
        if reason.is_failure:
            log.error("the broker refuses the bridge's alarms: %s; may its account write <prefix>/+/alarm?", reason)

    def _say(self, reason: str) -> None:
        if reason and reason != self.reason:
            log.warning("%s; alarms are published when it is back", reason)
        self.reason = reason


def payload(alarms: list[Alarm]) -> bytes:
    """Return the message: a JSON array with an object for each alarm; empty when all is well."""
    return msgspec.json.encode(
        [
            {
                "rule": alarm.rule,
                "severity": alarm.severity,
                "sensor": alarm.sensor,
                "quantity": alarm.quantity,
                "value": alarm.value,
                "unit": UNITS.get(alarm.quantity or ""),
                "since": format_time(from_ms(alarm.since_ms)),
                "raised": format_time(from_ms(alarm.raised_ms or alarm.since_ms)),
                "text": alarm.text,
            }
            for alarm in alarms
        ]
    )
