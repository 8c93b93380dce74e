"""What the archives hold, read back by programs that are not ours: the csv module and openpyxl."""

import csv
import sys
from pathlib import Path

import openpyxl

from bridge.archive.moving import Moved, move
from bridge.settings import BridgeSettings
from bridge.store.database import Store
from tests.processes import python


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV archive in either form."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        delimiter = ";" if ";" in stream.readline() else ","
        stream.seek(0)
        return list(csv.DictReader(stream, delimiter=delimiter))


def sheet_rows(path: Path, sheet: int = 0) -> list[dict[str, object]]:
    """Return the rows of a sheet of a workbook."""
    book = openpyxl.load_workbook(path)
    header, *rows = book.worksheets[sheet].iter_rows(values_only=True)
    book.close()
    return [dict(zip(map(str, header), row, strict=True)) for row in rows]


def ids_in_csv(*folders: Path) -> list[str]:
    """Return the ids in all CSV archives of these folders, sorted, each as often as it is there."""
    return sorted(row["id"] for folder in folders for path in folder.glob("*.csv") for row in csv_rows(path))


def ids_in_workbooks(*folders: Path) -> list[str]:
    """Return the ids in all workbooks of these folders, sorted, each as often as it is there."""
    return sorted(str(row["id"]) for folder in folders for path in folder.glob("*.xlsx") for row in sheet_rows(path))


def names(folder: Path) -> list[str]:
    """Return the names in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


DRIVER = """
import os, signal, sys
from importlib import import_module

from bridge.settings import BridgeSettings
from bridge.store.database import open_store
from mqtt_client.settings import load

job, steps, at = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])
passed = 0


def deadly(step):
    def call(*arguments, **named):
        global passed
        passed += 1
        if passed == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments, **named)

    return call


for step in steps:
    owner, _, name = step.rpartition(".")
    module, _, kind = owner.partition(":")
    place = import_module(module)
    place = getattr(place, kind) if kind else place
    setattr(place, name, deadly(getattr(place, name)))
settings = load(BridgeSettings, os.environ)
store = open_store(settings.store_url)
module, _, name = job.partition(":")
getattr(import_module(module), name)(settings, store)
"""
"""Runs a job and dies by SIGKILL just before the n-th of these steps; ends in order when there are fewer."""


def deadly_command(job: str, steps: tuple[str, ...], at: int) -> list[str]:
    """Return a command that runs a job until just before its n-th step."""
    assert sys.executable
    return python("-c", DRIVER, job, ",".join(steps), str(at))


def move_archives(settings: BridgeSettings, _store: Store) -> None:
    """Move what a clean-up moves, without its plot."""
    settings.backup_directory.mkdir(parents=True, exist_ok=True)
    for path in sorted(settings.archive_directory.iterdir()):
        assert move(path, settings.backup_directory) in (Moved.MOVED, Moved.FINISHED)


def plot(settings: BridgeSettings, _store: Store) -> None:
    """Draw the archives."""
    from bridge.plot.plot import plot_archives

    plot_archives(settings)
