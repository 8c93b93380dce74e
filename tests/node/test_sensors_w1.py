"""DS18B20 through the kernel: a damaged answer, a sensor without power and a shorted line are no temperature."""

from pathlib import Path

import pytest

from mqtt_client.errors import SensorFailed
from mqtt_client.sensors.w1 import W1
from tests.node.sysfs import SysfsDevice, thermometer

ONE, OTHER = "28-0316a2795f30", "28-3c01f095a1b2"


def read(devices: Path, argument: str = "") -> dict[str, float]:
    sensor = W1(argument, devices)
    sensor.open()
    return sensor.read()


@pytest.mark.parametrize(
    ("milli", "celsius"), [(23125, 23.125), (-500, -0.5), (0, 0.0), (-55000, -55.0), (125000, 125.0)]
)
def test_thousandths_become_degrees(tmp_path: Path, milli: int, celsius: float) -> None:
    SysfsDevice(tmp_path / "w1_bus_master1", name="bus")
    thermometer(tmp_path, ONE, milli)

    assert read(tmp_path) == {"temperature": celsius}


def test_of_several_thermometers_the_id_or_the_folder_says_which(tmp_path: Path) -> None:
    thermometer(tmp_path, ONE, 1000)
    thermometer(tmp_path, OTHER, 2000)

    assert read(tmp_path, OTHER.upper()) == {"temperature": 2.0}
    assert read(Path("/nowhere"), str(tmp_path / ONE)) == {"temperature": 1.0}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"milli": 23125, "crc": "NO"}, "wrong checksum"),
        ({"milli": 85000}, "85 °C is what it says before it has measured"),
        ({"milli": 0, "scratchpad": "00 00 00 00 00 00 00 00 00"}, "shorted to ground"),
    ],
)
def test_what_is_no_measurement_is_refused(tmp_path: Path, answer: dict[str, object], told: str) -> None:
    thermometer(tmp_path, ONE, **answer)  # type: ignore[arg-type]

    with pytest.raises(SensorFailed, match=f"{ONE}: .*{told}"):
        read(tmp_path)


def test_an_empty_answer_and_a_sensor_that_goes_away_are_no_answer(tmp_path: Path) -> None:
    device = thermometer(tmp_path, ONE, 1000)
    sensor = W1("", tmp_path)
    sensor.open()

    device.set("w1_slave", "")
    with pytest.raises(SensorFailed, match=f"{ONE} does not answer"):
        sensor.read()
    device.unplug()
    with pytest.raises(SensorFailed, match=f"{ONE} does not answer: No such file"):
        sensor.read()


def test_which_thermometers_there_are_is_told(tmp_path: Path) -> None:
    with pytest.raises(SensorFailed, match="is dtoverlay=w1-gpio in"):
        read(tmp_path)

    thermometer(tmp_path, ONE, 1000)
    with pytest.raises(SensorFailed, match=f"no thermometer {OTHER}; there are {ONE}"):
        read(tmp_path, OTHER)

    thermometer(tmp_path, OTHER, 2000)
    with pytest.raises(SensorFailed, match=f"several thermometers: {ONE}, {OTHER}; say which, as w1:{ONE}"):
        read(tmp_path)


def test_what_is_no_id_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no thermometer's id, such as 28-0316a2795f30"):
        W1("28-03")
