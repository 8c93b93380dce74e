"""Every archive against what was recorded of it: SHA-256 and rows of both files, wherever they lie.

Nothing is changed. A file that nobody recorded, and a recorded one that is
missing or was changed, are faults; what BACKUP_KEEP_DAYS has deleted, and the
files of the script that this replaces, are not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from bridge.archive import durable
from bridge.archive.csv_file import NoArchive, dialect
from bridge.archive.names import is_ours
from bridge.archive.workbook import SHEET, rows_of
from bridge.settings import BridgeSettings
from bridge.store import shelf
from bridge.store.database import Store, now_ms
from bridge.store.shelf import Archive

CHUNK_BYTES = 1 << 20

Progress = Callable[[int, int], None]
"""Called with archives looked at and archives in all."""


class State(Enum):
    """How a file is; the value is how it is printed."""

    GOOD = "good"
    UNFINISHED = "unfinished"
    """Of an open intent: its files may or may not be there."""
    DELETED = "deleted"
    """By BACKUP_KEEP_DAYS."""
    OLD = "old"
    """Of the script that this replaces, which recorded nothing."""
    MISSING = "missing"
    CHANGED = "changed"
    UNKNOWN = "unknown"

    @property
    def is_fault(self) -> bool:
        """Whether a person should look."""
        return self in (State.MISSING, State.CHANGED, State.UNKNOWN)


@dataclass(frozen=True)
class Finding:
    """What was found of one file."""

    state: State
    file: str
    """Its path, or its name where it is nowhere."""
    reason: str = ""

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.state.value:10} {self.file}" + (f": {self.reason}" if self.reason else "")


def verify(settings: BridgeSettings, store: Store, progress: Progress | None = None) -> Iterator[Finding]:
    """Look at every file of every archive, and for files that nobody recorded.

    Raises:
        OSError: a folder or a file cannot be read.
    """
    folders = (settings.archive_directory, settings.backup_directory)
    # Folders first: what is archived meanwhile is in the store's list, but not in theirs.
    lying = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()) if is_ours(path.name)]
    unfinished = {name for archive in shelf.open_archives(store) for name in (archive.csv_name, archive.xlsx_name)}
    archives = shelf.finished_archives(store, now_ms() + 10**12)
    known = {name for archive in archives for name in (archive.csv_name, archive.xlsx_name)}
    for done, archive in enumerate(archives, 1):
        try:
            yield from list(_verify(settings, archive, folders))
        except FileNotFoundError:  # a clean-up has just moved it
            yield from list(_verify(settings, archive, folders))
        if progress:
            progress(done, len(archives))
    for path in lying:
        if path.name in unfinished:
            yield Finding(State.UNFINISHED, str(path), "the next archiving finishes it")
        elif path.name not in known:
            yield _unrecorded(path)


def _verify(settings: BridgeSettings, archive: Archive, folders: tuple[Path, ...]) -> Iterator[Finding]:
    for name, checksum in ((archive.csv_name, archive.csv_sha256), (archive.xlsx_name, archive.xlsx_sha256)):
        if checksum is None:
            continue  # adopted after a restore without a workbook
        paths = [folder / name for folder in folders if (folder / name).is_file()]
        yield from (_compare(path, checksum, archive.rows) for path in paths)
        if not paths:
            yield _absent(settings, archive, name)


def _absent(settings: BridgeSettings, archive: Archive, name: str) -> Finding:
    keep_ms = timedelta(days=settings.backup_keep_days) / timedelta(milliseconds=1)
    if keep_ms and now_ms() - archive.created_ms > keep_ms:
        return Finding(State.DELETED, name, f"older than BACKUP_KEEP_DAYS ({settings.backup_keep_days:g})")
    return Finding(State.MISSING, name, f"{archive.rows} readings; in neither folder")


def _compare(path: Path, checksum: str, rows: int | None) -> Finding:
    if durable.sha256(path) != checksum:
        return Finding(State.CHANGED, str(path), "its SHA-256 is not the recorded one")
    counted = _rows_in(path)
    if counted != rows:
        return Finding(State.CHANGED, str(path), f"it has {counted} rows, recorded are {rows}")
    return Finding(State.GOOD, str(path), f"{rows} rows")


def _rows_in(path: Path) -> int:
    """Count the rows below the header; what is counted is a file whose checksum is right."""
    if path.suffix == ".csv":
        with path.open("rb") as stream:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(CHUNK_BYTES), b"")) - 1
    rows, tail = 0, b""
    with ZipFile(path) as book, book.open(SHEET) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            whole = tail + chunk
            rows += whole.count(b"<row ")
            tail = whole[-4:]  # shorter than what is counted, so nothing is counted twice
    return rows - 1


def _unrecorded(path: Path) -> Finding:
    try:
        columns = dialect(path)[1] if path.suffix == ".csv" else [str(cell) for cell in next(rows_of(path), ())]
    except (NoArchive, BadZipFile):
        return Finding(State.UNKNOWN, str(path), "no archive of ours, and the store does not know it")
    if "id" in columns:
        return Finding(State.UNKNOWN, str(path), "the store does not know it")
    return Finding(State.OLD, str(path), "of the script that this replaces")
