"""Exports: each reading once, from the store and the archives together, in every form."""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from sqlalchemy import delete, select

from bridge.archive.archiver import archive
from bridge.archive.cleanup import cleanup
from bridge.errors import NotFound
from bridge.export.export import Exported, export
from bridge.export.files import readings_of
from bridge.export.moments import parse_moment
from bridge.export.selection import Selection
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import Store
from bridge.store.shelf import Archive
from mqtt_client.errors import PersonNeeded
from mqtt_client.reading import from_ms, to_ms
from tests.bridge.archives import csv_rows, names, sheet_rows
from tests.bridge.conftest import EXAMPLE_TIME_MS, StoredReadings
from tests.processes import python

PARIS = ZoneInfo("Europe/Paris")
NOW = datetime(2026, 11, 24, 20, 31, 5, tzinfo=UTC)
HOUR_MS = 3_600_000


@pytest.fixture
def settings(bridge_settings: Callable[..., BridgeSettings], tmp_path: Path) -> BridgeSettings:
    """Settings with both folders, in Paris."""
    return bridge_settings(
        ARCHIVE_DIRECTORY=tmp_path / "archives", BACKUP_DIRECTORY=tmp_path / "backup", TIMEZONE="Europe/Paris"
    )


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder for exports."""
    folder = tmp_path / "exports"
    folder.mkdir()
    return folder


def forget(store: Store, made: Archive, *, rows: int | None = None) -> None:
    """Let the store forget readings of an archive, as pruning does; all of them unless told how many."""
    readings = schema.readings.c
    ids = select(readings.id).where(readings.archive_id == made.id).order_by(readings.id).limit(rows or 10**9)
    with store.write() as connection:
        connection.execute(delete(schema.readings).where(readings.id.in_(ids)))


def exported(
    settings: BridgeSettings, store: Store, output: Path, selection: Selection | None = None
) -> list[dict[str, str]]:
    export(settings, store, selection or Selection(), "csv", output / "export.csv")
    return csv_rows(output / "export.csv")


def ids(rows: list[dict[str, str]]) -> list[str]:
    return [row["id"] for row in rows]


def test_readings_come_from_store_archive_and_backup_each_once_sorted_by_time(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    in_backup = stored_readings(store, count=3)
    (first,) = archive(settings, store)
    cleanup(settings, store)
    forget(store, first)
    partly_forgotten = stored_readings(store, count=3, epoch="second")
    (second,) = archive(settings, store)
    forget(store, second, rows=2)
    archived = stored_readings(store, count=2, epoch="third")
    archive(settings, store)
    waiting = stored_readings(store, "attic", count=2, time_ms=EXAMPLE_TIME_MS + 500)

    rows = exported(settings, store, output)

    assert sorted(ids(rows)) == sorted(in_backup + partly_forgotten + archived + waiting)
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert rows[3]["id"] == waiting[0]


@pytest.mark.parametrize("csv_form", ["standard", "excel-fr"])
def test_an_export_says_of_a_reading_what_its_archive_says(
    settings: BridgeSettings,
    bridge_settings: Callable[..., BridgeSettings],
    store: Store,
    stored_readings: StoredReadings,
    output: Path,
    csv_form: str,
) -> None:
    settings = BridgeSettings(**{**_fields(settings), "archive_csv": csv_form})
    stored_readings(store, "-1", 2, values={"temperature": 21.4, "co2": 1e-7}, time_ms=EXAMPLE_TIME_MS)
    stored_readings(store, "kitchen", 2, values={"soil": 3.0}, time_ms=EXAMPLE_TIME_MS + 7)
    (made,) = archive(settings, store)
    content = (settings.archive_directory / made.csv_name).read_bytes()

    export(settings, store, Selection(), "csv", output / "from-store.csv")
    forget(store, made)
    export(settings, store, Selection(), "csv", output / "from-file.csv")
    (settings.archive_directory / made.csv_name).unlink()
    export(settings, store, Selection(), "csv", output / "from-workbook.csv")

    assert (output / "from-store.csv").read_bytes() == content
    assert (output / "from-file.csv").read_bytes() == content
    assert (output / "from-workbook.csv").read_bytes() == content


def _fields(settings: BridgeSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


def test_a_workbook_tells_the_two_hours_of_autumn_apart(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    before = to_ms(datetime(2026, 10, 25, 0, 30, tzinfo=UTC))  # 02:30 in Paris, for the first time
    stored_readings(store, count=4, time_ms=before, step_ms=HOUR_MS // 2)
    (made,) = archive(settings, store)

    read = [reading.time_ms for reading in readings_of(settings.archive_directory / made.xlsx_name, PARIS)]

    assert read == [before + number * HOUR_MS // 2 for number in range(4)]


def test_a_changed_file_is_not_believed_and_what_is_missing_is_told(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    stored_readings(store, count=5)
    (made,) = archive(settings, store)
    for name in (made.csv_name, made.xlsx_name):
        (settings.archive_directory / name).write_bytes(b"edited")
    forget(store, made, rows=3)

    done = export(settings, store, Selection(), "csv", output / "export.csv")

    assert len(csv_rows(output / "export.csv")) == done.rows == 2
    (gap,) = done.gaps
    assert str(gap).startswith(f"3 readings of {made.csv_name} cannot be read: ")
    assert "was changed" in str(gap)


def test_files_of_an_open_intent_are_not_read(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    expected = stored_readings(store, count=4)
    (made,) = archive(settings, store)
    with store.write() as connection:
        connection.execute(schema.archives.update().values(state=1, rows=None, first_ms=None, last_ms=None))
    (settings.archive_directory / made.csv_name).write_text("half written", encoding="utf-8")

    assert ids(exported(settings, store, output)) == expected


def test_a_range_takes_its_beginning_and_not_its_end(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    archived = stored_readings(store, count=3)
    (made,) = archive(settings, store)
    forget(store, made)
    waiting = stored_readings(store, "attic", count=3)
    selection = Selection(EXAMPLE_TIME_MS + 1000, EXAMPLE_TIME_MS + 2000)

    assert sorted(ids(exported(settings, store, output, selection))) == sorted([archived[1], waiting[1]])


def test_nodes_and_quantities_are_chosen(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    stored_readings(store, "attic")
    stored_readings(store, "kitchen", values={"co2": 400.0})
    (kept,) = stored_readings(store, "kitchen")
    selection = Selection(nodes=frozenset({"kitchen"}), quantities=("humidity",))

    (row,) = exported(settings, store, output, selection)

    assert row["id"] == kept
    assert list(row) == ["humidity", "timestamp", "node", "sensor", "id", "time", "clock"]


@pytest.mark.parametrize("form", ["csv", "xlsx", "json", "parquet"])
def test_nothing_to_export_is_told_and_no_file_is_touched(
    settings: BridgeSettings, store: Store, output: Path, form: str
) -> None:
    with pytest.raises(NotFound, match="nothing to export"):
        export(settings, store, Selection(), form, output / "export")

    assert names(output) == []


def test_json_is_an_array_of_what_the_csv_says(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    stored_readings(store, values={"temperature": 21.4})
    stored_readings(store)

    export(settings, store, Selection(), "json", output / "export.json")

    first, second = json.loads((output / "export.json").read_text(encoding="utf-8"))
    assert first == {
        "temperature": 21.4,
        "timestamp": "[24/Nov/2026 21:31:05]",
        "node": "kitchen",
        "sensor": "main",
        "id": "kitchen-k3f9x2ab-1",
        "time": "2026-11-24T20:31:05.123Z",
        "clock": "synced",
    }
    assert second["humidity"] == 48.2


def test_a_workbook_goes_on_in_another_where_its_sheet_is_full(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    expected = stored_readings(store, count=7)

    done = export(settings, store, Selection(), "xlsx", output / "export.xlsx", row_limit=3)

    assert [path.name for path in done.files] == ["export.xlsx", "export_2.xlsx", "export_3.xlsx"]
    assert names(output) == sorted(path.name for path in done.files)
    assert [row["id"] for path in done.files for row in sheet_rows(path)] == expected
    assert [sheet_rows(path, 1)[0]["relevés"] for path in done.files] == [3, 3, 1]


def test_parquet_is_partitioned_by_local_date_and_node(
    settings: BridgeSettings,
    store: Store,
    stored_readings: StoredReadings,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.export.parquet.ROWS_HELD", 3)
    late = to_ms(datetime(2026, 11, 24, 22, 59, 58, tzinfo=UTC))
    expected = stored_readings(store, "kitchen", 5, time_ms=late) + stored_readings(store, "attic", 2, time_ms=late)

    export(settings, store, Selection(), "parquet", output / "readings")

    frame = pd.read_parquet(output / "readings")
    assert sorted(frame["id"]) == sorted(expected)
    assert set(zip(frame["date"].astype(str), frame["node"].astype(str), strict=True)) == {
        ("2026-11-24", "kitchen"),
        ("2026-11-25", "kitchen"),
        ("2026-11-24", "attic"),
    }
    assert set(frame["temperature"]) == {21.4}
    assert frame["time"].min() == pd.Timestamp(from_ms(late))


def test_parquet_never_mixes_with_what_is_there(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    stored_readings(store)
    (output / "mine.txt").write_text("mine", encoding="utf-8")

    with pytest.raises(PersonNeeded, match="new or empty"):
        export(settings, store, Selection(), "parquet", output)

    assert names(output) == ["mine.txt"]


def test_progress_is_told_up_to_the_last_row(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    stored_readings(store, count=20)
    told: list[tuple[int, int]] = []

    export(settings, store, Selection(), "csv", output / "export.csv", progress=lambda *seen: told.append(seen))

    assert told[-1] == (20, 20)


def test_an_export_leaves_nothing_but_the_file(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    stored_readings(store)
    (output / "export.csv").write_text("older", encoding="utf-8")

    done: Exported = export(settings, store, Selection(), "csv", output / "export.csv")

    assert names(output) == ["export.csv"]
    assert done.files == [output / "export.csv"]
    assert len(csv_rows(output / "export.csv")) == 1


@pytest.mark.parametrize(
    ("text", "moment", "end"),
    [
        ("30d", "2026-10-25T20:31:05+00:00", None),
        ("90 min", "2026-11-24T19:01:05+00:00", None),
        ("now", "2026-11-24T20:31:05+00:00", None),
        ("today", "2026-11-24T00:00:00+01:00", "2026-11-25T00:00:00+01:00"),
        ("yesterday", "2026-11-23T00:00:00+01:00", "2026-11-24T00:00:00+01:00"),
        ("hier", "2026-11-23T00:00:00+01:00", "2026-11-24T00:00:00+01:00"),
        ("2026-10-25", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),
        ("2026-11-01 12:30", "2026-11-01T12:30:00+01:00", None),
        ("2026-11-01T12:30", "2026-11-01T12:30:00+01:00", None),
        ("2026-11-01T12:30:00.5Z", "2026-11-01T12:30:00.5+00:00", None),
    ],
)
def test_moments_are_written_as_people_do(text: str, moment: str, end: str | None) -> None:
    assert parse_moment(text, NOW, PARIS) == to_ms(datetime.fromisoformat(moment))
    assert parse_moment(text, NOW, PARIS, is_end=True) == to_ms(datetime.fromisoformat(end or moment))


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "30 parsec", "9999d9", "24/11/2026"])
def test_what_is_no_moment_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is no moment; allowed are 30d"):
        parse_moment(text, NOW, PARIS)


def command(settings: BridgeSettings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        python("-m", "bridge", *arguments),
        env={
            **os.environ,
            "STORE_URL": settings.store_url,
            "ARCHIVE_DIRECTORY": str(settings.archive_directory),
            "BACKUP_DIRECTORY": str(settings.backup_directory),
            "TIMEZONE": "Europe/Paris",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_writes_to_standard_output(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, count=2)

    done = command(settings, "export", "--from", "2026-11-24", "--to", "2026-11-24", "--node", "attic,kitchen")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "temperature,humidity,timestamp,node,sensor,id,time,clock"
    assert len(done.stdout.splitlines()) == 3


def test_the_command_takes_the_form_from_the_output(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, output: Path
) -> None:
    stored_readings(store, count=2)

    done = command(settings, "export", "--output", str(output / "x.json"))

    assert (done.returncode, done.stdout) == (0, f"{output / 'x.json'}\n")
    assert len(json.loads((output / "x.json").read_text(encoding="utf-8"))) == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from", "soon"), "'soon' is no moment"),
        (("--from", "2026-11-02", "--to", "2026-11-01"), "is not before"),
        (("--format", "xlsx"), "needs an --output"),
    ],
)
def test_wrong_usage_is_told_with_2(
    settings: BridgeSettings, store: Store, arguments: tuple[str, ...], told: str
) -> None:
    done = command(settings, "export", *arguments)

    assert done.returncode == 2
    assert told in done.stderr


def test_what_cannot_be_read_ends_the_command_with_1(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, count=2)
    (made,) = archive(settings, store)
    forget(store, made, rows=1)
    for name in (made.csv_name, made.xlsx_name):
        (settings.archive_directory / name).unlink()

    done = command(settings, "export")

    assert done.returncode == 1
    assert f"1 readings of {made.csv_name} cannot be read: its files are gone" in done.stderr
    assert len(done.stdout.splitlines()) == 2
