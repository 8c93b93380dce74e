"""i: a fleet of simulated nodes, each with a connection of its own: lag, memory and CPU of what runs on the server.

Lag is how many readings were published and are not at the server yet, looked
at each second, and how long each one took, by the store's own times; neither
may grow. Everything shares this machine: nodes, broker, bridge and a server
that answers at once. Every receipt is awaited, so nothing is lost unseen.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Executable, func, select

from benchmarks import nodes
from benchmarks.ending import end_in_order_when_told
from benchmarks.load import FastServer
from benchmarks.measuring import Figure, cpu_s, median, peak_mib, percentile, raise_file_limit, tell
from benchmarks.nodes import INTERVAL_S, Tally
from bridge.store import schema
from bridge.store.database import Store, open_store
from bridge.store.schema import Forward
from tests.processes import Mosquitto, Process, eventually, python

PROCESSES = 2
JOBS = ("ingest", "forward", "archive")
"""``archive`` adds the roll-ups up; its first archive is an hour away."""
LOOK_S = 1.0


@dataclass(frozen=True)
class Look:
    """One moment."""

    published: int
    committed: int
    forwarded: int


@contextmanager
def running(folder: Path, size: int, batch_size: int) -> Iterator[tuple[int, dict[str, Process]]]:
    """Start broker, server and bridge; give the broker's port and the processes by name, and end them."""
    started: dict[str, Process] = {}
    try:
        broker = started["mosquitto"] = Mosquitto(folder / "broker", f"max_connections {size + 100}")
        server = started["server"] = FastServer(folder)
        environment = {
            **os.environ,
            "MQTT_PORT": str(broker.port),
            "STORE_URL": f"sqlite:///{folder}/bridge.db",
            "SERVER_URL": server.url,
            "SERVER_BATCH_SIZE": str(batch_size),
        }
        for job in JOBS:
            command = python("-m", "bridge", "run", "--only", job)
            started[job] = Process(command, folder / f"{job}.log", environment, folder)
        eventually(lambda: "connected to the broker" in started["ingest"].output(), told=started["ingest"].output)
        yield broker.port, started
    finally:
        for process in started.values():
            process.kill()


def look(store: Store, tally: Tally) -> Look:
    """Count, without a scan."""
    table = schema.readings
    waiting = select(func.count()).select_from(table).where(table.c.forward_state < Forward.SETTLED)
    with store.read() as connection:
        committed = connection.scalar(select(func.max(table.c.id))) or 0
        forwarded = committed - (connection.scalar(waiting) or 0)
    return Look(sum(tally.published), committed, forwarded)


def drive(store: Store, port: int, size: int, seconds: float, programs: Mapping[str, Process]) -> list[Figure]:
    """Let the nodes publish, look on, and return the figures."""
    context = multiprocessing.get_context("fork")
    tally = Tally(PROCESSES)
    names = [f"node-{number}" for number in range(size)]
    shares = [names[slot::PROCESSES] for slot in range(PROCESSES)]
    children = [
        context.Process(target=nodes.run, args=(port, share, seconds, tally, slot), daemon=True)
        for slot, share in enumerate(shares)
    ]
    begin = time.perf_counter()
    for child in children:
        child.start()
    known = select(func.count()).select_from(schema.nodes).where(schema.nodes.c.info.is_not(None))
    eventually(lambda: _alive(children) and sum(tally.connected) == size, within_s=120)
    connected_s = time.perf_counter() - begin
    eventually(lambda: _count(store, known) == size, within_s=120, told=programs["ingest"].output)
    known_s = time.perf_counter() - begin
    before = {name: cpu_s(process.process.pid) for name, process in programs.items()}
    tally.begin_ms.value = int((time.time() + 0.5) * 1000)
    looks: list[Look] = []
    while any(child.is_alive() for child in children):
        time.sleep(LOOK_S)
        looks.append(look(store, tally))
    eventually(lambda: _is_forwarded(store, tally), within_s=60, told=programs["forward"].output)
    used = {name: cpu_s(process.process.pid) - before[name] for name, process in programs.items()}
    looks = [one for one in looks if one.published < sum(tally.published)]
    return [
        *_outcome(tally, size, f"connected in {connected_s:.0f} s, all known after {known_s:.0f} s"),
        *_lag(looks),
        *_times(store, tally.begin_ms.value, seconds),
        *_costs(programs, used, seconds),
    ]


def _alive(children: Sequence[multiprocessing.process.BaseProcess]) -> bool:
    assert all(child.is_alive() for child in children), "a process of the fleet has ended"
    return True


def _count(store: Store, query: Executable) -> int:
    with store.read() as connection:
        return int(connection.scalar(query) or 0)


def _is_forwarded(store: Store, tally: Tally) -> bool:
    now = look(store, tally)
    return now.forwarded >= now.published


def _outcome(tally: Tally, size: int, note: str) -> list[Figure]:
    published = sum(tally.published)
    assert sum(tally.receipted) == published, f"{sum(tally.receipted)} of {published} readings are receipted"
    assert not sum(tally.refused), f"{sum(tally.refused)} publishes were refused"
    late = f"the load itself was at most {max(tally.late_ms)} ms late"
    return [
        Figure("nodes", size, "connections", note=note),
        Figure("readings published, receipted and at the server", published, "readings", note=late),
    ]


def _lag(looks: Sequence[Look]) -> list[Figure]:
    """How many readings were on their way, at the beginning, at the end and at most."""
    on_the_way = [one.published - one.forwarded for one in looks]
    fifth = max(1, len(looks) // 5)
    return [
        Figure("on their way, first fifth", median(on_the_way[:fifth]), "readings"),
        Figure("on their way, last fifth", median(on_the_way[-fifth:]), "readings"),
        Figure("on their way, at most", max(on_the_way), "readings"),
        Figure("not committed yet, at most", max(one.published - one.committed for one in looks), "readings"),
    ]


def _times(store: Store, begin_ms: int, seconds: float) -> list[Figure]:
    """How long readings took from the sensor to the store and to the server, at the beginning and at the end."""
    readings = schema.readings.c
    query = select(readings.time_ms, readings.received_ms, readings.forwarded_ms)
    with store.read() as connection:
        rows = connection.execute(query).all()
    fifth = seconds * 1000 / 5
    figures = []
    for name, first in (("first", begin_ms), ("last", begin_ms + 4 * fifth)):
        some = [row for row in rows if first <= row.time_ms < first + fifth]
        for where, taken in (
            ("store", [row.received_ms - row.time_ms for row in some]),
            ("server", [row.forwarded_ms - row.time_ms for row in some]),
        ):
            note = f"p50 {percentile(taken, 50):.0f} ms, worst {max(taken)} ms"
            figures.append(Figure(f"until {where}, p99, {name} fifth", percentile(taken, 99), "ms", note=note))
    return figures


def _costs(programs: Mapping[str, Process], used: Mapping[str, float], seconds: float) -> list[Figure]:
    peaks = {name: peak_mib(process.process.pid) for name, process in programs.items()}
    both = sum(peaks[job] for job in ("ingest", "forward"))
    return [
        *(Figure(name, 100 * used[name] / seconds, "% of a core", used[name], peaks[name]) for name in programs),
        Figure("ingest and forward together", both, "MiB", note="most that each had resident"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--batch", type=int, default=100, help="SERVER_BATCH_SIZE")
    options = parser.parse_args()
    end_in_order_when_told()
    raise_file_limit()
    with tempfile.TemporaryDirectory() as name:
        store = open_store(f"sqlite:///{name}/bridge.db")  # made here, as the service does before its jobs start
        with running(Path(name), options.nodes, options.batch) as (port, programs):
            figures = drive(store, port, options.nodes, options.seconds, programs)
        store.close()
    rate = options.nodes / INTERVAL_S
    what = "one POST a reading" if options.batch == 1 else f"arrays of {options.batch}"
    tell(
        "fleet" if options.batch > 1 else "fleet_singles",
        f"i. {options.nodes:,} nodes, a reading in {INTERVAL_S:g} s each ({rate:,.0f}/s) for {options.seconds:g} s, "
        f"{what} to the server",
        figures,
    )
