"""The state of each alarm: nothing, about to be one, raised; and what became of it.

A bound that is passed begins the rule's delay; still beyond when the delay is
over, the alarm is raised; back by the hysteresis, it is cleared. What changes
is collected until it was saved, so a store that is full loses no event.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bridge.alarms.board import CLEARED, RAISED, Alarm, Event, Key

DELAY_KEPT_MS = 10_000
"""A delay that lasts longer is kept in the store; a shorter one begins again after a restart."""


@dataclass(frozen=True)
class Case:
    """What one rule watches at one place."""

    rule: str
    severity: str
    node: str = ""
    what: str = ""
    sensor: str | None = None
    quantity: str | None = None
    delay_ms: int = 0

    @property
    def key(self) -> Key:
        """What its alarm is known by."""
        return Key(self.rule, self.node, self.what)


@dataclass(frozen=True)
class Sight:
    """How something is at one moment, and how it is said."""

    at_ms: int
    beyond: bool
    back: bool
    """Neither beyond nor back: between the bound and its hysteresis."""
    text: str
    value: float | None = None
    since_ms: int | None = None
    """When it began to be so, where that is known."""


@dataclass(frozen=True)
class Changes:
    """What has to be saved."""

    changed: list[Alarm]
    removed: list[Key]
    events: list[Event]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed or self.events)


class Watch:
    """All alarms of the bridge; for one thread."""

    def __init__(self, kept: Iterable[Alarm]) -> None:
        self._alarms = {alarm.key: alarm for alarm in kept}
        self._in_store = dict(self._alarms)
        self._events: list[Event] = []

    def see(self, case: Case, sight: Sight, *, may_begin: bool = True) -> None:
        """Take in how something is; with may_begin false it can end an alarm or its delay, and begin none."""
        alarm = self._alarms.get(case.key)
        if alarm is None:
            if sight.beyond and may_begin:
                self._begin(case, sight)
        elif alarm.raised_ms is not None:
            if sight.back:
                self._clear(alarm, sight)
        elif not sight.beyond:
            del self._alarms[alarm.key]
        elif may_begin and sight.at_ms - alarm.since_ms >= case.delay_ms:
            self._raise(alarm, sight)

    def needs(self, key: Key) -> bool:
        """Tell whether an alarm, or its delay, has begun."""
        return key in self._alarms

    def end(self, key: Key, at_ms: int, text: str) -> None:
        """End an alarm of which nobody will say any more how it is."""
        alarm = self._alarms.get(key)
        if alarm is not None and alarm.raised_ms is not None:
            self._clear(alarm, Sight(at_ms, beyond=False, back=True, text=text))
        elif alarm is not None:
            del self._alarms[key]

    @property
    def alarms(self) -> list[Alarm]:
        """All alarms, also those whose delay is not over."""
        return list(self._alarms.values())

    def raised(self) -> dict[str, list[Alarm]]:
        """Return what is raised, by node, in the order in which it was."""
        found: dict[str, list[Alarm]] = {}
        for alarm in sorted(self._alarms.values(), key=lambda alarm: (alarm.raised_ms or 0, alarm.key)):
            if alarm.raised_ms is not None:
                found.setdefault(alarm.node, []).append(alarm)
        return found

    def changes(self, now_ms: int) -> Changes:
        """Return what the store does not have yet."""
        worth = {
            key: alarm
            for key, alarm in self._alarms.items()
            if alarm.raised_ms is not None or key in self._in_store or now_ms - alarm.since_ms >= DELAY_KEPT_MS
        }
        changed = [alarm for key, alarm in worth.items() if self._in_store.get(key) != alarm]
        return Changes(changed, [key for key in self._in_store if key not in worth], list(self._events))

    def saved(self, changes: Changes) -> None:
        """Note that the store has them."""
        for key in changes.removed:
            del self._in_store[key]
        self._in_store |= {alarm.key: alarm for alarm in changes.changed}
        del self._events[: len(changes.events)]

    def _begin(self, case: Case, sight: Sight) -> None:
        since_ms = sight.at_ms if sight.since_ms is None else sight.since_ms
        alarm = Alarm(
            case.rule,
            case.node,
            case.what,
            case.severity,
            case.sensor,
            case.quantity,
            since_ms,
            None,
            sight.value,
            sight.text,
        )
        self._alarms[alarm.key] = alarm
        if not case.delay_ms:
            self._raise(alarm, sight)

    def _raise(self, alarm: Alarm, sight: Sight) -> None:
        alarm = replace(alarm, raised_ms=sight.at_ms, value=sight.value, text=sight.text)
        self._alarms[alarm.key] = alarm
        self._note(alarm, RAISED, sight)

    def _clear(self, alarm: Alarm, sight: Sight) -> None:
        del self._alarms[alarm.key]
        self._note(alarm, CLEARED, sight)

    def _note(self, alarm: Alarm, event: str, sight: Sight) -> None:
        self._events.append(
            Event(
                sight.at_ms,
                event,
                alarm.rule,
                alarm.node,
                alarm.what,
                alarm.severity,
                alarm.sensor,
                alarm.quantity,
                sight.value,
                sight.text,
            )
        )
