"""The whole way of a reading on one machine, with a live table; ``make demo`` starts this.

Two nodes, a broker, the bridge and a Flask server run as programs of their
own: one node replays real readings at twenty a second, the other makes one up
each second. At the end the readings are counted by their ids, each number
from what another program wrote: the nodes' outboxes, the server's database,
the archives. Everything is in one folder, which is made anew each time.
"""

import argparse
import csv
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import FrameType

from demo_programs import NODES, ROOT, DemoFailed, Programs
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from mqtt_client.errors import LockHeld
from mqtt_client.lock import FileLock

FOLDER = ROOT / "data" / "demo"
MARK = "demo.lock"
PLOT = "graphique_combined.png"
LINE_INTERVAL_S = 5
THROUGH_WITHIN_S = 60
QUICKLY_S = 10


@dataclass(frozen=True)
class Progress:
    """How far the readings of one node have come."""

    taken: int
    in_the_outbox: int
    committed: int
    forwarded: int
    archived: int
    lost: int

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in vars(self).items())


def rows(database: Path, query: str, *values: object) -> list[tuple[object, ...]]:
    """Return what a query finds in a database that another program writes; nothing where it is not there yet."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.OperationalError:
        return []


def count(database: Path, query: str, *values: object) -> int:
    """Return the one number that a query finds, 0 where the database is not there yet."""
    return sum(int(str(value)) for (value,) in rows(database, query, *values))


def epochs(programs: Programs, node: str) -> list[tuple[str, int]]:
    """Return each epoch of a node with the highest seq taken in it; they run from 1 without gaps."""
    found = rows(programs.outbox(node), "SELECT epoch, next_seq - 1 FROM epochs")
    return [(str(epoch), int(str(last))) for epoch, last in found]


def progress(programs: Programs, node: str) -> Progress:
    """Read from the databases how far a node's readings have come."""
    of_node = "source_id IN (SELECT s.id FROM sources s JOIN nodes n ON n.id = s.node_id WHERE n.name = ?)"
    readings = f"SELECT count(*) FROM readings WHERE {of_node}"
    lost = "ranges WHERE kind = 1"
    return Progress(
        taken=sum(last for _, last in epochs(programs, node)),
        in_the_outbox=count(programs.outbox(node), "SELECT count(*) FROM readings"),
        committed=count(programs.store, readings, node),
        forwarded=count(programs.store, f"{readings} AND forward_state IN (2, 3)", node),
        archived=count(
            programs.store, f"{readings} AND archive_id IN (SELECT id FROM archives WHERE state = 2)", node
        ),
        lost=count(programs.store, f"SELECT coalesce(sum(last - first + 1), 0) FROM {lost} AND {of_node}", node),
    )


def taken(programs: Programs) -> set[str]:
    """Return the ids of all readings that the nodes took."""
    return {
        f"{node}-{epoch}-{seq}"
        for node in NODES
        for epoch, last in epochs(programs, node)
        for seq in range(1, last + 1)
    }


def at_the_server(programs: Programs) -> Counter[str]:
    """Return how often the server has each id."""
    return Counter(str(key) for (key,) in rows(programs.received, "SELECT json_extract(body, '$.id') FROM readings"))


def in_archives(programs: Programs) -> Counter[str]:
    """Return how often each id is in the CSV archives."""
    return Counter(_ids_in(sorted(programs.archives.glob("*.csv"))))


def _ids_in(files: list[Path]) -> Iterator[str]:
    for path in files:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from (row["id"] for row in csv.DictReader(file))


class Screen:
    """What is shown while readings travel: a live table on a terminal, else a line now and then."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._console = Console()

    def show(self, until: threading.Event, seconds: float | None) -> None:
        """Show it until the event is set or the seconds are over; raises DemoFailed when a program ends."""
        started = time.monotonic()
        if not self._console.is_terminal:
            print(*self._hints(), sep="\n", flush=True)
        with Live(console=self._console, auto_refresh=False) as live:
            interval_s = 0.5 if self._console.is_terminal else LINE_INTERVAL_S
            while not until.is_set() and (seconds is None or time.monotonic() - started < seconds):
                self._programs.check()
                if self._console.is_terminal:
                    live.update(Group(self._table(), *self._hints()), refresh=True)
                else:
                    print(f"{time.monotonic() - started:4.0f} s  {self._found()['both']}", flush=True)
                left_s = interval_s if seconds is None else started + seconds - time.monotonic()
                until.wait(max(0.0, min(interval_s, left_s)))

    def _found(self) -> dict[str, Progress]:
        found = {node: progress(self._programs, node) for node in NODES}
        return found | {"both": Progress(*map(sum, zip(*map(astuple, found.values()), strict=True)))}

    def _table(self) -> Table:
        shown = Table("node", title="Readings, and how far they have come")
        for field in fields(Progress):
            shown.add_column(field.name.replace("_", " "), justify="right")
        for node, found in self._found().items():
            shown.add_row(node, *map(str, astuple(found)))
        return shown

    def _hints(self) -> list[str]:
        programs = self._programs
        return [
            f"Page:   http://127.0.0.1:{programs.web_port}/",
            f"Broker: {'mosquitto' if programs.mosquitto else 'iotcore, embedded, keeps nothing on disk'}",
            f"Watch:  mosquitto_sub -V mqttv5 -p {programs.broker_port} -t 'sensors/#' -v",
            f"Server: curl 'http://127.0.0.1:{programs.server_port}/data?limit=3'",
            f"Bridge: {sys.executable} -m bridge status --env-file {programs.env_file('bridge')}",
            "End:    Ctrl-C",
        ]


@dataclass(frozen=True)
class Summary:
    """What became of the readings, counted by their ids."""

    taken: frozenset[str]
    at_the_server: Counter[str]
    in_archives: Counter[str]

    @property
    def lost(self) -> int:
        """How many readings were taken and are not both at the server and in an archive."""
        return len(self.taken - (self.at_the_server.keys() & self.in_archives.keys()))

    @property
    def doubled(self) -> int:
        """How many readings too many there are at the server and in the archives."""
        return (self.at_the_server + self.in_archives).total() - len(self.at_the_server) - len(self.in_archives)

    @property
    def is_good(self) -> bool:
        """Whether every reading taken is at the server and in one archive, once, and none else is."""
        same = self.taken == self.at_the_server.keys() == self.in_archives.keys()
        return bool(self.taken) and same and not self.doubled

    def __str__(self) -> str:
        return (
            f"taken {len(self.taken)}, forwarded {len(self.at_the_server)}, archived {len(self.in_archives)}, "
            f"lost {self.lost}, doubled {self.doubled}"
        )


def finish(programs: Programs) -> Summary:
    """Take no more readings, let all come through, archive the rest, draw the plot, end everything and count."""
    print("Ending: the nodes first, then what is under way comes through ...", flush=True)
    ids = end_nodes(programs)
    programs.run_once("archive")
    programs.run_once("plot")
    programs.end()
    return Summary(ids, at_the_server(programs), in_archives(programs))


def end_nodes(programs: Programs) -> frozenset[str]:
    """End the nodes and wait until all that they took is at the server; return the ids of all that they took.

    A node that is told to end while the bridge has only just come keeps in its outbox what could not go yet; then it
    runs once more until that is through. After a minute the count tells how many are missing.
    """
    deadline = time.monotonic() + THROUGH_WITHIN_S
    while True:
        programs.end(*NODES)
        ids = frozenset(taken(programs))
        if come_through(programs, ids) or time.monotonic() > deadline:
            return ids
        programs.start_nodes()
        come_through(programs, ids)


def come_through(programs: Programs, ids: frozenset[str]) -> bool:
    """Wait a little until all of these are at the server; tell whether they are."""
    return programs.comes_true(lambda: ids <= at_the_server(programs).keys(), QUICKLY_S)


def prepare(folder: Path) -> FileLock:
    """Make the folder anew; raises DemoFailed where it holds something else, LockHeld where a demo runs in it."""
    mark = folder / MARK
    if folder.exists() and not mark.exists() and any(folder.iterdir()):
        raise DemoFailed(f"{folder} holds files that are not the demo's; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(mark, "the demo")
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        elif left != mark:
            left.unlink()
    return lock


def end_at_signals() -> threading.Event:
    """Return an event that the first Ctrl-C, or SIGTERM, sets; a second Ctrl-C is a KeyboardInterrupt."""
    asked = threading.Event()
    asked_at = time.monotonic()

    def note(number: int, _frame: FrameType | None) -> None:
        nonlocal asked_at
        if (
            number == signal.SIGINT and asked.is_set() and time.monotonic() - asked_at > 1
        ):  # not one Ctrl-C told twice
            raise KeyboardInterrupt
        if not asked.is_set():
            asked_at = time.monotonic()
            asked.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, note)
    return asked


def run(folder: Path, seconds: float | None, *, embedded: bool) -> int:
    """Run the demo; return its exit status."""
    asked_to_end = end_at_signals()
    lock = prepare(folder)
    programs = Programs(folder, embedded=embedded)
    try:
        programs.start()
        Screen(programs).show(asked_to_end, seconds)
        summary = finish(programs)
    finally:
        programs.kill()
        lock.release()
    archives = sorted(programs.archives.glob("*.csv"))
    if archives:
        print(f"An archive: {archives[-1]}, and {archives[-1].with_suffix('.xlsx').name} beside it")
    print(f"The plot:   {programs.archives / PLOT}")
    print(summary, flush=True)
    return 0 if summary.is_good else 1


def main() -> None:
    """Read the command line and run the demo."""
    parser = argparse.ArgumentParser(description="The whole way of a reading on this machine, with a live table.")
    parser.add_argument("--seconds", type=float, help="end after so many seconds; else on Ctrl-C")
    parser.add_argument("--embedded", action="store_true", help="use the embedded broker, also where mosquitto is")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where all its files go; made anew")
    given = parser.parse_args()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal in an older encoding
    try:
        sys.exit(run(given.folder.resolve(), given.seconds, embedded=given.embedded))
    except (DemoFailed, LockHeld) as exc:
        sys.exit(f"demo: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
