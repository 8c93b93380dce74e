"""What a reading takes: on the disk in the store and in archives, and on the wire from node to broker.

The store is filled as ingest fills it, every reading is settled as the
forwarder settles it, archived, and rolled up; between the steps the database
is asked how large it is. On the wire, a real node takes a reading a second
from a simulated sensor over a connection whose bytes and packets the kernel
counts: a reading and its acknowledgement, a receipt and its own.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text

from benchmarks.ending import end_in_order_when_told
from benchmarks.exports import NODES, fill
from benchmarks.measuring import Figure, tell
from bridge.archive.archiver import archive
from bridge.settings import BridgeSettings
from bridge.store.database import Store, open_store
from bridge.store.outgoing import Outcome, claim, settle, waiting_nodes
from bridge.store.rollups import Rollups
from bridge.store.schema import Forward
from mqtt_client.settings import load
from tests.postgres import PostgreSQL
from tests.processes import Mosquitto, Process, eventually, python
from tests.security.secured import SecuredBroker

ROWS = 1_000_000
POSTGRESQL_ROWS = 200_000
CLAIMED_AT_ONCE = 200
FIRST_READINGS = 10
"""By then the node has told its info and its discovery."""
READINGS = 30
HEADERS = 52
"""Bytes of IPv4 and TCP headers with timestamps (RFC 791, 9293, 7323), in each packet."""


def sqlite_bytes(store: Store) -> float:
    """Return the size of a SQLite store but for pages that are free again."""
    with store.read() as connection:
        pages, free, size = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0)
            for name in ("page_count", "freelist_count", "page_size")
        )
    return float((pages - free) * size)


def postgresql_bytes(store: Store) -> float:
    """Return the size of a PostgreSQL store."""
    with store.read() as connection:
        return float(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)


def forward_all(store: Store) -> None:
    """Claim and settle every reading, as the forwarder does, but for the POST."""
    while nodes := waiting_nodes(store):
        with store.write() as connection:
            claimed = claim(connection, "main", nodes, CLAIMED_AT_ONCE)
        with store.write() as connection:
            settle(connection, "main", [Outcome(claimed, Forward.SETTLED, status=204)])


def roll_up(store: Store) -> None:
    """Add all roll-ups up."""
    rollups = Rollups(store)
    while rollups.add():
        pass


def in_the_store(folder: Path, rows: int) -> list[Figure]:
    """Return bytes a reading over SQLite, and in the archives."""
    settings = load(
        BridgeSettings,
        {
            "STORE_URL": f"sqlite:///{folder / 'bridge.db'}",
            "ARCHIVE_DIRECTORY": str(folder / "archives"),
            "BACKUP_DIRECTORY": str(folder / "backup"),
            "TIMEZONE": "Europe/Paris",
        },
    )
    store = open_store(settings.store_url)
    figures = [Figure("an empty store, SQLite", sqlite_bytes(store) / 1024, "KiB")]

    def note(name: str) -> None:
        figures.append(Figure(f"{name}, SQLite", sqlite_bytes(store) / rows, "B/reading"))

    fill(store, rows)
    note("committed")
    roll_up(store)
    note("and rolled up")
    forward_all(store)
    note("and forwarded")
    (made,) = archive(settings, store)
    note("and archived")
    store.close()
    for name in (made.csv_name, made.xlsx_name):
        size = (settings.archive_directory / name).stat().st_size
        figures.append(Figure(f"in the archive, {name[-4:].lstrip('.')}", size / rows, "B/reading"))
    return figures


def in_postgresql(folder: Path, rows: int) -> list[Figure]:
    """Return bytes a reading over PostgreSQL, whose updates leave the old rows until vacuum makes their room free."""
    database = PostgreSQL(folder / "postgres")
    try:
        store = open_store(database.url)
        empty = postgresql_bytes(store)
        figures = [Figure("an empty store, PostgreSQL", empty / 1024, "KiB")]
        steps: dict[str, Callable[[], None]] = {
            "committed": lambda: fill(store, rows),
            "and rolled up": lambda: roll_up(store),
            "and forwarded": lambda: forward_all(store),
            "and vacuumed in full": lambda: _vacuum(store),
        }
        for name, step in steps.items():
            step()
            size = (postgresql_bytes(store) - empty) / rows
            figures.append(Figure(f"{name}, PostgreSQL", size, "B/reading"))
        store.close()
        return figures
    finally:
        database.stop()


def _vacuum(store: Store) -> None:
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM FULL")


def on_the_wire(folder: Path) -> list[Figure]:
    """Return bytes a reading without and with TLS."""
    plain = Mosquitto(folder / "plain")
    without = {"MQTT_PORT": str(plain.port)}
    try:
        figures = _wire(folder / "without", "MQTT", without, ["--env-file", os.devnull], without, plain.port)
    finally:
        plain.kill()
    secured = SecuredBroker(folder / "secured")
    try:
        node = ["--env-file", str(secured.add("kitchen"))]
        user, password = secured.account("bridge")
        bridge = {"MQTT_PORT": str(secured.port), "MQTT_USERNAME": user, "MQTT_PASSWORD": password}
        return figures + _wire(folder / "with", "MQTT over TLS 1.3", {}, node, bridge, secured.node_port)
    finally:
        secured.kill()


def _wire(
    folder: Path, name: str, node: dict[str, str], options: list[str], bridge: dict[str, str], port: int
) -> list[Figure]:
    """Run a node and an ingest, and count what READINGS readings need."""
    folder.mkdir()
    own = {"STORE_URL": f"sqlite:///{folder / 'bridge.db'}", "SERVER_URL": ""}
    command = python("-m", "bridge", "run", "--only", "ingest")
    ingest = Process(command, folder / "ingest.log", {**os.environ, **own, **bridge}, folder)
    own = {"NODE_ID": "kitchen", "SAMPLE_INTERVAL": "1", "OUTBOX_PATH": str(folder / "outbox.db")}
    taking = Process(
        python("-m", "mqtt_client", "run", *options), folder / "node.log", {**os.environ, **own, **node}, folder
    )
    store = open_store(f"sqlite:///{folder / 'bridge.db'}")
    try:
        received = _counter(store)
        eventually(lambda: received() >= FIRST_READINGS, within_s=60, told=lambda: (ingest.output(), taking.output()))
        first, before = received(), _traffic(port)
        eventually(lambda: received() >= first + READINGS, within_s=90, told=taking.output)
        number, after = received() - first, _traffic(port)
    finally:
        store.close()
        taking.kill()
        ingest.kill()
    payload, packets = ((new - old) / number for new, old in zip(after, before, strict=True))
    return [
        Figure(f"{name}, both ways", payload, "B/reading", note="of TCP; a reading, a receipt, their answers"),
        Figure(
            f"{name}, with headers", payload + packets * HEADERS, "B/reading", note=f"{packets:.1f} packets, computed"
        ),
    ]


def _counter(store: Store) -> Callable[[], int]:
    def received() -> int:
        with store.read() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM readings").scalar() or 0)

    return received


def _traffic(port: int) -> tuple[int, int]:
    """Return bytes and packets, both ways, of the busiest connection to this port, by the kernel's own count."""
    told = subprocess.run(["ss", "-tinH", "dport", "=", f":{port}"], capture_output=True, text=True, check=True)
    found = [
        tuple(
            sum(map(int, re.findall(rf"{what}:(\d+)", line))) for what in (r"bytes_(?:sent|received)", r"\bsegs_\w+")
        )
        for line in told.stdout.splitlines()
        if "bytes_sent" in line
    ]
    return max((size, packets) for size, packets in found)


PARTS: dict[str, tuple[str, Callable[[Path], list[Figure]]]] = {
    "store": (f"{ROWS:,} readings of {NODES} nodes, SQLite", lambda folder: in_the_store(folder, ROWS)),
    "postgresql": (
        f"{POSTGRESQL_ROWS:,} readings of {NODES} nodes, PostgreSQL",
        lambda folder: in_postgresql(folder, POSTGRESQL_ROWS),
    ),
    "wire": ("one node, a reading a second", on_the_wire),
}

if __name__ == "__main__":
    end_in_order_when_told()
    for part in sys.argv[1:] or PARTS:
        title, measure = PARTS[part]
        with tempfile.TemporaryDirectory() as name:
            tell(f"sizes_{part}", f"What a reading takes: {title}", measure(Path(name)))
