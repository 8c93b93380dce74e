"""What a device in sysfs measures: its channels, by the files that the kernel offers, in our quantities and units.

Two trees hold nearly all sensors that have a kernel driver, and each speaks one language for all its chips:

- Industrial I/O, Documentation/ABI/testing/sysfs-bus-iio in the kernel's sources: a channel is processed
  (``in_temp_input``) or raw, and then its value is (raw + offset) × scale. Milli degrees Celsius, milli percent,
  kilopascal, lux, percent (gases), millivolts.
- Hardware monitoring, Documentation/hwmon/sysfs-interface: ``temp1_input``, ``humidity1_input``, ``in0_input`` in
  milli degrees Celsius, milli percent, millivolts.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mqtt_client.reading import MAX_QUANTITIES, QUANTITY, RESERVED_QUANTITIES

IIO = re.compile(r"in_(temp|humidityrelative|pressure|illuminance|concentration|voltage)([a-z0-9_-]*?)_(input|raw)")
HWMON = re.compile(r"(temp|humidity|in)(\d+)_input")

QUANTITIES = {
    "temp": ("temperature", 0.001),
    "humidityrelative": ("humidity", 0.001),
    "humidity": ("humidity", 0.001),
    "pressure": ("pressure", 10.0),
    "illuminance": ("illuminance", 1.0),
    "concentration": ("concentration", 10_000.0),
    "voltage": ("voltage", 0.001),
    "in": ("voltage", 0.001),
}
"""The kernel's types: our quantity, and by what the kernel's unit is multiplied to be ours."""

MAX_KPA = 125.0
MAX_PERCENT = 105.0
"""BME680's driver tells humidity in percent, and pressure in hectopascal before Linux 6.10. No air has 0.1 %RH or
1250 hPa, so the number itself says in which unit it is."""


class Channel(NamedTuple):
    """One value that a device offers."""

    quantity: str
    kind: str
    """The kernel's name of what it measures, such as ``temp``."""
    file: Path
    scale: Path | None = None
    offset: Path | None = None

    def measure(self) -> float:
        """Read it, in the unit of its quantity.

        Raises:
            OSError: the kernel has no value now.
            ValueError: it gives something that is no number.
        """
        value = _number(self.file)
        if self.offset:
            value += _number(self.offset)
        if self.scale:
            value *= _number(self.scale)
        quantity, factor = QUANTITIES[self.kind]
        if (quantity == "pressure" and value > MAX_KPA) or (quantity == "humidity" and value < MAX_PERCENT):
            factor = 1.0
        return round(value * factor, 4)


def channels_of(device: Path) -> list[Channel]:
    """Return the channels of a device that measure something of ours, none where it measures nothing such.

    A type that has one channel bears the quantity's name; of several, each adds its own number or name:
    ``temperature_ambient``, ``voltage0``.
    """
    found = list(_hwmon(device) if device.name.startswith("hwmon") else _iio(device))
    number = Counter(kind for kind, _, _ in found)
    channels: list[Channel] = []
    for kind, which, file in found:
        quantity = _quantity(kind, which, is_alone=number[kind] == 1)
        if QUANTITY.fullmatch(quantity) and quantity not in RESERVED_QUANTITIES:
            is_raw = file.name.endswith("_raw")
            scale = _shared(device, kind, which, "scale") if is_raw else None
            offset = _shared(device, kind, which, "offset") if is_raw else None
            channels.append(Channel(quantity, kind, file, scale, offset))
    return channels[:MAX_QUANTITIES]


def _iio(device: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield type, number or name, and file; the processed file where there is also a raw one."""
    seen: set[tuple[str, str]] = set()
    for file in [*sorted(device.glob("in_*_input")), *sorted(device.glob("in_*_raw"))]:
        match = IIO.fullmatch(file.name)
        if match and (match[1], match[2]) not in seen:
            seen.add((match[1], match[2]))
            yield match[1], match[2], file


def _hwmon(device: Path) -> Iterator[tuple[str, str, Path]]:
    for file in sorted(device.glob("*_input")):
        match = HWMON.fullmatch(file.name)
        if match:
            yield match[1], match[2], file


def _quantity(kind: str, which: str, *, is_alone: bool) -> str:
    name = QUANTITIES[kind][0]
    if kind == "concentration":  # the gas is what counts: in_concentration_co2_raw is co2
        return which.lstrip("0123456789").strip("_") or name
    return name if is_alone else name + which.replace("-", "_")


def _shared(device: Path, kind: str, which: str, what: str) -> Path | None:
    """Return the file with a channel's scale or offset: its own, or one that channels of its type, or all, share."""
    unnumbered = "".join(sign for sign in which if not sign.isdigit())  # differential: in_voltage-voltage_scale
    names = (f"in_{kind}{which}_{what}", f"in_{kind}{unnumbered}_{what}", f"in_{kind}_{what}", f"in_{what}", what)
    return next((device / name for name in names if (device / name).exists()), None)


def _number(file: Path) -> float:
    return float(file.read_text(encoding="ascii"))
