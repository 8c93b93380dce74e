"""How the running node is: what its parts say together, for its health, for ``status`` and for the watchdog."""

from collections.abc import Sequence

from mqtt_client.clock import Timekeeper
from mqtt_client.health import NodeState, cpu_temperature, disk_free_bytes, hours_until_full
from mqtt_client.indicator import Light
from mqtt_client.messages import Health
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.publisher.publisher import Publisher
from mqtt_client.reading import format_time, from_ms
from mqtt_client.sensors.sampler import Sampler

RATE_S = 30.0
"""The rate of readings is counted over so long at least."""
LATE_MS = 30_000
"""After so long without a receipt a reading is buffered, and not just under way."""
HANG_S = 60.0
"""When every sensor has been silent in a read for so long, no work moves on."""


class Condition:
    """Looks at the parts when asked; remembers sensors' faults and the rate of readings."""

    def __init__(
        self, outbox: Outbox, publisher: Publisher, samplers: Sequence[Sampler], keeper: Timekeeper, old: NodeState
    ) -> None:
        """Begin with what the last run wrote of itself."""
        self.faults: dict[str, str] = {}
        """What sensors told, by their name; see :attr:`sensor_faults`."""
        self.is_full = False
        """Whether the last commit failed for want of room."""
        self.taken = 0
        """Readings that this run has taken."""
        self.receipt_ms = old.receipt_ms
        self._outbox = outbox
        self._publisher = publisher
        self._samplers = samplers
        self._keeper = keeper
        self._last_receipt = old.receipt
        self._rate_per_s = sum(1 / sampler.interval_s for sampler in samplers)
        self._rated: tuple[float, int] | None = None

    def count(self, now: float) -> None:
        """Count the rate of readings, over half a minute at least."""
        since, before = self._rated or (now, self.taken)
        self._rated = (since, before)
        if now - since >= RATE_S:
            self._rate_per_s = (self.taken - before) / (now - since)
            self._rated = (now, self.taken)

    @property
    def sensor_faults(self) -> dict[str, str]:
        """What is wrong with which sensor now."""
        hanging = {
            sampler.name: f"no answer for {sampler.hangs_for_s():.0f} s"
            for sampler in self._samplers
            if sampler.hangs_for_s() > max(10.0, 2 * sampler.interval_s)
        }
        return {**self.faults, **hanging}

    @property
    def troubles(self) -> list[str]:
        """What keeps readings from being written or going out, one sentence each."""
        full = ["the outbox cannot be written: the disk is full"] if self.is_full else []
        return [*full, *self._publisher.troubles]

    @property
    def certificates(self) -> list[str]:
        """Which certificates end soon, or have ended, one sentence each."""
        return self._publisher.expiry.warnings(from_ms(self._keeper.source.wall_ms()))

    @property
    def is_moving(self) -> bool:
        """Whether work moves on: some sensor is being read, or waits for its beat."""
        return any(sampler.hangs_for_s() <= HANG_S for sampler in self._samplers)

    @property
    def light(self) -> Light:
        """What the LED shows: first what needs somebody, then what will pass."""
        if self.is_full or self.sensor_faults or self._keeper.is_holding:
            return Light.FAULT
        oldest_ms = self._outbox.oldest()
        is_late = oldest_ms is not None and self._keeper.source.wall_ms() - oldest_ms > LATE_MS
        return Light.BUFFERING if is_late or self.troubles else Light.GOOD

    def in_words(self) -> str:
        """Return it in one line."""
        return f"{self._outbox.waiting} readings wait; {'; '.join(self.troubles) or 'connected'}"

    def health(self) -> Health:
        """Return the health message."""
        outbox, now_ms = self._outbox, self._keeper.source.wall_ms()
        oldest_ms = outbox.oldest()
        return Health(
            epoch=outbox.current.name,
            floor=outbox.floor(outbox.current),
            time=format_time(from_ms(now_ms)),
            outbox_depth=outbox.waiting,
            oldest_age_s=None if oldest_ms is None else round((now_ms - oldest_ms) / 1000, 3),
            hours_until_full=hours_until_full(outbox.max_readings - outbox.waiting, self._rate_per_s),
            lost=outbox.losses.count,
            reconnects=self._publisher.presence.reconnects,
            sensor_faults=self.sensor_faults,
            clock=self._keeper.state,
            disk_free_bytes=disk_free_bytes(outbox.path),
            cpu_temperature=cpu_temperature(),
            troubles=self.troubles,
            certificates=self.certificates,
        )

    def state(
        self, *, interval_s: float | None, quantities: dict[str, list[str]], announced: Sequence[str]
    ) -> NodeState:
        """Return what ``status`` and the next run want to know."""
        return NodeState(
            time_ms=self._keeper.source.wall_ms(),
            is_connected=self._publisher.presence.is_connected,
            bridge_online=self._publisher.bridge_is_online,
            troubles=self.troubles,
            sensor_faults=self.sensor_faults,
            certificates=self.certificates,
            clock=self._keeper.state,
            rate_per_s=round(self._rate_per_s, 6),
            store=self._publisher.receipts.store,
            receipt=self._publisher.receipts.last or self._last_receipt,
            receipt_ms=self.receipt_ms,
            reconnects=self._publisher.presence.reconnects,
            interval=interval_s,
            quantities=quantities,
            announced=list(announced),
        )
