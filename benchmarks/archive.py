"""Archives: 200,000 and 1,000,000 rows to CSV and workbook, beside pandas' to_csv and to_excel of the same rows.

Ours reads the rows from a SQLite store and makes both files durable, with
checksums, summary and charts; pandas has its frame in memory already.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from sqlalchemy import insert

from benchmarks.measuring import Figure, in_child, tell
from bridge.archive.archiver import archive
from bridge.local_times import LocalTimes
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import open_store
from mqtt_client.settings import load

ROWS = (200_000, 1_000_000)
NODES = 10
START_MS = 1_795_000_000_000
CHUNK = 20_000


def settings_in(folder: Path) -> BridgeSettings:
    """Return settings with everything in this folder."""
    return load(
        BridgeSettings,
        {
            "STORE_URL": f"sqlite:///{folder / 'bridge.db'}",
            "ARCHIVE_DIRECTORY": str(folder / "archives"),
            "BACKUP_DIRECTORY": str(folder / "backup"),
            "TIMEZONE": "Europe/Paris",
        },
    )


def fill(folder: Path, rows: int) -> None:
    """Make a store that holds this many readings, in no archive yet."""
    store = open_store(settings_in(folder).store_url)
    with store.write() as connection:
        numbers = range(1, NODES + 1)
        connection.execute(insert(schema.nodes), [{"id": one, "name": f"node-{one}"} for one in numbers])
        source = {"epoch": "k3f9x2ab", "start": 1, "first_seen_ms": 0}
        connection.execute(insert(schema.sources), [{"id": one, "node_id": one, **source} for one in numbers])
        for first in range(0, rows, CHUNK):
            connection.execute(insert(schema.readings), [_row(number) for number in range(first, first + CHUNK)])
    store.close()


def _row(number: int) -> dict[str, object]:
    node, time_ms = number % NODES + 1, START_MS + number * 500
    values = {"temperature": 20 + number % 997 / 100, "humidity": 40 + number % 1013 / 50}
    return {
        "source_id": node,
        "node_id": node,
        "seq": number // NODES + 1,
        "sensor": "main",
        "time_ms": time_ms,
        "clock": 0,
        "values": json.dumps(values),
        "received_ms": time_ms,
    }


def ours(folder: Path) -> float:
    """Archive everything; return CPU seconds."""
    settings = settings_in(folder)
    store = open_store(settings.store_url)
    begin = time.process_time()
    archive(settings, store)
    seconds = time.process_time() - begin
    store.close()
    return seconds


def with_pandas(folder: Path, rows: int, *, excel: bool) -> float:
    """Write the same rows from a frame; return CPU seconds without making the frame."""
    times = LocalTimes(settings_in(folder).timezone)
    numbers = range(rows)
    moments = [START_MS + number * 500 for number in numbers]
    frame = pd.DataFrame(
        {
            "temperature": [20 + number % 997 / 100 for number in numbers],
            "humidity": [40 + number % 1013 / 50 for number in numbers],
            "timestamp": [times.script(moment) for moment in moments],
            "node": [f"node-{number % NODES + 1}" for number in numbers],
            "sensor": "main",
            "id": [f"node-{number % NODES + 1}-k3f9x2ab-{number // NODES + 1}" for number in numbers],
            "time": [times.rfc3339(moment) for moment in moments],
            "clock": "synced",
        }
    )
    begin = time.process_time()
    if excel:
        frame.to_excel(folder / "pandas.xlsx", index=False)
    else:
        frame.to_csv(folder / "pandas.csv", index=False)
    return time.process_time() - begin


def measure(rows: int) -> list[Figure]:
    """Return the figures of one size, each in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        in_child(lambda: fill(folder, rows) or 0.0)
        seconds, cost = in_child(lambda: ours(folder))
        figures = [Figure(f"bridge, CSV and workbook, {rows:,} rows", seconds, "CPU s", None, cost.peak_mib, 1.0)]
        for name, excel in (("to_csv", False), ("to_excel", True)):
            other, its_cost = in_child(lambda excel=excel: with_pandas(folder, rows, excel=excel))  # type: ignore[misc]
            ratio = other / seconds
            figures.append(Figure(f"pandas {name}, {rows:,} rows", other, "CPU s", None, its_cost.peak_mib, ratio))
        return figures


if __name__ == "__main__":
    sizes = [int(text) for text in sys.argv[1:]] or ROWS
    found = [figure for rows in sizes for figure in measure(rows)]
    tell(
        "archive",
        "Archiving: CPU seconds (one thread, so wall seconds on an idle machine); ratio to the bridge, one run each",
        found,
    )
