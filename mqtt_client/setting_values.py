"""How the texts of settings become values; a text that is not allowed is a ValueError."""

import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from mqtt_client.errors import InvalidReading
from mqtt_client.reading import check_quantity
from mqtt_client.topics import is_name, is_node_name

T = TypeVar("T")

_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/?#\s:@]*):[^/?#\s@]*@")
_SENSOR = re.compile(r"\s*([A-Za-z0-9_-]{1,64})\s*=\s*([A-Za-z][A-Za-z0-9_-]*)\s*(?::(.*))?", re.DOTALL)


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


def without_password(text: str) -> str:
    """Return text with the password of each address in it, such as ``postgresql://me:***@host``, hidden."""
    return _PASSWORD_IN_URL.sub(r"\1:***@", text)


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers from low to high, both included; a decimal comma is one too."""

    def parse(text: str) -> float:
        return _within(low, high, _converted(float, text.replace(",", ".")))

    return parse


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from low to high, both included."""

    def parse(text: str) -> int:
        return _within(low, high, _converted(int, text))

    return parse


Number = TypeVar("Number", int, float)


def _converted(kind: Callable[[str], Number], text: str) -> Number:
    try:
        return kind(text)
    except ValueError:
        raise ValueError("not a number" if kind is float else "not a whole number") from None


def _within(low: float, high: float, value: Number) -> Number:
    if not low <= value <= high:  # never true of nan
        raise ValueError("out of range")
    return value


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser of one of these words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError
        return text.lower()

    return parse


def on_off(text: str) -> bool:
    """Parse on or off, and what people write for them."""
    if text.lower() in ("on", "true", "yes", "1"):
        return True
    if text.lower() in ("off", "false", "no", "0"):
        return False
    raise ValueError


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


def own_name_or_host(text: str) -> str:
    """Parse the name of this node; nothing means the host's."""
    if text:
        return node_name(text)
    if not is_node_name(host_name()):
        raise ValueError(f"and the host's name {host_name()!r} is reserved")
    return host_name()


def host(text: str) -> str:
    """Parse a host name or an IP address; people also write addresses with a scheme or a port."""
    if "/" in text or text.count(":") == 1 or any(sign.isspace() for sign in text):
        raise ValueError("the port is MQTT_PORT's" if ":" in text else "")
    return text


def topic_prefix(text: str) -> str:
    """Parse a topic prefix: one or more levels, no wildcard, not of the broker's own."""
    signs_are_good = text.isprintable() and not any(sign in text for sign in "+# ")
    if text.startswith("$") or not signs_are_good or not all(text.split("/")):
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


class SensorSpec(NamedTuple):
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
    for part in text.removesuffix(",").split(","):
        if entries and not _SENSOR.fullmatch(part):
            entries[-1] += "," + part
        else:
            entries.append(part)
    specs = tuple(_sensor_spec(entry) for entry in entries)
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise ValueError("two sensors have one name")
    return specs


def _sensor_spec(entry: str) -> SensorSpec:
    match = _SENSOR.fullmatch(entry)
    if not match:
        raise ValueError(f"{entry.strip()!r} is not name=driver[:argument]")
    return SensorSpec(match[1], match[2], (match[3] or "").strip())


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
    try:
        return Path(text).expanduser()
    except RuntimeError as exc:
        raise ValueError("there is no such home folder") from exc


def existing_file(text: str) -> Path:
    """Take the path of a file that can be read."""
    found = path(text)
    with found.open("rb"):
        return found


def host_name() -> str:
    """Return this machine's name without its domain, with what a node's name does not allow replaced by ``-``."""
    bare = platform.node().partition(".")[0]
    return "".join(sign if is_name(sign) else "-" for sign in bare)[:64] or "node"
