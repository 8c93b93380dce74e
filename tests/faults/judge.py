"""The verdict over a run, by sets: taken, received, lost as told, archived."""

import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openpyxl

from mqtt_client.reading import Reading, format_time, reading_id
from tests.faults.world import World, reading_from

SHOWN = 5


@dataclass
class Verdict:
    """What became of everything that was taken."""

    taken: int
    received: int
    lost: int
    doubled: int
    archived: int
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line of figures, then a line for each problem."""
        figures = (
            f"taken {self.taken}, received {self.received}, lost as told {self.lost}, doubled {self.doubled}, "
            f"archived {self.archived}, problems {len(self.problems)}"
        )
        return "\n".join([figures, *self.problems])


def judge(world: World, *, forgiven: frozenset[str] = frozenset()) -> Verdict:
    """Compare what was taken with where it went.

    Args:
        world: drained, and its last archive made.
        forgiven: ids that nobody can answer for: they lay on a card or disk that a test destroyed.
    """
    world.absorb()
    taken = world.ledger.taken
    received = received_by(world.receiver_database)
    lost = lost_in(world.store)
    tables = [row for folder in (world.archives, world.backup) for row in csv_rows(folder)]
    sheets = [row for folder in (world.archives, world.backup) for row in sheet_rows(folder)]
    problems: list[str] = []

    def complain(what: str, ids: set[str]) -> None:
        if ids:
            problems.append(f"{what}: {len(ids)}, such as {', '.join(sorted(ids)[:SHOWN])}")

    counted = Counter(str(body["id"]) for body in received)
    arrived = set(counted)
    doubled = {one for one, number in counted.items() if number > 1}
    complain("taken, and neither received nor told as lost", taken.keys() - arrived - lost - forgiven)
    complain("received, and still told as lost", (arrived & lost) - forgiven)
    unasked = lost - world.ledger.given_up - unknown_in(world.store) - forgiven
    complain("told as lost, and not given up by its node", unasked)
    complain("given up by its node, and neither received nor told", world.ledger.given_up - arrived - lost - forgiven)
    complain("received, and never taken", arrived - taken.keys())
    complain("doubled at the receiver", doubled)
    complain("taken twice, with different content", world.ledger.conflicts.keys() - forgiven)
    for form, rows in (("CSV", tables), ("XLSX", sheets)):
        times = Counter(str(row["id"]) for row in rows)
        complain(f"in more than one {form}", {one for one, number in times.items() if number > 1})
        complain(f"received, and in no {form}", arrived - times.keys())
        complain(f"in a {form}, and not received", times.keys() - arrived - forgiven)
        complain(
            f"other content in a {form}",
            {str(row["id"]) for row in rows if not _agrees(row, taken.get(str(row["id"])))} - forgiven,
        )
    complain(
        "other content at the receiver",
        {str(body["id"]) for body in received if not _agrees(body, taken.get(str(body["id"])))} - forgiven,
    )
    problems += _told(world, len(lost))
    problems += world.ended
    return Verdict(len(taken), len(received), len(lost & taken.keys()), len(doubled), len(tables), problems)


def _told(world: World, lost: int) -> list[str]:
    """Compare what bridge and nodes say of losses with what is lost."""
    problems: list[str] = []
    status = json.loads(world.run("status", "--json"))
    if status["lost"] != lost:
        problems.append(f"the bridge's status says {status['lost']} lost, its store holds {lost}")
    if status["dead_letters"]:
        problems.append(f"{status['dead_letters']} dead letters are left")
    return problems


def _agrees(row: dict[str, Any], reading: Reading | None) -> bool:
    """Tell whether a row says what the node stored."""
    if reading is None:
        return True  # complained of elsewhere
    time = row["time"]
    told = time if isinstance(time, str) else format_time(time.replace(tzinfo=UTC))
    if told != format_time(reading.time):
        return False
    return all(
        row.get(name) not in (None, "") and float(row[name]) == value for name, value in reading.values.items()
    )


def received_by(database: Path) -> list[dict[str, Any]]:
    """Return what the server has stored, in the order of arrival."""
    with reading_from(database) as connection:
        return [json.loads(body) for (body,) in connection.execute("SELECT body FROM readings ORDER BY number")]


def lost_in(store: Path) -> set[str]:
    """Return the ids that the bridge's store knows as lost."""
    query = (
        "SELECT nodes.name, sources.epoch, ranges.first, ranges.last FROM ranges "
        "JOIN sources ON sources.id = ranges.source_id JOIN nodes ON nodes.id = sources.node_id WHERE ranges.kind = 1"
    )
    with reading_from(store) as connection:
        return {
            reading_id(node, epoch, seq)
            for node, epoch, first, last in connection.execute(query)
            for seq in range(first, last + 1)
        }


def unknown_in(store: Path) -> set[str]:
    """Return the ids at which losses of unknown number begin."""
    query = (
        "SELECT nodes.name, sources.epoch, losses.first FROM losses JOIN sources ON sources.id = losses.source_id "
        "JOIN nodes ON nodes.id = sources.node_id WHERE losses.last IS NULL"
    )
    with reading_from(store) as connection:
        return {reading_id(node, epoch, first) for node, epoch, first in connection.execute(query)}


def csv_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all CSV archives of a folder."""
    rows: list[dict[str, Any]] = []
    for file in sorted(folder.glob("archive_*.csv")):
        with file.open(encoding="utf-8", newline="") as stream:
            rows += csv.DictReader(stream)
    return rows


def sheet_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all workbooks of a folder."""
    rows: list[dict[str, Any]] = []
    for file in sorted(folder.glob("archive_*.xlsx")):
        book = openpyxl.load_workbook(file, read_only=True)
        found = book.worksheets[0].iter_rows(values_only=True)
        header = [str(name) for name in next(found)]
        rows += [dict(zip(header, row, strict=False)) for row in found]
        book.close()
    return [_rounded(row) for row in rows]


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Undo what a workbook's dates, floating-point days, do to milliseconds."""
    time = row["time"]
    if isinstance(time, datetime):
        row["time"] = datetime.fromtimestamp(round(time.replace(tzinfo=UTC).timestamp(), 3), UTC)
    return row
