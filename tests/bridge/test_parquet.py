"""Parquet exports as the user's own programs see them: DuckDB and pandas find what the store holds."""

import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import pytest
from sqlalchemy import select

from bridge.export.export import export
from bridge.export.selection import Selection
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import Store
from bridge.store.intake import Intake, Message
from bridge.store.schema import CLOCKS
from mqtt_client.reading import from_ms, reading_id
from mqtt_client.topics import Topics
from tests.processes import python
from tests.wire import backlog, reading

PARIS = ZoneInfo("Europe/Paris")
QUANTITIES = ("co2", "humidity", "temperature")


class Row(NamedTuple):
    """A reading in a data lake."""

    date: str
    node: str
    id: str
    sensor: str
    clock: str
    time_ms: int
    values: tuple[float | None, ...]
    """In the order of QUANTITIES."""


def in_store(store: Store) -> set[Row]:
    """Return what the store holds."""
    readings, nodes, sources = schema.readings.c, schema.nodes.c, schema.sources.c
    query = (
        select(
            nodes.name, sources.epoch, readings.seq, readings.sensor, readings.clock, readings.time_ms,
            readings["values"],
        )
        .join_from(schema.readings, schema.nodes, readings.node_id == nodes.id)
        .join(schema.sources, readings.source_id == sources.id)
    )  # fmt: skip
    with store.read() as connection:
        return {
            Row(
                from_ms(time_ms).astimezone(PARIS).date().isoformat(),
                node,
                reading_id(node, epoch, seq),
                sensor,
                CLOCKS[clock],
                time_ms,
                tuple(json.loads(values).get(quantity) for quantity in QUANTITIES),
            )
            for node, epoch, seq, sensor, clock, time_ms, values in connection.execute(query)
        }


@pytest.fixture
def lake(store: Store, tmp_path: Path) -> Path:
    """An export of readings of three nodes around two local midnights; they say different things."""

    def readings(node: str, **changes: object) -> Iterator[bytes]:
        for seq in range(1, 121):
            time = datetime(2026, 11, 24 + seq // 60, 22, 59, seq % 60, 123_000, UTC)
            values = {"temperature": 20 + seq / 7, "humidity": 40 + seq / 3}
            told: dict[str, object] = {"time": f"{time:%Y-%m-%dT%H:%M:%S}.123Z", "values": values}
            yield reading(seq, node, **told | changes)

    messages = [
        *(Message("sensors/kitchen/reading/main", one) for one in readings("kitchen")),
        *(Message("sensors/7/reading/main", one) for one in readings("7", clock="corrected", epoch="other")),
        *(Message("sensors/attic/reading/air", one) for one in readings("attic", sensor="air", values={"co2": 1e-7})),
        Message("sensors/attic/backlog", backlog(range(1, 400), "attic", epoch="older")),
    ]
    Intake(store, Topics()).put(messages)
    folder = tmp_path / "lake"
    subprocess.run(
        python("-m", "bridge", "export", "--format", "parquet", "--output", str(folder)),
        env={**os.environ, "STORE_URL": str(store.engine.url), "TIMEZONE": "Europe/Paris"},
        check=True,
        timeout=60,
    )
    return folder


def test_duckdb_reads_what_the_store_holds(store: Store, lake: Path) -> None:
    table = f"read_parquet('{lake}/*/*/*.parquet', hive_partitioning = true, hive_types = {{'node': VARCHAR}})"
    columns = "CAST(date AS VARCHAR), node, id, sensor, clock, epoch_ms(time)"

    with duckdb.connect() as database:
        found = database.sql(f"SELECT {columns}, {', '.join(QUANTITIES)} FROM {table}").fetchall()
        of_one_day = database.sql(
            f"SELECT node, count(*), avg(temperature) FROM {table} WHERE date = '2026-11-25' GROUP BY node"
        ).fetchall()

    expected = in_store(store)
    assert len(found) == len(expected) == 759
    assert {Row._make((*row[:6], row[6:])) for row in found} == expected
    assert {node: (number, pytest.approx(mean) if mean else None) for node, number, mean in of_one_day} == {
        "7": (60, 20 + 89.5 / 7),
        "kitchen": (60, 20 + 89.5 / 7),
        "attic": (60, None),
    }


def test_pandas_reads_what_the_store_holds(store: Store, lake: Path) -> None:
    frame = pd.read_parquet(lake)

    frame["time_ms"] = frame["time"].astype("datetime64[ms, UTC]").astype("int64")
    plain = frame.astype({"date": str, "node": str}).astype(object)
    values = plain[list(QUANTITIES)].where(frame[list(QUANTITIES)].notna(), None)
    rows = zip(
        *(plain[name] for name in ("date", "node", "id", "sensor", "clock", "time_ms")),
        values.itertuples(index=False, name=None),
        strict=True,
    )
    expected = in_store(store)
    assert len(frame) == len(expected)
    assert set(map(Row._make, rows)) == expected


def test_more_nodes_than_files_may_be_open_are_exported_too(
    store: Store,
    bridge_settings: Callable[..., BridgeSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.export.export.NODES_AT_ONCE", 60)
    names = [f"node-{number}" for number in range(150)]
    Intake(store, Topics()).put([Message(f"sensors/{name}/backlog", backlog(range(1, 3), name)) for name in names])
    open_now = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 100, hard))

    try:
        done = export(bridge_settings(), store, Selection(), "parquet", tmp_path / "lake")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert done.rows == 300
    assert sorted(pd.read_parquet(tmp_path / "lake")["id"]) == sorted(row.id for row in in_store(store))
