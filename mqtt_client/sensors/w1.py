"""DS18B20 and its kin on the 1-Wire bus, through the kernel (``dtoverlay=w1-gpio``).

The kernel's w1_therm (Documentation/w1/slaves/w1_therm.rst) answers a read of ``w1_slave`` with two lines: the
nine bytes of the scratchpad with ``crc=… YES`` where the checksum is right, and the temperature in thousandths::

    72 01 4b 46 7f ff 0e 10 57 : crc=57 YES
    72 01 4b 46 7f ff 0e 10 57 t=23125

A conversion takes up to 0.75 s (Maxim, DS18B20 datasheet 19-7487, "Temperature Conversion Time"), for which the
read blocks.
"""

import re
from pathlib import Path

from mqtt_client.errors import SensorFailed

DEVICES = Path("/sys/bus/w1/devices")
FAMILIES = ("10", "22", "28", "3b", "42")
"""Thermometers: DS18S20, DS1822, DS18B20, DS1825 or MAX31850, DS28EA00."""
SENSOR = re.compile(rf"({'|'.join(FAMILIES)})-[0-9a-f]{{12}}")
ANSWER = re.compile(r"((?:[0-9a-f]{2} ){9}): crc=[0-9a-f]{2} (YES|NO)\n.*\bt=(-?\d+)\s*", re.DOTALL)
POWER_ON = 85_000
"""In the register until the first conversion is done (same datasheet, "Temperature Register"): no measurement."""


class W1:
    """One thermometer; the argument is its id."""

    def __init__(self, argument: str, devices: Path = DEVICES) -> None:
        """Take the id, such as ``28-0316a2795f30``, or its folder; nothing means the only one that there is.

        Raises:
            ValueError: the id is none of a thermometer.
        """
        self._id = argument.lower() if "/" not in argument else Path(argument).name
        self._devices = devices if "/" not in argument else Path(argument).parent
        if self._id and not SENSOR.fullmatch(self._id):
            raise ValueError(
                f"{argument!r} is no thermometer's id, such as 28-0316a2795f30; it begins with {', '.join(FAMILIES)}"
            )
        self._file: Path | None = None

    def open(self) -> None:
        """Find the thermometer.

        Raises:
            SensorFailed: it is not there, or there are several; the message names those that are.
        """
        there = sorted(path.name for path in self._devices.glob("*-*") if SENSOR.fullmatch(path.name))
        found = [name for name in there if name == (self._id or name)]
        if len(found) == 1:
            self._file = self._devices / found[0] / "w1_slave"
        elif found:
            raise SensorFailed(f"several thermometers: {', '.join(found)}; say which, as w1:{found[0]}")
        elif there:
            raise SensorFailed(f"no thermometer {self._id}; there are {', '.join(there)}")
        else:
            raise SensorFailed(
                f"no thermometer in {self._devices}; is dtoverlay=w1-gpio in config.txt, is it wired, with 4.7 kΩ?"
            )

    def read(self) -> dict[str, float]:
        """Return the temperature.

        Raises:
            SensorFailed: it does not answer, or its answer is damaged or no measurement.
        """
        assert self._file is not None
        try:
            answer = ANSWER.fullmatch(self._file.read_text(encoding="ascii", errors="replace"))
        except OSError as exc:
            raise SensorFailed(f"{self._file.parent.name} does not answer: {exc.strerror}") from exc
        name = self._file.parent.name
        if answer is None:
            raise SensorFailed(f"{name} does not answer")
        if answer[2] == "NO":
            raise SensorFailed(f"{name}: wrong checksum; look at the wiring, its length and the resistor")
        if not answer[1].strip("0 "):  # nine zeros have a right checksum, and are a line that is shorted to ground
            raise SensorFailed(f"{name}: nothing but zeros; the data line is shorted to ground")
        if int(answer[3]) == POWER_ON:
            raise SensorFailed(f"{name}: 85 °C is what it says before it has measured; is its power steady?")
        return {"temperature": int(answer[3]) / 1000}

    def close(self) -> None:
        """Hold nothing."""
