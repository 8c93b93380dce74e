"""ALARM_RULES: what shall raise an alarm, as a TOML file of ``[[rule]]`` tables.

A rule watches one thing, and which one is said by its key: ``quantity`` (with
``above`` or ``below``), ``no_data_for``, ``lost_within``,
``server_unreachable_for`` or ``disk_free_below``. All faults of a file are
told at once, each with its line.
"""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import TypeVar

from bridge.alarms.lines import Lines
from bridge.durations import ALLOWED_UNITS, parse_duration
from mqtt_client.errors import InvalidReading, SettingsError
from mqtt_client.reading import check_quantity
from mqtt_client.topics import is_name, is_node_name

SEVERITIES = ("info", "warning", "critical")
MAX_BYTES = 1_000_000

T = TypeVar("T")


class Kind(Enum):
    """What a rule watches; the value is the key that says so."""

    QUANTITY = "quantity"
    NO_DATA = "no_data_for"
    LOSS = "lost_within"
    SERVER = "server_unreachable_for"
    DISK = "disk_free_below"


@dataclass(frozen=True)
class Rule:
    """One rule; of the limits only those of its kind are set."""

    name: str
    kind: Kind
    severity: str = "warning"
    nodes: frozenset[str] = frozenset()
    """Which nodes; empty: all."""
    sensors: frozenset[str] = frozenset()
    """Which of their sensors; empty: all."""
    quantity: str = ""
    above: float | None = None
    below: float | None = None
    hysteresis: float = 0.0
    """How far within the bound the value must be back for the alarm to end."""
    duration_s: float = 0.0
    """For how long it must last before the alarm is raised; of ``lost_within``, how long it stays."""
    free_bytes: int | None = None
    free_share: float | None = None
    """From 0 to 1."""

    def is_beyond(self, value: float) -> bool:
        """Tell whether a value is out of bounds."""
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)

    def is_back(self, value: float) -> bool:
        """Tell whether a value is far enough within bounds to end an alarm."""
        low_enough = self.above is None or value <= self.above - self.hysteresis
        return low_enough and (self.below is None or value >= self.below + self.hysteresis)


def read_rules(path: Path) -> list[Rule]:
    """Read a file of rules.

    Raises:
        SettingsError: with one line for each fault, which names the file, the line and the rule.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1).decode()
        if len(text) > MAX_BYTES:
            raise SettingsError([f"ALARM_RULES: {str(path)!r} is larger than a megabyte; allowed is a file of rules"])
        document = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as exc:
        raise SettingsError([f"ALARM_RULES: {str(path)!r} is no TOML: {exc}"]) from exc
    except OSError as exc:
        raise SettingsError([f"ALARM_RULES: {str(path)!r} cannot be read: {exc.strerror}"]) from exc
    reader = _Reader(path, Lines(text))
    rules = reader.read(document)
    if reader.faults:
        raise SettingsError(reader.faults)
    return rules


class _Reader:
    """Turns the document into rules, and collects what is wrong with it."""

    def __init__(self, path: Path, lines: Lines) -> None:
        self.faults: list[str] = []
        self._path = path
        self._lines = lines

    def read(self, document: dict[str, object]) -> list[Rule]:
        for key in sorted(document.keys() - {"rule"}):
            self._fault(self._lines.of_key(key), f"{key!r} is not known; allowed are tables [[rule]]")
        tables = document.get("rule", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._fault(self._lines.of_key("rule"), "rule is no list of tables; allowed is [[rule]]")
            return []
        rules: list[Rule] = []
        for index, table in enumerate(tables):
            rule = _Table(self, index, table).rule()
            if rule and any(other.name == rule.name for other in rules):
                self.fault_in_rule(index, "name", f"rule {rule.name!r}: another rule has this name; allowed is one")
            elif rule:
                rules.append(rule)
        return rules

    def fault_in_rule(self, index: int, key: str | None, text: str) -> None:
        """Note a fault of a rule, at the line of this key of it."""
        self._fault(self._lines.of_rule(index, key), text)

    def _fault(self, line: int | None, text: str) -> None:
        where = f" line {line}" if line else ""
        self.faults.append(f"ALARM_RULES: {str(self._path)!r}{where}: {text}")


class _Table:
    """One ``[[rule]]``."""

    def __init__(self, reader: _Reader, index: int, table: dict[str, object]) -> None:
        self._reader = reader
        self._index = index
        self._table = table
        self._good = True
        self._label = f"rule {table['name']!r}" if isinstance(table.get("name"), str) else f"rule {index + 1}"

    def rule(self) -> Rule | None:
        """Return the rule, None when there is a fault."""
        name = self._take("name", _name, "1 to 100 printable characters", "")
        if "name" not in self._table:
            self._fault(None, "it has no name; allowed is a name of its own")
        severity = self._take("severity", _one_of_severities, ", ".join(SEVERITIES), "warning")
        kinds = [kind for kind in Kind if kind.value in self._table]
        if len(kinds) != 1:
            listed = ", ".join(kind.value for kind in Kind)
            what = "watches nothing" if not kinds else "watches two things"
            self._fault(kinds[1].value if kinds else None, f"it {what}; allowed is exactly one of {listed}")
            return None
        kind = kinds[0]
        allowed = _KEYS[kind] | {"name", "severity", kind.value}
        for key in self._table.keys() - allowed:
            self._fault(key, f"{key!r} is not known here; allowed are {', '.join(sorted(allowed))}")
        rule = self._of_kind(kind, name, severity)
        return rule if self._good else None

    def _of_kind(self, kind: Kind, name: str, severity: str) -> Rule:
        empty: frozenset[str] = frozenset()
        nodes = self._take("nodes", _names(is_node_name), "a list of nodes' names", empty)
        if kind is Kind.QUANTITY:
            return self._quantity(name, severity, nodes)
        if kind is Kind.DISK:
            unknown: tuple[int | None, float | None] = (None, None)
            free_bytes, free_share = self._take(
                kind.value, _size, "a size or a share such as '2 GB', '500 MB' or '5 %'", unknown
            )
            delay_s = self._duration("for", 0.0)
            return Rule(name, kind, severity, duration_s=delay_s, free_bytes=free_bytes, free_share=free_share)
        return Rule(name, kind, severity, nodes, duration_s=self._duration(kind.value, 0.0))

    def _quantity(self, name: str, severity: str, nodes: frozenset[str]) -> Rule:
        empty: frozenset[str] = frozenset()
        none: float | None = None
        rule = Rule(
            name,
            Kind.QUANTITY,
            severity,
            nodes,
            sensors=self._take("sensors", _names(is_name), "a list of sensors' names", empty),
            quantity=self._take("quantity", _quantity, "a quantity's name such as 'temperature'", ""),
            above=self._take("above", _number, "a finite number", none),
            below=self._take("below", _number, "a finite number", none),
            hysteresis=self._take("hysteresis", _positive, "a finite number from 0 on", 0.0),
            duration_s=self._duration("for", 0.0),
        )
        if "above" not in self._table and "below" not in self._table:
            self._fault("quantity", "it has no bound; allowed are above, below or both")
        elif rule.above is not None and rule.below is not None and rule.above - rule.below < 2 * rule.hysteresis:
            self._fault("above", "above is less than below with twice the hysteresis; no value could end the alarm")
        return rule

    def _duration(self, key: str, default: float) -> float:
        return self._take(key, _seconds, f"a text of a number with {ALLOWED_UNITS}, such as '10 min'", default)

    def _take(self, key: str, parse: Callable[[object], T], allowed: str, default: T) -> T:
        if key not in self._table:
            return default
        try:
            return parse(self._table[key])
        except (ValueError, OverflowError):
            self._fault(key, f"{key} is {self._table[key]!r}; allowed is {allowed}")
            return default

    def _fault(self, key: str | None, text: str) -> None:
        self._good = False
        self._reader.fault_in_rule(self._index, key, f"{self._label}: {text}")


_KEYS = {
    Kind.QUANTITY: {"nodes", "sensors", "above", "below", "hysteresis", "for"},
    Kind.NO_DATA: {"nodes"},
    Kind.LOSS: {"nodes"},
    Kind.SERVER: set[str](),
    Kind.DISK: {"for"},
}
_SIZE = re.compile(r"(\d+(?:[.,]\d+)?)\s*(B|[kKMGT]i?B|%)")
_POWERS = {"B": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _name(value: object) -> str:
    text = _text(value).strip()
    if not 1 <= len(text) <= 100 or not text.isprintable():
        raise ValueError
    return text


def _one_of_severities(value: object) -> str:
    if value not in SEVERITIES:
        raise ValueError
    return str(value)


def _names(is_good: Callable[[str], bool]) -> Callable[[object], frozenset[str]]:
    def parse(value: object) -> frozenset[str]:
        names = value if isinstance(value, list) else [value]
        if not names or not all(is_good(_text(name)) for name in names):
            raise ValueError
        return frozenset(names)

    return parse


def _quantity(value: object) -> str:
    try:
        check_quantity(_text(value))
    except InvalidReading as exc:
        raise ValueError from exc
    return _text(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError
    return float(value)


def _positive(value: object) -> float:
    number = _number(value)
    if number is None or number < 0:
        raise ValueError
    return number


def _seconds(value: object) -> float:
    return parse_duration(_text(value))


def _size(value: object) -> tuple[int | None, float | None]:
    """Parse a size in bytes or a share; units count in thousands, those with an i in 1024."""
    match = _SIZE.fullmatch(_text(value).strip())
    if match is None:
        raise ValueError
    number, unit = float(match[1].replace(",", ".")), match[2]
    if unit == "%":
        if not 0 < number < 100:
            raise ValueError
        return None, number / 100
    return round(number * (1024 if "i" in unit else 1000) ** _POWERS[unit[0].upper()]), None
