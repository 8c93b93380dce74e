"""Exports: what is asked for, from the store and the archives together, as CSV, workbook, JSON or Parquet.

An export appears under its name when it is whole: it is written beside, and a
kill leaves nothing but that. Memory does not grow with its rows.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from bridge.archive import durable
from bridge.archive.csv_file import ArchiveCsv, NoArchive, quantity_columns
from bridge.archive.summary import Summary
from bridge.archive.workbook import ROW_LIMIT, ArchiveWorkbook
from bridge.errors import NotFound
from bridge.export.parquet import ParquetWriter
from bridge.export.reading import PAGE_ROWS, Readings
from bridge.export.selection import Selection
from bridge.export.whereabouts import Gap, Whereabouts
from bridge.export.writers import JsonWriter, Writer
from bridge.settings import BridgeSettings
from bridge.store.database import Store, now_ms
from bridge.store.shelf import Stored
from mqtt_client.errors import PersonNeeded, TryLater
from mqtt_client.reading import from_ms

NODES_AT_ONCE = 500
"""Each node's file of a day is open until the day ends: so many fit into 1,024 open files and 200 MiB."""
FORMATS = ("csv", "xlsx", "parquet", "json")
STANDARD_OUTPUT = Path("/dev/stdout")
NOTHING = "nothing to export: there are no such readings in the store or the archives"

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""


@dataclass(frozen=True)
class Exported:
    """What an export came to."""

    files: list[Path]
    rows: int
    gaps: list[Gap]
    """What could not be read."""


def export(
    settings: BridgeSettings,
    store: Store,
    selection: Selection,
    form: str,
    output: Path,
    *,
    progress: Progress | None = None,
    row_limit: int = ROW_LIMIT,
) -> Exported:
    """Write what is asked for; where a workbook's sheet is full, it goes on in ``NAME_2.xlsx``.

    Args:
        settings: the bridge's; ARCHIVE_CSV says the form of CSV, TIMEZONE the days of Parquet.
        store: open.
        selection: what is asked for.
        form: one of FORMATS.
        output: a file, replaced where it is there; for Parquet a folder, which must be new or empty.
        progress: called as rows are read, and again as they are written.
        row_limit: rows of one workbook.

    Raises:
        NotFound: nothing of what is asked for is there; no file was touched.
        PersonNeeded: the output cannot be used, or pyarrow is missing.
        TryLater: a file cannot be read or written.
    """
    if form == "parquet":
        _check_folder(output)
    with _told(output), store.read() as connection:
        whereabouts = Whereabouts(settings, connection, selection)
        readings = Readings(connection, whereabouts, selection, settings.timezone)
        task = _Export(settings, readings, whereabouts.rows, progress or (lambda _done, _total: None))
        if form == "xlsx":
            files = task.workbooks(output, selection.quantities, row_limit)
        elif form == "parquet":
            files = task.folder(output, selection.quantities)
        else:
            files = task.file(output, form, selection.quantities)
    return Exported(files, task.rows, whereabouts.gaps)


class _Export:
    """One export."""

    def __init__(self, settings: BridgeSettings, readings: Readings, at_most: int, progress: Progress) -> None:
        self._settings = settings
        self._zone = settings.timezone
        self._readings = readings
        self._at_most = at_most
        self._progress = progress
        self.rows = 0

    def file(self, output: Path, form: str, quantities: tuple[str, ...]) -> list[Path]:
        """Write a CSV or JSON file."""
        if form == "csv" and not quantities:
            quantities = tuple(quantity_columns(self._quantities_and_nodes()[0]))
        with _placed(output) as beside:
            writer: Writer = (
                JsonWriter(beside, self._zone)
                if form == "json"
                else ArchiveCsv(beside, self._settings.archive_csv, quantities, self._zone)
            )
            with writer:
                self._write(writer)
        return [output]

    def folder(self, output: Path, quantities: tuple[str, ...]) -> list[Path]:
        """Write Parquet files into a new folder; NODES_AT_ONCE in each reading of it all."""
        beside = output.with_name(f".{output.name}.part")
        shutil.rmtree(beside, ignore_errors=True)
        found, nodes = self._quantities_and_nodes()
        quantities = quantities or tuple(sorted(found))
        names = sorted(nodes)
        beside.mkdir(parents=True)
        try:
            for first in range(0, len(names), NODES_AT_ONCE):
                with ParquetWriter(beside, quantities, self._zone) as writer:
                    self._write(writer, frozenset(names[first : first + NODES_AT_ONCE]))
            if output.exists():
                output.rmdir()
            beside.rename(output)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return [output]

    def workbooks(self, output: Path, quantities: tuple[str, ...], row_limit: int) -> list[Path]:
        """Write as many workbooks as the rows need."""
        summaries = self._summaries(row_limit)
        names = [output, *(output.with_stem(f"{output.stem}_{number}") for number in range(2, len(summaries) + 1))]
        readings = chain.from_iterable(self._readings.pages())
        for name, summary in zip(names, summaries, strict=True):
            with _placed(name) as beside:
                book = ArchiveWorkbook(
                    beside,
                    quantities or quantity_columns(summary.quantities),
                    summary,
                    self._zone,
                    created=from_ms(now_ms()),
                    language=self._settings.ui_language,
                )
                with book:
                    for page in _pages(readings, summary.rows):
                        book.write(page)
                        self._count(len(page))
        return names

    def _summaries(self, row_limit: int) -> list[Summary]:
        """Read everything once, for what stands before and beside the rows of each workbook."""
        readings = chain.from_iterable(self._readings.pages())
        found: list[Summary] = []
        done = 0
        while True:
            summary = Summary(self._zone)
            for page in _pages(readings, row_limit):
                summary.add(page)
                done += len(page)
                self._progress(done, self._at_most)
            if not summary.rows:
                break
            found.append(summary)
        if not found:
            raise NotFound(NOTHING)
        self._at_most = done
        return found

    def _quantities_and_nodes(self) -> tuple[set[str], set[str]]:
        """Read everything once, for the columns and partitions."""
        found: set[str] = set()
        nodes: set[str] = set()
        done = 0
        for page in self._readings.pages():
            found.update(*(reading.values for reading in page))
            nodes.update(reading.node for reading in page)
            done += len(page)
            self._progress(done, self._at_most)
        if not done:
            raise NotFound(NOTHING)
        self._at_most = done
        return found, nodes

    def _write(self, writer: Writer, of_nodes: Collection[str] | None = None) -> None:
        for page in self._readings.pages():
            some = page if of_nodes is None else [reading for reading in page if reading.node in of_nodes]
            writer.write(some)
            self._count(len(some))
        if not self.rows:
            raise NotFound(NOTHING)

    def _count(self, rows: int) -> None:
        self.rows += rows
        self._progress(self.rows, self._at_most)


def _pages(readings: Iterator[Stored], limit: int) -> Iterator[list[Stored]]:
    """Take at most limit readings, in lists of PAGE_ROWS."""
    while page := list(islice(readings, min(limit, PAGE_ROWS))):
        yield page
        limit -= len(page)


@contextmanager
def _placed(output: Path) -> Iterator[Path]:
    """Give a path to write to; what was written there gets its name when the block ends well."""
    if output == STANDARD_OUTPUT:
        yield output
        return
    beside = output.with_name(f".{output.name}.part")
    try:
        yield beside
        durable.sync_file(beside)
        os.replace(beside, output)
        durable.sync_folder(output.parent)
    finally:
        beside.unlink(missing_ok=True)


def _check_folder(output: Path) -> None:
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise PersonNeeded(f"{str(output)!r} is there already; Parquet needs a folder that is new or empty")


@contextmanager
def _told(output: Path) -> Iterator[None]:
    """Turn the system's errors, and those of files that are no archives, into one line."""
    try:
        yield
    except (TryLater, PersonNeeded, BrokenPipeError):
        raise
    except NoArchive as exc:
        raise TryLater(f"cannot export: {exc}") from exc
    except OSError as exc:
        where = f" ({str(exc.filename)!r})" if exc.filename else ""
        raise TryLater(f"cannot export to {str(output)!r}: {exc.strerror}{where}") from exc
