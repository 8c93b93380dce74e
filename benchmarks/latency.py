"""d: end to end, from a reading's publish to its arrival at the server, at 1, 100 and 1,000 readings a second.

Publisher and server are small processes of their own (benchmarks/steady.py),
so what is measured is broker, ingest (commit) and forwarder (claim, POST).
Once idle, and once while a million rows are archived beside.
"""

import argparse
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks.forward import fill
from benchmarks.measuring import Figure, cpu_s, percentile, tell
from benchmarks.steady import Arrivals, Sensors
from tests.processes import Mosquitto, Process, eventually, python

RATES = {1: 30, 100: 2_000, 1_000: 15_000}
"""Readings a second: how many are sent."""
ARCHIVED = 1_000_000


def measure(folder: Path, title: str, rate: int, prepared: Path | None = None) -> list[Figure]:
    """Return p50 and p99 in milliseconds at a rate, with the CPU seconds of ingest and forwarder.

    Args:
        folder: does not exist yet.
        title: of the figures.
        rate: readings a second.
        prepared: a store with rows to archive meanwhile; None: idle, with a new store.
    """
    folder.mkdir()
    database = folder / "bridge.db"
    if prepared is not None:
        shutil.copyfile(prepared, database)
    broker = Mosquitto(folder / "broker")
    arrivals = Arrivals(folder)
    environment = {
        **os.environ,
        "MQTT_PORT": str(broker.port),
        "STORE_URL": f"sqlite:///{database}",
        "SERVER_URL": arrivals.url,
        "ARCHIVE_DIRECTORY": str(folder / "archives"),
        "BACKUP_DIRECTORY": str(folder / "backup"),
    }
    jobs = [
        Process(python("-m", "bridge", "run", "--only", job), folder / f"{job}.log", environment, folder)
        for job in ("ingest", "forward")
    ]
    eventually(lambda: "connected to the broker" in jobs[0].output(), told=jobs[0].output)
    archiver = None
    if prepared is not None:
        archiver = Process(python("-m", "bridge", "archive"), folder / "archive.log", environment, folder)
        eventually(lambda: _has_begun(database), within_s=60, told=archiver.output)
    used = [cpu_s(job.process.pid) for job in jobs]
    sensors = Sensors(folder, broker.port, rate, RATES[rate], f"e{rate}")
    eventually(lambda: arrivals.count() >= RATES[rate], within_s=120, told=sensors.output)
    used = [cpu_s(job.process.pid) - before for job, before in zip(jobs, used, strict=True)]
    note = f"CPU: ingest {used[0]:.2f} s, forwarder {used[1]:.2f} s"
    if archiver is not None:
        note += ", archived all the while" if archiver.is_running() else ", archived before its end"
    delays_ms = [1000 * delay_s for delay_s in arrivals.take()]
    for process in (sensors, *([archiver] if archiver else []), *jobs, arrivals, broker):
        process.stop()
    return [
        Figure(f"{title}, {rate:,} readings/s, p{p}", percentile(delays_ms, p), "ms", sum(used), note=note)
        for p in (50, 99)
    ]


def _has_begun(database: Path) -> bool:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT count(*) FROM archives").fetchone() != (0,)


def prepare(database: Path) -> Path:
    """Fill a store with a million rows that have been forwarded, and wait to be archived."""
    fill(f"sqlite:///{database}", "old", ARCHIVED, 4).close()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE readings SET forward_state = 2")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint (TRUNCATE)")
    return database


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle-only", action="store_true", help="leave out the run beside an archive")
    parser.add_argument("--rate", type=int, choices=RATES, help="this rate alone")
    options = parser.parse_args()
    rates = [options.rate] if options.rate else list(RATES)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        found = [figure for rate in rates for figure in measure(root / f"idle-{rate}", "idle", rate)]
        if not options.idle_only:
            million = prepare(root / "million.db")
            for rate in rates:
                found += measure(root / f"archiving-{rate}", "archiving", rate, million)
    tell("latency", "d. from publish to the server (milliseconds)", found)
