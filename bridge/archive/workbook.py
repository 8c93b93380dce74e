"""Archives as Excel workbooks, written in constant memory and read back.

XlsxWriter makes the whole workbook (formats, frozen header, filter, summary
and chart) with one sample row; the rows themselves are that sample row over
and over, streamed into the sheet's XML (ECMA-376 part 1, §18.3.1.73) on its
way into the file. Cell by cell through the library, 200,000 rows take three
times as long. Text is always an inline string, so it never is a formula.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from io import BytesIO
from math import ceil, floor
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo
from zoneinfo import ZoneInfo

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.utility import xl_col_to_name
from xlsxwriter.worksheet import Worksheet

from bridge.archive.csv_file import OTHER_COLUMNS, NoArchive
from bridge.archive.summary import Day, Summary
from bridge.local_times import EXCEL_FIRST_DAY, LocalTimes, day_date
from bridge.store.shelf import Stored
from mqtt_client.reading import UNITS

log = logging.getLogger("archive")

ROW_LIMIT = 1_048_575
"""Rows of a sheet beside its header."""
MOST_QUANTITIES = 1000
"""Quantities that a workbook shows: a sheet has 16,384 columns, the summary four for each. The CSV file has all."""
CHART_NODES = 50
FEW_DAYS = 40
"""Below this many days each is marked on the chart's lines."""
CELL_BYTES = 80
"""What a cell takes in the sheet's XML, at most as a rule."""
MAX_PLAIN_BYTES = 2**31 - 1
"""A part of the file beyond this needs ZIP64, about which Excel asks; so only then."""

NUMBER_FORMAT = "0.0##"
DATE_FORMAT = "yyyy-mm-dd hh:mm:ss.000"
WIDTHS = {"timestamp": 23, "node": 16, "sensor": 12, "id": 30, "time": 24, "clock": 11}
QUANTITY_WIDTH = 12

WORDS = {
    "en": {
        "readings": "readings",
        "summary": "summary",
        "chart": "daily means",
        "node": "node",
        "day": "day",
        "gaps": "gaps",
    }
    | {"count": "count", "min": "min", "mean": "mean", "max": "max", "title": "Daily mean by node"},
    "fr": {
        "readings": "relevés",
        "summary": "résumé",
        "chart": "moyennes",
        "node": "nœud",
        "day": "jour",
        "gaps": "trous",
    }
    | {"count": "nombre", "min": "min", "mean": "moyenne", "max": "max", "title": "Moyenne par jour et par nœud"},
}

SHEET = "xl/worksheets/sheet1.xml"
_DIMENSION = re.compile(rb'<dimension ref="[^"]*"/>')
_SAMPLE = re.compile(rb'<row r="2".*?</row>', re.DOTALL)


class ArchiveWorkbook:
    """A workbook being written; nobody sees it under its own name before it is whole."""

    def __init__(
        self,
        path: Path,
        quantities: Sequence[str],
        summary: Summary,
        zone: ZoneInfo,
        *,
        created: datetime,
        language: str = "en",
    ) -> None:
        """Begin the file.

        Args:
            path: where.
            quantities: columns of quantities, in order; it shows MOST_QUANTITIES of them.
            summary: of exactly the readings that will be written.
            zone: of the dates.
            created: goes into the document's properties; the same readings and time make the same bytes.
            language: of the sheets' names, the summary and the chart.
        """
        if len(quantities) > MOST_QUANTITIES:
            log.warning(
                "there are %d quantities; the workbook shows the first %d, the CSV file all",
                len(quantities),
                MOST_QUANTITIES,
            )
        self._quantities = quantities = quantities[:MOST_QUANTITIES]
        self._columns = [xl_col_to_name(index) for index in range(len(quantities) + len(OTHER_COLUMNS))]
        self._times = LocalTimes(zone)
        self._row = 2
        self._sheet: IO[bytes] = BytesIO()
        frame = _frame(quantities, summary, created.replace(tzinfo=None), WORDS[language])
        self._file = ZipFile(path, "w", ZIP_DEFLATED, compresslevel=1)
        try:
            with ZipFile(BytesIO(frame)) as parts:
                self._begin(parts, summary.rows)
        except OSError:
            self._give_up()
            raise

    def _begin(self, parts: ZipFile, rows: int) -> None:
        """Take over all parts of the frame, and of the first sheet what comes before its rows."""
        for info in parts.infolist():
            if info.filename != SHEET:
                self._file.writestr(_same(info), parts.read(info))
        head, sample, self._tail = _split(parts.read(SHEET))
        self._number_style, self._date_style = _style(sample, self._columns[0]), _style(sample, self._columns[-2])
        large = rows * len(self._columns) * CELL_BYTES > MAX_PLAIN_BYTES
        self._sheet = self._file.open(SHEET, "w", force_zip64=large)
        whole = f'<dimension ref="A1:{self._columns[-1]}{rows + 1}"/>'
        self._sheet.write(_DIMENSION.sub(whole.encode(), head))

    def write(self, readings: Iterable[Stored]) -> None:
        """Append readings."""
        self._sheet.write("".join(map(self._row_xml, readings)).encode())

    def _row_xml(self, reading: Stored) -> str:
        node, sensor, identity, time_ms, clock, values = reading
        row, style = self._row, self._number_style
        self._row += 1
        numbers = [
            f'<c r="{column}{row}" s="{style}"><v>{values[quantity]!r}</v></c>'
            for column, quantity in zip(self._columns, self._quantities, strict=False)
            if quantity in values
        ]
        timestamp, node_at, sensor_at, id_at, time_at, clock_at = self._columns[-6:]
        date = self._times.excel(time_ms)
        if date is None:
            time = _text(time_at, row, self._times.rfc3339(time_ms))
        else:
            time = f'<c r="{time_at}{row}" s="{self._date_style}"><v>{date!r}</v></c>'
        return (
            f'<row r="{row}">{"".join(numbers)}'
            f"{_text(timestamp, row, self._times.script(time_ms))}{_text(node_at, row, node)}"
            f"{_text(sensor_at, row, sensor)}{_text(id_at, row, identity)}{time}{_text(clock_at, row, clock)}</row>"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._give_up()
            return
        try:
            self._sheet.write(self._tail)
            self._sheet.close()
            self._file.close()
        except OSError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Close an unfinished file, whatever that says: the disk may be full."""
        with suppress(OSError, ValueError):
            self._sheet.close()
        with suppress(OSError, ValueError):
            self._file.close()


def _text(column: str, row: int, text: str) -> str:
    if "&" in text or "<" in text or ">" in text:
        text = escape(text)
    return f'<c r="{column}{row}" t="inlineStr"><is><t>{text}</t></is></c>'


def _same(info: ZipInfo) -> ZipInfo:
    """Return a new entry with the same name and time."""
    entry = ZipInfo(info.filename, info.date_time)
    entry.compress_type = ZIP_DEFLATED
    return entry


def _split(sheet: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what comes before the sample row, the sample row, and what comes after it."""
    sample = _SAMPLE.search(sheet)
    assert sample, "XlsxWriter writes the sample row"
    return sheet[: sample.start()], sample[0], sheet[sample.end() :]


def _style(sample: bytes, column: str) -> int:
    """Return the number of the format that the sample row has in this column."""
    found = re.search(rb'<c r="%s2" s="(\d+)"' % column.encode(), sample)
    assert found, "the sample row has a format in this column"
    return int(found[1])


def _frame(quantities: Sequence[str], summary: Summary, created: datetime, words: dict[str, str]) -> bytes:
    """Return the workbook with a header and one sample row in its first sheet."""
    target = BytesIO()
    with xlsxwriter.Workbook(target, {"in_memory": True}) as book:
        book.set_properties({"created": created})
        header = book.add_format({"bold": True, "bottom": 1})
        number = book.add_format({"num_format": NUMBER_FORMAT})
        date = book.add_format({"num_format": DATE_FORMAT})
        sheet = book.add_worksheet(words["readings"])
        columns = [*quantities, *OTHER_COLUMNS]
        for index, column in enumerate(columns):
            sheet.write_string(0, index, column, header)
            sheet.set_column(index, index, WIDTHS.get(column, max(QUANTITY_WIDTH, len(column) + 3)))
        for index in range(len(quantities)):
            sheet.write_number(1, index, 0, number)
        sheet.write_number(1, columns.index("time"), 0, date)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, summary.rows, len(columns) - 1)
        _write_summary(book, book.add_worksheet(words["summary"]), quantities, summary, words, header, number)
    return target.getvalue()


def _write_summary(
    book: xlsxwriter.Workbook,
    sheet: Worksheet,
    quantities: Sequence[str],
    summary: Summary,
    words: dict[str, str],
    header: Format,
    number: Format,
) -> None:
    """Write a row for each node and day, and charts of the daily means."""
    titles = [words["node"], words["day"], words["readings"], words["gaps"]]
    titles += [f"{quantity} {words[figure]}" for quantity in quantities for figure in ("count", "min", "mean", "max")]
    day_format = book.add_format({"num_format": "yyyy-mm-dd"})
    for column, title in enumerate(titles):
        sheet.write_string(0, column, title, header)
        sheet.set_column(column, column, max(QUANTITY_WIDTH, len(title) + 3))
    sheet.freeze_panes(1, 2)
    days, gaps = summary.days[:ROW_LIMIT], summary.gaps()
    sheet.autofilter(0, 0, len(days), len(titles) - 1)
    for row, day in enumerate(days, 1):
        sheet.write_string(row, 0, day.node)
        _write_day(sheet, row, day.day, day_format)
        sheet.write_number(row, 2, day.readings)
        sheet.write_number(row, 3, gaps[day.node, day.day])
        for index, quantity in enumerate(quantities):
            spread = day.spreads.get(quantity)
            for offset, figure in enumerate((spread.low, spread.mean, spread.high) if spread else ()):
                sheet.write_number(row, 5 + 4 * index + offset, figure, number)
            sheet.write_number(row, 4 + 4 * index, spread.count if spread else 0)
    _draw_means(book, sheet, quantities, days, words, day_format, len(titles) + 1)


def _write_day(sheet: Worksheet, row: int, day: int, day_format: Format) -> None:
    if day >= EXCEL_FIRST_DAY:
        sheet.write_number(row, 1, day, day_format)
    else:
        sheet.write_string(row, 1, day_date(day))


def _draw_means(
    book: xlsxwriter.Workbook,
    sheet: Worksheet,
    quantities: Sequence[str],
    days: Sequence[Day],
    words: dict[str, str],
    day_format: Format,
    column: int,
) -> None:
    """Put a line chart for each quantity on the sheet, from this column on, over tables in a sheet of their own."""
    table = book.add_worksheet(words["chart"])
    first = 0
    for place, quantity in enumerate(quantities):
        shown = [day for day in days if quantity in day.spreads and day.day >= EXCEL_FIRST_DAY]
        nodes = sorted({day.node for day in shown})[:CHART_NODES]
        dates = sorted({day.day for day in shown})
        if not nodes:
            continue
        _write_means(table, first, quantity, shown, nodes, dates, day_format)
        chart = book.add_chart({"type": "line"})
        for index in range(first + 1, first + 1 + len(nodes)):
            chart.add_series(
                {
                    "name": [words["chart"], 0, index],
                    "categories": [words["chart"], 1, first, len(dates), first],
                    "values": [words["chart"], 1, index, len(dates), index],
                    "marker": {"type": "circle", "size": 4} if len(dates) < FEW_DAYS else {"type": "none"},
                    "line": {"width": 1.75},
                }
            )
        unit = UNITS.get(quantity)
        chart.set_title({"name": f"{words['title']}: {quantity}", "name_font": {"size": 12}})
        chart.set_x_axis({"date_axis": True, "num_format": "yyyy-mm-dd", "major_gridlines": {"visible": False}})
        means = [day.spreads[quantity].mean for day in shown]
        low, high = floor(min(means)), ceil(max(means))
        bounds = {"min": low, "max": high} if low < high else {}  # else Excel begins at 0
        chart.set_y_axis({"name": f"{quantity} ({unit})" if unit else quantity} | bounds)
        chart.set_size({"width": 760, "height": 340})
        sheet.insert_chart(1 + 18 * place, column, chart)
        first += len(nodes) + 2


def _write_means(
    table: Worksheet,
    first: int,
    quantity: str,
    shown: Sequence[Day],
    nodes: Sequence[str],
    dates: Sequence[int],
    day_format: Format,
) -> None:
    """Write a quantity's daily means, days down and nodes across, from this column on."""
    rows = {date: row for row, date in enumerate(dates, 1)}
    columns = {node: column for column, node in enumerate(nodes, first + 1)}
    table.set_column(first, first, QUANTITY_WIDTH)
    table.write_string(0, first, quantity)
    for date, row in rows.items():
        table.write_number(row, first, date, day_format)
    for node, column in columns.items():
        table.write_string(0, column, node)
    for day in shown:
        if day.node in columns:
            table.write_number(rows[day.day], columns[day.node], day.spreads[quantity].mean)


def rows_of(path: Path) -> Iterator[tuple[object, ...]]:
    """Read the rows of a workbook's first sheet, its header first.

    Raises:
        NoArchive: the file is no workbook.
        OSError: it cannot be read.
    """
    import openpyxl  # heavy, and not needed to write
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException, KeyError, ValueError) as exc:
        raise NoArchive(f"it is no workbook ({exc})") from exc
    with closing(book):
        yield from book.worksheets[0].iter_rows(values_only=True)
