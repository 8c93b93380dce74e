"""Clean-up: the plot of what lies in the archive folder, then its archives move to the backup folder.

Then backups older than BACKUP_KEEP_DAYS are deleted, and the store forgets
readings that everybody has. Nothing is remembered: what a kill left half done
the next run finds by the files themselves.

A backup's age is its time of modification, which a move keeps; where a file
system keeps none, the time in its name. Deleted is only what is named as our
archives are and was not changed since: a file whose checksum is not the
recorded one is somebody's work. And nothing is deleted by a clock that leapt
just now (cleanup_clock.py).
"""

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.archive import durable
from bridge.archive.cleanup_clock import doubt
from bridge.archive.lock import archive_lock
from bridge.archive.moving import Moved, move
from bridge.archive.names import is_ours, written_at
from bridge.errors import NotFound
from bridge.plot.frames import archive_files
from bridge.plot.plot import draw_folder
from bridge.settings import BridgeSettings
from bridge.store import jobs, shelf
from bridge.store.database import Store
from bridge.store.schema import ArchiveState
from bridge.store.shelf import Abandoned
from mqtt_client.errors import TryLater
from mqtt_client.reading import format_time, to_ms

log = logging.getLogger("cleanup")

NO_TIMES_BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
"""A modification time before this says that the file system keeps none."""


@dataclass
class CleanupReport:
    """What a clean-up did."""

    plot: Path | None = None
    moved: list[Path] = field(default_factory=list)
    left: dict[Path, str] = field(default_factory=dict)
    """Files that stay for the next time, and why."""
    deleted: list[Path] = field(default_factory=list)
    doubt: str = ""
    """Why the clock is not believed, and no backup deleted; empty where it is."""
    pruned: int = 0
    """Readings that the store forgot."""


def cleanup(
    settings: BridgeSettings, store: Store, *, now: datetime | None = None, stop: threading.Event | None = None
) -> CleanupReport:
    """Draw, move, delete what is too old, and prune the store. Waits while another process archives.

    Raises:
        TryLater: a folder cannot be read or written; nothing is lost, the next clean-up goes on.
    """
    at = now or datetime.now(UTC)
    report = CleanupReport()
    error = None
    try:
        with archive_lock(settings, stop) as lock:
            store = store.fenced(lock.check)
            _draw(settings, report)
            shelf.check(stop)
            _move(settings, store, report, stop)
            _delete_old(settings, store, report, at)
            report.pruned = shelf.prune(
                store,
                received_ms=to_ms(at - timedelta(days=settings.store_keep_days)),
                forwarding=settings.server_url is not None,
                stop=stop,
            )
    except Abandoned:
        log.info("clean-up stopped; the next one goes on")
        return report
    except TryLater as exc:
        error = str(exc)
        raise
    except OSError as exc:
        error = f"cannot clean up: {exc.strerror} ({exc.filename!r}); nothing is lost, the next clean-up goes on"
        raise TryLater(error) from exc
    finally:
        _tell(settings, store, report, at, error)
    return report


def _draw(settings: BridgeSettings, report: CleanupReport) -> None:
    """Draw what lies there; where that fails the archives move all the same."""
    try:
        report.plot = draw_folder(settings)
    except NotFound as exc:
        log.info("%s", exc)
    except OSError as exc:
        log.error("the plot cannot be written: %s", exc)


def _move(settings: BridgeSettings, store: Store, report: CleanupReport, stop: threading.Event | None) -> None:
    folder = settings.backup_directory
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = {name for archive in shelf.open_archives(store) for name in (archive.csv_name, archive.xlsx_name)}
    for path in archive_files(settings.archive_directory):
        shelf.check(stop)
        if path.name in unfinished:
            _leave(report, path, "its archive is not finished yet")
            continue
        try:
            outcome = move(path, folder)
        except OSError as exc:
            _leave(report, path, f"it cannot be moved: {exc.strerror} ({exc.filename!r})")
            continue
        if outcome is Moved.IN_USE:
            _leave(report, path, "somebody has it open")
        elif outcome is Moved.TAKEN:
            _leave(report, path, f"another file of that name is in {str(folder)!r}")
        else:
            report.moved.append(folder / path.name)
    if report.moved:
        log.info("moved %d files to %s", len(report.moved), folder)


def _leave(report: CleanupReport, path: Path, reason: str) -> None:
    report.left[path] = reason
    log.warning("%s stays where it is until the next time: %s", path, reason)


def _delete_old(settings: BridgeSettings, store: Store, report: CleanupReport, now: datetime) -> None:
    leapt = doubt(store, now, settings.cleanup_interval)
    if settings.backup_keep_days <= 0:
        return
    if leapt:
        report.doubt = leapt
        log.warning("no backup is deleted: %s", leapt)
        return
    limit = now - timedelta(days=settings.backup_keep_days)
    for path in archive_files(settings.backup_directory):
        if not is_ours(path.name) or _age_of(path, settings) > limit:
            continue
        if _is_recorded(path, store):
            path.unlink()
            report.deleted.append(path)
        else:
            _leave(report, path, "it is old enough to be deleted, but was changed since it was written")
    if report.deleted:
        log.info("deleted %d backups older than %g days", len(report.deleted), settings.backup_keep_days)


def _age_of(path: Path, settings: BridgeSettings) -> datetime:
    modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    named = written_at(path.name)
    if modified >= NO_TIMES_BEFORE or named is None:
        return modified
    return named.replace(tzinfo=settings.timezone).astimezone(UTC)


def _is_recorded(path: Path, store: Store) -> bool:
    """Tell whether a file is as its archive was finished, or of an archive that the store knows nothing of."""
    archive = shelf.archive_of_file(store, path.name)
    if archive is None:
        return True
    recorded = archive.csv_sha256 if path.name == archive.csv_name else archive.xlsx_sha256
    return archive.state is ArchiveState.DONE and recorded in (None, durable.sha256(path))


def _tell(settings: BridgeSettings, store: Store, report: CleanupReport, at: datetime, error: str | None) -> None:
    with suppress(TryLater):
        jobs.report(
            store,
            "cleanup",
            {
                "state": "failing" if error else "ok",
                "last_run": format_time(at),
                "next_run": format_time(at + timedelta(seconds=settings.cleanup_interval)),
                "moved": len(report.moved),
                "left": {str(path): reason for path, reason in report.left.items()},
                "deleted": len(report.deleted),
                "doubt": report.doubt,
                "pruned": report.pruned,
                "error": error,
            },
        )
