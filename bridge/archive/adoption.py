"""After a restore: archive files that the store does not know are made known, so that nothing is archived again.

A store that was put back from a backup does not know the archives of the time
since. Their CSV files do: each gets a row in ``archives``, and the sequence
numbers in it are kept as intervals, so that its readings belong to it also
when the nodes send them once more. All of one file is one commit.
"""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from bridge.archive import csv_file as archive_csv
from bridge.archive import durable
from bridge.archive.csv_file import NoArchive
from bridge.archive.names import is_ours
from bridge.local_times import parse_rfc3339
from bridge.store import schema, shelf
from bridge.store.database import Store
from bridge.store.schema import ArchiveState
from bridge.store.shelf import Archive, Held
from mqtt_client.intervals import Intervals

log = logging.getLogger("archive")

_ADOPTED = "adopted archives"
_FOREIGN = "foreign archives"


class Adopted:
    """The readings that files hold which the store did not write, as far as it knows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.read() as connection:
            self._files = _load(connection, _ADOPTED)
            self._foreign = set(_load(connection, _FOREIGN))
        self._names: dict[int, tuple[str, str]] = {}
        self._intervals: dict[tuple[str, str], list[tuple[int, Intervals]]] = {}
        for archive_id, sources in self._files.items():
            self._hold(int(archive_id), sources)

    def look_into(self, folders: Iterable[Path]) -> None:
        """Adopt what lies in these folders under names of ours that the store does not know.

        Raises:
            OSError: a folder or a file cannot be read.
        """
        found = {path.name: path for folder in folders if folder.is_dir() for path in folder.glob("archive_*.csv")}
        news = {name for name in found if is_ours(name)} - self._foreign
        for name in sorted(news - shelf.known_names(self._store) if news else ()):
            try:
                self._adopt(found[name])
            except NoArchive as exc:
                log.warning("%s is ignored: %s", found[name], exc)
                self._foreign.add(name)
                with self._store.write() as connection:
                    _save(connection, _FOREIGN, sorted(self._foreign))

    def claim(self, held: Held) -> int | None:
        """Return the archive whose file has this reading already."""
        if not self._intervals:
            return None
        if held.source_id not in self._names:
            self._names = shelf.source_names(self._store)
        for archive_id, intervals in self._intervals.get(self._names[held.source_id], ()):
            if held.seq in intervals:
                return archive_id
        return None

    def _adopt(self, path: Path) -> None:
        sources: dict[str, dict[str, Intervals]] = {}
        rows, times = 0, ("", "")
        for node, epoch, seq, time in archive_csv.identities(path):
            sources.setdefault(node, {}).setdefault(epoch, Intervals()).add(seq, seq)
            times = (times[0] if rows else time, time)
            rows += 1
        workbook = path.with_suffix(".xlsx")
        first, last = map(_milliseconds, times)
        archive = Archive(
            id=0,
            state=ArchiveState.DONE,
            created_ms=int(path.stat().st_mtime * 1000),
            csv_name=path.name,
            xlsx_name=workbook.name,
            csv_form=archive_csv.form_of(path),
            rows=rows,
            first_ms=first,
            last_ms=last,
            csv_sha256=durable.sha256(path),
            xlsx_sha256=durable.sha256(workbook) if workbook.exists() else None,
        )
        found = {
            node: {epoch: [list(pair) for pair in held] for epoch, held in epochs.items()}
            for node, epochs in sources.items()
        }
        with self._store.write() as connection:
            archive = shelf.add(connection, archive)
            self._files[str(archive.id)] = found
            _save(connection, _ADOPTED, self._files)
        self._hold(archive.id, found)
        log.warning("%s is an archive that the store did not know; its %d readings stay there", path, rows)

    def _hold(self, archive_id: int, sources: dict[str, dict[str, list[list[int]]]]) -> None:
        for node, epochs in sources.items():
            for epoch, pairs in epochs.items():
                intervals = Intervals((first, last) for first, last in pairs)
                self._intervals.setdefault((node, epoch), []).append((archive_id, intervals))


def _milliseconds(time: str) -> int | None:
    try:
        return parse_rfc3339(time)
    except (ValueError, OverflowError):
        return None  # only for people to read; the identities count


def _load(connection: Connection, key: str) -> Any:
    kept = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == key))
    return json.loads(kept) if kept else {}


def _save(connection: Connection, key: str, value: object) -> None:
    connection.execute(delete(schema.meta).where(schema.meta.c.key == key))
    connection.execute(insert(schema.meta).values(key=key, value=json.dumps(value)))
