"""How the texts of settings become values; a text that is not allowed is a ValueError."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from mqtt_client.errors import InvalidReading
from mqtt_client.reading import check_quantity
from mqtt_client.topics import is_name, is_node_name

T = TypeVar("T")


class Secret:
    """A text that never shows itself: not in a repr, a log line or a traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself, for the one call that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers from low to high, both included."""

    def parse(text: str) -> float:
        value = float(text.replace(",", ".") if text.count(",") == 1 else text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from low to high, both included."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser of one of these words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError
        return text.lower()

    return parse


def on_off(text: str) -> bool:
    """Parse on or off, and what people write for them."""
    words = {
        "on": True,
        "true": True,
        "yes": True,
        "1": True,
        "off": False,
        "false": False,
        "no": False,
        "0": False,
    }
    if text.lower() not in words:
        raise ValueError
    return words[text.lower()]


def name(text: str) -> str:
    """Parse a name of a bridge or group."""
    if not is_name(text):
        raise ValueError
    return text


def node_name(text: str) -> str:
    """Parse the name of a node."""
    if not is_node_name(text):
        raise ValueError
    return text


def topic_prefix(text: str) -> str:
    """Parse a topic prefix: one or more levels, no wildcard, not of the broker's own."""
    if text.startswith(("/", "$")) or text.endswith("/") or any(sign in text for sign in "+#\0 "):
        raise ValueError
    return text


def text(text: str) -> str:
    """Take any text."""
    return text


def optional(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """Return a parser that also takes nothing at all."""
    return lambda text: parse(text) if text else None


def by_quantity(text: str) -> dict[str, float]:
    """Parse ``temperature:0.1,humidity:1`` into a mapping of quantities to finite numbers."""
    pairs: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        quantity, separator, value = item.partition(":")
        if not separator:
            raise ValueError
        try:
            check_quantity(quantity.strip())
        except InvalidReading as exc:
            raise ValueError(str(exc)) from exc
        pairs[quantity.strip()] = number(-1e9, 1e9)(value)
    return pairs


def tolerance_by_quantity(text: str) -> dict[str, float]:
    """Parse like :func:`by_quantity`, numbers from 0 on."""
    pairs = by_quantity(text)
    if any(value < 0 for value in pairs.values()):
        raise ValueError
    return pairs


@dataclass(frozen=True)
class SensorSpec:
    """One entry of NODE_SENSORS: ``name=driver[:argument]``."""

    name: str
    driver: str
    argument: str


def sensor_specs(text: str) -> tuple[SensorSpec, ...]:
    """Parse NODE_SENSORS; a comma that no ``name=driver`` follows belongs to the argument before it.

    An argument of ``mcp3008`` holds commas and equal signs of its own
    (``temperature=0/tmp36,humidity=1/hih4030``): there, what follows the
    equal sign begins with a channel's digit, which no driver's name does.
    """
    entries: list[str] = []
    for part in text.split(","):
        _, separator, driver = part.partition("=")
        if entries and not (separator and driver.strip()[:1].isalpha()):
            entries[-1] += "," + part
        else:
            entries.append(part)
    specs: list[SensorSpec] = []
    for entry in entries:
        sensor, separator, rest = entry.partition("=")
        driver, _, argument = rest.partition(":")
        if not separator or not is_name(sensor.strip()) or not driver.strip():
            raise ValueError(f"{entry.strip()!r} is not name=driver[:argument]")
        specs.append(SensorSpec(sensor.strip(), driver.strip(), argument.strip()))
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise ValueError("two sensors have one name")
    return tuple(specs)


def time_zone(text: str) -> ZoneInfo:
    """Parse a time zone's name, such as Europe/Paris; nothing means the system's."""
    if text:
        try:
            return ZoneInfo(text)
        except (KeyError, OSError, ValueError) as exc:
            raise ValueError from exc
    return system_time_zone()


def system_time_zone() -> ZoneInfo:
    """Return the system's time zone (TZ, else /etc/localtime, else /etc/timezone), UTC where none can be named."""
    candidates = [os.environ.get("TZ", "").removeprefix(":")]
    try:
        candidates.append(os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2])
        candidates.append(Path("/etc/timezone").read_text(encoding="utf-8").strip())
    except OSError:
        pass
    for candidate in filter(None, candidates):
        try:
            return ZoneInfo(candidate)
        except (KeyError, OSError, ValueError):
            continue
    return ZoneInfo("UTC")


def path(text: str) -> Path:
    """Take a path, ``~`` for the home folder."""
    return Path(text).expanduser()


def existing_file(text: str) -> Path:
    """Take the path of a file that can be read."""
    found = path(text)
    with found.open("rb"):
        return found


def host_name() -> str:
    """Return this machine's name without its domain, with what a node's name does not allow replaced by ``-``."""
    bare = platform.node().partition(".")[0]
    return "".join(sign if is_name(sign) else "-" for sign in bare)[:64] or "node"
