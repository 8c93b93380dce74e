"""One thread for each sensor: reads it on a fixed grid, so that a slow one delays no other and none drifts."""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any, NamedTuple

from mqtt_client.clock import TimeSource
from mqtt_client.errors import InvalidReading, SensorFailed
from mqtt_client.reading import check_values
from mqtt_client.sensors.quality import Quality
from mqtt_client.sensors.sensor import Sensor
from mqtt_client.settings import NodeSettings

log = logging.getLogger("sensors")

PAUSES_S = (0.1, 1.0)
"""A read that fails is tried again after these, each at most a tenth of the interval: a DHT22 likes to rest."""
CALM_S = 60.0
"""A sensor that skipped no beat for so long keeps up again."""


class Sample(NamedTuple):
    """What a sensor measured, and both clocks at that moment."""

    sensor: str
    values: dict[str, float]
    wall_ms: int
    monotonic_ms: int


class SensorState(NamedTuple):
    """A sensor's fault, None when it is well again."""

    sensor: str
    fault: str | None


class ReadOnRequest(NamedTuple):
    """A sensor was read because somebody asked for it; its sample or its fault came just before."""

    sensor: str
    request: int
    fault: str | None


class Sampler:
    """Reads one sensor at each beat and puts samples and faults on a queue."""

    def __init__(
        self,
        name: str,
        sensor: Sensor,
        interval_s: float,
        quality: Quality,
        source: TimeSource,
        events: "SimpleQueue[Any]",
    ) -> None:
        """Prepare; :meth:`start` begins."""
        self.name = name
        self._sensor = sensor
        self.interval_s = interval_s
        self._quality = quality
        self._source = source
        self._events = events
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._requests: deque[int] = deque()
        self._answering: int | None = None
        self._beat = 0.0
        self._is_open = False
        self._fault: str | None = None
        self._reading_since: float | None = None
        self._skipped_at: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"sensor-{name}", daemon=True)

    def start(self, beat: float) -> None:
        """Begin now; later beats count from this monotonic time, so that sensors of one start share them."""
        self._beat = beat
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopped.set()
        self._woken.set()

    def set_interval(self, interval_s: float) -> None:
        """Read at another interval from now on."""
        self.interval_s = interval_s
        self._woken.set()

    def read_now(self, request: int) -> bool:
        """Read besides the beats, and report all quantities; a :class:`ReadOnRequest` with this number tells the end.

        Returns:
            Whether it will be read: not when it has no more values.
        """
        self._requests.append(request)
        self._woken.set()
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end; a read that hangs is left behind."""
        self._thread.join(timeout_s)

    def hangs_for_s(self) -> float:
        """Return for how long the read under way has been taking, 0 when none is."""
        since = self._reading_since
        return 0.0 if since is None else time.monotonic() - since

    def _run(self) -> None:
        """Sample until stopped; a driver's own errors are a fault of this sensor and of nothing else."""
        while not self._stopped.is_set():
            try:
                self._sample_all()
                break
            except Exception as exc:  # a user's driver may raise anything; this is the thread's outermost frame
                self._tell(f"{type(exc).__name__}: {exc}")
                log.debug("sensor %s failed", self.name, exc_info=True)
                self._is_open = False
                self._reading_since = None
                self._answer()
                self._wait(max(self.interval_s, 1.0))
                self._beat = time.monotonic()
        if self._is_open:
            self._sensor.close()

    def _sample_all(self) -> None:
        """Take a sample at each beat until stopped, or until the sensor has nothing more."""
        beat = self._beat
        while not self._stopped.is_set():
            now = time.monotonic()
            if now < beat and not self._requests:
                beat = min(beat, now + self.interval_s)  # it may be shorter now
                self._wait(beat - now)
                continue
            self._answering = self._requests.popleft() if self._requests else None
            self._reading_since = now
            goes_on = self._sample()
            self._reading_since = None
            self._answer()
            if not goes_on:
                log.info("sensor %s has no more values", self.name)
                return
            now = time.monotonic()
            if now >= beat:
                late = int((now - beat) / self.interval_s)
                self._note_skipped(late, now)
                beat += self.interval_s * (late + 1)

    def _wait(self, seconds: float) -> None:
        """Wait until a time has passed, or something was asked."""
        self._woken.wait(seconds)
        self._woken.clear()

    def _answer(self) -> None:
        """Tell whoever asked for a read that it is done."""
        if self._answering is not None:
            self._events.put(ReadOnRequest(self.name, self._answering, self._fault))
            self._answering = None

    def _note_skipped(self, beats: int, now: float) -> None:
        if beats > 0:
            if self._skipped_at is None:
                log.warning(
                    "sensor %s is slower than its interval of %g s; it skips beats", self.name, self.interval_s
                )
            self._skipped_at = now
        elif self._skipped_at is not None and now - self._skipped_at > CALM_S:
            self._skipped_at = None
            log.info("sensor %s keeps up again", self.name)

    def _sample(self) -> bool:
        """Read once, with retries; return whether the sensor goes on."""
        wrong: list[str] = []
        try:
            values = self._read()
        except SensorFailed as exc:
            values = exc.values
            wrong.append(str(exc))
        if values is None:
            return False
        wall_ms, monotonic_ms = self._source.wall_ms(), self._source.monotonic_ms()
        good, doubted = self._quality.judge(values, time.monotonic(), everything=self._answering is not None)
        if good:
            try:
                check_values(good)
            except InvalidReading as exc:
                wrong.append(str(exc))
            else:
                self._events.put(Sample(self.name, good, wall_ms, monotonic_ms))
        self._tell("; ".join(wrong + doubted) or None)
        return True

    def _read(self) -> dict[str, float] | None:
        for pause_s in (*PAUSES_S, None):
            try:
                if not self._is_open:
                    self._sensor.open()
                    self._is_open = True
                return self._sensor.read()
            except SensorFailed:
                if self._is_open:
                    self._sensor.close()
                    self._is_open = False
                if pause_s is None or self._stopped.wait(min(pause_s, self.interval_s / 10)):
                    raise
        return None

    def _tell(self, fault: str | None) -> None:
        if fault != self._fault:
            self._fault = fault
            self._events.put(SensorState(self.name, fault))


def make_samplers(
    settings: NodeSettings, sensors: Mapping[str, Sensor], source: TimeSource, events: "SimpleQueue[Any]"
) -> list[Sampler]:
    """Return a sampler for each sensor, with the calibration and the deadband of the settings."""
    return [
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
            events,
        )
        for name, sensor in sensors.items()
    ]
