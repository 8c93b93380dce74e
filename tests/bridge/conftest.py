"""A real store, readings in it without a broker, and real HTTP servers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
import sqlalchemy

from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import Store, now_ms, open_store
from mqtt_client.reading import reading_id
from mqtt_client.settings import load
from tests.http_servers import Receiver, ScriptedServer

EXAMPLE_TIME_MS = 1_795_552_265_123  # 2026-11-24T20:31:05.123Z


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store in a SQLite file."""
    opened = open_store(f"sqlite:///{tmp_path / 'bridge.db'}")
    yield opened
    opened.close()


@pytest.fixture
def bridge_settings(tmp_path: Path) -> Callable[..., BridgeSettings]:
    """Make the bridge's settings from variables given by keyword, over the test's own store and UTC."""

    def make(**variables: object) -> BridgeSettings:
        given = {"STORE_URL": f"sqlite:///{tmp_path / 'bridge.db'}", "TIMEZONE": "UTC"}
        return load(BridgeSettings, given | {name: str(value) for name, value in variables.items()})

    return make


class StoredReadings(Protocol):
    """Puts readings of one node into the store as if they had arrived; returns their ids as text."""

    def __call__(
        self,
        store: Store,
        node: str = "kitchen",
        count: int = 1,
        *,
        epoch: str = "k3f9x2ab",
        sensor: str = "main",
        values: dict[str, float] | None = None,
        time_ms: int = EXAMPLE_TIME_MS,
        step_ms: int = 1000,
    ) -> list[str]: ...


def put_readings(
    store: Store,
    node: str = "kitchen",
    count: int = 1,
    *,
    epoch: str = "k3f9x2ab",
    sensor: str = "main",
    values: dict[str, float] | None = None,
    time_ms: int = EXAMPLE_TIME_MS,
    step_ms: int = 1000,
) -> list[str]:
    """Put readings with the next sequence numbers of this node's epoch into the store in one commit."""
    with store.write() as connection:
        node_row = _row(connection, schema.nodes, name=node)
        source_row = _row(
            connection, schema.sources, {"first_seen_ms": now_ms(), "start": 1}, node_id=node_row, epoch=epoch
        )
        last = sqlalchemy.func.max(schema.readings.c.seq)
        newest = connection.scalar(sqlalchemy.select(last).where(schema.readings.c.source_id == source_row)) or 0
        numbers = range(newest + 1, newest + count + 1)
        text = json.dumps(values or {"temperature": 21.4, "humidity": 48.2}, separators=(",", ":"))
        connection.execute(
            schema.readings.insert(),
            [
                {
                    "source_id": source_row,
                    "node_id": node_row,
                    "seq": seq,
                    "sensor": sensor,
                    "time_ms": time_ms + (seq - 1) * step_ms,
                    "clock": 0,
                    "values": text,
                    "received_ms": now_ms(),
                }
                for seq in numbers
            ],
        )
    return [reading_id(node, epoch, seq) for seq in numbers]


def _row(
    connection: sqlalchemy.Connection, table: sqlalchemy.Table, more: dict[str, object] | None = None, **key: object
) -> int:
    """Return the id of the row with this key, made where it is missing."""
    found = connection.scalar(sqlalchemy.select(table.c.id).filter_by(**key))
    if found is not None:
        return int(found)
    made = connection.execute(table.insert().values(**key, **(more or {}))).inserted_primary_key
    assert made is not None
    return int(made[0])


@pytest.fixture
def stored_readings() -> StoredReadings:
    """Put readings into a store without a broker."""
    return put_readings


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """The example receiver on a free loopback port."""
    running = Receiver(tmp_path / "receiver.db")
    yield running
    running.stop()


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server that answers as the test says."""
    running = ScriptedServer()
    yield running
    running.stop()
