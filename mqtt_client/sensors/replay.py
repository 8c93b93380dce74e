"""Recorded values from a CSV file, taken now: one row a beat, at the end from the start again, or not (``:once``)."""

import csv
from collections.abc import Iterator
from math import isfinite
from pathlib import Path

from mqtt_client.errors import InvalidReading, SensorFailed
from mqtt_client.reading import check_quantity

ONCE = ":once"


class Replay:
    """Plays a file whose header is ``time`` and quantities; empty cells are left out."""

    def __init__(self, argument: str) -> None:
        """Take ``FILE.csv`` or ``FILE.csv:once``; a path is relative to the folder that the node runs in.

        Raises:
            ValueError: no file was given.
        """
        self._once = argument.endswith(ONCE)
        name = argument.removesuffix(ONCE)
        if not name:
            raise ValueError("replay needs a file: replay:FILE.csv or replay:FILE.csv:once")
        self._path = Path(name).expanduser()
        self._rows: Iterator[tuple[int, dict[str, float]]] | None = None

    def open(self) -> None:
        """Check the whole file, then stand before its first row; opened again, it goes on where it was.

        Raises:
            SensorFailed: the file cannot be read; the message names file and line.
        """
        if self._rows is None:
            if not sum(1 for _ in self._parse()):
                raise SensorFailed(f"{self._path}: no rows with values")
            self._rows = self._parse()

    def read(self) -> dict[str, float] | None:
        """Return the next row's values, None after the last one of ``:once``."""
        assert self._rows is not None
        found = next(self._rows, None)
        if found is None and not self._once:
            self._rows = self._parse()
            found = next(self._rows, None)
        return found[1] if found else None

    def close(self) -> None:
        """Keep the place; the file closes with its last row."""

    def _parse(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield line numbers and values of the rows that have any."""
        try:
            with self._path.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.reader(stream)
                quantities = self._header(next(reader, []))
                for cells in reader:
                    values = self._values(quantities, cells, reader.line_num)
                    if values:
                        yield reader.line_num, values
        except (OSError, UnicodeDecodeError, csv.Error) as exc:
            raise SensorFailed(f"{self._path}: {getattr(exc, 'strerror', None) or exc}") from exc

    def _header(self, cells: list[str]) -> list[str | None]:
        names = [cell.strip() for cell in cells]
        if "time" not in names or len(names) < 2:
            raise SensorFailed(f"{self._path}, line 1: no header with time and quantities, such as time,temperature")
        if len(set(names)) < len(names):
            raise SensorFailed(f"{self._path}, line 1: two columns have one name")
        for name in names:
            if name != "time":
                try:
                    check_quantity(name)
                except InvalidReading as exc:
                    raise SensorFailed(f"{self._path}, line 1: {exc}") from exc
        return [None if name == "time" else name for name in names]

    def _values(self, quantities: list[str | None], cells: list[str], line: int) -> dict[str, float]:
        if cells and len(cells) != len(quantities):
            raise SensorFailed(f"{self._path}, line {line}: {len(cells)} cells, but {len(quantities)} columns")
        values: dict[str, float] = {}
        for quantity, cell in zip(quantities, cells, strict=False):
            if quantity is None or not cell.strip():
                continue
            try:
                value = float(cell)
            except ValueError:
                value = float("nan")
            if not isfinite(value):
                raise SensorFailed(f"{self._path}, line {line}: {quantity} is {cell!r}; allowed are finite numbers")
            values[quantity] = value
        return values
