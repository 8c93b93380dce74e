"""The forms of an export, each written row by row: CSV, workbooks, JSON."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from zoneinfo import ZoneInfo

import msgspec

from bridge.local_times import LocalTimes
from bridge.store.shelf import Stored


class Writer(Protocol):
    """Something that takes readings, page by page, in the order of their times."""

    def write(self, readings: Sequence[Stored]) -> None:
        """Append readings."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, whole or given up."""


class JsonWriter:
    """A JSON array with an object for each reading, one a line: the columns of the archives."""

    def __init__(self, path: Path, zone: ZoneInfo) -> None:
        self._stream = path.open("wb")
        self._times = LocalTimes(zone)
        self._separator = b"[\n"

    def write(self, readings: Iterable[Stored]) -> None:
        """Append readings."""
        for reading in readings:
            document = {
                **reading.values,
                "timestamp": self._times.script(reading.time_ms),
                "node": reading.node,
                "sensor": reading.sensor,
                "id": reading.id,
                "time": self._times.rfc3339(reading.time_ms),
                "clock": reading.clock,
            }
            self._stream.write(self._separator + msgspec.json.encode(document))
            self._separator = b",\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._stream.write(b"\n]\n")
        self._stream.close()
