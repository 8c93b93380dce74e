"""What a bad sensor does to the node: nothing but that it is told, once, and that it comes back by itself."""

import math
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from mqtt_client.errors import SensorFailed, SettingsError
from mqtt_client.sensors.fixed import Fixed
from mqtt_client.sensors.median import Median
from mqtt_client.sensors.quality import STUCK_S, Quality
from mqtt_client.sensors.registry import make_sensors
from mqtt_client.sensors.sampler import Sample, SensorState
from mqtt_client.setting_values import sensor_specs
from tests.node.actors import FakeBridge, RunningNode
from tests.node.sysfs import SysfsDevice, ds18b20_answer, thermometer
from tests.node.test_sensors import Scripted, collected, sampled
from tests.processes import eventually

ROOT = Path(__file__).parent.parent.parent


class Series(Scripted):
    """Gives these values one after the other."""

    def __init__(self, *values: dict[str, float] | Exception | None) -> None:
        super().__init__()
        self.values = list(values)

    def read(self) -> dict[str, float] | None:
        value = self.values.pop(0)
        if isinstance(value, Exception):
            raise value
        return value


def test_the_median_leaves_a_spike_out_of_each_quantity_alone() -> None:
    sensor = Median(Series({"t": 20.0, "h": 99.0}, {"t": 85.0, "h": 50.0}, {"t": 20.5, "h": 51.0}), 3)

    assert sensor.read() == {"t": 20.5, "h": 51.0}


def test_the_median_of_a_sensor_without_more_values_is_none_and_of_a_failing_one_a_failure() -> None:
    assert Median(Series({"t": 1.0}, None), 3).read() is None
    with pytest.raises(SensorFailed, match="checksum"):
        Median(Series({"t": 1.0}, SensorFailed("checksum")), 3).read()


def test_how_often_a_sensor_is_read_is_said_at_the_end_of_its_argument() -> None:
    specs = "a=fixed:median=3,b=mcp3008:voltage=0,c=mcp3008:voltage=0,vref=5,median=9,d=mcp3008:voltage=0,median=1"

    sensors = make_sensors(sensor_specs(specs))

    numbers = {name: getattr(sensor, "_number", 1) for name, sensor in sensors.items()}
    assert numbers == {"a": 3, "b": 5, "c": 9, "d": 1}


@pytest.mark.parametrize("number", [0, 26, 999])
def test_a_number_of_readings_that_is_out_of_range_is_refused(number: int) -> None:
    with pytest.raises(SettingsError, match=f"median={number}; allowed is 1 to 25"):
        make_sensors(sensor_specs(f"a=fixed:median={number}"))


def test_an_implausible_value_is_told_in_the_same_words_until_a_plausible_one_comes() -> None:
    quality = Quality({}, {}, 300)
    values = (999.0, 998.0, math.inf, 21.0, 997.0)

    told = [quality.judge({"temperature": value}, at) for at, value in enumerate(values)]

    first = ["temperature 999 °C is not plausible"]
    assert [wrong for _, wrong in told] == [first, first, first, [], ["temperature 997 °C is not plausible"]]
    assert [good for good, _ in told] == [{}, {}, {}, {"temperature": 21.0}, {}]


def test_a_sensor_that_stands_still_for_a_day_is_told_and_its_values_go_out_all_the_same() -> None:
    quality = Quality({}, {}, 300)
    day = [0.0, STUCK_S - 1, STUCK_S, STUCK_S + 5]
    values = {"temperature": 21.5, "humidity": 48.0, "illuminance": 0.0}

    told = [quality.judge(values, at) for at in day]
    moved = quality.judge({**values, "humidity": 48.1}, STUCK_S + 10)

    stuck = ["nothing has moved for a day (temperature 21.5, humidity 48); the sensor may be stuck"]
    assert [wrong for _, wrong in told] == [[], [], stuck, stuck]
    assert told[-1][0] == values
    assert moved[1] == []


def test_what_may_stand_still_is_never_told_as_stuck() -> None:
    quality = Quality({}, {}, 300, may_stand_still=Fixed.stands_still)
    night = Quality({}, {}, 300)

    told = [
        one.judge(values, at)[1]
        for at in (0.0, 2 * STUCK_S)
        for one, values in ((quality, {"temperature": 22.0}), (night, {"illuminance": 0.0, "door": 1.0}))
    ]

    assert told == [[], [], [], []]


def test_what_a_sensor_still_gives_goes_out_while_the_rest_is_told() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    sampler = sampled(Scripted(SensorFailed("in_humidity: gone", {"temperature": 21.0})), 0.05, events)

    (sample,) = collected(events, Sample, 1)
    (state,) = collected(events, SensorState, 1)
    sampler.stop()

    assert sample.values == {"temperature": 21.0}
    assert state.fault == "in_humidity: gone"


def test_a_sensor_is_unplugged_and_plugged_in_again_while_the_others_go_on(
    tmp_path: Path, bridge: FakeBridge, start_node: Callable[..., RunningNode]
) -> None:
    chip = SysfsDevice(
        tmp_path / "1-0076" / "iio:device0", name="bme280", in_temp_input=21400, in_humidityrelative_input=48200
    )
    pipe = thermometer(tmp_path / "w1", "28-0316a2795f30", 4500)
    sensors = f"room=iio:{tmp_path}/1-0076,pipe=w1:{pipe.folder},old=fixed"
    node = start_node(NODE_SENSORS=sensors, NODE_CALIBRATION="humidity:-1.5", SAMPLE_INTERVAL=0.2)

    def newest(sensor: str) -> dict[str, float]:
        found: list[dict[str, float]] = [one["values"] for one in bridge.live if one["sensor"] == sensor]
        return found[-1] if found else {}

    eventually(lambda: newest("room") == {"temperature": 21.4, "humidity": 46.7} and newest("pipe"))
    chip.unplug()
    pipe.set("w1_slave", ds18b20_answer(4500, crc="NO"))
    node.wait_for_log("sensor room: no device that measures in")
    node.wait_for_log("sensor pipe: 28-0316a2795f30: wrong checksum")
    before = {name: sum(one["sensor"] == name for one in bridge.live) for name in ("room", "pipe", "old")}
    eventually(lambda: sum(one["sensor"] == "old" for one in bridge.live) > before["old"] + 5)
    faults = eventually(lambda: [one["sensor_faults"] for one in bridge.payloads("/health") if one["sensor_faults"]])
    after = {name: sum(one["sensor"] == name for one in bridge.live) for name in ("room", "pipe")}
    chip.plug_in()
    chip.set("in_temp_input", 19900)
    pipe.set("w1_slave", ds18b20_answer(5250))

    eventually(lambda: newest("room").get("temperature") == 19.9 and newest("pipe") == {"temperature": 5.25})
    node.wait_for_log("sensor room is well again")
    node.wait_for_log("sensor pipe is well again")
    eventually(lambda: bridge.payloads("/health")[-1]["sensor_faults"] == {})

    assert set(faults[-1]) == {"room", "pipe"}
    assert after["room"] - before["room"] <= 1, "at most what was under way"
    assert after["pipe"] - before["pipe"] <= 1
    log = node.output()
    assert log.count("sensor room: ") == log.count("sensor pipe: ") == 1, "told once"


def test_a_node_with_a_converter_publishes_what_is_on_its_wires_and_shows_itself_by_its_led(
    tmp_path: Path, bridge: FakeBridge, start_node: Callable[..., RunningNode]
) -> None:
    (tmp_path / "pins.py").write_text(
        "from gpiozero.pins.mock import MockFactory\n"
        "from tests.node.converter import Converter, code\n"
        "class Pins(MockFactory):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        Converter(self).counts.update({0: code(0.75 / 3.3), 1: code(0.0062 * 40 + 0.16)})\n",
        encoding="utf-8",
    )
    information = tmp_path / "pins-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pins\nVersion: 1.0\n", encoding="utf-8")
    (information / "entry_points.txt").write_text("[gpiozero_pin_factories]\npins = pins:Pins\n", encoding="utf-8")
    node = start_node(
        NODE_SENSORS="roof=mcp3008:temperature=0/tmp36,humidity=1/hih4030",
        NODE_LED_PIN=17,
        GPIOZERO_PIN_FACTORY="pins",
        PYTHONPATH=f"{tmp_path}:{ROOT}",
    )

    reading = eventually(lambda: bridge.live, told=node.output)[0]
    identified = node.run("command", "kitchen", "identify")

    assert reading["values"] == {
        "temperature": pytest.approx(25.0, abs=0.33),
        "humidity": pytest.approx(40.0, abs=0.2),
    }
    assert (identified.returncode, identified.stdout) == (0, "kitchen: ok\n"), identified.stderr
    assert node.stop() == 0
    assert "Error" not in node.output(), node.output()


def test_a_node_whose_led_cannot_be_had_says_so_and_measures(
    bridge: FakeBridge, start_node: Callable[..., RunningNode]
) -> None:
    node = start_node(NODE_LED_PIN=17, GPIOZERO_PIN_FACTORY="none")

    eventually(lambda: bridge.live, told=node.output)

    assert "NODE_LED_PIN: pin 17 cannot be used" in node.output()
