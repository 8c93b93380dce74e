"""Whatever the kernel measures, by the channels that a device offers and not by its chip.

DHT11, DHT22, BME280, BME680, HTU21, Si7021, BH1750, SCD30 and some hundred more are industrial I/O devices; SHT3x,
SHT4x, AHT10 and AHT20 have their drivers among the hardware monitors (channels.py), and are found all the same.
"""

from pathlib import Path

from mqtt_client.errors import SensorFailed
from mqtt_client.sensors.channels import Channel, channels_of

DEVICES = Path("/sys/bus/iio/devices")
MONITORS = Path("/sys/class/hwmon")


class Iio:
    """One device; the argument tells which by its name, its label, its number or its folder."""

    def __init__(self, argument: str, devices: Path = DEVICES, monitors: Path = MONITORS) -> None:
        """Take the device's name as the kernel has it (``bme280``), ``device0``, or a folder with the device in it.

        Numbers change with the order in which devices are found; the folder of the bus address,
        such as ``/sys/bus/i2c/devices/1-0076``, does not. Nothing at all means the only device that there is.
        """
        self._wanted = argument
        self._devices = devices
        self._monitors = monitors
        self._channels: list[Channel] = []

    def open(self) -> None:
        """Find the device and its channels.

        Raises:
            SensorFailed: it is not there, or there are several; the message names those that are.
        """
        self._channels = channels_of(self._find())

    def read(self) -> dict[str, float]:
        """Return what all channels measure.

        Raises:
            SensorFailed: a channel gives no value; with the values of the others.
        """
        values: dict[str, float] = {}
        faults: list[str] = []
        for channel in self._channels:
            try:
                values[channel.quantity] = channel.measure()
            except OSError as exc:
                faults.append(f"{channel.file.name}: {exc.strerror}")
            except ValueError:
                faults.append(f"{channel.file.name}: it is no number")
        if faults:
            raise SensorFailed("; ".join(faults), values)
        return values

    def close(self) -> None:
        """Hold nothing."""

    def _find(self) -> Path:
        there = self._in_folder(Path(self._wanted)) if self._wanted.startswith("/") else self._everywhere()
        there = [device for device in there if channels_of(device)]
        found = [device for device in there if self._is_wanted(device)]
        if not there:
            where = self._wanted if self._wanted.startswith("/") else self._devices
            raise SensorFailed(
                f"no device that measures in {where}; is its dtoverlay in config.txt, and is it wired?"
            )
        if not found:
            raise SensorFailed(f"no device {self._wanted!r}; there are {_names(there)}")
        if len(found) > 1:
            raise SensorFailed(f"several devices: {_names(found)}; say which, as iio:{_number(found[0])}")
        return found[0]

    def _in_folder(self, folder: Path) -> list[Path]:
        if folder.name.startswith(("iio:device", "hwmon")):
            return [folder]
        return [*sorted(folder.glob("iio:device*")), *sorted(folder.glob("hwmon/hwmon*"))]

    def _everywhere(self) -> list[Path]:
        """Return all devices, but monitors of the machine's own temperatures only when one is asked for by name."""
        monitors = sorted(self._monitors.glob("hwmon*"))
        if not self._wanted:
            monitors = [device for device in monitors if any(device.glob("humidity*_input"))]
        return [*sorted(self._devices.glob("iio:device*")), *monitors]

    def _is_wanted(self, device: Path) -> bool:
        if not self._wanted or self._wanted.startswith("/"):
            return True
        name = _text(device / "name")
        return self._wanted in {device.name, _number(device), name, name.partition("@")[0], _text(device / "label")}


def _number(device: Path) -> str:
    """Return ``device0`` of ``iio:device0``, and ``hwmon0`` as it is."""
    return device.name.removeprefix("iio:")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _names(devices: list[Path]) -> str:
    return ", ".join(f"{_number(device)} ({_text(device / 'name') or 'no name'})" for device in devices)
