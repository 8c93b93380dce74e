"""The temperature of the machine's own processor, through gpiozero."""

from pathlib import Path
from typing import Any

from mqtt_client.errors import SensorFailed

ZONES = Path("/sys/class/thermal")
PROCESSORS = ("cpu", "soc", "x86_pkg_temp")
"""How the kernel begins the name of a processor's zone; a Pi's is cpu-thermal, others have several zones."""


class Cpu:
    """gpiozero.CPUTemperature; the argument, if any, is the sensor's file."""

    def __init__(self, argument: str, zones: Path = ZONES) -> None:
        """Take the file to read; without one, the first zone that is the processor's, else the first of all."""
        self._given = argument
        self._zones = zones
        self._file = argument
        self._device: Any = None

    def open(self) -> None:
        """Find the sensor.

        Raises:
            SensorFailed: there is none.
        """
        try:
            from gpiozero import CPUTemperature  # type: ignore[import-untyped]  # other nodes spare this
            from gpiozero.pins.mock import MockFactory  # type: ignore[import-untyped]  # a file needs no pins
        except ImportError as exc:
            raise SensorFailed("gpiozero is not installed; pip install 'mqtt-sensor-bridge[node]'") from exc
        self._file = self._given or str(self._zone() / "temp")
        try:
            self._device = CPUTemperature(sensor_file=self._file, pin_factory=MockFactory())
        except OSError as exc:
            raise SensorFailed(f"cannot read {self._file}: {exc.strerror}") from exc

    def read(self) -> dict[str, float]:
        """Return the temperature.

        Raises:
            SensorFailed: its file cannot be read.
        """
        try:
            return {"cpu_temperature": round(float(self._device.temperature), 2)}
        except (OSError, ValueError) as exc:
            raise SensorFailed(f"cannot read {self._file}: {exc}") from exc

    def close(self) -> None:
        """Let go of it."""
        if self._device is not None:
            self._device.close()

    def _zone(self) -> Path:
        zones = sorted(self._zones.glob("thermal_zone*"))
        for zone in zones:
            try:
                if (zone / "type").read_text(encoding="ascii", errors="replace").startswith(PROCESSORS):
                    return zone
            except OSError:
                continue
        return zones[0] if zones else self._zones / "thermal_zone0"
