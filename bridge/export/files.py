"""Readings read back from the files of an archive, in the order in which they stand there: by time."""

import csv
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from bridge.archive import workbook
from bridge.archive.csv_file import OTHER_COLUMNS, NoArchive, dialect, original
from bridge.local_times import parse_rfc3339
from bridge.store.shelf import Stored
from mqtt_client.reading import to_ms

TEXTS = ("node", "sensor", "id", "clock")


def readings_of(path: Path, zone: ZoneInfo) -> Iterator[Stored]:
    """Read an archive's CSV file or workbook; zone is that of the workbook's dates.

    Raises:
        NoArchive: the file, or a line of it, is not ours.
        OSError: it cannot be read.
    """
    return _of_workbook(path, zone) if path.suffix.lower() == ".xlsx" else _of_csv(path)


def _of_csv(path: Path) -> Iterator[Stored]:
    delimiter, columns = dialect(path)
    places = _places(columns)
    quantities = [(name, index) for index, name in enumerate(columns) if name not in OTHER_COLUMNS]
    node, sensor, identity, clock, time = (places[name] for name in (*TEXTS, "time"))
    number = float if delimiter == "," else _decimal_comma
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream, delimiter=delimiter)
        next(rows)
        try:
            for row in rows:
                yield Stored(
                    original(row[node]),
                    original(row[sensor]),
                    original(row[identity]),
                    parse_rfc3339(row[time]),
                    row[clock],
                    {name: number(row[index]) for name, index in quantities if row[index]},
                )
        except (IndexError, ValueError, csv.Error) as exc:
            raise NoArchive(f"{path} line {rows.line_num}: {exc}") from exc


def _decimal_comma(text: str) -> float:
    return float(text.replace(",", "."))


def _of_workbook(path: Path, zone: ZoneInfo) -> Iterator[Stored]:
    rows = workbook.rows_of(path)
    columns = [str(cell) for cell in next(rows, ())]
    places = _places(columns)
    quantities = [(name, index) for index, name in enumerate(columns) if name not in OTHER_COLUMNS]
    before_ms = -(1 << 62)
    for number, row in enumerate(rows, 2):
        try:
            before_ms = _time_ms(row[places["time"]], zone, before_ms)
            node, sensor, identity, clock = (str(row[places[name]]) for name in TEXTS)
            values = {name: float(str(row[index])) for name, index in quantities if row[index] is not None}
        except (IndexError, ValueError) as exc:
            raise NoArchive(f"{path} row {number}: {exc}") from exc
        yield Stored(node, sensor, identity, before_ms, clock, values)


def _time_ms(cell: object, zone: ZoneInfo, before_ms: int) -> int:
    """Read a date of the zone's clocks; of an hour that they show twice, the one that is not before the last row."""
    if not isinstance(cell, datetime):
        return parse_rfc3339(str(cell))
    local = (cell + timedelta(microseconds=500)).replace(tzinfo=zone)
    first_ms = to_ms(local)
    return first_ms if first_ms >= before_ms else to_ms(local.replace(fold=1))


def _places(columns: list[str]) -> dict[str, int]:
    missing = [name for name in (*TEXTS, "time") if name not in columns]
    if missing:
        raise NoArchive(f"it has no column {missing[0]}")
    return {name: columns.index(name) for name in (*TEXTS, "time")}
