"""What goes next: live readings first, then losses, the backlog, and what is sent again.

First-time messages go as fast as the window and the broker allow; what the
broker could not deliver waits a little and is tried again.
"""

import logging

from mqtt_client.intervals import Interval, Intervals
from mqtt_client.messages import BACKLOG_MAX_READINGS, Lost, encode, encode_backlog
from mqtt_client.outbox.epoch import Epoch, Row
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.publisher.connection import Connection
from mqtt_client.publisher.delivery import Backoff, Delivery, Kind
from mqtt_client.publisher.resend import Resend
from mqtt_client.publisher.telling import Telling
from mqtt_client.publisher.window import Window
from mqtt_client.topics import Topics

log = logging.getLogger("publisher")

ENVELOPE_BYTES = 160
"""More than a backlog message has around its readings, its topic aside."""


class Sender:
    """Hands messages to a connection that is ready, and learns what became of them."""

    def __init__(self, outbox: Outbox, connection: Connection, topics: Topics, node: str, *, by_broker: bool) -> None:
        """Begin; ``by_broker`` lets the broker's acknowledgement settle."""
        self.window = Window()
        self._outbox = outbox
        self._connection = connection
        self._topics = topics
        self._node = node
        self._by_broker = by_broker
        self._backoffs = {kind: Backoff() for kind in Kind}
        self._resends: dict[str, Resend] = {}
        self._telling = Telling(outbox)
        self._too_large: str | None = None

    @property
    def troubles(self) -> list[str]:
        """What the broker does not deliver, one sentence each."""
        found = [
            f"the broker does not deliver {kind.name.lower()} messages: {backoff.trouble}"
            for kind, backoff in self._backoffs.items()
            if backoff.trouble
        ]
        return found + ([self._too_large] if self._too_large else [])

    def send(self, topic: str, payload: bytes, delivery: Delivery, *, retain: bool = False) -> None:
        """Hand one message to the connection."""
        epoch = self._outbox.find(delivery.epoch)
        if epoch is not None:
            for part in delivery.ranges:
                epoch.attempted.add(*part)
        self.window.add(self._connection.publish(topic, payload, retain=retain), delivery)

    def send_due(self, now: float, *, bridge_is_online: bool) -> None:
        """Send all that may go now."""
        self._send_live(now)
        self._send_losses(now, bridge_is_online=bridge_is_online)
        self._send_backlog(now)
        if bridge_is_online and not self._by_broker:
            self._send_again(now)

    # What became of it -------------------------------------------------------------------------

    def delivered(self, delivery: Delivery) -> None:
        """Note that the broker took a message and passes it on."""
        if self._backoffs[delivery.kind].succeeded():
            log.info("%s messages are delivered again", delivery.kind.name.lower())
        epoch = self._outbox.find(delivery.epoch)
        if epoch is not None:
            for part in delivery.ranges:
                epoch.published.add(*part)
            if self._by_broker:
                epoch.settle(delivery.ranges)
        if self._by_broker and delivery.loss is not None and delivery.loss in self._outbox.losses.told:
            self._outbox.losses.remove(delivery.loss)

    def refused(self, delivery: Delivery, reason: str, now: float) -> None:
        """Note that the broker could not deliver a message; it is left alone for a while."""
        self._failed(delivery)
        if self._backoffs[delivery.kind].failed(reason, now):
            log.warning("%s messages are not delivered: %s", delivery.kind.name.lower(), reason)

    def give_up(self) -> None:
        """Stop waiting for answers; without one, nothing counts as published."""
        for delivery in self.window.give_up():
            self._failed(delivery)

    def _failed(self, delivery: Delivery) -> None:
        epoch = self._outbox.find(delivery.epoch)
        if epoch is not None:
            for part in delivery.ranges:
                epoch.published.remove(*part)
            if delivery.epoch in self._resends:
                self._resends[delivery.epoch].failed(delivery.ranges)
        if delivery.loss is not None:
            self._telling.failed(delivery.loss)

    # When to send again ------------------------------------------------------------------------

    def restart(self, now: float) -> None:
        """Plan to send again all that has no receipt, as after a connect."""
        for epoch in self._outbox.epochs:
            self._resend(epoch.name, now).restart(epoch, now)
        self._telling.restart()

    def receipt_moved(self, epoch: str, now: float) -> None:
        """Note that the receipt of an epoch moved."""
        self._resend(epoch, now).receipt_moved(now)

    def losses_settled(self, now: float) -> None:
        """Note that a receipt has passed losses."""
        self._telling.receipt_moved(now)

    def bridge_came(self, now: float) -> None:
        """Give a bridge that just came online at once what nobody took, and the time for its receipts."""
        for backoff in self._backoffs.values():
            backoff.expire()
        for resend in self._resends.values():
            resend.receipt_moved(now)

    def deadlines(self, now: float, *, bridge_is_online: bool) -> list[float]:
        """Return the monotonic times at which something is due."""
        times = [backoff.until for backoff in self._backoffs.values() if backoff.until > now]
        if bridge_is_online and not self._by_broker:
            resends = [self._resend(epoch.name, now).deadline(epoch) for epoch in self._outbox.epochs]
            times += [at for at in (*resends, self._telling.deadline) if at is not None]
        return times

    def _resend(self, epoch: str, now: float) -> Resend:
        if epoch not in self._resends:
            self._resends[epoch] = Resend(now)
        return self._resends[epoch]

    # Sending -----------------------------------------------------------------------------------

    def demote_late(self, now: float, *, is_ready: bool) -> None:
        """Leave to the backlog what can no longer go live in time."""
        is_shut = is_ready and not self._backoffs[Kind.LIVE].is_open(now)
        live = self.window.live
        while live and (live[0][1] <= now or is_shut):
            self.window.take_live()

    def _send_live(self, now: float) -> None:
        backoff = self._backoffs[Kind.LIVE]
        while self.window.live and self.window.has_room and backoff.is_open(now):
            row = self.window.take_live()
            epoch = self._outbox.find(row.epoch)
            if epoch is None or row.seq not in epoch.rows or len(row.payload) > self.window.message_bytes:
                continue
            topic = self._topics.reading(self._node, row.sensor)
            self.send(topic, row.payload, Delivery(Kind.LIVE, now, row.epoch, [(row.seq, row.seq)]))
            if backoff.trouble:
                break  # one probe at a time

    def _send_losses(self, now: float, *, bridge_is_online: bool) -> None:
        backoff = self._backoffs[Kind.LOST]
        is_under_way = self.window.holds_loss()
        self._telling.tick(now, bridge_is_online=bridge_is_online, is_under_way=is_under_way)
        while self.window.has_room and backoff.is_open(now):
            loss = self._telling.next_loss()
            if loss is None or (backoff.trouble and self.window.holds_loss()):
                break
            self._telling.sent(loss)
            message = encode(Lost(loss.epoch, loss.first, loss.last, loss.reason))
            self.send(self._topics.lost(self._node), message, Delivery(Kind.LOST, now, loss=loss))

    def _has_room(self, now: float) -> bool:
        backoff = self._backoffs[Kind.BACKLOG]
        return backoff.is_open(now) and self.window.has_room_for_backlog(is_probing=backoff.trouble is not None)

    def _send_backlog(self, now: float) -> None:
        """Send what was never published, oldest first, as fast as the broker takes it."""
        for epoch in self._outbox.epochs.copy():
            while self._has_room(now):
                part = self._first_unpublished(epoch)
                if part is None:
                    break
                self._send_rows(epoch, part, BACKLOG_MAX_READINGS, now)

    def _first_unpublished(self, epoch: Epoch) -> Interval | None:
        busy = self.window.busy(epoch.name)
        for part in epoch.unpublished(epoch.floor, epoch.next_seq - 1):
            for free in busy.holes(*part):
                return free
        return None

    def _send_again(self, now: float) -> None:
        for epoch in self._outbox.epochs.copy():
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
        size_bytes = self.window.message_bytes - ENVELOPE_BYTES
        rows = self._outbox.pending(epoch, *part, limit, size_bytes)
        if rows and len(rows[0].payload) > size_bytes:
            self.window.busy(epoch.name).add(rows[0].seq, rows[0].seq)
            self._too_large = f"reading {epoch.name}-{rows[0].seq} is larger than the broker takes"
            log.error(self._too_large)
            return rows[:1]
        if rows:
            ranges = Intervals((row.seq, row.seq) for row in rows)
            message = encode_backlog(epoch.name, self._outbox.floor(epoch), [row.payload for row in rows])
            delivery = Delivery(Kind.BACKLOG, now, epoch.name, list(ranges))
            self.send(self._topics.backlog(self._node), message, delivery)
        return rows
