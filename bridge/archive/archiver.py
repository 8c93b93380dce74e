"""The archiver: every reading that is in no archive yet goes to a CSV file and a workbook, both under one name.

The order of steps makes a kill harmless at any point: the intent with its
names is committed, rows are marked with it in chunks, the set is sealed, both
files are written beside, reach the disk and get their names, and the last
commit records their checksums. The next pass takes an open intent up where it
stands and writes its files again; so each reading is in exactly one archive.
"""

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.archive import durable
from bridge.archive.adoption import Adopted
from bridge.archive.csv_file import ArchiveCsv, quantity_columns
from bridge.archive.lock import archive_lock
from bridge.archive.names import Names, are_taken, free_names
from bridge.archive.summary import Summary
from bridge.archive.workbook import ROW_LIMIT, ArchiveWorkbook
from bridge.settings import BridgeSettings
from bridge.store import jobs, shelf
from bridge.store.database import Store
from bridge.store.schema import ArchiveState
from bridge.store.shelf import Abandoned, Archive
from mqtt_client.errors import StorageFull, TryLater
from mqtt_client.reading import format_time, from_ms, to_ms

log = logging.getLogger("archive")

Progress = Callable[[int, int], None]
"""Called with rows written and rows in all."""


def archive(
    settings: BridgeSettings,
    store: Store,
    *,
    now: datetime | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    row_limit: int = ROW_LIMIT,
) -> list[Archive]:
    """Finish what an earlier pass left open, then archive what is new; return the archives that were made.

    Waits while another process archives. Says in the store how it went.

    Args:
        settings: the bridge's.
        store: open.
        now: for the names; the wall clock unless given.
        progress: called as rows are written.
        stop: set to end early; the next pass goes on.
        row_limit: rows of one archive at most.

    Raises:
        StorageFull: a disk is full; nothing is lost, the next pass goes on.
        TryLater: a folder cannot be read or written; the same.
    """
    at = now or datetime.now(UTC)
    made: list[Archive] = []
    try:
        with archive_lock(settings, stop) as lock, _told(settings.archive_directory):
            one_pass = _Pass(settings, store.fenced(lock.check), progress, stop)
            for done in one_pass.run(at, row_limit):
                made.append(done)
                log.info("archived %d readings in %s", done.rows, settings.archive_directory / done.csv_name)
    except Abandoned:
        log.info("archiving stopped; the next pass goes on")
        return made
    except TryLater as exc:
        _report(settings, store, at, made, "failing", str(exc))
        raise
    _report(settings, store, at, made, "ok", None)
    return made


class _Pass:
    """One pass; remembers nothing that the store does not."""

    def __init__(
        self, settings: BridgeSettings, store: Store, progress: Progress | None, stop: threading.Event | None
    ) -> None:
        self._settings = settings
        self._store = store
        self._progress = progress or (lambda _done, _total: None)
        self._stop = stop
        self._folder = settings.archive_directory
        self._folders = (settings.archive_directory, settings.backup_directory)
        self._work = self._folder / f".archive-{store.id}.part"
        """Where files are written before they get their names."""
        self._csv, self._xlsx = self._work / "csv", self._work / "xlsx"

    def run(self, now: datetime, row_limit: int) -> Iterator[Archive]:
        """Finish open archives, then make new ones, until what waited at the start is archived."""
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._work, ignore_errors=True)
        unfinished = [self._leave_files_of_later_lives(one, now) for one in shelf.open_archives(self._store)]
        adopted = Adopted(self._store)
        adopted.look_into(self._folders)
        for archive in unfinished:
            done = self._finish(archive, row_limit, adopted, now)
            if done:
                yield done
        waiting = shelf.waiting(self._store)
        while waiting > 0:
            limit = min(waiting, row_limit)
            archive = shelf.begin(
                self._store, *self._free_names(now), self._settings.archive_csv, to_ms(now.astimezone(UTC))
            )
            done = self._finish(archive, limit, adopted, now)
            if done:
                yield done
            waiting = min(waiting - limit, shelf.waiting(self._store))

    def _leave_files_of_later_lives(self, archive: Archive, now: datetime) -> Archive:
        """Give an intent that cannot have written files yet other names where its own are taken.

        So it is when the store went back, from a backup, to a moment in which
        it was marking: those files hold all that was marked later.
        """
        names = Names(archive.csv_name, archive.xlsx_name)
        if archive.state is ArchiveState.MARKING and are_taken(names, self._folders):
            return self._rename(archive, now)
        return archive

    def _rename(self, archive: Archive, now: datetime) -> Archive:
        csv_name, xlsx_name = self._free_names(now)
        return shelf.change(self._store, archive, csv_name=csv_name, xlsx_name=xlsx_name)

    def _free_names(self, now: datetime) -> Names:
        local = now.astimezone(self._settings.timezone)
        known = shelf.known_names(self._store)
        return free_names(local, self._folders, lambda names: names.csv in known)

    def _finish(self, archive: Archive, limit: int, adopted: Adopted, now: datetime) -> Archive | None:
        """Take an open archive through all its steps; return it, None when nothing was left for it."""
        was_sealed = archive.state is ArchiveState.SEALED
        if archive.state is ArchiveState.MARKING:
            if not shelf.mark(self._store, archive, limit, adopted.claim, self._stop):
                shelf.cancel(self._store, archive)
                return None
            archive = shelf.change(self._store, archive, state=ArchiveState.SEALED)
        try:
            self._work.mkdir(exist_ok=True)
            summary = self._write(archive)
            checksums = durable.sha256(self._csv), durable.sha256(self._xlsx)
            archive = self._replace(archive) if was_sealed else self._place(archive, now)
        finally:
            shutil.rmtree(self._work, ignore_errors=True)
        return shelf.change(
            self._store,
            archive,
            state=ArchiveState.DONE,
            rows=summary.rows,
            first_ms=summary.first_ms,
            last_ms=summary.last_ms,
            csv_sha256=checksums[0],
            xlsx_sha256=checksums[1],
        )

    def _write(self, archive: Archive) -> Summary:
        """Write both files beside, to the disk; the rows pass by twice, since the header must know all quantities."""
        zone = self._settings.timezone
        summary = Summary(zone)
        for page in shelf.pages(self._store, archive.id, self._stop):
            summary.add(page)
        quantities = quantity_columns(summary.quantities)
        workbook = ArchiveWorkbook(
            self._xlsx,
            quantities,
            summary,
            zone,
            created=from_ms(archive.created_ms),
            language=self._settings.ui_language,
        )
        done = 0
        with workbook, ArchiveCsv(self._csv, archive.csv_form, quantities, zone) as table:
            for page in shelf.pages(self._store, archive.id, self._stop):
                table.write(page)
                workbook.write(page)
                done += len(page)
                self._progress(done, summary.rows)
        durable.sync_file(self._csv)
        durable.sync_file(self._xlsx)
        return summary

    def _replace(self, archive: Archive) -> Archive:
        """Give both files the names of an intent that an earlier pass may have used already."""
        os.replace(self._csv, self._folder / archive.csv_name)
        os.replace(self._xlsx, self._folder / archive.xlsx_name)
        durable.sync_folder(self._folder)
        return archive

    def _place(self, archive: Archive, now: datetime) -> Archive:
        """Give both files their names; where somebody took one since the intent, the intent gets others."""
        while True:
            csv_target, xlsx_target = self._folder / archive.csv_name, self._folder / archive.xlsx_name
            try:
                durable.rename_new(self._csv, csv_target)
            except FileExistsError:
                archive = self._rename(archive, now)
                continue
            try:
                durable.rename_new(self._xlsx, xlsx_target)
            except FileExistsError:
                os.replace(csv_target, self._csv)
                archive = self._rename(archive, now)
                continue
            durable.sync_folder(self._folder)
            return archive


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn the system's errors into one line that names the folder."""
    try:
        yield
    except TryLater:
        raise
    except OSError as exc:
        where = f" ({str(exc.filename)!r})" if exc.filename else ""
        line = f"cannot archive to {str(folder)!r}: {exc.strerror}{where}; nothing is lost, the next pass goes on"
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (StorageFull(line) if full else TryLater(line)) from exc


def _report(
    settings: BridgeSettings, store: Store, at: datetime, made: list[Archive], state: str, error: str | None
) -> None:
    """Say in the store how the pass went; what cannot be said is not worth a failure."""
    with suppress(TryLater):
        jobs.report(
            store,
            "archive",
            {
                "state": state,
                "last_run": format_time(at),
                "next_run": format_time(at + timedelta(seconds=settings.archive_interval)),
                "rows": sum(archive.rows or 0 for archive in made),
                "files": [archive.csv_name for archive in made],
                "error": error,
            },
        )
