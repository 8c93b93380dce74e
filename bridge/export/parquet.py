"""Parquet for DuckDB, Spark, Dask and pandas: ``date=2026-11-24/node=kitchen/readings.parquet`` in a folder.

Dates are local days. Rows come sorted by time, so a day's files are closed
when the next day begins; in between at most ROWS_HELD rows are in memory.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

from bridge.local_times import LocalTimes, day_date
from bridge.store.shelf import Stored
from mqtt_client.errors import PersonNeeded

ROWS_HELD = 100_000


class ParquetWriter:
    """A folder of Parquet files being written."""

    def __init__(self, folder: Path, quantities: Sequence[str], zone: ZoneInfo) -> None:
        """Begin in a folder that is there.

        Raises:
            PersonNeeded: pyarrow is not installed.
        """
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as exc:
            raise PersonNeeded("Parquet needs pyarrow: install this project with [bridge,parquet]") from exc
        self._arrow: Any = pyarrow
        self._parquet: Any = parquet
        self._folder = folder
        self._quantities = quantities
        self._times = LocalTimes(zone)
        self._schema = pyarrow.schema(
            [
                ("time", pyarrow.timestamp("ms", "UTC")),
                *((quantity, pyarrow.float64()) for quantity in quantities),
                ("sensor", pyarrow.string()),
                ("id", pyarrow.string()),
                ("clock", pyarrow.string()),
            ]
        )
        self._day: int | None = None
        self._held: dict[str, list[Stored]] = {}
        self._rows = 0
        self._files: dict[str, Any] = {}
        self._open_files = ExitStack()

    def write(self, readings: Iterable[Stored]) -> None:
        """Append readings."""
        for reading in readings:
            day = self._times.day(reading.time_ms)
            if day != self._day:
                self._end_day()
                self._day = day
            self._held.setdefault(reading.node, []).append(reading)
            self._rows += 1
            if self._rows >= ROWS_HELD:
                self._flush()

    def _flush(self) -> None:
        for node, readings in self._held.items():
            columns: list[object] = [
                [reading.time_ms for reading in readings],
                *([reading.values.get(quantity) for reading in readings] for quantity in self._quantities),
                [reading.sensor for reading in readings],
                [reading.id for reading in readings],
                [reading.clock for reading in readings],
            ]
            arrays = [
                self._arrow.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)
            ]
            self._file(node).write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._held.clear()
        self._rows = 0

    def _file(self, node: str) -> Any:
        if node not in self._files:
            assert self._day is not None
            path = self._folder / f"date={day_date(self._day)}" / f"node={node}" / "readings.parquet"
            path.parent.mkdir(parents=True)
            writer = self._parquet.ParquetWriter(path, self._schema, compression="zstd")
            self._files[node] = self._open_files.enter_context(writer)
        return self._files[node]

    def _end_day(self) -> None:
        self._flush()
        self._files.clear()
        self._open_files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._end_day()
        else:
            self._open_files.close()
