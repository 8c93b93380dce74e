"""The LED: what it shows of the node's state, on gpiozero's mocked pins."""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue

import pytest
from gpiozero import LED, Device
from gpiozero.pins.mock import MockFactory

from mqtt_client import indicator as module
from mqtt_client.clock import Timekeeper
from mqtt_client.condition import LATE_MS, Condition
from mqtt_client.errors import TryLater
from mqtt_client.health import NodeState
from mqtt_client.indicator import Indicator, Light
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.publisher.publisher import Publisher
from mqtt_client.settings import NodeSettings, load
from tests.node.actors import TIME_MS, drafts
from tests.processes import eventually

PIN = 17


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockFactory]:
    """Pins that exist only here, and blinking that does not take a test's patience."""
    factory = MockFactory()
    monkeypatch.setattr(Device, "pin_factory", factory)
    monkeypatch.setattr(module, "SLOW_S", 0.1)
    monkeypatch.setattr(module, "FAST_S", 0.02)
    monkeypatch.setattr(module, "FLASH_S", 0.02)
    monkeypatch.setattr(module, "IDENTIFY_S", 0.5)
    yield factory
    factory.close()


@pytest.fixture
def indicator(pins: MockFactory) -> Iterator[Indicator]:
    """The node's LED."""
    one = Indicator(PIN)
    yield one
    one.close()


def is_lit(pins: MockFactory) -> bool:
    return bool(pins.pin(PIN).state)


def test_a_node_that_is_well_shows_a_steady_light(pins: MockFactory, indicator: Indicator) -> None:
    assert not is_lit(pins)

    indicator.show(Light.GOOD, 1.0)
    pins.pin(PIN).clear_states()
    indicator.show(Light.GOOD, 2.0)

    assert is_lit(pins)
    assert len(pins.pin(PIN).states) == 1, "it does not flicker when it is told the same again"


@pytest.mark.parametrize(("light", "half_s"), [(Light.BUFFERING, 0.1), (Light.FAULT, 0.02)])
def test_buffering_blinks_slowly_and_a_fault_fast(
    pins: MockFactory, indicator: Indicator, light: Light, half_s: float
) -> None:
    pin = pins.pin(PIN)
    pin.clear_states()

    indicator.show(light, 1.0)
    eventually(lambda: len(pin.states) > 8)
    shown = pin.states[:8]

    assert all(before.state != after.state for before, after in pairwise(shown))
    assert min(state.timestamp for state in shown[2:]) >= 0.8 * half_s


def test_the_light_goes_from_one_state_to_the_next(pins: MockFactory, indicator: Indicator) -> None:
    indicator.show(Light.FAULT, 1.0)
    indicator.show(Light.GOOD, 2.0)

    pins.pin(PIN).clear_states()
    time.sleep(0.1)  # nothing may happen, which no condition tells

    assert is_lit(pins)
    assert len(pins.pin(PIN).states) == 1


def test_identify_flashes_three_times_and_pauses_then_shows_the_state_again(
    pins: MockFactory, indicator: Indicator
) -> None:
    indicator.show(Light.GOOD, time.monotonic())
    indicator.identify()
    indicator.show(Light.FAULT, time.monotonic())

    pin = pins.pin(PIN)
    pin.clear_states()
    eventually(lambda: sum(state.state for state in pin.states) >= 7)
    flashes = [now.timestamp for now in pin.states[1:] if now.state]
    dark = sorted(flashes[1:])

    assert dark[-1] > 2 * dark[0], "a pause is longer than what lies between flashes"
    eventually(lambda: (indicator.show(Light.GOOD, time.monotonic()), indicator._shown)[1] is Light.GOOD)
    assert is_lit(pins)


def test_a_pin_that_is_in_use_or_does_not_exist_is_told(pins: MockFactory) -> None:
    with LED(PIN), pytest.raises(TryLater, match="pin 17 cannot be used"):
        Indicator(PIN)
    with pytest.raises(TryLater, match="pin 99 cannot be used"):
        Indicator(99)


def test_closing_puts_it_out(pins: MockFactory) -> None:
    one = Indicator(PIN)
    one.show(Light.GOOD, 1.0)

    one.close()

    LED(PIN).close()  # the pin is free


class At:
    """Clocks that stand where they are put."""

    boot = "boot-1"

    def __init__(self, wall_ms: int) -> None:
        self.now_ms = wall_ms

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ms(self) -> int:
        return self.now_ms

    def is_synchronised(self) -> bool:
        return True


def test_what_the_light_says_of_the_node(opened: Callable[..., Outbox], tmp_path: Path) -> None:
    outbox, source = opened(), At(TIME_MS)
    settings = load(NodeSettings, {"NODE_ID": "kitchen", "OUTBOX_PATH": str(tmp_path / "outbox.db")})
    publisher = Publisher(settings, outbox, SimpleQueue(), lambda: b"", None)
    keeper = Timekeeper(source, 600, None)
    condition = Condition(outbox, publisher, [], keeper, NodeState(0))

    seen = {"not yet connected": condition.light}
    publisher.presence.connected(0.0)
    seen["connected"] = condition.light
    (row,) = outbox.put(drafts(1))
    outbox.current.attempted.add(row.seq, row.seq)
    seen["a reading is under way"] = condition.light
    source.now_ms += LATE_MS + 1
    seen["it waits for its receipt"] = condition.light
    condition.faults["main"] = "unplugged"
    seen["a sensor is unplugged"] = condition.light
    condition.faults.clear()
    outbox.settle(row.epoch, row.seq, [])
    seen["receipted"] = condition.light
    condition.is_full = True
    seen["the disk is full"] = condition.light
    condition.is_full = False
    keeper.stamp(0, 0)
    seen["the clock cannot be right"] = condition.light

    assert seen == {
        "not yet connected": Light.BUFFERING,
        "connected": Light.GOOD,
        "a reading is under way": Light.GOOD,
        "it waits for its receipt": Light.BUFFERING,
        "a sensor is unplugged": Light.FAULT,
        "receipted": Light.GOOD,
        "the disk is full": Light.FAULT,
        "the clock cannot be right": Light.FAULT,
    }
