"""The bridge's session at the broker, owned by one thread that also owns the commit.

Messages are received in bursts and acknowledged in order, by the same thread,
after the commit and before the next read, so an acknowledgement can never
meet another connection's message of the same number. What is received and
not acknowledged comes again on the next connection: a kill loses nothing.
"""

import logging
import random
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable
from typing import cast

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.ingest.buffered_socket import BufferedSocket
from bridge.ingest.received import Received, pubacks
from bridge.ingest.stock_socket import StockSocket
from mqtt_client.broker import KEEPALIVE_S, connect_properties, new_client, shown_certificate, why_not
from mqtt_client.settings import CommonSettings

log = logging.getLogger("ingest")

RECEIVE_MAXIMUM = 500
"""Messages that the broker may send unacknowledged (MQTT 5.0, section 3.1.2.11.3)."""
BURST_MESSAGES = 2000
BURST_BYTES = 1024 * 1024
"""A burst ends here, so that no commit takes long; brokers may send more than RECEIVE_MAXIMUM (mosquitto #2306)."""
SESSION_EXPIRY_S = 60 * 24 * 3600
GROUP_SESSION_EXPIRY_S = 60
"""In a share group: brokers keep a dead member's share for its session, and the nodes send it again."""
PUBLISH_WINDOW = 100
RECONNECT_MAX_S = 30.0
TAKEN_OVER = 0x8E
BRIEF_S = 5.0
"""A connection that ends within this, again and again, may mean two clients with one id: not every broker says so."""
BRIEF_TOLD = 3
TOO_SOON = "again and again soon after it began: does the network cut it, or has a second bridge this BRIDGE_ID?"


class BufferedClient(Client):
    """paho's client over a :class:`BufferedSocket`."""

    def _create_socket(self) -> BufferedSocket:
        return BufferedSocket(cast(socket.socket, super()._create_socket()))  # no websocket here


class Subscription:
    """One MQTT 5 session with a fixed client id, never begun clean."""

    def __init__(
        self,
        settings: CommonSettings,
        client_id: str,
        filters: Iterable[str],
        will: tuple[str, bytes],
        *,
        session_expiry_s: int = SESSION_EXPIRY_S,
        client_kind: type[Client] | None = None,
    ) -> None:
        self._settings = settings
        self._filters = list(filters)
        self._session_expiry_s = session_expiry_s
        kind = client_kind or (BufferedClient if hasattr(Client, "_create_socket") else Client)
        self._client = client = new_client(settings, client_id, manual_ack=True, kind=kind)
        client.will_set(will[0], will[1], qos=1, retain=True)
        client.max_inflight_messages_set(PUBLISH_WINDOW)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        self._selector = selectors.DefaultSelector()
        self._socket: object | None = None
        self._burst: list[Received] = []
        self._burst_bytes = 0
        self._outgoing: deque[tuple[str, bytes, bool]] = deque()
        self._unconfirmed = 0
        self._generation = 0
        self._registered: BufferedSocket | StockSocket | None = None
        self._retry_at = 0.0
        self._failures = 0
        self._brief = 0
        self.taken_over = False
        """Whether the broker has said that another client with the same id took this session."""
        self._connected_at = 0.0
        self._refusal = ""
        self.ready = False
        """Connected, and all subscriptions granted."""
        self.session_present = False
        self.certificate: bytes | None = None
        """The broker's (DER) as it was shown on this connection, None without TLS."""
        self.reason = "not connected yet"
        """Why it is not ready; empty when it is."""

    @property
    def generation(self) -> int:
        """Counts connections; a new one means that everything has to be announced again."""
        return self._generation

    def receive(self, timeout_s: float) -> list[Received]:
        """Return what has arrived, waiting at most timeout_s for the first message; connect where needed."""
        if not self._keep_connected(timeout_s):
            return []
        deadline = time.monotonic() + timeout_s
        while True:
            self._take()
            if not self._check() or self._is_full():
                break
            wait_s = 0.0 if self._burst else max(0.0, deadline - time.monotonic())
            if not self._wait(wait_s) and (self._burst or time.monotonic() >= deadline):
                break
        self._send_outgoing()
        burst, self._burst, self._burst_bytes = self._burst, [], 0
        return burst

    def acknowledge(self, burst: Iterable[Received]) -> None:
        """Acknowledge messages in the order of receipt; those of an earlier connection come again instead."""
        connection = self._registered
        if connection is None:
            return
        current = [message for message in burst if message.qos and message.generation == self._generation]
        if isinstance(connection, BufferedSocket):
            connection.send(pubacks(current))
        else:
            for message in current:
                self._client.ack(message.mid, message.qos)

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Publish with QoS 1 as soon as the window allows; what waits when the connection ends is dropped."""
        if self._registered is not None:
            self._outgoing.append((topic, payload, retain))

    @property
    def unsent(self) -> int:
        """Messages that wait for the window."""
        return len(self._outgoing)

    def renew(self, reason: str) -> None:
        """Begin a new connection, on which all that was not acknowledged comes again (MQTT 5.0, section 4.4)."""
        if self._registered is not None:
            self._client.disconnect()
            self._unregister()
            self._lose(reason)
            self._brief = 0

    def close(self, farewell: tuple[str, bytes], within_s: float = 2.0) -> None:
        """Publish a last retained message, wait for its acknowledgement, and disconnect."""
        if self._registered is not None:
            self.publish(*farewell, retain=True)
            deadline = time.monotonic() + within_s
            while (self._outgoing or self._unconfirmed) and self._registered and time.monotonic() < deadline:
                self.receive(0.05)
            self._client.disconnect()
            self._unregister()
        self._selector.close()

    def _take(self) -> None:
        """Take what is in the buffer: readings here, every other packet through paho."""
        connection = self._registered
        while connection is not None and not self._is_full():
            came = connection.publishes(
                BURST_MESSAGES - len(self._burst), BURST_BYTES - self._burst_bytes, self._generation
            )
            self._burst += came
            self._burst_bytes += sum(len(message.payload) for message in came)
            if self._is_full():
                return
            if not connection.has_packet and not connection.ended:
                return
            self._client.loop_read()
            connection = self._registered if self._client.socket() is self._socket else None

    def _is_full(self) -> bool:
        return len(self._burst) >= BURST_MESSAGES or self._burst_bytes >= BURST_BYTES

    def _wait(self, wait_s: float) -> bool:
        """Wait for the socket, then read and write what it takes; return whether anything has arrived."""
        connection = self._registered
        assert connection is not None
        if connection.fill():
            return True
        wants_write = connection.wants_write or self._client.want_write()
        self._selector.modify(connection, selectors.EVENT_READ | (selectors.EVENT_WRITE if wants_write else 0))
        for _key, events in self._selector.select(wait_s):
            if events & selectors.EVENT_WRITE:
                self._client.loop_write()
                connection.flush()
            if events & selectors.EVENT_READ:
                return connection.fill()
        return False

    # The connection -----------------------------------------------------------------------------

    def _keep_connected(self, timeout_s: float) -> bool:
        if self._registered is not None:
            return True
        wait = self._retry_at - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, timeout_s))
            return False
        try:
            self._client.connect(
                self._settings.mqtt_host,
                self._settings.broker_port,
                KEEPALIVE_S,
                clean_start=False,
                properties=connect_properties(
                    session_expiry_s=self._session_expiry_s, receive_maximum=RECEIVE_MAXIMUM
                ),
            )
        except (OSError, ValueError) as exc:
            self._lose(
                f"cannot reach the broker at {self._settings.mqtt_host}:{self._settings.broker_port}: {why_not(exc)}"
            )
            return False
        connection = self._client.socket()
        assert connection is not None
        self._socket = connection
        self._registered = (
            connection if isinstance(connection, BufferedSocket) else StockSocket(cast(socket.socket, connection))
        )
        self._selector.register(self._registered, selectors.EVENT_READ)
        self._connected_at = time.monotonic()
        return True

    def _check(self) -> bool:
        """Do paho's own upkeep (keep alive); return False when the connection is gone."""
        if self._client.loop_misc() == MQTTErrorCode.MQTT_ERR_SUCCESS and self._client.socket() is self._socket:
            return True
        self._unregister()
        self._lose(self._refusal or "the connection to the broker ended")
        return False

    def _unregister(self) -> None:
        if self._registered is not None:
            self._selector.unregister(self._registered)
            self._registered = None

    def _lose(self, reason: str) -> None:
        """Note that there is no connection, and when to try again (exponential, full jitter)."""
        if self.ready:
            self._brief = self._brief + 1 if time.monotonic() - self._connected_at < BRIEF_S else 0
            self._failures = self._brief
        if self._brief >= BRIEF_TOLD:
            reason += f", {TOO_SOON}"
        if reason != self.reason:
            log.warning("%s; trying again", reason)
        self.ready = False
        self.reason = reason
        self._refusal = ""
        self._generation += 1
        self._outgoing.clear()
        self._unconfirmed = 0
        self._failures += 1
        self._retry_at = time.monotonic() + random.uniform(
            0.1, min(RECONNECT_MAX_S, 0.5 * 2.0 ** min(self._failures, 6))
        )

    # paho's callbacks, all in this thread -------------------------------------------------------

    def _on_connect(
        self, client: Client, _data: object, flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refusal = f"the broker refuses the connection: {reason}"
            client.disconnect()
            return
        if hasattr(client, "drop_out_messages"):  # paho 2.2 and later; else it sends receipts again, older first
            client.drop_out_messages()
        self._generation += 1
        self.certificate = shown_certificate(client)
        self.session_present = flags.session_present
        options = SubscribeOptions(qos=1)
        client.subscribe([(one, options) for one in self._filters])

    def _on_subscribe(
        self, client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        refused = [f"{one} ({why})" for one, why in zip(self._filters, reasons, strict=False) if why.is_failure]
        if refused:
            self._refusal = f"the broker refuses subscriptions: {', '.join(refused)}"
            client.disconnect()
            return
        self.ready = True
        self.reason = ""
        log.info(
            "connected to the broker at %s:%s, session %s",
            self._settings.mqtt_host,
            self._settings.broker_port,
            "kept" if self.session_present else "new",
        )

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self._burst.append(Received(topic, bytes(message.payload), message.qos, message.mid, self._generation))
        self._burst_bytes += len(message.payload) + len(topic)

    def _on_publish(
        self, _client: Client, _data: object, _mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._unconfirmed = max(0, self._unconfirmed - 1)
        if reason.is_failure:
            log.error("the broker refuses a publish of the bridge: %s", reason)

    def _on_disconnect(
        self,
        _client: Client,
        _data: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.value == TAKEN_OVER:
            self.taken_over = True

    def _send_outgoing(self) -> None:
        if not self.ready:
            return
        while self._outgoing and self._unconfirmed < PUBLISH_WINDOW:
            topic, payload, retain = self._outgoing.popleft()
            self._unconfirmed += 1
            self._client.publish(topic, payload, qos=1, retain=retain)
