"""SIGKILL just before each step of archiving and moving: afterwards each reading is in exactly one archive."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from bridge.archive.archiver import archive
from bridge.archive.cleanup import cleanup
from bridge.plot.plot import plot_archives
from bridge.settings import BridgeSettings
from bridge.store import shelf
from bridge.store.database import open_store
from tests.bridge.archives import deadly_command, ids_in_csv, ids_in_workbooks, names
from tests.bridge.conftest import StoredReadings

ROOT = Path(__file__).parents[2]

STEPS_OF_ARCHIVING = (
    "sqlalchemy.engine:Connection._commit_impl",
    "bridge.archive.durable.rename_new",
    "os.replace",
    "os.fsync",
    "shutil.rmtree",
)
STEPS_OF_MOVING = (
    "bridge.archive.durable.rename_new",
    "shutil.copyfile",
    "shutil.copystat",
    "os.fsync",
    "pathlib:Path.unlink",
)


class Place:
    """A store and the folders of its archives."""

    def __init__(self, folder: Path, backup: Path, make: Callable[..., BridgeSettings]) -> None:
        self.archives, self.backup = folder / "archives", backup
        self.variables = {
            "STORE_URL": f"sqlite:///{folder / 'bridge.db'}",
            "ARCHIVE_DIRECTORY": str(self.archives),
            "BACKUP_DIRECTORY": str(self.backup),
        }
        self.settings = make(**self.variables)
        folder.mkdir(parents=True)
        self.store = open_store(self.settings.store_url)

    def run_until(self, job: str, steps: tuple[str, ...], at: int) -> bool:
        """Run a job in a process that dies just before its n-th step; return whether it died."""
        done = subprocess.run(
            deadly_command(job, steps, at),
            env=os.environ | self.variables | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode != 0


@pytest.fixture
def places(tmp_path: Path, bridge_settings: Callable[..., BridgeSettings]) -> Iterator[Callable[[str], Place]]:
    """Make places whose backup folder is on another file system."""
    other = Path("/dev/shm") / f"mqtt-sensor-bridge-{os.getpid()}"
    made: list[Place] = []

    def make(name: str) -> Place:
        place = Place(tmp_path / name, other / name, bridge_settings)
        made.append(place)
        return place

    yield make
    for place in made:
        place.store.close()
    shutil.rmtree(other, ignore_errors=True)


def test_killed_at_any_step_the_archiver_leaves_each_reading_to_exactly_one_archive(
    places: Callable[[str], Place], stored_readings: StoredReadings
) -> None:
    for at in count(1):
        place = places(str(at))
        ids = stored_readings(place.store, count=5)

        killed = place.run_until("bridge.archive.archiver:archive", STEPS_OF_ARCHIVING, at)
        ids += stored_readings(place.store, "garden", count=2)
        archive(place.settings, place.store)

        assert ids_in_csv(place.archives) == ids_in_workbooks(place.archives) == sorted(ids), f"killed at step {at}"
        assert shelf.open_archives(place.store) == []
        assert [name for name in names(place.archives) if name.startswith(".")] == []
        if not killed:
            break
    assert at > 10


def test_killed_at_any_step_a_move_neither_loses_nor_doubles_an_archive(
    places: Callable[[str], Place], stored_readings: StoredReadings
) -> None:
    for at in count(1):
        place = places(str(at))
        ids = stored_readings(place.store, count=5)
        archive(place.settings, place.store)

        killed = place.run_until("tests.bridge.archives:move_archives", STEPS_OF_MOVING, at)
        report = cleanup(place.settings, place.store)

        assert ids_in_csv(place.backup) == ids_in_workbooks(place.backup) == sorted(ids), f"killed at step {at}"
        assert report.left == {}
        assert ids_in_csv(place.archives) == ids_in_workbooks(place.archives) == []
        assert [name for name in names(place.backup) if name.startswith(".")] == []
        if not killed:
            break
    assert at > 10


def test_killed_while_it_draws_the_plot_keeps_the_old_picture(
    places: Callable[[str], Place], stored_readings: StoredReadings
) -> None:
    place = places("plot")
    stored_readings(place.store, count=5)
    archive(place.settings, place.store)
    picture = place.archives / "graphique_combined.png"
    picture.write_bytes(b"the old one")

    killed = place.run_until("tests.bridge.archives:plot", ("os.replace",), 1)
    left = picture.read_bytes()
    plot_archives(place.settings)

    assert killed
    assert left == b"the old one"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [name for name in names(place.archives) if name.startswith(".")] == []
