"""The node: sensors to outbox, outbox to broker, in one thread that waits for whatever happens next.

Samples come from the sensors' threads, answers and receipts from the
connection's; whatever waits is taken at once and committed in one transaction
(taking.py), so the node keeps up with hundreds of readings a second on a slow
card. What was committed goes out through the publisher; what is asked of the
node meanwhile is answered (conversation.py).
"""

import logging
import time
from queue import Empty, SimpleQueue
from typing import Any

from mqtt_client.clock import Timekeeper, TimeSource
from mqtt_client.commands import Commands
from mqtt_client.condition import Condition
from mqtt_client.conversation import Conversation
from mqtt_client.discovery import Discovery
from mqtt_client.errors import StorageFull
from mqtt_client.health import birth, decode_state, encode_state
from mqtt_client.indicator import Indicator
from mqtt_client.messages import encode
from mqtt_client.notify import Notifier
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.publisher.publisher import Publisher
from mqtt_client.sensors.sampler import ReadOnRequest, Sample, SensorState, make_samplers
from mqtt_client.sensors.sensor import Sensor
from mqtt_client.settings import NodeSettings
from mqtt_client.taking import Taking
from mqtt_client.topics import Topics

log = logging.getLogger("node")

HEALTH_S = 60.0
STATE_S = 5.0
LIGHT_S = 1.0
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
        self._taking = Taking(outbox, self._keeper, source, settings.sample_interval, settings.outbox_commit_interval)
        self.publisher = Publisher(settings, outbox, self._events, self._birth, old.store)
        self._samplers = make_samplers(settings, sensors, source, self._events)
        self._condition = Condition(outbox, self.publisher, self._samplers, self._keeper, old)
        self._discovery = Discovery(settings, old.quantities, old.announced)
        self._commands = Commands(self._samplers, indicator.identify if indicator else None)
        self._conversation = Conversation(self._topics, self.publisher, self._commands, self._discovery)
        self._notifier = notifier or Notifier({})
        self._indicator = indicator
        self._light_at = 0.0
        self._health_at = 0.0
        self._births = 0
        self._link = (False, False)
        self._state_at = 0.0
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
            self._take,
            self._taking.release_held,
            self.publisher.pump,
            self._note_link,
            self._tell,
            self._taking.flush_due,
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
        due = [self._health_at, self._taking.deadline, self.publisher.deadline(now)]
        due += [self._conversation.deadline, self._notifier.deadline]
        due += [self._light_at] if self._indicator else []
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
                self._taking.hurry()
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
                    command = self._conversation.hear(message, time.monotonic())
                    if command is not None:
                        self._commands.finish(command.id, self._set_interval(command.value, time.monotonic()))

    def _on_sample(self, sample: Sample) -> None:
        self._taking.put(sample, is_alone=len(self._samplers) == 1)
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

    def _take(self, now: float) -> None:
        """Commit the samples where it is time, the node's state with them, and let them go."""
        if self._taking.is_due(now):
            self._note_state(now)
            rows = self._taking.commit()
            self._condition.taken = self._taking.taken
            self.publisher.offer(rows, now)

    def _on_full(self, exc: StorageFull) -> None:
        if not self._condition.is_full:
            log.error("%s; readings that cannot be written are counted and told as lost", exc)
        self._condition.is_full = True
        self._taking.flush_later(time.monotonic())

    # What others ask of the node ---------------------------------------------------------------

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
        self._taking.interval_s = self._settings.sample_interval
        self.publisher.set_interval(self._settings.sample_interval)
        for sampler in self._samplers:
            sampler.set_interval(self._settings.sample_interval)
        self._discovery.changed(now)
        self.publisher.publish_info(now)
        return None

    def _converse(self, now: float) -> None:
        """Answer commands, announce the node, and tell the service manager how it is, each where it is due."""
        self._conversation.speak(self._settings, now)
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

    def _note_link(self, now: float) -> None:
        """Commit the state when the way to broker or bridge opens or closes: ``status`` and ``check`` tell it."""
        link = (self.publisher.presence.is_connected, self.publisher.bridge_is_online)
        if link != self._link:
            self._link, self._state_at = link, 0.0
            self._note_state(now)
            self._outbox.flush()

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
            self._taking.hurry()
            self._take(time.monotonic())
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
