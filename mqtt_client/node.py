"""The node: sensors to outbox, outbox to broker, in one thread that waits for whatever happens next.

Samples come from the sensors' threads, answers and receipts from the
connection's; whatever waits is taken at once and committed in one transaction,
so the node keeps up with hundreds of readings a second on a slow card. A
reading is taken when that commit returns, and goes out after it.
"""

import logging
import time
from queue import Empty, SimpleQueue
from typing import Any

from mqtt_client.clock import Timekeeper, TimeSource
from mqtt_client.commands import Commands
from mqtt_client.condition import Condition
from mqtt_client.discovery import Discovery
from mqtt_client.errors import StorageFull
from mqtt_client.health import birth, decode_state, encode_state
from mqtt_client.home_assistant import STATUS_TOPIC
from mqtt_client.indicator import Indicator
from mqtt_client.messages import ONLINE, Command, encode
from mqtt_client.notify import Notifier
from mqtt_client.outbox.epoch import Draft
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.publisher.connection import Arrived
from mqtt_client.publisher.delivery import Kind
from mqtt_client.publisher.publisher import Publisher
from mqtt_client.reading import format_time, from_ms
from mqtt_client.sensors.quality import Quality
from mqtt_client.sensors.sampler import ReadOnRequest, Sample, Sampler, SensorState
from mqtt_client.sensors.sensor import Sensor
from mqtt_client.settings import NodeSettings
from mqtt_client.topics import Topics

log = logging.getLogger("node")

HEALTH_S = 60.0
STATE_S = 5.0
CLOCK_S = 1.0
LIGHT_S = 1.0
FLUSH_MORE_S = 0.2
LINGER_S = 0.03
"""Sensors of one beat come so close together, and share a commit."""
AT_ONCE = 2000
GOODBYE_S = 1.0


class Stop:
    """Asks the node to end."""


class Node:
    """A running node."""

    def __init__(
        self,
        settings: NodeSettings,
        outbox: Outbox,
        sensors: dict[str, Sensor],
        source: TimeSource,
        state: bytes | None = None,
        notifier: Notifier | None = None,
        indicator: Indicator | None = None,
    ) -> None:
        """Put the parts together; :meth:`run` begins. ``state`` is what the last run wrote for ``status``."""
        old = decode_state(state)
        self._own_interval_s = settings.sample_interval
        self._commanded_s = old.interval
        settings = settings.every(self._commanded_s or self._own_interval_s)
        self._settings = settings
        self._outbox = outbox
        self._source = source
        self._events: SimpleQueue[Any] = SimpleQueue()
        self._topics = Topics(settings.mqtt_topic_prefix)
        self._keeper = Timekeeper(source, settings.node_clock_wait, outbox.reference_ms)
        self._resume_holding()
        self.publisher = Publisher(settings, outbox, self._events, self._birth, old.store)
        self._samplers = [
            Sampler(
                name,
                sensor,
                settings.sample_interval,
                Quality(
                    settings.node_calibration,
                    settings.node_deadband,
                    settings.node_heartbeat,
                    may_stand_still=getattr(sensor, "stands_still", False),
                ),
                source,
                self._events,
            )
            for name, sensor in sensors.items()
        ]
        self._condition = Condition(outbox, self.publisher, self._samplers, self._keeper, old)
        self._discovery = Discovery(settings, old.quantities, old.announced)
        self._commands = Commands(self._samplers, indicator.identify if indicator else None)
        self._notifier = notifier or Notifier({})
        self._indicator = indicator
        self._light_at = 0.0
        self._drafts: list[Draft] = []
        self._commit_at: float | None = None
        self._flush_at: float | None = None
        self._health_at = 0.0
        self._births = 0
        self._state_at = 0.0
        self._clock_at = 0.0
        self._is_stopping = False

    @property
    def interval_s(self) -> float:
        """Seconds between two readings of a sensor, as they are now."""
        return self._settings.sample_interval

    def stop(self) -> None:
        """Ask the node to end; may be called from a signal handler or another thread."""
        self._events.put(Stop())

    def run(self) -> None:
        """Run until stopped; then commit what waits and say goodbye."""
        self.publisher.open()
        beat = time.monotonic()
        for sampler in self._samplers:
            sampler.start(beat)
        self._notifier.ready(beat)
        try:
            while not self._is_stopping:
                self._step()
        finally:
            self._end()

    def _step(self) -> None:
        """Wait for events or the next deadline, and do what is due."""
        for event in self._wait():
            self._handle(event)
        now, commits = time.monotonic(), self._outbox.commits
        parts = (
            self._commit_due,
            self._release_held,
            self.publisher.pump,
            self._tell,
            self._flush_due,
            self._converse,
            self._show,
        )
        for action in parts:
            try:
                action(now)
            except StorageFull as exc:
                self._on_full(exc)
        if self._condition.is_full and self._outbox.commits > commits:
            self._condition.is_full = False
            self._state_at = 0.0
            log.info("the outbox can be written again")

    def _wait(self) -> list[object]:
        """Return what has happened, at the latest when something is due."""
        now = time.monotonic()
        due = [self._health_at, self._commit_at, self._flush_at, self.publisher.deadline(now)]
        due += [self._commands.deadline, self._notifier.deadline]
        due += [self._discovery.deadline] if self.publisher.is_ready else []
        due += [self._light_at] if self._indicator else []
        if self._keeper.is_holding:
            due.append(self._clock_at)
        timeout = max(0.0, min(time_ for time_ in due if time_ is not None) - now)
        found: list[object] = []
        try:
            found.append(self._events.get(timeout=timeout))
            while len(found) < AT_ONCE:
                found.append(self._events.get_nowait())
        except Empty:
            pass
        return found

    def _handle(self, event: object) -> None:
        match event:
            case Sample():
                self._on_sample(event)
            case SensorState(sensor, fault):
                self._on_sensor_state(sensor, fault)
            case ReadOnRequest():
                self._commands.answered(event, time.monotonic())
                self._commit_at = time.monotonic() if self._drafts else None
            case Stop():
                self._is_stopping = True
            case _:
                receipts = self.publisher.receipts.count
                try:
                    self.publisher.handle(event, time.monotonic())
                except StorageFull as exc:
                    self._on_full(exc)
                if self.publisher.receipts.count != receipts:
                    self._condition.receipt_ms = self._source.wall_ms()
                for message in self.publisher.take_inbox():
                    self._on_message(message, time.monotonic())

    def _on_sample(self, sample: Sample) -> None:
        stamp = self._keeper.stamp(sample.wall_ms, sample.monotonic_ms)
        if stamp.held and not self._drafts and self._clock_at == 0.0:
            log.warning(
                "the clock says %s, which cannot be; readings wait for it", format_time(from_ms(stamp.time_ms))
            )
            self._clock_at = time.monotonic() + CLOCK_S
        self._drafts.append(
            Draft(sample.sensor, sample.values, stamp.time_ms, sample.monotonic_ms, stamp.clock, stamp.held)
        )
        if self._commit_at is None:
            wait_s = self._settings.outbox_commit_interval
            if len(self._samplers) > 1:
                wait_s = max(wait_s, min(LINGER_S, self._settings.sample_interval / 4))
            self._commit_at = time.monotonic() + wait_s
        if self._discovery.saw(sample.sensor, sample.values, time.monotonic()):
            self.publisher.publish_info(time.monotonic())

    def _on_sensor_state(self, sensor: str, fault: str | None) -> None:
        if fault is None:
            log.info("sensor %s is well again", sensor)
            self._condition.faults.pop(sensor, None)
        else:
            log.warning("sensor %s: %s", sensor, fault)
            self._condition.faults[sensor] = fault
        self._state_at = 0.0
        self._health_at = min(self._health_at, time.monotonic() + STATE_S)

    def _commit_due(self, now: float) -> None:
        if self._commit_at is None or now < self._commit_at:
            return
        drafts, self._drafts, self._commit_at = self._drafts, [], None
        self._note_state(now)
        rows = self._outbox.put(drafts)
        self._condition.taken += len(rows)
        self._flush_at = None
        self.publisher.offer([row for row, draft in zip(rows, drafts, strict=True) if not draft.held], now)

    def _resume_holding(self) -> None:
        """Let go what earlier boots held, and go on holding what an earlier process of this boot did."""
        self._outbox.release(None, None)
        if any(epoch.held for epoch in self._outbox.epochs):
            self._keeper.resume(self._source.monotonic_ms())

    def _release_held(self, now: float) -> None:
        if not self._keeper.is_holding or now < self._clock_at or self._drafts:
            return
        self._clock_at = now + CLOCK_S
        verdict = self._keeper.verdict()
        if verdict.go:
            number = self._outbox.release(self._source.boot, verdict.offset_ms)
            self._keeper.released()
            self._clock_at = 0.0
            how = "corrected" if verdict.offset_ms is not None else "not corrected, the clock was not set in time"
            log.info("%d readings that waited for the clock go out, %s", number, how)

    def _flush_due(self, now: float) -> None:
        """Write deletions that no put has taken along for a while."""
        if not self._outbox.has_changes:
            self._flush_at = None
        elif self._flush_at is None:
            self._flush_at = now + min(60.0, max(1.0, 1.2 * self._settings.sample_interval))
        elif now >= self._flush_at:
            self._flush_at = now + FLUSH_MORE_S  # many deletions go in several commits
            self._outbox.flush()

    def _on_full(self, exc: StorageFull) -> None:
        if not self._condition.is_full:
            log.error("%s; readings that cannot be written are counted and told as lost", exc)
        self._condition.is_full = True
        self._flush_at = time.monotonic() + min(60.0, max(1.0, 1.2 * self._settings.sample_interval))

    # What others ask of the node ---------------------------------------------------------------

    def _on_message(self, message: Arrived, now: float) -> None:
        if message.topic == STATUS_TOPIC:
            if message.payload == ONLINE and not message.is_retained:
                self._discovery.home_assistant_came(now)
            return
        match self._commands.take(message.payload, is_retained=message.is_retained):
            case Command(name="read", id=command_id):
                self._commands.read(command_id, now)
            case Command(name="identify", id=command_id):
                self._commands.identify(command_id)
            case Command(id=command_id, value=seconds):
                self._commands.finish(command_id, self._set_interval(seconds, now))

    def _set_interval(self, commanded_s: float | None, now: float) -> str | None:
        """Commit an interval and go by it; None is the setting's own. Return what went wrong, None if nothing did."""
        before, self._commanded_s = self._commanded_s, commanded_s
        self._state_at = 0.0
        self._note_state(now)
        try:
            self._outbox.flush()
        except StorageFull as exc:
            self._commanded_s = before
            self._state_at = 0.0
            self._note_state(now)
            self._on_full(exc)
            return str(exc)
        self._settings = self._settings.every(commanded_s or self._own_interval_s)
        self.publisher.set_interval(self._settings.sample_interval)
        for sampler in self._samplers:
            sampler.set_interval(self._settings.sample_interval)
        self._discovery.changed(now)
        self.publisher.publish_info(now)
        return None

    def _converse(self, now: float) -> None:
        """Answer commands, announce the node, and tell the service manager how it is, each where it is due."""
        self._commands.tick(now)
        if self.publisher.is_ready:
            for result in self._commands.take_results():
                topic = self._topics.command_result(self._settings.node_id)
                self.publisher.publish_state(topic, encode(result), now, retain=False)
            self._discovery.connected(self.publisher.births, now)
            message = self._discovery.take_message(self._settings, now)
            if message is not None:
                self.publisher.publish_state(self._discovery.topic, message, now, kind=Kind.DISCOVERY)
        if self._notifier.is_due(now):
            self._notify(now)

    def _notify(self, now: float) -> None:
        self._notifier.tell(self._condition.in_words(), now, is_moving=self._condition.is_moving)

    def _show(self, now: float) -> None:
        """Let the LED show how the node is, looked at once a second."""
        if self._indicator is not None and now >= self._light_at:
            self._light_at = now + LIGHT_S
            self._indicator.show(self._condition.light, now)

    # What the node says of itself --------------------------------------------------------------

    def _birth(self) -> bytes:
        return encode(birth(self._settings, self._outbox, self._discovery.quantities))

    def _tell(self, now: float) -> None:
        """Publish the health each minute, and once when the connection is new."""
        if now < self._health_at and self._births == self.publisher.births:
            return
        self._births = self.publisher.births
        self._condition.count(now)
        self._note_state(now)
        self._health_at = now + HEALTH_S
        self.publisher.publish_state(
            self._topics.health(self._settings.node_id), encode(self._condition.health()), now
        )
        self._notify(now)

    def _note_state(self, now: float) -> None:
        """Let the state ride along with the next commit, every few seconds at most."""
        if now < self._state_at:
            return
        self._state_at = now + STATE_S
        state = self._condition.state(
            interval_s=self._commanded_s,
            quantities=self._discovery.known(self._settings),
            announced=sorted(self._discovery.announced),
        )
        self._outbox.note(encode_state(state))

    def _end(self) -> None:
        """Commit what waits, say goodbye to the broker, and let everything go."""
        if self._is_stopping:
            self._notifier.stopping()
        for sampler in self._samplers:
            sampler.stop()
        deadline = time.monotonic() + GOODBYE_S
        for sampler in self._samplers:
            sampler.join(max(0.0, deadline - time.monotonic()))
        try:
            for event in self._drain():
                self._handle(event)
            self._commit_at = 0.0 if self._drafts else None
            self._commit_due(time.monotonic())
            self._say_goodbye()
        except StorageFull as exc:
            self._on_full(exc)
        finally:
            self.publisher.disconnect()
            self._state_at = 0.0
            self._note_state(time.monotonic())
            self._outbox.close()

    def _say_goodbye(self) -> None:
        """Send what was just committed and ``offline``, and wait a little for the answers."""
        self.publisher.pump(time.monotonic())
        self.publisher.close()
        deadline = time.monotonic() + GOODBYE_S
        while not self.publisher.is_quiet and time.monotonic() < deadline:
            for event in self._drain(0.05):
                self._handle(event)

    def _drain(self, timeout_s: float = 0.0) -> list[object]:
        found: list[object] = []
        try:
            found.append(self._events.get(timeout=timeout_s) if timeout_s else self._events.get_nowait())
            while True:
                found.append(self._events.get_nowait())
        except Empty:
            return found
