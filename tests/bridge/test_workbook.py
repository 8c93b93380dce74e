"""The workbook and the CSV forms, read back cell by cell."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import openpyxl
import pytest
from openpyxl.worksheet.worksheet import Worksheet

from bridge.archive import csv_file as archive_csv
from bridge.archive.archiver import archive
from bridge.settings import BridgeSettings
from bridge.store.database import Store
from mqtt_client.reading import from_ms
from tests.bridge.archives import csv_rows, sheet_rows
from tests.bridge.conftest import EXAMPLE_TIME_MS, StoredReadings

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def make(bridge_settings: Callable[..., BridgeSettings], tmp_path: Path) -> Callable[..., BridgeSettings]:
    """Make settings with an archive folder."""
    return lambda **more: bridge_settings(**{"ARCHIVE_DIRECTORY": tmp_path / "a", "TIMEZONE": "Europe/Paris"} | more)


def written(settings: BridgeSettings, store: Store) -> tuple[Path, Path]:
    (made,) = archive(settings, store)
    return settings.archive_directory / made.csv_name, settings.archive_directory / made.xlsx_name


def at(text: str) -> datetime:
    """Return a local time, as a date cell has it."""
    return datetime.fromisoformat(text)


def first_sheet(path: Path) -> Worksheet:
    return openpyxl.load_workbook(path).worksheets[0]


def test_every_cell_is_what_the_reading_was(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, values={"temperature": -3.456, "humidity": 48.0, "pressure": 1013.25})

    _, path = written(make(), store)

    assert sheet_rows(path) == [
        {
            "temperature": -3.456,
            "humidity": 48,
            "pressure": 1013.25,
            "timestamp": "[24/Nov/2026 21:31:05]",
            "node": "kitchen",
            "sensor": "main",
            "id": "kitchen-k3f9x2ab-1",
            "time": at("2026-11-24T21:31:05.123"),
            "clock": "synced",
        }
    ]


def test_time_is_a_date_cell_of_the_local_zone_on_both_sides_of_a_change_of_hour(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings
) -> None:
    before_ms = int(datetime(2026, 10, 25, 0, 59, 59, 999000, tzinfo=UTC).timestamp() * 1000)
    stored_readings(store, count=2, time_ms=before_ms, step_ms=HOUR_MS)

    settings = make()
    _, path = written(settings, store)

    cells = [row[6] for row in first_sheet(path).iter_rows(min_row=2)]
    local = [from_ms(before_ms + step).astimezone(settings.timezone).replace(tzinfo=None) for step in (0, HOUR_MS)]
    assert [cell.is_date for cell in cells] == [True, True]
    assert [cell.value for cell in cells] == local


@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00+00:00",
        "1899-12-31T12:00:00+00:00",
        "1900-02-28T12:00:00+00:00",
        "9999-12-31T23:59:59+00:00",
    ],
)
def test_a_date_that_excel_cannot_show_fails_nothing(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings, time: str
) -> None:
    time_ms = (datetime.fromisoformat(time) - from_ms(0)) // timedelta(milliseconds=1)
    stored_readings(store, time_ms=time_ms)

    csv_path, path = written(make(), store)

    shown = sheet_rows(path)[0]["time"]
    assert csv_rows(csv_path)[0]["time"] == time.replace("+00:00", ".000Z")
    assert shown == (at("9999-12-31T23:59:59") if time.startswith("9") else time.replace("+00:00", ".000Z"))


def test_header_is_frozen_and_filtered_and_columns_are_wide_enough(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, "a" * 16, count=3)

    _, path = written(make(), store)

    sheet = first_sheet(path)
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == "A1:H4"
    assert sheet.calculate_dimension() == "A1:H4"
    for column in "CDEFH":
        longest = max(len(str(cell.value)) for cell in sheet[column])
        assert sheet.column_dimensions[column].width >= longest, column
    assert sheet.column_dimensions["G"].width >= len("2026-11-24 21:31:05.123")
    assert sheet["A2"].number_format == "0.0##"
    assert "yyyy" in sheet["G2"].number_format


@pytest.mark.parametrize("node", ["-1", "-1_2", "-cmd"])
def test_text_that_looks_like_a_formula_stays_text_and_comes_back_whole(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings, node: str
) -> None:
    stored_readings(store, node, sensor="-2")

    csv_path, path = written(make(), store)

    row = next(first_sheet(path).iter_rows(min_row=2))
    assert [cell.data_type for cell in row[2:6]] == ["s", "s", "s", "s"]
    assert [cell.value for cell in row[3:6]] == [node, "-2", f"{node}-k3f9x2ab-1"]
    assert [csv_rows(csv_path)[0][name] for name in ("node", "sensor", "id")] == [
        f"'{node}",
        "'-2",
        f"'{node}-k3f9x2ab-1",
    ]
    assert [one[:3] for one in archive_csv.identities(csv_path)] == [(node, "k3f9x2ab", 1)]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert archive_csv.safe(text) == f"'{text}"
    assert archive_csv.original(archive_csv.safe(text)) == text


def test_csv_for_excel_in_french_has_a_byte_order_mark_semicolons_and_decimal_commas(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, values={"temperature": 21.4})

    path, _ = written(make(ARCHIVE_CSV="excel-fr"), store)

    assert path.read_bytes() == (
        b"\xef\xbb\xbftemperature;humidity;timestamp;node;sensor;id;time;clock\r\n"
        b"21,4;;[24/Nov/2026 21:31:05];kitchen;main;kitchen-k3f9x2ab-1;2026-11-24T20:31:05.123Z;synced\r\n"
    )


def test_standard_csv_is_plain_utf_8_with_a_decimal_point(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, values={"temperature": 21.4})

    path, _ = written(make(), store)

    assert path.read_bytes().startswith(
        b"temperature,humidity,timestamp,node,sensor,id,time,clock\n21.4,,[24/Nov/2026"
    )


def test_the_second_sheet_sums_up_each_node_and_day(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings
) -> None:
    for temperature in (20.0, 22.0):
        stored_readings(store, "b", values={"temperature": temperature})
    stored_readings(store, "b", values={"temperature": 30.0}, time_ms=EXAMPLE_TIME_MS + DAY_MS)
    stored_readings(store, "a", values={"humidity": 50.0})

    _, path = written(make(UI_LANGUAGE="en"), store)

    rows = sheet_rows(path, 1)
    assert [(row["node"], row["day"], row["readings"]) for row in rows] == [
        ("a", at("2026-11-24"), 1),
        ("b", at("2026-11-24"), 2),
        ("b", at("2026-11-25"), 1),
    ]
    figures = ("temperature count", "temperature min", "temperature mean", "temperature max", "humidity count")
    assert [tuple(row[name] for name in figures) for row in rows] == [
        (0, None, None, None, 1),
        (2, 20, 21, 22, 0),
        (1, 30, 30, 30, 0),
    ]


def test_gaps_are_counted_where_they_end(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, count=20, step_ms=10_000)
    stored_readings(store, count=20, step_ms=10_000, time_ms=EXAMPLE_TIME_MS + 600_000)

    _, path = written(make(UI_LANGUAGE="en"), store)

    assert [row["gaps"] for row in sheet_rows(path, 1)] == [1]


def test_a_line_chart_of_each_quantity_shows_a_line_for_each_node_over_its_days(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, "a", count=3, step_ms=DAY_MS)
    stored_readings(store, "b", count=2, step_ms=DAY_MS, time_ms=EXAMPLE_TIME_MS + DAY_MS)

    _, path = written(make(), store)

    book = openpyxl.load_workbook(path)
    charts = book.worksheets[1]._charts  # openpyxl has no public way to them
    assert [type(chart).__name__ for chart in charts] == ["LineChart", "LineChart"]
    assert [len(chart.series) for chart in charts] == [2, 2]
    means = book.worksheets[2]
    assert charts[0].series[0].val.numRef.f == f"{means.title}!$B$2:$B$4"
    assert [[cell.value for cell in row] for row in means["A1:C4"]] == [
        ["temperature", "a", "b"],
        [at("2026-11-24"), 21.4, None],
        [at("2026-11-25"), 21.4, 21.4],
        [at("2026-11-26"), 21.4, 21.4],
    ]


@pytest.mark.parametrize(
    ("language", "sheets"),
    [("fr", ["relevés", "résumé", "moyennes"]), ("en", ["readings", "summary", "daily means"])],
)
def test_sheets_are_named_in_the_language_of_the_settings(
    make: Callable[..., BridgeSettings],
    store: Store,
    stored_readings: StoredReadings,
    language: str,
    sheets: list[str],
) -> None:
    stored_readings(store)

    _, path = written(make(UI_LANGUAGE=language), store)

    assert openpyxl.load_workbook(path, read_only=True).sheetnames == sheets


def test_extreme_numbers_keep_every_digit(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings
) -> None:
    values = {"temperature": 0.1 + 0.2, "humidity": 1e-300, "q1": -1.7976931348623157e308, "q2": 123456789012345.67}
    stored_readings(store, values=values)

    csv_path, path = written(make(), store)

    assert {name: sheet_rows(path)[0][name] for name in values} == values
    assert {name: json.loads(csv_rows(csv_path)[0][name]) for name in values} == values


@pytest.mark.parametrize("signs", [(1, 1), (-1, -1), (1, -1, 1, 1)])
def test_values_whose_sum_is_too_large_for_a_number_break_nothing(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings, signs: tuple[int, ...]
) -> None:
    largest = 1.7e308
    for sign in signs:
        stored_readings(store, values={"temperature": sign * largest})

    _, path = written(make(UI_LANGUAGE="en"), store)

    (row,) = sheet_rows(path, 1)
    assert row["temperature min"] == min(signs) * largest
    assert row["temperature max"] == max(signs) * largest
    assert row["temperature mean"] in (largest, -largest, 0)
