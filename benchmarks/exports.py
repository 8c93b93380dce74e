"""Exports of a million readings of a hundred nodes: CSV and Parquet, beside what pandas needs for the same by hand.

Ours reads the store twice, for the columns and for the rows, in constant
memory, sorted by time; CSV is durable when it has its name. By hand is
``read_sql``, the values decoded, and ``to_csv`` or ``to_parquet``, all in memory.
"""

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from sqlalchemy import create_engine

from benchmarks.measuring import Cost, Figure, in_child, tell
from bridge.export.export import export
from bridge.export.selection import Selection
from bridge.settings import BridgeSettings
from bridge.store.database import Store, open_store
from bridge.store.intake import Intake, Message
from mqtt_client.settings import load
from mqtt_client.topics import Topics

ROWS = 1_000_000
NODES = 100
START_S = 1_795_000_000
INTERVAL_S = 5
IN_A_MESSAGE = 200
QUERY = (
    'SELECT n.name AS node, s.epoch, r.seq, r.sensor, r.time_ms, r."values" FROM readings r '
    "JOIN sources s ON s.id = r.source_id JOIN nodes n ON n.id = r.node_id ORDER BY r.time_ms, r.id"
)


def settings_of(url: str) -> BridgeSettings:
    """Return settings over this store."""
    return load(BridgeSettings, {"STORE_URL": url, "TIMEZONE": "Europe/Paris", "SERVER_URL": ""})


def messages(rows: int, nodes: int = NODES) -> Iterator[Message]:
    """Return backlog messages of nodes that read a sensor with two decimals at one interval."""
    chance = random.Random(1)
    for first in range(1, rows // nodes + 1, IN_A_MESSAGE):
        for node in range(nodes):
            readings = b",".join(
                _reading(f"node-{node:03}", seq, chance)
                for seq in range(first, min(first + IN_A_MESSAGE, rows // nodes + 1))
            )
            payload = b'{"epoch":"k3f9x2ab","floor":1,"readings":[%s]}' % readings
            yield Message(f"sensors/node-{node:03}/backlog", payload)


def _reading(node: str, seq: int, chance: random.Random) -> bytes:
    moment = datetime.fromtimestamp(START_S + seq * INTERVAL_S, UTC)
    values = f'{{"temperature":{chance.gauss(21, 2):.2f},"humidity":{chance.gauss(48, 5):.2f}}}'
    return (
        f'{{"v":1,"node":"{node}","sensor":"main","epoch":"k3f9x2ab","seq":{seq},'
        f'"time":"{moment:%Y-%m-%dT%H:%M:%S}.123Z","clock":"synced","values":{values}}}'
    ).encode()


def fill(store: Store, rows: int) -> None:
    """Take this many readings in, as ingest does."""
    intake = Intake(store, Topics())
    burst: list[Message] = []
    for message in messages(rows):
        burst.append(message)
        if len(burst) == 20:
            intake.put(burst)
            burst = []
    intake.put(burst)


def filled(url: str, rows: int) -> float:
    """Make a store with this many readings; for a child, whose memory is not counted."""
    store = open_store(url)
    fill(store, rows)
    store.close()
    return 0.0


def ours(url: str, form: str, output: Path) -> float:
    """Export everything; return seconds."""
    settings = settings_of(url)
    store = open_store(url)
    begin = time.perf_counter()
    export(settings, store, Selection(), form, output)
    seconds = time.perf_counter() - begin
    store.close()
    return seconds


def by_hand(url: str, form: str, output: Path) -> float:
    """Do the same with pandas; return seconds."""
    import pandas as pd  # here, so that only this child's memory has it

    begin = time.perf_counter()
    frame = pd.read_sql_query(QUERY, create_engine(url))
    decode = msgspec.json.Decoder(dict[str, float]).decode
    values = pd.DataFrame([decode(text) for text in frame.pop("values")])
    frame["id"] = frame["node"] + "-" + frame.pop("epoch") + "-" + frame.pop("seq").astype(str)
    frame["time"] = pd.to_datetime(frame.pop("time_ms"), unit="ms", utc=True)
    frame["date"] = frame["time"].dt.tz_convert("Europe/Paris").dt.date.astype(str)
    frame = pd.concat([values, frame], axis=1)
    if form == "csv":
        frame.to_csv(output, index=False)
    else:
        frame.to_parquet(output, partition_cols=["date", "node"], compression="zstd")
    return time.perf_counter() - begin


def size_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*.parquet"))


def measure(folder: Path, rows: int) -> list[Figure]:
    """Return the figures, each in a process of its own."""
    url = f"sqlite:///{folder}/bridge.db"
    in_child(lambda: filled(url, rows))
    figures: list[Figure] = []
    for form in ("csv", "parquet"):
        outputs = folder / f"export.{form}", folder / f"by-hand.{form}"
        seconds, cost = in_child(lambda form=form, path=outputs[0]: ours(url, form, path))  # type: ignore[misc]
        other, its_cost = in_child(lambda form=form, path=outputs[1]: by_hand(url, form, path))  # type: ignore[misc]
        figures.append(_figure(f"export, {form}", seconds, cost, 1.0, outputs[0], rows))
        figures.append(_figure(f"pandas by hand, {form}", other, its_cost, other / seconds, outputs[1], rows))
    return figures


def _figure(name: str, seconds: float, cost: Cost, ratio: float, output: Path, rows: int) -> Figure:
    note = f"{size_bytes(output) / rows:.1f} bytes a reading"
    return Figure(name, seconds, "s", cost.cpu_s, cost.peak_mib, ratio, note)


if __name__ == "__main__":
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), rows)
    tell("exports", f"Exports of {rows:,} readings of {NODES} nodes: wall time (ratio to ours, one run each)", found)
