"""A sensor that is read because somebody asks, and an interval that changes while it runs."""

import time
from queue import SimpleQueue
from typing import Any

from mqtt_client.clock import SystemTime
from mqtt_client.errors import SensorFailed
from mqtt_client.sensors.quality import Quality
from mqtt_client.sensors.sampler import ReadOnRequest, Sample, Sampler
from mqtt_client.sensors.sensor import Sensor
from tests.node.test_sensors import Scripted, collected


def started(sensor: Sensor, interval_s: float, events: "SimpleQueue[Any]", quality: Quality) -> Sampler:
    sampler = Sampler("main", sensor, interval_s, quality, SystemTime(), events)
    sampler.start(time.monotonic())
    return sampler


def test_a_read_on_request_comes_at_once_reports_what_has_not_moved_and_is_answered() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    sampler = started(Scripted(20.0), 3600.0, events, Quality({}, {"temperature": 5.0}, 86400))
    collected(events, Sample, 1)

    is_read = sampler.read_now(7)
    sample, answer = events.get(timeout=30), events.get(timeout=30)
    sampler.stop()

    assert is_read
    assert sample.values == {"temperature": 20.0}
    assert answer == ReadOnRequest("main", 7, None)


def test_a_read_on_request_that_fails_tells_the_fault() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    sampler = started(Scripted(1.0, SensorFailed("unplugged")), 3600.0, events, Quality({}, {}, 300))
    collected(events, Sample, 1)

    sampler.read_now(8)
    (answer,) = collected(events, ReadOnRequest, 1)
    sampler.stop()

    assert answer == ReadOnRequest("main", 8, "unplugged")


def test_a_driver_that_raises_anything_is_answered_for_too() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    sampler = started(Scripted(1.0, RuntimeError("bus")), 3600.0, events, Quality({}, {}, 300))
    collected(events, Sample, 1)

    sampler.read_now(9)
    (answer,) = collected(events, ReadOnRequest, 1)
    sampler.stop()

    assert answer == ReadOnRequest("main", 9, "RuntimeError: bus")
    assert sampler.hangs_for_s() == 0.0


def test_a_sensor_without_more_values_says_that_it_is_not_read() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    sampler = started(Scripted(1.0, None), 0.01, events, Quality({}, {}, 300))
    sampler.join(30)

    assert sampler.read_now(1) is False


def test_requests_do_not_shift_the_beats() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    sampler = started(Scripted(1.0), 1.0, events, Quality({}, {}, 300))
    (first,) = collected(events, Sample, 1)

    sampler.read_now(1)
    collected(events, ReadOnRequest, 1)
    beats = collected(events, Sample, 2)
    sampler.stop()

    assert [round((beat.monotonic_ms - first.monotonic_ms) / 1000) for beat in beats] == [1, 2]


def test_a_shorter_interval_does_not_wait_for_the_end_of_the_longer_one() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    sampler = started(Scripted(1.0), 3600.0, events, Quality({}, {}, 300))
    collected(events, Sample, 1)

    sampler.set_interval(0.01)
    samples = collected(events, Sample, 5)
    sampler.stop()

    assert len(samples) == 5
