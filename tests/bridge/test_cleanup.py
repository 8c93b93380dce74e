"""Clean-up: plot first, then archives move and are never overwritten; old backups go; the store is pruned."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from bridge.archive import durable
from bridge.archive.archiver import archive
from bridge.archive.cleanup import cleanup
from bridge.plot.plot import COMBINED
from bridge.settings import BridgeSettings
from bridge.status import read_status
from bridge.store import jobs, schema, shelf
from bridge.store.database import Store
from bridge.store.schema import Forward, RangeKind
from mqtt_client.errors import StorageFull, TryLater
from mqtt_client.reading import to_ms
from tests.bridge.archives import ids_in_csv, ids_in_workbooks, names
from tests.bridge.conftest import StoredReadings

NOW = datetime(2026, 11, 24, 20, 31, tzinfo=UTC)
CSV, XLSX = "archive_2026-11-24_20-31_heure_20h31.csv", "archive_2026-11-24_20-31_heure_20h31.xlsx"


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """The archive folder."""
    return tmp_path / "archives"


@pytest.fixture(params=["same file system", "other file system"])
def backup(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The backup folder, beside the archives and on another file system."""
    if request.param == "same file system":
        yield tmp_path / "backup"
        return
    folder = Path("/dev/shm") / f"mqtt-sensor-bridge-{os.getpid()}"
    folder.mkdir()
    assert folder.stat().st_dev != tmp_path.stat().st_dev
    yield folder / "backup"
    shutil.rmtree(folder)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A backup folder beside the archives, for what does not depend on file systems."""
    return tmp_path / "backup"


@pytest.fixture
def make(bridge_settings: Callable[..., BridgeSettings], archives: Path) -> Callable[..., BridgeSettings]:
    """Make settings with the archive folder."""
    return lambda folder, **more: bridge_settings(ARCHIVE_DIRECTORY=archives, BACKUP_DIRECTORY=folder, **more)


@pytest.fixture
def ids(
    make: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings, beside: Path
) -> list[str]:
    """Readings that lie in one archive."""
    made = stored_readings(store, count=5)
    archive(make(beside), store, now=NOW)
    return made


def test_the_plot_is_drawn_and_the_archives_move(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], archives: Path, backup: Path
) -> None:
    report = cleanup(make(backup), store)

    assert report.plot == archives / COMBINED
    assert names(archives) == [COMBINED]
    assert sorted(report.moved) == [backup / CSV, backup / XLSX]
    assert ids_in_csv(backup) == ids_in_workbooks(backup) == sorted(ids)
    assert names(backup) == [CSV, XLSX]


def test_a_move_keeps_the_time_of_modification(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], archives: Path, backup: Path
) -> None:
    os.utime(archives / CSV, (1_700_000_000, 1_700_000_000))

    cleanup(make(backup), store)

    assert (backup / CSV).stat().st_mtime == 1_700_000_000


def test_another_file_of_that_name_is_never_overwritten(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], archives: Path, backup: Path
) -> None:
    backup.mkdir(exist_ok=True)
    (backup / CSV).write_text("somebody's", encoding="utf-8")

    report = cleanup(make(backup), store)

    assert (backup / CSV).read_text(encoding="utf-8") == "somebody's"
    assert names(archives) == [CSV, COMBINED]
    assert "another file of that name" in report.left[archives / CSV]
    assert report.moved == [backup / XLSX]


def test_an_interrupted_move_is_finished_where_the_copy_is_whole(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], archives: Path, backup: Path
) -> None:
    backup.mkdir(exist_ok=True)
    shutil.copy(archives / CSV, backup / CSV)

    report = cleanup(make(backup), store)

    assert report.left == {}
    assert names(archives) == [COMBINED]
    assert ids_in_csv(backup) == sorted(ids)


@pytest.mark.parametrize("lock", [f".~lock.{XLSX}#", f"~${XLSX}"])
def test_a_workbook_that_an_office_program_has_open_is_left_for_the_next_time(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], archives: Path, beside: Path, lock: str
) -> None:
    (archives / lock).write_text("me", encoding="utf-8")

    first = cleanup(make(beside), store)
    left = names(archives)
    (archives / lock).unlink()
    second = cleanup(make(beside), store)

    assert first.left == {archives / XLSX: "somebody has it open"}
    assert left == sorted([lock, XLSX, COMBINED])
    assert second.moved == [beside / XLSX]


@pytest.mark.parametrize("mode", ["rb", "ab"])
def test_a_file_that_a_program_has_open_is_left_for_the_next_time(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], archives: Path, backup: Path, mode: str
) -> None:
    with (archives / CSV).open(mode):
        first = cleanup(make(backup), store)
    second = cleanup(make(backup), store)

    assert list(first.left) == [archives / CSV]
    assert second.moved == [backup / CSV]


def test_where_the_kernel_gives_no_lease_a_lock_tells_who_has_the_file(
    make: Callable[..., BridgeSettings],
    store: Store,
    ids: list[str],
    archives: Path,
    beside: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_lease(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", no_lease)
    with (archives / CSV).open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        report = cleanup(make(beside), store)

    assert list(report.left) == [archives / CSV]
    assert report.moved == [beside / XLSX]


@pytest.mark.parametrize("links", [True, False])
def test_file_systems_without_the_kernels_step_never_overwrite_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def not_here(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(durable, "_rename_no_replace", not_here)
    if not links:
        monkeypatch.setattr(os, "link", not_here)
    one, two, target = tmp_path / "one", tmp_path / "two", tmp_path / "target"
    one.write_text("1", encoding="utf-8")
    two.write_text("2", encoding="utf-8")

    durable.rename_new(one, target)
    with pytest.raises(FileExistsError):
        durable.rename_new(two, target)

    assert (target.read_text(encoding="utf-8"), two.read_text(encoding="utf-8")) == ("1", "2")
    assert names(tmp_path) == ["target", "two"]


def test_a_name_that_a_killed_move_only_reserved_is_free(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("1", encoding="utf-8")
    target.touch()

    durable.rename_new(source, target)

    assert target.read_text(encoding="utf-8") == "1"


def test_files_of_an_open_intent_stay(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], archives: Path, beside: Path
) -> None:
    shelf.begin(store, "open.csv", "open.xlsx", "standard", 1)
    (archives / "open.csv").write_text("half", encoding="utf-8")

    report = cleanup(make(beside), store)

    assert list(report.left) == [archives / "open.csv"]
    assert "open.csv" in names(archives)


def test_an_empty_folder_is_no_error(make: Callable[..., BridgeSettings], store: Store, beside: Path) -> None:
    report = cleanup(make(beside), store)

    assert (report.plot, report.moved, report.left) == (None, [], {})
    assert names(beside) == []


def test_other_csv_files_and_workbooks_move_too_but_nothing_else_does(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], archives: Path, beside: Path
) -> None:
    (archives / "mine.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (archives / "notes.txt").write_text("x", encoding="utf-8")

    cleanup(make(beside), store)

    assert names(archives) == [COMBINED, "notes.txt"]
    assert names(beside) == [CSV, XLSX, "mine.csv"]


def test_backups_that_are_too_old_are_deleted_and_others_stay(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], beside: Path
) -> None:
    settings = make(beside, BACKUP_KEEP_DAYS=7)
    cleanup(settings, store)
    old = (datetime.now(UTC) - timedelta(days=8)).timestamp()
    (beside / "mine.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    for name in (CSV, "mine.csv"):
        os.utime(beside / name, (old, old))

    report = cleanup(settings, store)

    assert report.deleted == [beside / CSV]
    assert names(beside) == [XLSX, "mine.csv"]


def test_backups_are_kept_for_ever_unless_told_otherwise(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], beside: Path
) -> None:
    cleanup(make(beside), store)

    report = cleanup(make(beside), store, now=datetime(2100, 1, 1, tzinfo=UTC))

    assert report.deleted == []
    assert names(beside) == [CSV, XLSX]


def test_an_old_backup_that_somebody_changed_is_kept(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], beside: Path
) -> None:
    settings = make(beside, BACKUP_KEEP_DAYS=5)
    cleanup(settings, store)
    with (beside / CSV).open("a", encoding="utf-8") as stream:
        stream.write("my remark\n")

    report = cleanup(settings, store, now=datetime.now(UTC) + timedelta(days=6))

    assert report.deleted == [beside / XLSX]
    assert "was changed" in report.left[beside / CSV]


def test_where_a_file_system_keeps_no_times_the_name_tells_the_age(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], beside: Path
) -> None:
    settings = make(beside, BACKUP_KEEP_DAYS=7)
    cleanup(settings, store, now=NOW)
    for name in (CSV, XLSX):
        os.utime(beside / name, (0, 0))

    young = cleanup(settings, store, now=NOW + timedelta(days=6))
    old = cleanup(settings, store, now=NOW + timedelta(days=8))

    assert young.deleted == []
    assert sorted(old.deleted) == [beside / CSV, beside / XLSX]


def test_the_store_forgets_what_everybody_has(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], beside: Path
) -> None:
    with store.write() as connection:
        connection.execute(schema.readings.update().values(forward_state=Forward.SETTLED))
        connection.execute(schema.ranges.insert().values(source_id=1, kind=int(RangeKind.COMMITTED), first=1, last=4))

    kept = cleanup(make(beside), store)
    report = cleanup(make(beside, STORE_KEEP_DAYS=0), store)

    assert (kept.pruned, report.pruned) == (0, 4)
    assert jobs.reported(store)["cleanup"].state["pruned"] == 4


def test_a_backup_folder_that_cannot_be_made_is_one_line_and_moves_nothing(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], archives: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(TryLater, match=r"cannot clean up: Not a directory \('.*file/backup'\)"):
        cleanup(make(tmp_path / "file" / "backup"), store)

    assert ids_in_csv(archives) == sorted(ids)
    assert jobs.reported(store)["cleanup"].word == "failing"


def days(number: float) -> timedelta:
    return timedelta(days=number)


def test_a_clock_that_leapt_deletes_no_backup_until_it_has_gone_on_for_a_week(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], beside: Path
) -> None:
    settings = make(beside, BACKUP_KEEP_DAYS=30)
    today = datetime.now(UTC)
    cleanup(settings, store, now=today)

    for passed in (0.0, 1.0, 6.9):
        report = cleanup(settings, store, now=today + days(7000 + passed))
        assert (report.deleted, names(beside)) == ([], [CSV, XLSX])
        assert f"the clock says {today + days(7000 + passed):%Y-%m-%d}" in report.doubt
        assert f"{today + days(7007):%Y-%m-%d}" in report.doubt
    problems = read_status(settings, store).problems
    later = cleanup(settings, store, now=today + days(7007.5))

    assert any("no backup is deleted, whatever BACKUP_KEEP_DAYS says: the clock says" in one for one in problems)
    assert sorted(later.deleted) == [beside / CSV, beside / XLSX]
    assert not any("no backup is deleted" in one for one in read_status(settings, store).problems)


def test_a_clock_that_was_set_right_is_believed_at_once(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], beside: Path
) -> None:
    settings = make(beside, BACKUP_KEEP_DAYS=2)
    today = datetime.now(UTC)
    cleanup(settings, store, now=today)

    wrong = cleanup(settings, store, now=today + days(7000))
    right = cleanup(settings, store, now=today + days(3))

    assert wrong.deleted == []
    assert (right.doubt, sorted(right.deleted)) == ("", [beside / CSV, beside / XLSX])


def test_a_bridge_that_runs_a_day_each_month_still_gets_rid_of_old_backups(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], beside: Path
) -> None:
    settings = make(beside, BACKUP_KEEP_DAYS=10)
    today = datetime.now(UTC)

    deleted = [bool(cleanup(settings, store, now=today + days(30 * month)).deleted) for month in range(3)]

    assert deleted == [False, False, True]


def test_long_intervals_between_clean_ups_are_no_leaps(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], beside: Path
) -> None:
    settings = make(beside, BACKUP_KEEP_DAYS=10, CLEANUP_INTERVAL=30 * 86400)
    today = datetime.now(UTC)
    cleanup(settings, store, now=today)

    report = cleanup(settings, store, now=today + days(31))

    assert len(report.deleted) == 2


def test_a_clock_that_leapt_is_found_also_by_a_store_that_only_the_schedule_has_told_of_clean_ups(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], beside: Path
) -> None:
    settings = make(beside, BACKUP_KEEP_DAYS=30)
    cleanup(settings, store)
    with store.write() as connection:
        connection.execute(schema.meta.delete().where(schema.meta.c.key.like("cleanup_clock%")))
        connection.execute(schema.meta.insert().values(key="last_cleanup_ms", value=str(to_ms(datetime.now(UTC)))))

    report = cleanup(settings, store, now=datetime.now(UTC) + days(7000))

    assert (report.deleted, bool(report.doubt)) == ([], True)


def test_old_backups_make_room_also_where_the_store_s_disk_is_full(
    make: Callable[..., BridgeSettings], store: Store, ids: list[str], beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_store: Store) -> NoReturn:
        raise StorageFull("no room")

    settings = make(beside, BACKUP_KEEP_DAYS=12)
    today = datetime.now(UTC)
    cleanup(settings, store, now=today)
    monkeypatch.setattr(Store, "write", full)

    reports = [cleanup(settings, store, now=today + days(day)) for day in range(1, 15)]

    assert [report.doubt for report in reports] == [""] * 14
    assert sum(len(report.deleted) for report in reports) == 2
    assert names(beside) == []
