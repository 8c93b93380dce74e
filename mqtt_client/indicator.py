"""The node's LED, for whoever stands before it without a screen.

Steady: connected, and all is receipted. Slow blinking: readings wait in the outbox. Fast: a sensor, the clock or
the disk needs somebody. Three flashes and a pause, for some seconds: it is this node that was asked to identify
itself. It remembers nothing; gpiozero blinks in a thread of its own, and is loaded only where an LED is set.
"""

import time
from enum import Enum, auto
from itertools import cycle

from mqtt_client.errors import TryLater

SLOW_S = 1.0
FAST_S = 0.15
IDENTIFY_S = 10.0
FLASHES = (1, 0, 1, 0, 1, 0, 0, 0, 0, 0)
FLASH_S = 0.12


class Light(Enum):
    """What the LED says."""

    GOOD = auto()
    BUFFERING = auto()
    FAULT = auto()


class Indicator:
    """One LED."""

    def __init__(self, pin: int) -> None:
        """Take the LED at a BCM pin; it stays dark until something is shown.

        Raises:
            TryLater: there is no such pin here, or it is in use.
        """
        try:
            from gpiozero import LED  # type: ignore[import-untyped]  # nodes without an LED spare this
            from gpiozero.exc import GPIOZeroError  # type: ignore[import-untyped]
        except ImportError as exc:
            raise TryLater("gpiozero is not installed; pip install 'mqtt-sensor-bridge[pi]'") from exc
        try:
            self._led = LED(pin)
        except (GPIOZeroError, OSError) as exc:
            raise TryLater(f"pin {pin} cannot be used: {exc}") from exc
        self._shown: Light | None = None
        self._identifies_until = 0.0

    def show(self, light: Light, now: float) -> None:
        """Show this from now on (monotonic, in seconds), or after the flashes of :meth:`identify`."""
        if light is self._shown or now < self._identifies_until:
            return
        self._shown = light
        self._led.source = None
        match light:
            case Light.GOOD:
                self._led.on()
            case Light.BUFFERING:
                self._led.blink(SLOW_S, SLOW_S)
            case Light.FAULT:
                self._led.blink(FAST_S, FAST_S)

    def identify(self) -> None:
        """Flash for ten seconds as nothing else does; then :meth:`show` goes on."""
        self._identifies_until = time.monotonic() + IDENTIFY_S
        self._shown = None
        self._led.source_delay = FLASH_S
        self._led.source = cycle(FLASHES)

    def close(self) -> None:
        """Put it out and let go of the pin."""
        self._led.close()
