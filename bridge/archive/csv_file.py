"""Archives as CSV, written and read back.

``standard`` is RFC 4180 with commas and a decimal point; ``excel-fr`` is what
Excel opens by double click in a French locale: a byte order mark, semicolons
and decimal commas. Text that a spreadsheet would take for a formula (a node
may be named ``-1+2``) gets an apostrophe in front, which reading takes off.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from zoneinfo import ZoneInfo

from bridge.local_times import LocalTimes
from bridge.store.shelf import Stored

FIRST_QUANTITIES = ("temperature", "humidity")
OTHER_COLUMNS = ("timestamp", "node", "sensor", "id", "time", "clock")
STANDARD, EXCEL_FR = "standard", "excel-fr"

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class NoArchive(ValueError):
    """A CSV file is no archive of ours; its text says why."""


def quantity_columns(quantities: Iterable[str]) -> list[str]:
    """Return the columns of quantities: temperature and humidity always, then the others by name."""
    return [*FIRST_QUANTITIES, *sorted(set(quantities) - set(FIRST_QUANTITIES))]


def safe(text: str) -> str:
    """Return text that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(_FORMULA) else text


def original(text: str) -> str:
    """Undo :func:`safe`."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


class ArchiveCsv:
    """A CSV file being written; nobody sees it under its own name before it is whole."""

    def __init__(self, path: Path, form: str, quantities: Sequence[str], zone: ZoneInfo) -> None:
        excel = form == EXCEL_FR
        self._stream = path.open("w", encoding="utf-8-sig" if excel else "utf-8", newline="")
        self._writer = csv.writer(
            self._stream, delimiter=";" if excel else ",", lineterminator="\r\n" if excel else "\n"
        )
        self._decimal_comma = excel
        self._quantities = quantities
        self._times = LocalTimes(zone)
        self._writer.writerow([*quantities, *OTHER_COLUMNS])

    def write(self, readings: Iterable[Stored]) -> None:
        """Append readings."""
        self._writer.writerows(map(self._row, readings))

    def _row(self, reading: Stored) -> tuple[object, ...]:
        node, sensor, identity, time_ms, clock, values = reading
        numbers: Iterable[object] = map(values.get, self._quantities)
        if self._decimal_comma:
            numbers = ("" if number is None else repr(number).replace(".", ",") for number in numbers)
        times = self._times
        if node[0] == "-" or sensor[0] == "-":
            node, sensor, identity = safe(node), safe(sensor), safe(identity)
        return (*numbers, times.script(time_ms), node, sensor, identity, times.rfc3339(time_ms), clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def dialect(path: Path) -> tuple[str, list[str]]:
    """Return an archive's delimiter and its columns.

    Raises:
        NoArchive: the file has not our columns.
        OSError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = stream.readline(10_000).rstrip("\r\n")
    except UnicodeDecodeError as exc:
        raise NoArchive("it is not UTF-8") from exc
    for delimiter in (",", ";"):
        columns = header.split(delimiter)
        if "timestamp" in columns:
            return delimiter, columns
    raise NoArchive("it has no column timestamp")


def form_of(path: Path) -> str:
    """Return in which form an archive was written.

    Raises:
        NoArchive: the file has not our columns.
        OSError: it cannot be read.
    """
    return EXCEL_FR if dialect(path)[0] == ";" else STANDARD


def identities(path: Path) -> Iterator[tuple[str, str, int, str]]:
    """Read node, epoch, sequence number and time of each reading in an archive.

    Raises:
        NoArchive: the file, or a line of it, is not ours.
        OSError: it cannot be read.
    """
    delimiter, columns = dialect(path)
    if "id" not in columns:
        raise NoArchive("it has no column id")
    node_at, id_at, time_at = (columns.index(name) for name in ("node", "id", "time"))
    with path.open(encoding="utf-8-sig", newline="") as stream:
        try:
            rows = csv.reader(stream, delimiter=delimiter)
            next(rows)
            for row in rows:
                node, identity = original(row[node_at]), original(row[id_at])
                epoch, separator, seq = identity.removeprefix(f"{node}-").rpartition("-")
                if not separator or not identity.startswith(f"{node}-"):
                    raise NoArchive(f"line {rows.line_num}: {identity[:80]!r} is no id of {node[:64]!r}")
                yield node, epoch, int(seq), row[time_at]
        except (IndexError, ValueError, csv.Error) as exc:
            raise exc if isinstance(exc, NoArchive) else NoArchive(f"line {rows.line_num}: {exc}") from exc
