"""Takes over the file of unsent readings that the old script left behind.

That is a JSON list of ``{"temperature": 22.0, "humidity": 50.0, "timestamp":
"[24/Nov/2026 20:31:05]"}``, local time; a list inside an object, and one object
a line, are read as well. Each entry is known by its timestamp, its values and
its occurrence among equal ones, and that knowledge is committed with the
reading: run twice or killed in the middle, every entry enters once.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from mqtt_client.errors import InvalidReading, PersonNeeded, StorageFull
from mqtt_client.outbox.epoch import Draft
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.reading import RESERVED_QUANTITIES, check_quantity, check_values, to_ms

SENSOR = "main"
SENT_FLAGS = ("envoye", "envoyé", "envoyee", "envoyée", "sent", "uploaded")
TIMES = ("timestamp", "time", "horodatage", "date")
FRENCH = {"température": "temperature", "humidité": "humidity", "humidite": "humidity", "pression": "pressure"}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
SCRIPT_TIME = re.compile(r"(\d{1,2})/([A-Za-z]{3}|\d{1,2})/(\d{4})[ :](\d{1,2}):(\d{2}):(\d{2})")
AT_ONCE = 500


class Entry(NamedTuple):
    """An unsent reading of the file, and what it is known by."""

    key: bytes
    time_ms: int
    values: dict[str, float]


class Malformed(NamedTuple):
    """An entry that is no reading."""

    position: int
    reason: str


class Outcome(NamedTuple):
    """What became of a file's entries."""

    imported: int
    known: int
    sent: int
    malformed: list[Malformed]


def import_file(path: Path, outbox: Outbox, zone: ZoneInfo) -> Outcome:
    """Take the unsent readings of a file into the outbox, each once for ever.

    Raises:
        PersonNeeded: the file cannot be read, or the outbox has no room for it; nothing was imported.
        StorageFull: the disk is full; what was imported before stays, and is known when it is run again.
    """
    known = sent = imported = 0
    malformed: list[Malformed] = []
    new: list[Entry] = []
    for one in _entries(load_entries(path), zone):
        if isinstance(one, Malformed):
            malformed.append(one)
        elif one is None:
            sent += 1
        elif outbox.is_imported(one.key):
            known += 1
        else:
            new.append(one)
    room = outbox.max_readings - outbox.waiting
    if len(new) > room:
        raise PersonNeeded(
            f"OUTBOX_MAX_READINGS: {path} holds {len(new)} unsent readings, the outbox has room for {room}; "
            "raise it, or let the node send first"
        )
    for start in range(0, len(new), AT_ONCE):
        some = new[start : start + AT_ONCE]
        try:
            outbox.put(
                [Draft(SENSOR, one.values, one.time_ms, 0, "unsynced") for one in some], [one.key for one in some]
            )
        except StorageFull as exc:
            raise StorageFull(f"{exc}; {imported} of {len(new)} readings were imported, run it again") from exc
        imported += len(some)
    return Outcome(imported, known, sent, malformed)


def load_entries(path: Path) -> list[object]:
    """Return the entries of a file, whatever they are.

    Raises:
        PersonNeeded: it cannot be read, or is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise PersonNeeded(f"{path}: cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError as exc:
        raise PersonNeeded(f"{path}: is not UTF-8 text ({exc.reason} at byte {exc.start})") from exc
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        found = _lines(text)
        if found is None:
            raise PersonNeeded(f"{path}: is not JSON ({exc})") from exc
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list)]
        found = lists[0] if len(lists) == 1 else [found]
    if not isinstance(found, list):
        raise PersonNeeded(f"{path}: holds a single {type(found).__name__}; allowed is a list of readings")
    return found


def _lines(text: str) -> list[object] | None:
    """Read one JSON object a line; None where no line is one. A line cut off by a crash is malformed, no more."""
    found: list[object] = []
    objects = 0
    for line in filter(None, (line.strip().rstrip(",") for line in text.splitlines())):
        try:
            one = json.loads(line)
            objects += isinstance(one, dict)
            found.append(one)
        except (ValueError, RecursionError):
            found.append(line)
    return found if objects else None


def _entries(found: list[object], zone: ZoneInfo) -> Iterator[Entry | Malformed | None]:
    """Judge the entries in order; None stands for one that was sent already."""
    seen: dict[str, int] = {}
    for position, one in enumerate(found, start=1):
        try:
            if not isinstance(one, dict):
                raise InvalidReading(f"{str(one)[:60]!r} is not an object")
            given = {str(key).strip().lower(): value for key, value in one.items()}
            stamp = next((given[key] for key in TIMES if given.get(key) not in (None, "")), None)
            values = _values(given)
            time_ms = _time_ms(stamp, zone)
        except InvalidReading as exc:
            yield Malformed(position, str(exc))
            continue
        text = json.dumps([str(stamp).strip(), values], sort_keys=True)
        seen[text] = seen.get(text, 0) + 1
        if any(given.get(flag) in (True, "true", "True", "oui", "yes", "1") for flag in SENT_FLAGS):
            yield None
        else:
            yield Entry(blake2b(f"{seen[text]} {text}".encode(), digest_size=16).digest(), time_ms, values)


def _values(given: dict[str, object]) -> dict[str, float]:
    values: dict[str, float] = {}
    for key, value in given.items():
        quantity = FRENCH.get(key, key)
        if (
            value is None
            or isinstance(value, bool)
            or key in (*SENT_FLAGS, *TIMES)
            or quantity in RESERVED_QUANTITIES
        ):
            continue
        try:
            check_quantity(quantity)
            values[quantity] = float(str(value))
        except (InvalidReading, ValueError) as exc:
            if quantity in ("temperature", "humidity"):
                raise InvalidReading(f"{key} is {value!r}; allowed are finite numbers") from exc
    if not values:
        raise InvalidReading("no values, such as temperature")
    check_values(values)
    return values


def _time_ms(stamp: object, zone: ZoneInfo) -> int:
    try:
        if isinstance(stamp, int | float) and not isinstance(stamp, bool):
            return to_ms(datetime.fromtimestamp(stamp, UTC))
        text = str(stamp).strip().strip("[]").strip()
        match = SCRIPT_TIME.fullmatch(text)
        if match:
            day, month, year, hour, minute, second = match.groups()
            number = int(month) if month.isdigit() else MONTHS.index(month.lower()) + 1
            time = datetime(int(year), number, int(day), int(hour), int(minute), int(second), tzinfo=zone)
        else:
            time = datetime.fromisoformat(text)
            time = time.replace(tzinfo=zone) if time.tzinfo is None else time
        return to_ms(time.astimezone(UTC))
    except (ValueError, OverflowError, OSError) as exc:
        raise InvalidReading(f"timestamp is {stamp!r}; allowed is such as '[24/Nov/2026 20:31:05]'") from exc
