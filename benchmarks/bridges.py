"""Several bridges over one PostgreSQL store, beside one, and beside one over SQLite: into the store, and to a server.

Singles and backlog messages of NODES nodes are published live, as fast as the
broker takes them, until all are committed; then they are forwarded one by one
and in arrays to a server that answers at once. Every reading must be committed
once and sent once.

Bridges, database, broker, publisher and server share this machine's cores. So
this shows that several bridges over one store are correct, what sharing costs,
and how much they wait for each other's row locks (beside each figure: how many
bridges did so on average). It cannot show a speed-up: one bridge and its
database fill two cores already.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sqlalchemy import Executable, func, select, text

from benchmarks.ending import end_in_order_when_told
from benchmarks.load import FastServer, backlog, payload, publish_all
from benchmarks.measuring import Figure, cpu_s, peak_mib, tell
from bridge.store import schema
from bridge.store.database import Store, open_store
from bridge.store.outgoing import ANSWERED
from bridge.store.schema import Forward, RangeKind
from tests.postgres import PostgreSQL
from tests.processes import Mosquitto, Process, eventually, python

NODES = 997
"""A prime: whatever the number of bridges, the broker's turns bring every node's messages to all of them."""
SINGLES = 20 * NODES
BACKLOG = 100 * NODES
IN_A_MESSAGE = 25
POSTED_ALONE = 8_000
LOOK_S = 0.05

RANGES = schema.ranges.c
COMMITTED = select(func.sum(RANGES.last - RANGES.first + 1)).where(RANGES.kind == RangeKind.COMMITTED)
ARRIVED = select(schema.counters.c.value).where(schema.counters.c.name == f"{ANSWERED}204")
WAITING = select(func.count()).where(schema.readings.c.forward_state < Forward.SETTLED)
SENT = select(func.sum(schema.readings.c.forward_tries))
LOCKED = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    "AND pid <> pg_backend_pid()"
)


@dataclass
class Setup:
    """Some bridges over one store."""

    name: str
    url: str
    bridges: int
    folder: Path
    broker: Mosquitto
    server: FastServer
    database: PostgreSQL | None
    figures: list[Figure] = field(default_factory=list)

    @contextmanager
    def running(self, job: str, **variables: str) -> Iterator[list[Process]]:
        """Run one job of each bridge for a block."""
        processes: list[Process] = []
        try:
            for number in range(1, self.bridges + 1):
                environment = {
                    **os.environ,
                    "MQTT_PORT": str(self.broker.port),
                    "STORE_URL": self.url,
                    "BRIDGE_ID": f"b{number}",
                    **({"BRIDGE_SHARE_GROUP": "fleet"} if self.database else {}),
                    **variables,
                }
                log = self.folder / f"{job}-{len(self.figures)}-{number}.log"
                processes.append(Process(python("-m", "bridge", "run", "--only", job), log, environment, self.folder))
            yield processes
            for process in processes:
                process.stop()
        finally:
            for process in processes:
                process.kill()

    def database_cpu_s(self) -> float:
        """Return the CPU seconds of the database's processes so far; 0 where it is part of the bridge."""
        if self.database is None:
            return 0.0
        words = (self.database.log.parent / "data" / "postmaster.pid").read_text(encoding="utf-8").split()
        used = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                numbers = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            if stat.parent.name == words[0]:
                used += sum(map(int, numbers[11:15]))  # with its ended children
            elif numbers[1] == words[0]:
                used += sum(map(int, numbers[11:13]))
        return used / os.sysconf("SC_CLK_TCK")


def number(store: Store, query: Executable) -> int:
    """Return the number that a query finds."""
    with store.read() as connection:
        return int(connection.scalar(query) or 0)


def is_connected(process: Process) -> bool:
    """Tell whether an ingest is."""
    return "connected to the broker" in process.output()


def missing(store: Store, query: Executable, wanted: int) -> int:
    """Return how many the query finds too few."""
    return wanted - number(store, query)


def has_passed(store: Store, query: Executable, before: int) -> bool:
    """Tell whether the query finds more than before."""
    return number(store, query) > before


def timed(setup: Setup, store: Store, name: str, processes: list[Process], left: Callable[[], int]) -> None:
    """Wait until nothing is left, and note the rate, what it cost, and how many bridges waited for locks."""
    before = sum(cpu_s(one.process.pid) for one in processes), setup.database_cpu_s()
    first, begin = left(), time.perf_counter()
    locked: list[int] = []
    while (rest := left()) > 0:
        if setup.database:
            locked.append(number(store, LOCKED))
        assert time.perf_counter() < begin + 120, "\n".join(one.output()[-2000:] for one in processes)
        time.sleep(LOOK_S)
    took_s = time.perf_counter() - begin
    own = sum(cpu_s(one.process.pid) for one in processes) - before[0]
    database = setup.database_cpu_s() - before[1]
    note = f"database {database:.2f} CPU s; {statistics.fmean(locked):.2f} waiting for locks" if locked else ""
    peak = sum(peak_mib(one.process.pid) for one in processes)
    setup.figures.append(Figure(f"{name}, {setup.name}", (first - rest) / took_s, "readings/s", own, peak, note=note))


def ingest(setup: Setup, store: Store) -> None:
    """Publish live, singles and then backlog messages, and wait for the commits."""
    loads: dict[str, tuple[int, Iterable[tuple[str, bytes]]]] = {
        "singles into the store": (SINGLES, (payload("live", one, NODES) for one in range(SINGLES))),
        "backlog into the store": (
            BACKLOG,
            (
                (f"sensors/node{node}/backlog", backlog("backlog", first, IN_A_MESSAGE, f"node{node}"))
                for first in range(1, BACKLOG // NODES, IN_A_MESSAGE)
                for node in range(NODES)
            ),
        ),
    }
    done = 0
    with setup.running("ingest", SERVER_URL="") as processes:
        for process in processes:
            eventually(partial(is_connected, process), told=process.output)
        for name, (count, messages) in loads.items():
            ready = list(messages)
            done += count
            with publishing(setup.broker.port, ready):
                timed(setup, store, name, processes, partial(missing, store, COMMITTED, done))


@contextmanager
def publishing(port: int, messages: list[tuple[str, bytes]]) -> Iterator[None]:
    """Publish from a process of its own, beside the block."""
    child = os.fork()
    if child == 0:
        publish_all(port, messages)
        os._exit(0)
    yield
    os.waitpid(child, 0)


def forward(setup: Setup, store: Store) -> None:
    """Post some readings one by one and the rest in arrays; whatever was claimed at an end is settled by then."""
    for name, size, wanted in (
        ("one POST a reading", 1, POSTED_ALONE),
        ("arrays of 500", 500, SINGLES + BACKLOG),
    ):
        before = number(store, ARRIVED)
        variables = {"SERVER_URL": setup.server.url, "SERVER_BATCH_SIZE": str(size)}
        with setup.running("forward", **variables) as processes:
            eventually(partial(has_passed, store, ARRIVED, before))
            timed(setup, store, name, processes, partial(missing, store, ARRIVED, wanted))


def judge(setup: Setup, store: Store) -> None:
    """Every reading is there once and was sent once."""
    held = number(store, select(func.count()).select_from(schema.readings))
    repeats = number(store, select(func.sum(schema.sources.c.repeats)))
    found = (held, repeats, number(store, SENT), number(store, WAITING))
    wanted = (SINGLES + BACKLOG, 0, SINGLES + BACKLOG, 0)
    assert found == wanted, f"{setup.name}: held, repeats, sent, waiting are {found}, not {wanted}"


def with_ratios(setups: list[Setup]) -> list[Figure]:
    """Return all figures by load, each with its ratio to one bridge over PostgreSQL."""
    one = next(setup for setup in setups if setup.database and setup.bridges == 1)
    return [
        Figure(
            figure.name,
            figure.value,
            figure.unit,
            figure.cpu_s,
            figure.peak_mib,
            figure.value / one.figures[row].value,
            figure.note,
        )
        for row in range(len(one.figures))
        for figure in (setup.figures[row] for setup in setups)
    ]


def measure(folder: Path, numbers: Iterable[int]) -> list[Figure]:
    """Return the figures of one bridge over SQLite, and of so many over PostgreSQL."""
    database = PostgreSQL(folder / "postgres")
    server = FastServer(folder)
    setups: list[Setup] = []
    try:
        admin = open_store(database.url)
        for bridges in (0, *numbers):
            place = folder / f"bridges-{bridges}"
            place.mkdir()
            broker = Mosquitto(place / "broker", "max_queued_bytes 0\nmax_packet_size 65536")
            if bridges:
                with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    connection.exec_driver_sql(f"CREATE DATABASE bridges_{bridges}")
                url = f"{database.url.removesuffix('postgres')}bridges_{bridges}"
                name = f"{bridges} over PostgreSQL"
            else:
                url, name = f"sqlite:///{place}/bridge.db", "1 over SQLite"
            setup = Setup(name, url, bridges or 1, place, broker, server, database if bridges else None)
            store = open_store(url)
            try:
                ingest(setup, store)
                forward(setup, store)
                judge(setup, store)
            finally:
                store.close()
                broker.kill()
            setups.append(setup)
        admin.close()
    finally:
        server.kill()
        database.stop()
    return with_ratios(setups)


if __name__ == "__main__":
    end_in_order_when_told()
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), [int(word) for word in sys.argv[1:]] or (1, 2, 3))
    tell(
        "bridges",
        f"Bridges over one store, readings of {NODES:,} nodes; CPU and memory of all bridges together "
        "(ratio to one bridge over PostgreSQL, one run)",
        found,
    )
