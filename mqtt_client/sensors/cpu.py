"""The temperature of the Pi's own processor, through gpiozero."""

from typing import Any

from mqtt_client.errors import SensorFailed


class Cpu:
    """gpiozero.CPUTemperature; the argument, if any, is the sensor's file."""

    def __init__(self, argument: str) -> None:
        """Take the file to read, by default /sys/class/thermal/thermal_zone0/temp."""
        self._file = argument or "/sys/class/thermal/thermal_zone0/temp"
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
