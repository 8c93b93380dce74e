"""A sensor of your own, in twenty lines: how well the Pi hears its Wi-Fi."""

from pathlib import Path

from mqtt_client.errors import SensorFailed


class Wifi:
    """``wifi``, or ``wifi:wlan1`` for another card: the signal in dBm, from /proc/net/wireless."""

    def __init__(self, argument: str, table: Path = Path("/proc/net/wireless")) -> None:
        self.card, self.table = argument or "wlan0", table

    def open(self) -> None:
        """Get ready: open the port or the bus here, and again after each failure. This one needs nothing."""

    def read(self) -> dict[str, float]:
        """Return the values by quantity."""
        for line in self.table.read_text(encoding="ascii").splitlines():
            if line.strip().startswith(f"{self.card}:"):
                return {"wifi_signal": float(line.split()[3])}
        raise SensorFailed(f"no Wi-Fi card {self.card}")

    def close(self) -> None:
        """Let go of what open() took."""
