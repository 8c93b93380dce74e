"""Analogue sensors on the eight channels of an MCP3008, through gpiozero.

``mcp3008:temperature=0/tmp36,humidity=1/hih4030,voltage=2``: a quantity, its channel, and the sensor that is
there; without one, the volts at the pin. ``vref=`` tells the reference voltage where it is not 3.3 V, ``ce=1`` the
converter on the second chip select. Each formula has its source beside it.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from mqtt_client.errors import InvalidReading, SensorFailed
from mqtt_client.reading import UNITS, check_quantity

CHANNEL = re.compile(r"\s*([a-z0-9_]+)\s*=\s*([0-7])\s*(?:/\s*([A-Za-z0-9]+)\s*)?")
OPTION = re.compile(r"\s*(vref|ce)\s*=\s*(\d+(?:\.\d+)?)\s*")
ALLOWED = "quantity=channel[/sensor], comma-separated, such as temperature=0/tmp36,humidity=1/hih4030"
REFERENCE_V = 3.3
ROOM_C = 25.0


class Formula(NamedTuple):
    """How a sensor's voltage becomes what it measures."""

    unit: str
    low: float
    high: float
    """What the sensor can measure, with its tolerance: outside, nothing or something else is on the channel."""
    measure: Callable[[float, float, float], float]
    """From the voltage, the share of the reference voltage that it is, and the air's temperature in °C."""
    needs_air: bool = False


FORMULAS = {
    # Analog Devices, TMP35/TMP36/TMP37 datasheet, "Output Characteristics": 0.5 V at 0 °C, 10 mV/°C; -40 to 125 °C
    "tmp36": Formula("°C", -43.0, 128.0, lambda volts, _share, _air: (volts - 0.5) / 0.01),
    # Texas Instruments, LM35 datasheet SNIS159, "Transfer Function": 10 mV/°C from 0 V; 2 to 150 °C, basic circuit
    "lm35": Formula("°C", 0.5, 152.0, lambda volts, _share, _air: volts / 0.01),
    # Honeywell, HIH-4030/4031 datasheet 009021, "Voltage output (1st order curve fit)", "Temperature compensation":
    # Vout = Vsupply (0.0062 RH + 0.16), true RH = RH / (1.0546 - 0.00216 T). It is ratiometric: its supply is the
    # converter's reference, or a divider in that ratio lies between them.
    "hih4030": Formula(
        "%RH",
        0.0,
        105.0,
        lambda _volts, share, air: (share - 0.16) / 0.0062 / (1.0546 - 0.00216 * air),
        needs_air=True,
    ),
    "raw": Formula("V", 0.0, float("inf"), lambda volts, _share, _air: volts),
}


class Input(NamedTuple):
    """One channel in use."""

    quantity: str
    channel: int
    sensor: str


class Mcp3008:
    """The converter, with what is connected to it."""

    def __init__(self, argument: str) -> None:
        """Take the channels.

        Raises:
            ValueError: the argument is not what is allowed; the message says what is.
        """
        self._reference_v, self._select = REFERENCE_V, 0
        self._inputs: list[Input] = []
        for part in filter(None, argument.split(",")):
            option = OPTION.fullmatch(part)
            if option:
                self._set(option[1], option[2])
            else:
                self._inputs.append(_input(part))
        quantities = [one.quantity for one in self._inputs]
        if not quantities or len(set(quantities)) < len(quantities):
            raise ValueError(f"mcp3008 needs {ALLOWED}; each quantity once")
        self._inputs.sort(key=lambda one: FORMULAS[one.sensor].needs_air)
        self._measures_air = "temperature" in quantities
        self._devices: dict[int, Any] = {}

    def open(self) -> None:
        """Take the converter's pins.

        Raises:
            SensorFailed: there is no way to it on this machine.
        """
        try:
            from gpiozero import MCP3008  # type: ignore[import-untyped]  # other nodes spare this
            from gpiozero.exc import GPIOZeroError  # type: ignore[import-untyped]
        except ImportError as exc:
            raise SensorFailed("gpiozero is not installed; pip install 'mqtt-sensor-bridge[pi]'") from exc
        try:
            for channel in {one.channel for one in self._inputs}:
                self._devices[channel] = MCP3008(channel, device=self._select)
        except (GPIOZeroError, OSError) as exc:
            self.close()
            raise SensorFailed(f"no way to the MCP3008: {exc}; is dtparam=spi=on in config.txt?") from exc

    def read(self) -> dict[str, float]:
        """Return what the sensors measure.

        Raises:
            SensorFailed: a channel has a voltage that its sensor cannot give; with the values of the others.
        """
        values: dict[str, float] = {}
        faults: list[str] = []
        for quantity, channel, sensor in self._inputs:
            formula = FORMULAS[sensor]
            if formula.needs_air and self._measures_air and "temperature" not in values:
                faults.append(f"{quantity}: its compensation needs the temperature")
                continue
            share = self._share(channel)
            value = formula.measure(share * self._reference_v, share, values.get("temperature", ROOM_C))
            if formula.low <= value <= formula.high:
                values[quantity] = round(value, 4)
            else:
                faults.append(
                    f"{quantity}: no {sensor} gives such a voltage; what is connected to channel {channel}?"
                )
        if faults:
            raise SensorFailed("; ".join(faults), values)
        return values

    def close(self) -> None:
        """Let go of the pins."""
        for device in self._devices.values():
            device.close()
        self._devices = {}

    def _share(self, channel: int) -> float:
        """Return which share of the reference voltage a channel has."""
        try:
            return float(self._devices[channel].value)
        except OSError as exc:
            raise SensorFailed(f"the MCP3008 does not answer: {exc.strerror}") from exc

    def _set(self, option: str, text: str) -> None:
        number = float(text)
        if option == "vref" and 0.25 <= number <= 5.5:  # Microchip, MCP3008 datasheet DS21295: VREF, VDD
            self._reference_v = number
        elif option == "ce" and text in ("0", "1"):
            self._select = int(text)
        else:
            raise ValueError(f"{option}={text}; vref is 0.25 to 5.5 (volts), ce is 0 or 1")


def _input(part: str) -> Input:
    match = CHANNEL.fullmatch(part)
    if not match:
        raise ValueError(f"{part.strip()!r} is not {ALLOWED}; channels are 0 to 7")
    quantity, channel, sensor = match[1], int(match[2]), (match[3] or "raw").lower()
    try:
        check_quantity(quantity)
    except InvalidReading as exc:
        raise ValueError(str(exc)) from exc
    if sensor not in FORMULAS:
        raise ValueError(f"{part.strip()!r}: no sensor {sensor!r}; there are {', '.join(FORMULAS)}")
    unit = FORMULAS[sensor].unit
    if UNITS.get(quantity, unit) != unit:
        raise ValueError(f"{part.strip()!r}: {sensor} measures {unit}, but {quantity} is in {UNITS[quantity]}")
    return Input(quantity, channel, sensor)
