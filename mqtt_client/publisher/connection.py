"""The node's one connection to the broker.

paho runs in a thread of its own; its callbacks do nothing but put an event on
a queue, which the node's main thread reads. paho's own queue is emptied on
every connect: the outbox is the truth, and it knows what has to go again.
"""

import logging
import random
import sys
from collections.abc import Callable
from functools import wraps
from queue import SimpleQueue
from typing import Any, NamedTuple, ParamSpec

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from mqtt_client.broker import KEEPALIVE_S, connect_properties, new_client, shown_certificate, why_not
from mqtt_client.home_assistant import STATUS_TOPIC
from mqtt_client.messages import OFFLINE
from mqtt_client.settings import NodeSettings
from mqtt_client.topics import Topics

log = logging.getLogger("publisher")

WINDOW = 100
NEEDED = 3
"""So many of the subscriptions are the node's own; Home Assistant's may be refused."""
MAX_DELAY_S = 30.0
TAKEN_OVER = 0x8E
MAX_TAKEN_OVER_DELAY_S = 300.0
UNANSWERED = "it ends the connection unanswered: is MQTT_TLS_CA set, and MQTT_PORT that of TLS?"
P = ParamSpec("P")


class Connected(NamedTuple):
    """The broker took the connection, with its own limits."""

    generation: int
    window: int
    packet_bytes: int | None
    certificate: bytes | None
    """The broker's (DER), None without TLS."""


class Unreachable(NamedTuple):
    """A connection could not be made, or the broker refused it."""

    reason: str
    is_refused: bool


class Disconnected(NamedTuple):
    """The connection ended."""

    generation: int
    reason: str
    is_taken_over: bool


class Subscribed(NamedTuple):
    """The broker answered the subscriptions."""

    generation: int
    refused: bool


class Answered(NamedTuple):
    """The broker answered a publish; only a code below 128 that is not 'no subscriber' is a delivery."""

    generation: int
    mid: int
    code: int
    reason: str


class Arrived(NamedTuple):
    """A message came in."""

    generation: int
    topic: str
    payload: bytes
    is_retained: bool


def _guarded(callback: Callable[P, None]) -> Callable[P, None]:
    """Log what a callback raises: an exception would end paho's thread without a word."""

    @wraps(callback)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:  # the outermost frame of ours in paho's thread
            log.exception("a callback failed")

    return guarded


class Connection:
    """Keeps a connection open; everything that happens to it comes as an event."""

    def __init__(self, settings: NodeSettings, events: "SimpleQueue[Any]") -> None:
        """Prepare the connection; :meth:`open` begins.

        Raises:
            SettingsError: a certificate or key cannot be used.
        """
        self._settings = settings
        self._events = events
        self._generation = 0
        self._min_delay_s = 1.0
        self._is_answered = False
        self._client = self._new_client()

    def _new_client(self) -> Client:
        settings, node = self._settings, self._settings.node_id
        client = new_client(settings, f"node-{node}")
        client.max_inflight_messages_set(WINDOW)
        client.will_set(Topics(settings.mqtt_topic_prefix).availability(node), OFFLINE, qos=1, retain=True)
        client.on_pre_connect = _guarded(self._on_pre_connect)
        client.on_connect = _guarded(self._on_connect)
        client.on_connect_fail = _guarded(self._on_connect_fail)
        client.on_disconnect = _guarded(self._on_disconnect)
        client.on_subscribe = _guarded(self._on_subscribe)
        client.on_publish = _guarded(self._on_publish)
        client.on_message = _guarded(self._on_message)
        return client

    def open(self) -> None:
        """Connect, now and whenever the connection is lost; the broker may be down."""
        self._spread_delay(self._client)
        self._client.connect_async(
            self._settings.mqtt_host,
            self._settings.broker_port,
            KEEPALIVE_S,
            clean_start=True,
            properties=connect_properties(session_expiry_s=0),
        )
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Hand a message to paho with QoS 1 and return its id; an :class:`Answered` tells what became of it."""
        return self._client.publish(topic, payload, qos=1, retain=retain).mid

    def renew(self) -> None:
        """Give up the client with all that it queued, and connect anew."""
        self._client.disconnect()
        self._generation += 1
        self._client = self._new_client()
        self.open()

    def close(self) -> None:
        """Disconnect; paho's thread ends by itself."""
        self._client.disconnect()

    def slow_down(self, delay_s: float) -> None:
        """Wait at least so long before the next connect."""
        self._min_delay_s = delay_s

    def _spread_delay(self, client: Client) -> None:
        """Spread the delays, so that a fleet does not return all at once."""
        low = self._min_delay_s * random.uniform(1, 2)
        high = max(low, MAX_DELAY_S * random.uniform(0.6, 1))
        client.reconnect_delay_set(low, high)  # type: ignore[arg-type]  # paho sleeps fractions too

    def _on_connect(
        self, client: Client, _userdata: object, _flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if client is not self._client:
            return
        self._is_answered = True
        if code.is_failure:
            self._events.put(Unreachable(str(code).lower(), True))
            return
        if hasattr(client, "drop_out_messages"):  # older paho: the node renews the client instead
            client.drop_out_messages()
        self._generation += 1
        node, topics = self._settings.node_id, Topics(self._settings.mqtt_topic_prefix)
        wanted = [topics.receipt(node), topics.command(node), topics.bridge_availability("+")]
        if self._settings.node_discovery:
            wanted.append(STATUS_TOPIC)
        client.subscribe([(topic, 1) for topic in wanted])
        window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self._events.put(Connected(self._generation, window, packet_bytes, shown_certificate(client)))

    def _on_pre_connect(self, client: Client, _userdata: object) -> None:
        if client is self._client:
            self._is_answered = False

    @property
    def needs_renewal(self) -> bool:
        """Whether this paho cannot empty its queue, so that a new client has to."""
        return not hasattr(self._client, "drop_out_messages")

    def _on_connect_fail(self, client: Client, _userdata: object) -> None:
        if client is self._client:
            self._spread_delay(client)
            self._events.put(Unreachable(why_not(sys.exception()), False))

    def _on_disconnect(
        self, client: Client, _userdata: object, _flags: DisconnectFlags, code: ReasonCode, _properties: object
    ) -> None:
        if client is self._client:
            self._spread_delay(client)
            if not self._is_answered:
                self._events.put(Unreachable(UNANSWERED, False))
            self._events.put(Disconnected(self._generation, str(code), code.value == TAKEN_OVER))

    def _on_subscribe(
        self, client: Client, _userdata: object, _mid: int, codes: list[ReasonCode], _properties: object
    ) -> None:
        if client is self._client:
            self._events.put(Subscribed(self._generation, any(code.is_failure for code in codes[:NEEDED])))

    def _on_publish(self, client: Client, _userdata: object, mid: int, code: ReasonCode, _properties: object) -> None:
        if client is self._client:
            self._events.put(Answered(self._generation, mid, code.value, str(code)))

    def _on_message(self, client: Client, _userdata: object, message: MQTTMessage) -> None:
        if client is self._client:
            self._events.put(Arrived(self._generation, message.topic, bytes(message.payload), message.retain))
