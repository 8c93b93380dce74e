"""Where each reading is read from, so that it is read once: the store, or one file of its archive.

A reading belongs to one archive or to none yet. Those of an archive are read
from the store while it has all of them, else from the archive's CSV file or
workbook, in the archive or the backup folder, where that is as it was
written; else what the store still has is read, and the rest is told.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection, func, select

from bridge.archive import durable
from bridge.export.selection import Selection
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import now_ms
from bridge.store.schema import ArchiveState
from bridge.store.shelf import Archive

log = logging.getLogger("export")


@dataclass(frozen=True)
class Place:
    """A run of readings, sorted by time: rows of the store, or a file."""

    archive_id: int | None
    """Rows of the store with this archive; None: of none yet."""
    path: Path | None
    """The file; None: it is the store."""
    rows: int
    first_ms: int | None
    """No reading of it is earlier; None: unknown."""


@dataclass(frozen=True)
class Gap:
    """Readings of an archive that can be read nowhere."""

    archive: str
    rows: int
    reason: str

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.rows} readings of {self.archive} cannot be read: {self.reason}, and the store has forgotten them"
        )


class Whereabouts:
    """The places of what is asked for, at the moment of one transaction."""

    def __init__(self, settings: BridgeSettings, connection: Connection, selection: Selection) -> None:
        self._settings = settings
        self._folders = (settings.archive_directory, settings.backup_directory)
        self.gaps: list[Gap] = []
        self.places = list(self._find(connection, selection))

    @property
    def rows(self) -> int:
        """How many readings there are at most."""
        return sum(place.rows for place in self.places)

    def path_of(self, place: Place) -> Path:
        """Return where a file is now: a clean-up may have moved it since."""
        assert place.path is not None
        if place.path.exists():
            return place.path
        return self._settings.backup_directory / place.path.name

    def _find(self, connection: Connection, selection: Selection) -> Iterator[Place]:
        archives, readings = schema.archives, schema.readings.c
        held: dict[int | None, int] = {
            row[0]: row[1]
            for row in connection.execute(select(readings.archive_id, func.count()).group_by(readings.archive_id))
        }
        for row in connection.execute(select(archives).order_by(archives.c.first_ms)).mappings():
            archive = Archive(**{**row, "state": ArchiveState(row["state"])})
            in_store = held.pop(archive.id, 0)
            if not selection.overlaps(archive.first_ms, archive.last_ms):
                continue
            file = None
            if archive.state is ArchiveState.DONE and in_store < (archive.rows or 0):
                file = self._file_of(archive, in_store)
            if file is not None:
                yield Place(archive.id, file, archive.rows or 0, archive.first_ms)
            elif in_store:
                yield Place(archive.id, None, in_store, archive.first_ms)
        for archive_id, rows in held.items():  # in no archive yet
            yield Place(archive_id, None, rows, None)

    def _file_of(self, archive: Archive, in_store: int) -> Path | None:
        """Return a file with all readings of an archive; where there is none, note what is missing."""
        reasons = []
        for name, checksum in ((archive.csv_name, archive.csv_sha256), (archive.xlsx_name, archive.xlsx_sha256)):
            for path in (folder / name for folder in self._folders):
                if not path.exists():
                    continue
                if durable.sha256(path) == checksum:
                    return path
                reasons.append(f"{path} was changed")
        keep = timedelta(days=self._settings.backup_keep_days)
        is_old = bool(keep) and now_ms() - archive.created_ms > keep / timedelta(milliseconds=1)
        if reasons or not is_old:
            missing = (archive.rows or 0) - in_store
            self.gaps.append(Gap(archive.csv_name, missing, "; ".join(reasons) or "its files are gone"))
        return None
