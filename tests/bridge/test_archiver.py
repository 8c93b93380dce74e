"""The archiver: each reading in exactly one archive, under a name that nobody had, as CSV and as a workbook."""

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as some
from sqlalchemy import select

from bridge.archive.archiver import archive
from bridge.archive.workbook import MOST_QUANTITIES
from bridge.settings import BridgeSettings
from bridge.store import jobs, locks, schema, shelf
from bridge.store.database import Store, open_store
from bridge.store.schema import ArchiveState
from mqtt_client.errors import StorageFull, TryLater
from tests.bridge.archives import csv_rows, ids_in_csv, ids_in_workbooks, names, sheet_rows
from tests.bridge.conftest import EXAMPLE_TIME_MS, StoredReadings
from tests.processes import eventually

NOW = datetime(2026, 11, 24, 19, 31, 40, tzinfo=UTC)
STEM = "archive_2026-11-24_20-31_heure_20h31"
COLUMNS = ["temperature", "humidity", "timestamp", "node", "sensor", "id", "time", "clock"]


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """The archive folder."""
    return tmp_path / "archives"


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """The backup folder."""
    return tmp_path / "backup"


@pytest.fixture
def settings(bridge_settings: Callable[..., BridgeSettings], archives: Path, backup: Path) -> BridgeSettings:
    """Settings with both folders, in Paris."""
    return bridge_settings(ARCHIVE_DIRECTORY=archives, BACKUP_DIRECTORY=backup, TIMEZONE="Europe/Paris")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    assert os.geteuid() == 0, "mounting needs root"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_readings_go_to_a_csv_file_and_a_workbook_named_after_the_local_time(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, archives: Path
) -> None:
    ids = stored_readings(store, count=3)

    (made,) = archive(settings, store, now=NOW)

    assert names(archives) == [f"{STEM}.csv", f"{STEM}.xlsx"]
    assert list(csv_rows(archives / made.csv_name)[0]) == COLUMNS
    assert [row["id"] for row in csv_rows(archives / made.csv_name)] == ids
    assert csv_rows(archives / made.csv_name)[0] == {
        "temperature": "21.4",
        "humidity": "48.2",
        "timestamp": "[24/Nov/2026 21:31:05]",
        "node": "kitchen",
        "sensor": "main",
        "id": "kitchen-k3f9x2ab-1",
        "time": "2026-11-24T20:31:05.123Z",
        "clock": "synced",
    }
    assert [row["id"] for row in sheet_rows(archives / made.xlsx_name)] == ids


def test_rows_first_last_and_checksums_are_recorded(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, archives: Path
) -> None:
    stored_readings(store, count=3)

    (made,) = archive(settings, store, now=NOW)

    assert (made.rows, made.first_ms, made.last_ms) == (3, EXAMPLE_TIME_MS, EXAMPLE_TIME_MS + 2000)
    assert made.csv_sha256 == hashlib.sha256((archives / made.csv_name).read_bytes()).hexdigest()
    assert made.xlsx_sha256 == hashlib.sha256((archives / made.xlsx_name).read_bytes()).hexdigest()
    assert shelf.archive_of_file(store, made.xlsx_name) == made
    assert made.state is ArchiveState.DONE


def test_nothing_new_makes_no_file(settings: BridgeSettings, store: Store, archives: Path) -> None:
    made = archive(settings, store, now=NOW)

    assert made == []
    assert names(archives) == []
    assert shelf.known_names(store) == set()


def test_rows_are_sorted_by_time_whatever_their_order_of_arrival(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, archives: Path
) -> None:
    late = stored_readings(store, "a", 2, time_ms=EXAMPLE_TIME_MS + 60_000)
    early = stored_readings(store, "b", 2)

    archive(settings, store, now=NOW)

    assert [row["id"] for row in csv_rows(archives / f"{STEM}.csv")] == early + late


def test_other_quantities_follow_humidity_by_name_and_absent_values_stay_empty(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, archives: Path
) -> None:
    stored_readings(store, "a", values={"voltage": 3.3, "co2": 410.0})
    stored_readings(store, "b", values={"temperature": -3.5})

    archive(settings, store, now=NOW)

    one, two = csv_rows(archives / f"{STEM}.csv")
    assert list(one) == ["temperature", "humidity", "co2", "voltage", *COLUMNS[2:]]
    assert [one[name] for name in ("temperature", "humidity", "co2", "voltage")] == ["", "", "410.0", "3.3"]
    assert [two[name] for name in ("temperature", "humidity", "co2", "voltage")] == ["-3.5", "", "", ""]


def test_more_quantities_than_a_sheet_has_columns_stop_no_archive(
    settings: BridgeSettings, store: Store, archives: Path, stored_readings: StoredReadings
) -> None:
    stored_readings(store, values={f"q{number:05}": 1.5 for number in range(17_000)})

    archive(settings, store, now=NOW)

    (row,) = csv_rows(archives / f"{STEM}.csv")
    (shown,) = sheet_rows(archives / f"{STEM}.xlsx")
    assert (row["q16999"], row["id"]) == ("1.5", "kitchen-k3f9x2ab-1")
    assert (shown["q00997"], shown["id"], len(shown)) == (1.5, "kitchen-k3f9x2ab-1", MOST_QUANTITIES + 6)


def test_two_passes_in_one_minute_make_two_archives(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, archives: Path
) -> None:
    first = stored_readings(store)
    archive(settings, store, now=NOW)
    second = stored_readings(store)

    archive(settings, store, now=NOW)

    assert [row["id"] for row in csv_rows(archives / f"{STEM}.csv")] == first
    assert [row["id"] for row in csv_rows(archives / f"{STEM}_2.csv")] == second
    assert ids_in_workbooks(archives) == sorted(first + second)


@pytest.mark.parametrize("taken", [f"{STEM}.csv", f"{STEM}.xlsx"])
@pytest.mark.parametrize("where", ["archives", "backup"])
def test_a_name_that_is_taken_in_either_folder_is_left_alone(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, tmp_path: Path, taken: str, where: str
) -> None:
    other = tmp_path / where / taken
    other.parent.mkdir()
    other.write_text("somebody's", encoding="utf-8")
    stored_readings(store)

    (made,) = archive(settings, store, now=NOW)

    assert (made.csv_name, made.xlsx_name) == (f"{STEM}_2.csv", f"{STEM}_2.xlsx")
    assert other.read_text(encoding="utf-8") == "somebody's"


@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
def test_a_name_that_is_taken_while_the_files_are_written_is_left_alone(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, archives: Path, ending: str
) -> None:
    ids = stored_readings(store)
    other = archives / f"{STEM}{ending}"

    (made,) = archive(settings, store, now=NOW, progress=lambda *_: other.write_text("theirs", encoding="utf-8"))

    assert other.read_text(encoding="utf-8") == "theirs"
    assert made.csv_name == f"{STEM}_2.csv"
    assert [row["id"] for row in csv_rows(archives / made.csv_name)] == ids
    assert [row["id"] for row in sheet_rows(archives / made.xlsx_name)] == ids
    assert names(archives) == sorted([other.name, made.csv_name, made.xlsx_name])


def test_more_rows_than_a_sheet_holds_make_further_pairs(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, archives: Path
) -> None:
    ids = stored_readings(store, count=25)

    made = archive(settings, store, now=NOW, row_limit=10)

    assert [one.rows for one in made] == [10, 10, 5]
    assert ids_in_csv(archives) == ids_in_workbooks(archives) == sorted(ids)


def test_progress_is_told_in_rows(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "PAGE_ROWS", 4)
    stored_readings(store, count=10)
    told: list[tuple[int, int]] = []

    archive(settings, store, progress=lambda done, total: told.append((done, total)))

    assert told == [(4, 10), (8, 10), (10, 10)]


def test_an_archiver_that_is_stopped_goes_on_in_the_next_pass(
    settings: BridgeSettings,
    store: Store,
    stored_readings: StoredReadings,
    archives: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shelf, "PAGE_ROWS", 4)
    ids = stored_readings(store, count=10)
    stop = threading.Event()

    stopped = archive(settings, store, now=NOW, progress=lambda *_: stop.set(), stop=stop)
    left = names(archives)
    archive(settings, store, now=NOW)

    assert (stopped, left) == ([], [])
    assert ids_in_csv(archives) == ids_in_workbooks(archives) == sorted(ids)


def test_an_archiver_waits_for_another_and_stops_waiting_when_told(settings: BridgeSettings, store: Store) -> None:
    lock = locks.take(settings, "archive")
    stop = threading.Event()
    made: list[object] = []
    thread = threading.Thread(target=lambda: made.append(archive(settings, store, stop=stop)))
    thread.start()

    waited = thread.is_alive()
    stop.set()
    eventually(lambda: not thread.is_alive(), within_s=5)
    lock.release()
    thread.join()

    assert waited
    assert made == [[]]


def test_the_job_says_how_it_went(settings: BridgeSettings, store: Store, stored_readings: StoredReadings) -> None:
    stored_readings(store, count=3)

    archive(settings, store, now=NOW)

    assert jobs.reported(store)["archive"].state == {
        "state": "ok",
        "last_run": "2026-11-24T19:31:40.000Z",
        "next_run": "2026-11-24T20:31:40.000Z",
        "rows": 3,
        "files": [f"{STEM}.csv"],
        "error": None,
    }


def test_a_full_disk_is_one_line_and_the_next_pass_goes_on(
    bridge_settings: Callable[..., BridgeSettings],
    store: Store,
    stored_readings: StoredReadings,
    tiny_disk: Path,
    backup: Path,
) -> None:
    settings = bridge_settings(ARCHIVE_DIRECTORY=tiny_disk, BACKUP_DIRECTORY=backup)
    ids = stored_readings(store, count=300)
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(b"x" * (256 * 1024 - 8192))

    with pytest.raises(StorageFull, match=r"cannot archive to .*tiny.*No space left.*nothing is lost"):
        archive(settings, store)
    said = jobs.reported(store)["archive"]
    left = names(tiny_disk)
    ballast.unlink()
    archive(settings, store)

    assert said.word == "failing"
    assert left == ["ballast"]
    assert ids_in_csv(tiny_disk) == ids_in_workbooks(tiny_disk) == sorted(ids)


def test_a_folder_that_cannot_be_made_is_one_line(
    bridge_settings: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    stored_readings(store)

    with pytest.raises(TryLater, match=r"cannot archive to '.*file/archives': Not a directory") as told:
        archive(bridge_settings(ARCHIVE_DIRECTORY=tmp_path / "file" / "archives"), store)

    assert "\n" not in str(told.value)
    assert shelf.waiting(store) == 1


def test_an_open_intent_is_finished_under_its_own_names(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, archives: Path
) -> None:
    ids = stored_readings(store, count=3)
    intent = shelf.begin(store, "archive_2026-01-01_00-00_heure_00h00.csv", "x.xlsx", "standard", 1)
    shelf.mark(store, intent, 2)
    shelf.change(store, intent, state=ArchiveState.SEALED)
    archives.mkdir()
    (archives / intent.csv_name).write_text("half a fi", encoding="utf-8")
    later = archives / f"{STEM}.csv"
    later.write_text("somebody's", encoding="utf-8")

    one, two = archive(settings, store, now=NOW)

    assert (one.csv_name, one.xlsx_name, one.rows) == (intent.csv_name, "x.xlsx", 2)
    assert (two.csv_name, two.rows) == (f"{STEM}_2.csv", 1)
    assert later.read_text(encoding="utf-8") == "somebody's"
    later.unlink()
    assert ids_in_csv(archives) == ids_in_workbooks(archives) == sorted(ids)


def test_an_intent_that_found_nothing_leaves_no_file(settings: BridgeSettings, store: Store, archives: Path) -> None:
    shelf.begin(store, "archive_2026-01-01_00-00_heure_00h00.csv", "x.xlsx", "standard", 1)

    made = archive(settings, store, now=NOW)

    assert made == []
    assert names(archives) == []
    assert shelf.open_archives(store) == []


def test_the_same_readings_make_the_same_bytes(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings, archives: Path
) -> None:
    stored_readings(store, count=20)
    (made,) = archive(settings, store, now=NOW)
    shelf.change(store, made, state=ArchiveState.SEALED)

    (again,) = archive(settings, store)

    assert (again.csv_sha256, again.xlsx_sha256) == (made.csv_sha256, made.xlsx_sha256)


name_of_node = some.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True).filter(lambda name: name != "bridge")
batches = some.lists(
    some.tuples(
        name_of_node,
        some.integers(1, 30),
        some.integers(-62_135_596_800_000, 253_402_300_799_000 - 3_000_000),
        some.integers(0, 90_000),
    ),
    min_size=1,
    max_size=5,
)


@examples(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(passes=some.lists(batches, min_size=1, max_size=3), row_limit=some.integers(1, 40))
def test_every_reading_is_in_exactly_one_archive(
    bridge_settings: Callable[..., BridgeSettings],
    stored_readings: StoredReadings,
    tmp_path_factory: pytest.TempPathFactory,
    passes: list[list[tuple[str, int, int, int]]],
    row_limit: int,
) -> None:
    folder = tmp_path_factory.mktemp("property")
    settings = bridge_settings(
        ARCHIVE_DIRECTORY=folder, STORE_URL=f"sqlite:///{folder / 'bridge.db'}", TIMEZONE="America/St_Johns"
    )
    store = open_store(settings.store_url)
    ids = []

    for batch in passes:
        for node, count, time_ms, step_ms in batch:
            ids += stored_readings(store, node, count, time_ms=time_ms, step_ms=step_ms)
        archive(settings, store, now=NOW, row_limit=row_limit)
    store.close()

    assert [unescaped(one) for one in ids_in_csv(folder)] == ids_in_workbooks(folder) == sorted(ids)


def unescaped(text: str) -> str:
    return text.removeprefix("'")


def test_a_row_that_says_where_it_went_agrees_with_the_files(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, count=7)

    made = archive(settings, store, row_limit=4)

    with store.read() as connection:
        rows = connection.scalars(select(schema.readings.c.archive_id).order_by(schema.readings.c.seq)).all()
    assert rows == [made[0].id] * 4 + [made[1].id] * 3
