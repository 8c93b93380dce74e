"""Verification: every archive against what was recorded of it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.archive.archiver import archive
from bridge.archive.cleanup import cleanup
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import Store
from bridge.store.shelf import Archive
from bridge.verify import Finding, State, verify
from tests.bridge.conftest import StoredReadings
from tests.processes import python


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Both folders, as variables."""
    return {"ARCHIVE_DIRECTORY": tmp_path / "archives", "BACKUP_DIRECTORY": tmp_path / "backup"}


@pytest.fixture
def settings(bridge_settings: Callable[..., BridgeSettings], folders: dict[str, Path]) -> BridgeSettings:
    """Settings with both folders."""
    return bridge_settings(**folders)


@pytest.fixture
def made(settings: BridgeSettings, store: Store, stored_readings: StoredReadings) -> Archive:
    """An archive of three readings."""
    stored_readings(store, count=3)
    (one,) = archive(settings, store)
    return one


def findings(settings: BridgeSettings, store: Store) -> dict[str, State]:
    return {Path(finding.file).name: finding.state for finding in verify(settings, store)}


def command(settings: BridgeSettings) -> "subprocess.CompletedProcess[str]":
    variables = {
        "STORE_URL": settings.store_url,
        "ARCHIVE_DIRECTORY": str(settings.archive_directory),
        "BACKUP_DIRECTORY": str(settings.backup_directory),
    }
    return subprocess.run(
        python("-m", "bridge", "verify"), env={**os.environ, **variables}, capture_output=True, text=True, timeout=60
    )


def test_archives_are_good_in_either_folder(
    settings: BridgeSettings, store: Store, made: Archive, stored_readings: StoredReadings
) -> None:
    cleanup(settings, store)
    stored_readings(store, count=2)
    (second,) = archive(settings, store)

    found = findings(settings, store)

    assert found == dict.fromkeys([made.csv_name, made.xlsx_name, second.csv_name, second.xlsx_name], State.GOOD)


@pytest.mark.parametrize("kind", ["csv_name", "xlsx_name"])
def test_a_missing_file_is_told(settings: BridgeSettings, store: Store, made: Archive, kind: str) -> None:
    name = getattr(made, kind)
    (settings.archive_directory / name).unlink()

    assert findings(settings, store)[name] is State.MISSING


def test_a_changed_file_is_told(settings: BridgeSettings, store: Store, made: Archive) -> None:
    path = settings.archive_directory / made.csv_name
    path.write_bytes(path.read_bytes().replace(b"21.4", b"21.5"))

    assert findings(settings, store) == {made.csv_name: State.CHANGED, made.xlsx_name: State.GOOD}


def test_a_file_with_other_rows_than_recorded_is_told(settings: BridgeSettings, store: Store, made: Archive) -> None:
    with store.write() as connection:
        connection.execute(schema.archives.update().values(rows=4))

    reasons = [finding.reason for finding in verify(settings, store)]

    assert reasons == ["it has 3 rows, recorded are 4"] * 2


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_a_file_that_nobody_recorded_is_told(
    settings: BridgeSettings, store: Store, made: Archive, suffix: str
) -> None:
    name = f"archive_2020-01-01_00-00_heure_00h00.{suffix}"
    source = settings.archive_directory / getattr(made, f"{suffix}_name")
    (settings.archive_directory / name).write_bytes(source.read_bytes())

    assert findings(settings, store)[name] is State.UNKNOWN


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a,b\n1,2\n"])
def test_a_file_under_our_name_that_is_none_of_ours_is_told(
    settings: BridgeSettings, store: Store, made: Archive, content: bytes
) -> None:
    for suffix in ("csv", "xlsx"):
        (settings.archive_directory / f"archive_2020-01-01_00-00_heure_00h00.{suffix}").write_bytes(content)

    states = [state for name, state in findings(settings, store).items() if "2020" in name]

    assert states == [State.UNKNOWN, State.UNKNOWN]


def test_files_of_the_script_before_are_no_fault(settings: BridgeSettings, store: Store, made: Archive) -> None:
    name = "archive_2020-01-01_00-00_heure_00h00.csv"
    (settings.archive_directory / name).write_text("temperature,humidity,timestamp\n22,50,x\n", encoding="utf-8")

    assert findings(settings, store)[name] is State.OLD


def test_files_of_an_open_intent_are_no_fault(settings: BridgeSettings, store: Store, made: Archive) -> None:
    with store.write() as connection:
        connection.execute(schema.archives.update().values(state=1))

    assert set(findings(settings, store).values()) == {State.UNFINISHED}


def test_what_was_deleted_for_its_age_is_no_fault(
    bridge_settings: Callable[..., BridgeSettings], store: Store, made: Archive, folders: dict[str, Path]
) -> None:
    settings = bridge_settings(**folders, BACKUP_KEEP_DAYS=1)
    with store.write() as connection:
        connection.execute(schema.archives.update().values(created_ms=0))
    for path in settings.archive_directory.iterdir():
        path.unlink()

    assert set(findings(settings, store).values()) == {State.DELETED}


def test_a_copy_in_both_folders_is_compared_twice(settings: BridgeSettings, store: Store, made: Archive) -> None:
    settings.backup_directory.mkdir()
    (settings.backup_directory / made.csv_name).write_bytes(b"other")

    states = [finding.state for finding in verify(settings, store) if finding.file.endswith(made.csv_name)]

    assert states == [State.GOOD, State.CHANGED]


def test_the_command_says_that_all_is_well(settings: BridgeSettings, store: Store, made: Archive) -> None:
    done = command(settings)

    assert (done.returncode, done.stdout) == (0, "2 good\n")


def test_the_command_tells_each_fault_and_ends_with_1(settings: BridgeSettings, store: Store, made: Archive) -> None:
    path = settings.archive_directory / made.csv_name
    path.write_bytes(b"edited")

    done = command(settings)

    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"changed    {path}: its SHA-256 is not the recorded one",
        "1 good, 1 changed",
    ]


def test_the_command_without_archives_is_done(settings: BridgeSettings, store: Store) -> None:
    done = command(settings)

    assert (done.returncode, done.stdout) == (0, "no archives\n")


def test_a_finding_is_one_line() -> None:
    assert str(Finding(State.GOOD, "a.csv", "3 rows")) == "good       a.csv: 3 rows"
