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
from mqtt_client.intervals import Interval, Intervals
from mqtt_client.messages import (
    BACKLOG_MAX_BYTES,
    BACKLOG_MAX_READINGS,
    OFFLINE,
    ONLINE,
    Lost,
    encode,
    encode_backlog,
)
from mqtt_client.outbox.epoch import Epoch, Row
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
from mqtt_client.publisher.delivery import Backoff, Delivery, Kind
from mqtt_client.publisher.presence import Presence
from mqtt_client.publisher.receipts import Receipts
from mqtt_client.publisher.resend import Resend
from mqtt_client.publisher.telling import Telling
from mqtt_client.publisher.window import Window
from mqtt_client.settings import NodeSettings
from mqtt_client.topics import Topics

log = logging.getLogger("publisher")

RECEIPT_WAIT_S = 1.0
SUBACK_WAIT_S = 5.0
ANSWER_WAIT_S = 60.0
ENVELOPE_BYTES = 160
"""More than a backlog message has around its readings, its topic aside."""
RETRY_S = 5.0


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
        self.births = 0
        self._topics = Topics(settings.mqtt_topic_prefix)
        self._node = settings.node_id
        self._by_broker = settings.node_confirm == "broker"
        self._live_s = max(2.0, settings.sample_interval)
        self._birth = birth
        self._connection = Connection(settings, events)
        self._generation = -1
        self._phase = Phase.OFFLINE
        self._phase_until = 0.0
        self._renew_at: float | None = None
        self._window = Window()
        self._too_large: str | None = None
        self._resends: dict[str, Resend] = {}
        self._bridges: set[str] = set()
        self._backoffs = {kind: Backoff() for kind in Kind}
        self._telling = Telling(outbox)
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
        found = [self.presence.trouble] if self.presence.trouble else []
        for kind, backoff in self._backoffs.items():
            if backoff.trouble:
                found.append(f"the broker does not deliver {kind.name.lower()} messages: {backoff.trouble}")
        if self._too_large:
            found.append(self._too_large)
        return found

    def offer(self, rows: Sequence[Row], now: float) -> None:
        """Take readings that were just committed; what cannot go in time goes as backlog."""
        for row in rows:
            self._window.offer(row, now + self._live_s)

    def publish_state(self, topic: str, payload: bytes, now: float) -> None:
        """Publish a retained message about the node, if it is connected."""
        if self.is_ready:
            self._send(topic, payload, Delivery(Kind.STATE, now), retain=True)

    def publish_info(self, now: float) -> None:
        """Publish the birth message again."""
        self.publish_state(self._topics.info(self._node), self._birth(), now)

    def close(self) -> None:
        """Say goodbye; what is under way is sent again next time."""
        if self.is_ready:
            self._send(self._topics.availability(self._node), OFFLINE, Delivery(Kind.STATE, 0.0), retain=True)
        self._phase = Phase.OFFLINE

    @property
    def is_quiet(self) -> bool:
        """Whether the broker has answered all that was sent."""
        return self._window.is_empty

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
                delivery = self._window.answered(event.mid)
                if delivery is not None:
                    self._on_answered(delivery, event, now)
            case Arrived(generation=generation) if generation == self._generation:
                self._on_arrived(event, now)

    def _on_connected(self, event: Connected, now: float) -> None:
        self._forget_in_flight()
        self._generation = event.generation
        self._window.size = max(1, event.window)
        self._window.message_bytes = BACKLOG_MAX_BYTES
        if event.packet_bytes:
            topic_bytes = len(self._topics.backlog(self._node))
            self._window.message_bytes = min(BACKLOG_MAX_BYTES, event.packet_bytes - topic_bytes - 10)
        self._phase, self._phase_until = Phase.SUBSCRIBING, now + SUBACK_WAIT_S
        self._bridges.clear()
        self.presence.connected(now)

    def _on_disconnected(self, event: Disconnected, now: float) -> None:
        if self._phase is Phase.OFFLINE:
            return
        self._phase = Phase.OFFLINE
        self._forget_in_flight()
        self._bridges.clear()
        delay_s = self.presence.disconnected(event.reason, event.is_taken_over, now)
        self._connection.slow_down(delay_s)
        if self._connection.needs_renewal:
            self._connection.close()
            self._renew_at = now + delay_s

    def _forget_in_flight(self) -> None:
        """Give up waiting for answers; without one, nothing counts as published."""
        for delivery in self._window.give_up():
            self._failed(delivery)

    def _on_answered(self, delivery: Delivery, event: Answered, now: float) -> None:
        backoff = self._backoffs[delivery.kind]
        if event.code >= 0x80 or (event.code == NO_SUBSCRIBER and delivery.kind is not Kind.STATE):
            self._failed(delivery)
            reason = "nobody subscribes to them" if event.code == NO_SUBSCRIBER else event.reason.lower()
            if backoff.failed(reason, now):
                log.warning("%s messages are not delivered: %s", delivery.kind.name.lower(), reason)
            return
        if backoff.succeeded():
            log.info("%s messages are delivered again", delivery.kind.name.lower())
        epoch = self.outbox.find(delivery.epoch)
        if epoch is not None:
            for part in delivery.ranges:
                epoch.published.add(*part)
            if self._by_broker:
                epoch.settle(delivery.ranges)
        if self._by_broker and delivery.loss is not None and delivery.loss in self.outbox.losses.told:
            self.outbox.losses.remove(delivery.loss)

    def _failed(self, delivery: Delivery) -> None:
        epoch = self.outbox.find(delivery.epoch)
        if epoch is not None:
            for part in delivery.ranges:
                epoch.published.remove(*part)
            if delivery.epoch in self._resends:
                self._resends[delivery.epoch].failed(delivery.ranges)
        if delivery.loss is not None:
            self._telling.failed(delivery.loss)

    def _on_arrived(self, event: Arrived, now: float) -> None:
        levels = self._topics.levels(event.topic)
        match levels:
            case [node, "receipt"] if node == self._node and event.payload:
                self._on_receipt(event.payload, now)
            case ["bridge", bridge, "availability"]:
                self._on_bridge(bridge, event.payload == ONLINE, now)

    def _on_bridge(self, bridge: str, is_online: bool, now: float) -> None:
        before = self.bridge_is_online
        (self._bridges.add if is_online else self._bridges.discard)(bridge)
        if self.bridge_is_online and not before:
            log.info("bridge %s is online", bridge)
            for resend in self._resends.values():
                resend.receipt_moved(now)
        elif before and not self.bridge_is_online:
            log.info("no bridge is online; nothing is sent again until one is")

    def _on_receipt(self, payload: bytes, now: float) -> None:
        old, losses = self.outbox.current.name, len(self.outbox.losses.told)
        receipt = self.receipts.take(payload)
        if receipt is None:
            return
        if self.outbox.current.name != old:
            self._window.forget_live(old)
            self.publish_info(now)
        if self.receipts.has_moved(receipt):
            self._resend(receipt.epoch, now).receipt_moved(now)
        if len(self.outbox.losses.told) < losses:
            self._telling.receipt_moved(now)
        if self._phase is Phase.LISTENING:
            self._become_ready(now)

    def _resend(self, epoch: str, now: float) -> Resend:
        if epoch not in self._resends:
            self._resends[epoch] = Resend(now)
        return self._resends[epoch]

    def _become_ready(self, now: float) -> None:
        try:
            self.outbox.begin_publishing()
        except StorageFull as exc:
            log.warning("cannot begin to publish: %s", exc)
            self._phase_until = now + RETRY_S
            return
        self._phase = Phase.READY
        self.births += 1
        self.publish_info(now)
        self.publish_state(self._topics.availability(self._node), ONLINE, now)
        for epoch in self.outbox.epochs:
            self._resend(epoch.name, now).restart(epoch, now)
        self._telling.restart()

    # Sending -----------------------------------------------------------------------------------

    def pump(self, now: float) -> None:
        """Send what may go now."""
        if self._renew_at is not None and now >= self._renew_at:
            self._renew_at = None
            self._connection.renew()
        if self._phase in (Phase.SUBSCRIBING, Phase.LISTENING) and now >= self._phase_until:
            self._become_ready(now)
        self._demote_late(now)
        if not self.is_ready:
            return
        self._send_live(now)
        self._send_losses(now)
        self._send_backlog(now)
        if self.bridge_is_online and not self._by_broker:
            self._send_again(now)
        oldest_at = self._window.oldest_at
        if oldest_at is not None and now - oldest_at > ANSWER_WAIT_S:
            log.warning("the broker has not answered for %d s; connecting anew", ANSWER_WAIT_S)
            self._phase = Phase.OFFLINE
            self._forget_in_flight()
            self._connection.renew()

    def deadline(self, now: float) -> float | None:
        """Return the monotonic time at which :meth:`pump` has to be called at the latest, None for no matter when."""
        times: list[float] = [] if self._renew_at is None else [self._renew_at]
        if self._phase in (Phase.SUBSCRIBING, Phase.LISTENING):
            times.append(self._phase_until)
        if self.is_ready:
            times += [backoff.until for backoff in self._backoffs.values() if backoff.until > now]
            if self._window.oldest_at is not None:
                times.append(self._window.oldest_at + ANSWER_WAIT_S + 1)
            if self.bridge_is_online and not self._by_broker:
                if self._telling.deadline is not None:
                    times.append(self._telling.deadline)
                for epoch in self.outbox.epochs:
                    deadline = self._resend(epoch.name, now).deadline(epoch)
                    if deadline is not None:
                        times.append(deadline)
        return min(times, default=None)

    def _demote_late(self, now: float) -> None:
        """Leave to the backlog what can no longer go live in time."""
        is_shut = self.is_ready and not self._backoffs[Kind.LIVE].is_open(now)
        live = self._window.live
        while live and (live[0][1] <= now or is_shut):
            self._window.take_live()

    def _send(self, topic: str, payload: bytes, delivery: Delivery, *, retain: bool = False) -> None:
        epoch = self.outbox.find(delivery.epoch)
        if epoch is not None:
            for part in delivery.ranges:
                epoch.attempted.add(*part)
        self._window.add(self._connection.publish(topic, payload, retain=retain), delivery)

    def _send_live(self, now: float) -> None:
        backoff = self._backoffs[Kind.LIVE]
        while self._window.live and self._window.has_room and backoff.is_open(now):
            row = self._window.take_live()
            epoch = self.outbox.find(row.epoch)
            if epoch is None or row.seq not in epoch.rows or len(row.payload) > self._window.message_bytes:
                continue
            topic = self._topics.reading(self._node, row.sensor)
            self._send(topic, row.payload, Delivery(Kind.LIVE, now, row.epoch, [(row.seq, row.seq)]))
            if backoff.trouble:
                break  # one probe at a time

    def _send_losses(self, now: float) -> None:
        backoff = self._backoffs[Kind.LOST]
        is_under_way = self._window.holds_loss()
        self._telling.tick(now, bridge_is_online=self.bridge_is_online, is_under_way=is_under_way)
        while self._window.has_room and backoff.is_open(now):
            loss = self._telling.next_loss()
            if loss is None or (backoff.trouble and self._window.holds_loss()):
                break
            self._telling.sent(loss)
            message = encode(Lost(loss.epoch, loss.first, loss.last, loss.reason))
            self._send(self._topics.lost(self._node), message, Delivery(Kind.LOST, now, loss=loss))

    def _has_room(self, now: float) -> bool:
        backoff = self._backoffs[Kind.BACKLOG]
        return backoff.is_open(now) and self._window.has_room_for_backlog(is_probing=backoff.trouble is not None)

    def _send_backlog(self, now: float) -> None:
        """Send what was never published, oldest first, as fast as the broker takes it."""
        for epoch in self.outbox.epochs.copy():
            while self._has_room(now):
                part = self._first_unpublished(epoch)
                if part is None:
                    break
                self._send_rows(epoch, part, BACKLOG_MAX_READINGS, now)

    def _first_unpublished(self, epoch: Epoch) -> Interval | None:
        busy = self._window.busy(epoch.name)
        for part in epoch.unpublished(epoch.floor, epoch.next_seq - 1):
            for free in busy.holes(*part):
                return free
        return None

    def _send_again(self, now: float) -> None:
        for epoch in self.outbox.epochs.copy():
            resend = self._resend(epoch.name, now)
            if resend.tick(epoch, now):
                log.info("the receipt of epoch %s has not moved; sending again what it does not cover", epoch.name)
            while self._has_room(now):
                found = resend.next_range(epoch)
                if found is None:
                    break
                part, limit = found
                rows = self._send_rows(epoch, part, min(limit, BACKLOG_MAX_READINGS), now)
                resend.sent(part[0], rows[-1].seq if rows else part[1])

    def _send_rows(self, epoch: Epoch, part: Interval, limit: int, now: float) -> list[Row]:
        """Send readings of this range as one backlog message; return those sent."""
        size_bytes = self._window.message_bytes - ENVELOPE_BYTES
        rows = self.outbox.pending(epoch, *part, limit, size_bytes)
        if rows and len(rows[0].payload) > size_bytes:
            self._window.busy(epoch.name).add(rows[0].seq, rows[0].seq)
            self._too_large = f"reading {epoch.name}-{rows[0].seq} is larger than the broker takes"
            log.error(self._too_large)
            return rows[:1]
        if rows:
            ranges = Intervals((row.seq, row.seq) for row in rows)
            message = encode_backlog(epoch.name, epoch.floor, [row.payload for row in rows])
            delivery = Delivery(Kind.BACKLOG, now, epoch.name, list(ranges))
            self._send(self._topics.backlog(self._node), message, delivery)
        return rows
