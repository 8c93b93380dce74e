"""Kernel sensors: each unit of the kernel's ABI becomes ours, whatever the chip; what is not there is named."""

from pathlib import Path

import pytest

from mqtt_client.errors import SensorFailed
from mqtt_client.sensors.iio import Iio
from tests.node.sysfs import SysfsDevice


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """Where the kernel lists the devices."""
    return tmp_path / "iio"


def opened(devices: Path, argument: str = "") -> Iio:
    sensor = Iio(argument, devices, devices.parent / "hwmon")
    sensor.open()
    return sensor


@pytest.mark.parametrize(
    ("attributes", "measured"),
    [
        ({"in_temp_input": 21400, "in_humidityrelative_input": 48200}, {"temperature": 21.4, "humidity": 48.2}),
        (
            {
                "in_temp_input": "24380",
                "in_humidityrelative_input": "39396",
                "in_pressure_input": "102.129031250",
            },
            {"temperature": 24.38, "humidity": 39.396, "pressure": 1021.2903},
        ),
        (
            {
                "in_temp_raw": 6500,
                "in_temp_offset": "-4368.059701",
                "in_temp_scale": "10.725097656",
                "in_humidityrelative_raw": 3100,
                "in_humidityrelative_offset": "-786",
                "in_humidityrelative_scale": "30.517578",
            },
            {"temperature": 22.8653, "humidity": 70.6177},
        ),
        ({"in_temp_input": -12500}, {"temperature": -12.5}),
        ({"in_temp_raw": -25, "in_temp_scale": "62.5"}, {"temperature": -1.5625}),
        ({"in_illuminance_raw": 500, "in_illuminance_scale": "0.833333"}, {"illuminance": 416.6665}),
        ({"in_illuminance0_input": 12}, {"illuminance": 12.0}),
        ({"in_illuminance_input": 7, "in_illuminance_raw": 900, "in_illuminance_scale": 1}, {"illuminance": 7.0}),
        ({"in_concentration_co2_raw": 655, "in_concentration_co2_scale": "0.000100"}, {"co2": 655.0}),
        ({"in_concentration_co2_input": "0.0421"}, {"co2": 421.0}),
        ({"in_voltage0_raw": 1650, "in_voltage_scale": "0.805664"}, {"voltage": 1.3293}),
        (
            {"in_voltage0_raw": 10, "in_voltage1_raw": 20, "in_voltage1_scale": 3, "in_voltage_scale": 2},
            {"voltage0": 0.02, "voltage1": 0.06},
        ),
        ({"in_voltage0-voltage1_raw": -40, "in_voltage-voltage_scale": 1, "scale": 2}, {"voltage": -0.04}),
        (
            {
                "in_temp_ambient_raw": 14708,
                "in_temp_object_raw": 15000,
                "in_temp_offset": -13657.5,
                "in_temp_scale": 20,
            },
            {"temperature_ambient": 21.01, "temperature_object": 26.85},
        ),
        ({"in_resistance_input": 3966, "in_temp_input": 1000, "in_accel_x_raw": 3}, {"temperature": 1.0}),
    ],
)
def test_every_unit_of_the_kernel_becomes_ours(
    devices: Path, attributes: dict[str, object], measured: dict[str, float]
) -> None:
    SysfsDevice(devices / "iio:device0", name="chip", **attributes)

    assert opened(devices).read() == pytest.approx(measured, abs=1e-4)


@pytest.mark.parametrize("pressure", ["1014.350000000", "101.435000000"])
def test_a_bme680_is_right_under_old_and_new_kernels_though_it_tells_percent_and_hectopascal(
    devices: Path, pressure: str
) -> None:
    humid = {"in_humidityrelative_input": "41.074000000", "in_pressure_input": pressure, "in_temp_input": 24540}
    SysfsDevice(devices / "iio:device0", name="bme680", **humid)

    assert opened(devices).read() == {"humidity": 41.074, "pressure": 1014.35, "temperature": 24.54}


def test_a_hardware_monitor_that_measures_a_room_is_found_and_the_machines_own_are_not(devices: Path) -> None:
    monitors = devices.parent / "hwmon"
    SysfsDevice(monitors / "hwmon0", name="cpu_thermal", temp1_input=48312)
    SysfsDevice(monitors / "hwmon1", name="sht3x", temp1_input=21400, humidity1_input=48200, temp1_max=125000)

    assert opened(devices).read() == {"temperature": 21.4, "humidity": 48.2}
    assert opened(devices, "cpu_thermal").read() == {"temperature": 48.312}


@pytest.mark.parametrize("argument", ["bme280", "device1", "iio:device1", "attic"])
def test_a_device_is_known_by_its_name_its_number_and_its_label(devices: Path, argument: str) -> None:
    SysfsDevice(devices / "iio:device0", name="dht11@4", in_temp_input=1000)
    SysfsDevice(devices / "iio:device1", name="bme280", label="attic", in_temp_input=2000)

    assert opened(devices, argument).read() == {"temperature": 2.0}
    assert opened(devices, "dht11").read() == {"temperature": 1.0}


@pytest.mark.parametrize("folder", ["1-0076/iio:device3", "1-0076"])
def test_a_device_is_known_by_the_folder_of_its_bus_address(tmp_path: Path, folder: str) -> None:
    SysfsDevice(tmp_path / "1-0076" / "iio:device3", name="bme280", in_temp_input=2000)

    assert opened(tmp_path / "nowhere", str(tmp_path / folder)).read() == {"temperature": 2.0}


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("", r"several devices: device0 \(bme280\), device1 \(bme280\); say which, as iio:device0"),
        ("bme280", "several devices"),
        ("sht3x", r"no device 'sht3x'; there are device0 \(bme280\), device1 \(bme280\)"),
        ("/nowhere/1-0076", "no device that measures in /nowhere/1-0076; is its dtoverlay"),
    ],
)
def test_what_cannot_be_chosen_is_told_with_what_is_there(devices: Path, argument: str, told: str) -> None:
    for number in (0, 1):
        SysfsDevice(devices / f"iio:device{number}", name="bme280", in_temp_input=1000)
    SysfsDevice(devices / "iio:device2", name="gyroscope", in_anglvel_x_raw=1)

    with pytest.raises(SensorFailed, match=told):
        opened(devices, argument)


def test_no_device_at_all_asks_for_the_overlay(devices: Path) -> None:
    with pytest.raises(SensorFailed, match=r"no device that measures in .*; is its dtoverlay in config\.txt"):
        opened(devices)


def test_a_channel_without_a_value_is_told_and_the_others_are_given(devices: Path) -> None:
    device = SysfsDevice(devices / "iio:device0", name="dht11", in_temp_input=21000, in_humidityrelative_input="")
    sensor = opened(devices)

    with pytest.raises(SensorFailed, match="in_humidityrelative_input: it is no number") as caught:
        sensor.read()
    (device.folder / "in_humidityrelative_input").unlink()
    with pytest.raises(SensorFailed, match="in_humidityrelative_input: No such file") as caught:
        sensor.read()

    assert caught.value.values == {"temperature": 21.0}
