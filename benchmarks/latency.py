"""d: end to end, from a reading's publish to its arrival at the server, at 1, 100 and 1,000 readings a second.

Publisher and server are small processes of their own (benchmarks/steady.py),
so what is measured is broker, ingest (commit) and forwarder (claim, POST).
Once idle, and once while a million rows are archived beside.
"""

import argparse
import os
import sqlite3
import tempfile
from pathlib import Path

from benchmarks.forward import fill
from benchmarks.measuring import Figure, cpu_s, percentile, tell
from benchmarks.steady import Arrivals, Sensors
from tests.processes import Mosquitto, Process, eventually, python

RATES = {1: 30, 100: 2_000, 1_000: 15_000}
"""Readings a second: how many are sent."""
ARCHIVED = 1_000_000


def measure(folder: Path, title: str, rates: dict[int, int], *, archiving: bool) -> list[Figure]:
    """Return p50 and p99 in milliseconds for each rate, with the CPU seconds of ingest and forwarder."""
    folder.mkdir()
    broker = Mosquitto(folder / "broker")
    arrivals = Arrivals(folder)
    database = folder / "bridge.db"
    if archiving:
        fill(f"sqlite:///{database}", "old", ARCHIVED, 4).close()
        _settle_all(database)  # what is archived is on no way to the server
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
    figures: list[Figure] = []
    for rate, count in rates.items():
        if archiving:
            _archive_again(database)
        archiver = (
            Process(python("-m", "bridge", "archive"), folder / f"archive-{rate}.log", environment, folder)
            if archiving
            else None
        )
        used = [cpu_s(job.process.pid) for job in jobs]
        sensors = Sensors(folder, broker.port, rate, count, f"e{rate}")
        eventually(lambda wanted=count: arrivals.count() >= wanted, within_s=120, told=sensors.output)
        used = [cpu_s(job.process.pid) - before for job, before in zip(jobs, used, strict=True)]
        sensors.stop()
        note = f"CPU: ingest {used[0]:.2f} s, forwarder {used[1]:.2f} s"
        if archiver:
            note += ", archiving all the while" if archiver.is_running() else ", archived before the end"
            archiver.stop()
        delays_s = arrivals.take()
        for percent in (50, 99):
            value = percentile(delays_s, percent) * 1000
            figures.append(Figure(f"{title}, {rate:,} readings/s, p{percent}", value, "ms", sum(used), note=note))
    for job in jobs:
        job.stop()
    for process in (arrivals, broker):
        process.kill()
    return figures


def _settle_all(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE readings SET forward_state = 2")
    connection.close()


def _archive_again(database: Path) -> None:
    """Make the million rows such that they have not been archived."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle-only", action="store_true", help="leave out the run beside an archive")
    parser.add_argument("--rate", type=int, choices=RATES, help="this rate alone")
    options = parser.parse_args()
    rates = {rate: count for rate, count in RATES.items() if options.rate in (None, rate)}
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name) / "idle", "idle", rates, archiving=False)
        if not options.idle_only:
            found += measure(Path(name) / "archiving", "archiving", rates, archiving=True)
    tell("latency", "d. from publish to the server (milliseconds)", found)
