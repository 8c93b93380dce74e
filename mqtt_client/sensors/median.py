"""The middle one of several readings, so that one spike on the line, or one bad conversion, is never sent."""

from mqtt_client.sensors.sensor import Sensor

MOST = 25


class Median:
    """Reads a sensor several times at each beat; every quantity has the median of its values."""

    def __init__(self, sensor: Sensor, number: int) -> None:
        """Take the sensor and how often it is read, 1 to 25 times.

        Raises:
            ValueError: the number is out of range.
        """
        if not 1 <= number <= MOST:
            raise ValueError(f"median={number}; allowed is 1 to {MOST}")
        self._sensor = sensor
        self._number = number

    def open(self) -> None:
        """Open the sensor."""
        self._sensor.open()

    def read(self) -> dict[str, float] | None:
        """Return the medians; None when the sensor has nothing more.

        Raises:
            SensorFailed: one of the readings failed.
        """
        series: dict[str, list[float]] = {}
        for _ in range(self._number):
            values = self._sensor.read()
            if values is None:
                return None
            for quantity, value in values.items():
                series.setdefault(quantity, []).append(value)
        return {quantity: sorted(values)[len(values) // 2] for quantity, values in series.items()}

    def close(self) -> None:
        """Close the sensor."""
        self._sensor.close()
