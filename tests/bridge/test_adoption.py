"""A store that was put back from a backup: what lies in archives that it does not know is not archived again."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.archive.archiver import archive
from bridge.settings import BridgeSettings
from bridge.store import shelf
from bridge.store.database import open_store
from tests.bridge.archives import ids_in_csv, ids_in_workbooks, names
from tests.bridge.conftest import StoredReadings


class Life:
    """A store in a file that can be put back, and its folders."""

    def __init__(self, folder: Path, settings: BridgeSettings) -> None:
        self.folder, self.settings = folder, settings
        self.store = open_store(settings.store_url)

    def archive(self) -> list[shelf.Archive]:
        return archive(self.settings, self.store)

    def save(self) -> None:
        self.store.close()
        shutil.copy(self.folder / "bridge.db", self.folder / "saved.db")
        self.store = open_store(self.settings.store_url)

    def put_back(self) -> None:
        self.store.close()
        for name in ("bridge.db-wal", "bridge.db-shm"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.copy(self.folder / "saved.db", self.folder / "bridge.db")
        self.store = open_store(self.settings.store_url)

    def ids(self) -> tuple[list[str], list[str]]:
        folders = (self.settings.archive_directory, self.settings.backup_directory)
        return ids_in_csv(*folders), ids_in_workbooks(*folders)


@pytest.fixture(params=["standard", "excel-fr"])
def life(
    tmp_path: Path, bridge_settings: Callable[..., BridgeSettings], request: pytest.FixtureRequest
) -> Iterator[Life]:
    """A store with empty folders."""
    settings = bridge_settings(
        ARCHIVE_DIRECTORY=tmp_path / "archives", BACKUP_DIRECTORY=tmp_path / "backup", ARCHIVE_CSV=request.param
    )
    settings.backup_directory.mkdir()
    life = Life(tmp_path, settings)
    yield life
    life.store.close()


@pytest.mark.parametrize("where", ["archives", "backup"])
def test_readings_in_archives_of_a_later_life_stay_there(
    life: Life, stored_readings: StoredReadings, where: str
) -> None:
    ids = stored_readings(life.store, "-1-2", count=10)
    life.save()
    (made,) = life.archive()
    if where == "backup":
        for name in (made.csv_name, made.xlsx_name):
            (life.settings.archive_directory / name).rename(life.settings.backup_directory / name)
    life.put_back()

    again = life.archive()
    ids += stored_readings(life.store, "new", count=2)
    life.archive()

    assert again == []
    in_csv, in_workbooks = life.ids()
    assert sorted(one.removeprefix("'") for one in in_csv) == in_workbooks == sorted(ids)
    known = shelf.archive_of_file(life.store, made.csv_name)
    assert known is not None
    assert (known.rows, known.first_ms, known.last_ms) == (made.rows, made.first_ms, made.last_ms)
    assert (known.csv_sha256, known.csv_form) == (made.csv_sha256, made.csv_form)


def test_readings_that_nodes_send_again_after_the_restore_belong_to_the_archive_that_has_them(
    life: Life, stored_readings: StoredReadings
) -> None:
    life.save()
    ids = stored_readings(life.store, count=10)
    life.archive()
    life.put_back()
    first = life.archive()
    again = stored_readings(life.store, count=12)

    (made,) = life.archive()

    assert again[:10] == ids
    assert first == []
    assert made.rows == 2
    assert life.ids() == (sorted(again), sorted(again))


def test_an_intent_that_was_marking_when_the_backup_was_made_leaves_its_later_files_alone(
    life: Life, stored_readings: StoredReadings
) -> None:
    ids = stored_readings(life.store, count=4)
    name = "archive_2026-01-01_00-00_heure_00h00"
    shelf.begin(life.store, f"{name}.csv", f"{name}.xlsx", life.settings.archive_csv, 1)
    life.save()
    ids += stored_readings(life.store, count=4)
    life.archive()
    life.put_back()

    life.archive()

    assert life.ids() == (sorted(ids), sorted(ids))
    assert shelf.open_archives(life.store) == []


@pytest.mark.parametrize(
    "content", [b"", b"a,b\n1,2\n", b"timestamp,node,id,time\nx,kitchen,garden-e-1,y\n", b"\xff\xfe"]
)
def test_a_file_that_is_none_of_ours_is_told_once_and_left(
    life: Life, stored_readings: StoredReadings, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    foreign = life.settings.backup_directory / "archive_2026-01-01_00-00_heure_00h00.csv"
    foreign.write_bytes(content)
    stored_readings(life.store, count=2)

    life.archive()
    life.archive()

    assert foreign.read_bytes() == content
    assert [str(foreign) in record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        True
    ]


def test_what_the_store_knows_is_not_read_again(life: Life, stored_readings: StoredReadings) -> None:
    stored_readings(life.store, count=2)
    (made,) = life.archive()
    (life.settings.archive_directory / made.csv_name).write_text("unreadable now", encoding="utf-8")

    made_again = life.archive()

    assert made_again == []
    assert names(life.settings.archive_directory) == sorted([made.csv_name, made.xlsx_name])
