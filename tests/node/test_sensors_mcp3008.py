"""Analogue sensors: from the bits on the wire to what their datasheets say that they mean."""

from collections.abc import Iterator

import pytest
from gpiozero import LED, Device
from gpiozero.pins.mock import MockFactory

from mqtt_client.errors import SensorFailed
from mqtt_client.sensors.mcp3008 import Mcp3008
from tests.node.converter import CLOCK, Converter, code


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockFactory]:
    """Pins that exist only here."""
    one = MockFactory()
    monkeypatch.setattr(Device, "pin_factory", one)
    yield one
    one.close()


@pytest.fixture
def converter(factory: MockFactory) -> Iterator[Converter]:
    """The converter on the first chip select."""
    with Converter(factory) as one:
        yield one


def read(argument: str) -> dict[str, float]:
    sensor = Mcp3008(argument)
    sensor.open()
    try:
        return sensor.read()
    finally:
        sensor.close()


@pytest.mark.parametrize(
    ("sensor", "volts", "celsius"),
    [
        ("tmp36", 0.75, 25.0),
        ("tmp36", 0.5, 0.0),
        ("tmp36", 0.1, -40.0),
        ("tmp36", 1.75, 125.0),
        ("lm35", 0.25, 25.0),
        ("lm35", 1.5, 150.0),
    ],
)
def test_thermometers_follow_their_datasheets(
    converter: Converter, sensor: str, volts: float, celsius: float
) -> None:
    converter.counts[3] = code(volts / 3.3)

    measured = read(f"temperature=3/{sensor}")

    assert measured == {"temperature": pytest.approx(celsius, abs=0.33)}, "within a step of 3.3 mV"
    assert converter.conversions == [3]


@pytest.mark.parametrize(("celsius", "factor"), [(25.0, 1.0006), (0.0, 1.0546), (60.0, 0.925)])
def test_humidity_is_compensated_with_the_temperature_beside_it(
    converter: Converter, celsius: float, factor: float
) -> None:
    converter.counts[0] = code((celsius / 100 + 0.5) / 3.3)
    converter.counts[1] = code(0.0062 * 50 + 0.16)

    measured = read("humidity=1/hih4030,temperature=0/tmp36")

    assert measured["humidity"] == pytest.approx(50 / factor, abs=0.2)


def test_humidity_alone_is_that_of_a_room_at_25_degrees(converter: Converter) -> None:
    converter.counts[1] = code(0.0062 * 75 + 0.16)

    assert read("humidity=1/HIH4030") == {"humidity": pytest.approx(75 / 1.0006, abs=0.16)}


def test_a_channel_without_a_sensor_gives_its_volts(converter: Converter) -> None:
    converter.counts.update({0: 1023, 1: 0, 2: 512})

    measured = read("voltage=0,dark=1,soil=2/raw,vref=5")

    assert measured == {"voltage": 5.0, "dark": 0.0024, "soil": 2.5037}, "in the middle of their steps"


def test_the_second_chip_select_is_another_converter(factory: MockFactory, converter: Converter) -> None:
    with Converter(factory, 1) as other:
        other.counts[0] = 1023

        assert read("voltage=0,ce=1") == {"voltage": 3.3}
        assert read("voltage=0") == {"voltage": 0.0016}


def test_a_sensor_that_is_not_connected_is_told_and_the_others_are_given(converter: Converter) -> None:
    converter.counts.update({0: 0, 1: 480, 2: 512})

    with pytest.raises(SensorFailed) as caught:
        read("temperature=0/tmp36,humidity=1/hih4030,voltage=2")

    assert str(caught.value) == (
        "temperature: no tmp36 gives such a voltage; what is connected to channel 0?; "
        "humidity: its compensation needs the temperature"
    )
    assert caught.value.values == {"voltage": 1.6524}


def test_pins_that_are_in_use_are_a_fault_of_the_sensor(converter: Converter) -> None:
    with LED(CLOCK), pytest.raises(SensorFailed, match="no way to the MCP3008"):
        read("voltage=0")


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("", "mcp3008 needs quantity=channel"),
        ("temperature", "'temperature' is not quantity=channel"),
        ("temperature=8/tmp36", "channels are 0 to 7"),
        ("temperature=0/tmp37", "no sensor 'tmp37'; there are tmp36, lm35, hih4030, raw"),
        ("humidity=0/tmp36", "tmp36 measures °C, but humidity is in %RH"),
        ("temperature=0", "raw measures V, but temperature is in °C"),
        ("time=0", "'time' is a reserved name"),
        ("voltage=0,voltage=1", "each quantity once"),
        ("voltage=0,vref=9", "vref is 0.25 to 5.5"),
        ("voltage=0,ce=2", "ce is 0 or 1"),
    ],
)
def test_an_argument_that_is_wrong_is_refused_with_what_is_allowed(argument: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Mcp3008(argument)
