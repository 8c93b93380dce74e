"""When the node announces itself to Home Assistant, and what it announced before.

What was announced is kept with the node's state: a sensor that is silent since
the start keeps its place, and one that is gone is taken off, which Home
Assistant does where only ``platform`` is left of a component. With
NODE_DISCOVERY=off a node that announced itself before takes that back, once.
"""

import random
from collections.abc import Iterable, Mapping

import msgspec

from mqtt_client.health import decode_state
from mqtt_client.home_assistant import announcement, diagnostics, named, removed, sensors, topic_of
from mqtt_client.messages import encode
from mqtt_client.outbox.peek import read_state
from mqtt_client.setting_values import SensorSpec
from mqtt_client.settings import NodeSettings

SETTLE_S = 1.0
"""Sensors of one start have all spoken by then, and share an announcement."""
SPREAD_S = 5.0
"""A fleet does not answer Home Assistant's start all at once."""


def key_of(spec: SensorSpec) -> str:
    """Return what tells this sensor from one of the same name that was set up otherwise."""
    return f"{spec.name}={spec.driver}:{spec.argument}"


class Discovery:
    """When to announce the node, and what was announced before."""

    def __init__(self, settings: NodeSettings, known: Mapping[str, Iterable[str]], announced: Iterable[str]) -> None:
        """Begin with what an earlier run knew.

        Args:
            settings: the node's.
            known: quantities seen, by :func:`key_of` their sensor.
            announced: components that Home Assistant may have, as :func:`named`.
        """
        self.topic = topic_of(settings.node_id)
        self.announced = set(announced)
        self.quantities = {spec.name: list(known.get(key_of(spec), ())) for spec in settings.node_sensors}
        self._is_on = settings.node_discovery
        self._births = 0
        self._due_at: float | None = None

    def known(self, settings: NodeSettings) -> dict[str, list[str]]:
        """Return the quantities seen, as the next run wants them."""
        return {key_of(spec): self.quantities[spec.name] for spec in settings.node_sensors}

    def saw(self, sensor: str, quantities: Iterable[str], now: float) -> bool:
        """Note what a sensor measures; say whether it is news."""
        new = [quantity for quantity in quantities if quantity not in self.quantities[sensor]]
        if new:
            self.quantities[sensor] += new
            self.changed(now)
        return bool(new)

    def changed(self, now: float) -> None:
        """Announce again soon."""
        self._due_at = now + SETTLE_S

    def home_assistant_came(self, now: float) -> None:
        """Announce again a little later, so that a fleet does not speak at once."""
        self._due_at = now + random.uniform(0, SPREAD_S)

    def connected(self, births: int, now: float) -> None:
        """Announce again on each new connection: a broker that keeps nothing has forgotten it."""
        if births != self._births:
            self._births = births
            self.changed(now)

    @property
    def deadline(self) -> float | None:
        """When an announcement is due, None when none is."""
        return self._due_at

    def take_message(self, settings: NodeSettings, now: float) -> bytes | None:
        """Return the announcement when it is due, an empty one to take it back, None when there is nothing to say."""
        if self._due_at is None or now < self._due_at:
            return None
        self._due_at = None
        if not self._is_on:
            is_known, self.announced = bool(self.announced), set()
            return b"" if is_known else None
        components = sensors(settings, self.quantities) | diagnostics(settings)
        gone = self.announced.difference(named(components))
        self.announced.update(named(components))
        return encode(announcement(settings, removed(gone) | components))


def preview(settings: NodeSettings) -> str:
    """Return the announcement as JSON for people, with the quantities that the outbox remembers."""
    path = settings.outbox_path
    state = decode_state(read_state(path) if path.exists() else None)
    found = Discovery(settings, state.quantities, ())
    effective = settings.every(state.interval or settings.sample_interval)
    components = sensors(effective, found.quantities) | diagnostics(effective)
    return msgspec.json.format(encode(announcement(effective, components)), indent=2).decode()
