"""The publisher: takes readings from the outbox to the broker, and receipts back to the outbox.

It remembers nothing that matters: what the broker acknowledged is in the
outbox's sets, and what it did not is sent again. Nothing is sent for the first
time twice in one connection, and no reading leaves the outbox but by a receipt
(or, with NODE_CONFIRM=broker, by the broker's acknowledgement).

One thread owns it; events of the connection come through a queue.
"""

import logging
from collections.abc import Callable, Sequence
from enum import Enum, auto
from queue import SimpleQueue
from typing import Any

from mqtt_client.broker import NO_SUBSCRIBER
from mqtt_client.errors import StorageFull
from mqtt_client.expiry import Expiry
from mqtt_client.intervals import Intervals
from mqtt_client.messages import BACKLOG_MAX_BYTES, OFFLINE, ONLINE
from mqtt_client.outbox.epoch import Row
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.publisher.connection import (
    Answered,
    Arrived,
    Connected,
    Connection,
    Disconnected,
    Subscribed,
    Unreachable,
)
from mqtt_client.publisher.delivery import Delivery, Kind
from mqtt_client.publisher.presence import Presence
from mqtt_client.publisher.receipts import Receipts
from mqtt_client.publisher.sender import Sender
from mqtt_client.settings import NodeSettings
from mqtt_client.topics import Topics

log = logging.getLogger("publisher")

RECEIPT_WAIT_S = 1.0
SUBACK_WAIT_S = 5.0
ANSWER_WAIT_S = 60.0
RETRY_S = 5.0
FAILURE = 0x80
"""Reason codes from here on are failures (MQTT 5.0, section 2.4)."""


class Phase(Enum):
    """How far a connection has come."""

    OFFLINE = auto()
    SUBSCRIBING = auto()
    LISTENING = auto()
    """Waiting for the retained receipt, which may say that the outbox went back in time."""
    READY = auto()


class Publisher:
    """Sends what the outbox holds."""

    def __init__(
        self,
        settings: NodeSettings,
        outbox: Outbox,
        events: "SimpleQueue[Any]",
        birth: Callable[[], bytes],
        store: str | None,
    ) -> None:
        """Prepare; :meth:`open` connects.

        Args:
            settings: the node's.
            outbox: what is to be sent.
            events: where the connection's events go; the caller hands them to :meth:`handle`.
            birth: returns the info message.
            store: id of the store that sent the last receipt, None before the first.
        """
        self.outbox = outbox
        self.presence = Presence(f"node-{settings.node_id}", f"{settings.mqtt_host}:{settings.broker_port}")
        self.receipts = Receipts(outbox, store)
        self.expiry = Expiry(settings)
        self.births = 0
        self._topics = Topics(settings.mqtt_topic_prefix)
        self._node = settings.node_id
        self._by_broker = settings.node_confirm == "broker"
        self.set_interval(settings.sample_interval)
        self._birth = birth
        self._connection = Connection(settings, events)
        self._generation = -1
        self._phase = Phase.OFFLINE
        self._phase_until = 0.0
        self._renew_at: float | None = None
        self._sender = Sender(outbox, self._connection, self._topics, self._node, by_broker=self._by_broker)
        self._bridges: set[str] = set()
        self._inbox: list[Arrived] = []
        if self._by_broker:
            for epoch in outbox.epochs:
                epoch.published = Intervals()

    # What the node asks ------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect."""
        self._connection.open()

    @property
    def is_ready(self) -> bool:
        """Whether messages can go out."""
        return self._phase is Phase.READY

    @property
    def bridge_is_online(self) -> bool:
        """Whether a bridge is there to take what is sent again."""
        return bool(self._bridges)

    @property
    def troubles(self) -> list[str]:
        """What keeps readings from going out, one sentence each."""
        return ([self.presence.trouble] if self.presence.trouble else []) + self._sender.troubles

    def offer(self, rows: Sequence[Row], now: float) -> None:
        """Take readings that were just committed; what cannot go in time goes as backlog."""
        for row in rows:
            self._sender.window.offer(row, now + self._live_s)

    def set_interval(self, interval_s: float) -> None:
        """Let a reading go live for so long, 2 s at least."""
        self._live_s = max(2.0, interval_s)

    def publish_state(
        self, topic: str, payload: bytes, now: float, *, kind: Kind = Kind.STATE, retain: bool = True
    ) -> None:
        """Publish a message about the node, if it is connected and the broker takes one so large."""
        if self.is_ready and len(payload) <= self._sender.window.message_bytes:
            self._sender.send(topic, payload, Delivery(kind, now), retain=retain)
        elif self.is_ready:
            log.error("a message of %d bytes on %s is larger than the broker takes", len(payload), topic)

    def take_inbox(self) -> list[Arrived]:
        """Return what came that is not about readings, such as commands, and forget it."""
        found, self._inbox = self._inbox, []
        return found

    def publish_info(self, now: float) -> None:
        """Publish the birth message again."""
        self.publish_state(self._topics.info(self._node), self._birth(), now)

    def close(self) -> None:
        """Say goodbye; what is under way is sent again next time."""
        if self.is_ready:
            self._sender.send(self._topics.availability(self._node), OFFLINE, Delivery(Kind.STATE, 0.0), retain=True)
        self._phase = Phase.OFFLINE

    @property
    def is_quiet(self) -> bool:
        """Whether the broker has answered all that was sent."""
        return self._sender.window.is_empty

    def disconnect(self) -> None:
        """End the connection."""
        self.presence.is_connected = False
        self._connection.close()

    # Events ------------------------------------------------------------------------------------

    def handle(self, event: object, now: float) -> None:
        """Take one event of the connection."""
        match event:
            case Connected():
                self._on_connected(event, now)
            case Unreachable():
                self.presence.unreachable(event.reason, event.is_refused)
            case Disconnected(generation=generation) if generation == self._generation:
                self._on_disconnected(event, now)
            case Subscribed(generation=generation) if generation == self._generation:
                if event.refused:
                    log.warning("the broker refuses a subscription; receipts may not come")
                if self._phase is Phase.SUBSCRIBING:
                    self._phase, self._phase_until = Phase.LISTENING, now + RECEIPT_WAIT_S
            case Answered(generation=generation) if generation == self._generation:
                self._on_answered(event, now)
            case Arrived(generation=generation) if generation == self._generation:
                self._on_arrived(event, now)

    def _on_connected(self, event: Connected, now: float) -> None:
        self._sender.give_up()
        self._generation = event.generation
        window = self._sender.window
        window.size = max(1, event.window)
        window.message_bytes = BACKLOG_MAX_BYTES
        if event.packet_bytes:
            topic_bytes = len(self._topics.backlog(self._node))
            window.message_bytes = min(BACKLOG_MAX_BYTES, event.packet_bytes - topic_bytes - 10)
        self._phase, self._phase_until = Phase.SUBSCRIBING, now + SUBACK_WAIT_S
        self._bridges.clear()
        self.presence.connected(now)
        self.expiry.seen(event.certificate)

    def _on_disconnected(self, event: Disconnected, now: float) -> None:
        if self._phase is Phase.OFFLINE:
            return
        self._phase = Phase.OFFLINE
        self._sender.give_up()
        self._bridges.clear()
        delay_s = self.presence.disconnected(event.reason, event.is_taken_over, now)
        self._connection.slow_down(delay_s)
        if self._connection.needs_renewal:
            self._connection.close()
            self._renew_at = now + delay_s

    def _on_answered(self, event: Answered, now: float) -> None:
        delivery = self._sender.window.answered(event.mid)
        if delivery is None:
            return
        if event.code == NO_SUBSCRIBER and delivery.kind not in (Kind.STATE, Kind.DISCOVERY):
            self._sender.refused(delivery, "nobody subscribes to them", now)
        elif event.code >= FAILURE:
            self._sender.refused(delivery, event.reason.lower(), now)
        else:
            self._sender.delivered(delivery)

    def _on_arrived(self, event: Arrived, now: float) -> None:
        levels = self._topics.levels(event.topic)
        match levels:
            case [node, "receipt"] if node == self._node and event.payload:
                self._on_receipt(event.payload, now)
            case ["bridge", bridge, "availability"]:
                self._on_bridge(bridge, event.payload == ONLINE, now)
            case None | [_, "command"]:
                self._inbox.append(event)

    def _on_bridge(self, bridge: str, is_online: bool, now: float) -> None:
        before = self.bridge_is_online
        (self._bridges.add if is_online else self._bridges.discard)(bridge)
        if self.bridge_is_online and not before:
            log.info("bridge %s is online", bridge)
            self._sender.bridge_came(now)
        elif before and not self.bridge_is_online:
            log.info("no bridge is online; nothing is sent again until one is")

    def _on_receipt(self, payload: bytes, now: float) -> None:
        old, losses = self.outbox.current.name, len(self.outbox.losses.told)
        receipt = self.receipts.take(payload)
        if receipt is None:
            return
        if self.outbox.current.name != old:
            self._sender.window.forget_live(old)
            self.publish_info(now)
        if self.receipts.has_moved(receipt):
            self._sender.receipt_moved(receipt.epoch, now)
        if len(self.outbox.losses.told) < losses:
            self._sender.losses_settled(now)
        if self._phase is Phase.LISTENING:
            self._become_ready(now)

    def _become_ready(self, now: float) -> None:
        try:
            self.outbox.begin_publishing()
        except StorageFull:
            self._phase_until = now + RETRY_S
            raise
        self._phase = Phase.READY
        self.births += 1
        self.publish_info(now)
        self.publish_state(self._topics.availability(self._node), ONLINE, now)
        self._sender.restart(now)

    # Sending -----------------------------------------------------------------------------------

    def pump(self, now: float) -> None:
        """Send what may go now."""
        if self._renew_at is not None and now >= self._renew_at:
            self._renew_at = None
            self._connection.renew()
        if self._phase in (Phase.SUBSCRIBING, Phase.LISTENING) and now >= self._phase_until:
            self._become_ready(now)
        self._sender.demote_late(now, is_ready=self.is_ready)
        if not self.is_ready:
            return
        self._sender.send_due(now, bridge_is_online=self.bridge_is_online)
        oldest_at = self._sender.window.oldest_at
        if oldest_at is not None and now - oldest_at > ANSWER_WAIT_S:
            log.warning("the broker has not answered for %d s; connecting anew", ANSWER_WAIT_S)
            self._phase = Phase.OFFLINE
            self._sender.give_up()
            self._connection.renew()

    def deadline(self, now: float) -> float | None:
        """Return the monotonic time at which :meth:`pump` has to be called at the latest, None for no matter when."""
        times: list[float] = [] if self._renew_at is None else [self._renew_at]
        if self._phase in (Phase.SUBSCRIBING, Phase.LISTENING):
            times.append(self._phase_until)
        if self.is_ready:
            times += self._sender.deadlines(now, bridge_is_online=self.bridge_is_online)
            oldest_at = self._sender.window.oldest_at
            if oldest_at is not None:
                times.append(oldest_at + ANSWER_WAIT_S + 1)
        return min(times, default=None)
