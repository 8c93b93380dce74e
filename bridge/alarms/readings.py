"""Rules about quantities, judged by each reading that arrives; no crossing between two looks is missed.

Current is a reading that was measured within the last minute: only such a one
begins an alarm. What comes later (a backlog of yesterday) can end one, where
it was measured after it began, and begins none. A node whose clock is wrong
and known to be so is judged by the newest of its readings at each look, at
the time at which that was received.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bridge.alarms.arrivals import Arrival
from bridge.alarms.board import Event
from bridge.alarms.rules import Kind, Rule
from bridge.alarms.watch import Case, Sight, Watch
from bridge.alarms.words import Words

CURRENT_MS = 60_000


@dataclass
class _Line:
    """One quantity of one sensor."""

    cases: list[tuple[Rule, Case]]
    place: str
    last_ms: int = -1 << 62
    """When the newest reading was measured that was judged; older ones change nothing."""


class QuantityRules:
    """The rules about quantities, and the lines that they watch."""

    def __init__(self, rules: Iterable[Rule], watch: Watch, words: Words, events: Iterable[Event]) -> None:
        self._by_quantity: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.kind is Kind.QUANTITY:
                self._by_quantity.setdefault(rule.quantity, []).append(rule)
        self._watch = watch
        self._words = words
        self._lines: dict[tuple[str, str, str], _Line] = {}
        self._told_ms: dict[tuple[str, str], int] = {}
        """By (node, what): when something was last told of a line, before this start."""
        told = [(event.node, event.what, event.at_ms) for event in events]
        told += [(alarm.node, alarm.what, alarm.raised_ms or alarm.since_ms) for alarm in watch.alarms]
        for node, what, at_ms in told:
            self._told_ms[node, what] = max(at_ms, self._told_ms.get((node, what), at_ms))

    def __bool__(self) -> bool:
        return bool(self._by_quantity)

    def oldest_ms(self, now_ms: int) -> int:
        """Return the time before which no reading can change anything."""
        begun = [alarm.since_ms for alarm in self._watch.alarms if alarm.quantity]
        return min([now_ms - CURRENT_MS, *begun])

    def judge(self, arrivals: Iterable[Arrival], now_ms: int) -> None:
        """Judge readings in the order in which they were committed."""
        put_off: dict[tuple[str, str], Arrival] = {}
        for arrival in arrivals:
            age_ms = now_ms - arrival.time_ms
            if -CURRENT_MS <= age_ms <= CURRENT_MS:
                self._judge(arrival, arrival.time_ms, may_begin=True)
            elif arrival.unsynced:
                put_off[arrival.node, arrival.sensor] = arrival
            elif age_ms > 0:
                self._judge(arrival, arrival.time_ms, may_begin=False)
        for arrival in put_off.values():
            self._judge(arrival, arrival.received_ms, may_begin=now_ms - arrival.received_ms <= CURRENT_MS)

    def _judge(self, arrival: Arrival, at_ms: int, *, may_begin: bool) -> None:
        for quantity, value in arrival.values.items():
            if quantity not in self._by_quantity:
                continue
            line = self._line(arrival.node, arrival.sensor, quantity)
            if at_ms < line.last_ms:
                continue
            line.last_ms = at_ms
            for rule, case in line.cases:
                beyond = rule.is_beyond(value)
                if beyond or self._watch.needs(case.key):
                    text = self._words.value(rule, line.place, value)
                    sight = Sight(at_ms, beyond, rule.is_back(value), text, value)
                    self._watch.see(case, sight, may_begin=may_begin)

    def _line(self, node: str, sensor: str, quantity: str) -> _Line:
        line = self._lines.get((node, sensor, quantity))
        if line is None:
            what = f"{sensor}/{quantity}"
            cases = [
                (rule, Case(rule.name, rule.severity, node, what, sensor, quantity, round(rule.duration_s * 1000)))
                for rule in self._by_quantity[quantity]
                if node in (rule.nodes or (node,)) and sensor in (rule.sensors or (sensor,))
            ]
            place = node if sensor == "main" else f"{node}/{sensor}"
            line = _Line(cases, place, self._told_ms.get((node, what), -1 << 62) + 1)
            self._lines[node, sensor, quantity] = line
        return line
