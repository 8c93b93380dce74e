"""The forwarder as a process of its own, killed in the middle."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from bridge.store import schema
from bridge.store.database import Store
from bridge.store.schema import Forward
from tests.bridge.conftest import StoredReadings
from tests.http_servers import Received, Receiver, Reply, ScriptedServer
from tests.processes import Process, eventually

PROGRAM = """
import os, threading
from bridge.forward.forwarder import run_forwarder
from bridge.settings import BridgeSettings
from bridge.store.database import open_store
from mqtt_client.settings import load
settings = load(BridgeSettings, os.environ)
run_forwarder(settings, open_store(settings.store_url), threading.Event())
"""


class Forwarding(Process):
    """A process that forwards until it is killed."""

    def __init__(self, folder: Path, **variables: str) -> None:
        environment = {"STORE_URL": f"sqlite:///{folder / 'bridge.db'}", "TIMEZONE": "UTC", **variables}
        super().__init__([sys.executable, "-c", PROGRAM], folder / "forwarder.log", environment)


@pytest.fixture
def processes() -> Iterator[list[Forwarding]]:
    """Processes that are killed at the end at the latest."""
    started: list[Forwarding] = []
    yield started
    for process in started:
        process.kill()


def unknown(store: Store) -> int:
    with store.read() as connection:
        query = select(schema.counters.c.value).where(schema.counters.c.name == "sent_again_unknown")
        return connection.scalar(query) or 0


def waiting(store: Store) -> int:
    with store.read() as connection:
        query = select(func.count()).where(schema.readings.c.forward_state < Forward.SETTLED)
        return connection.scalar(query) or 0


@pytest.mark.parametrize("batch_size", ["1", "20"])
def test_killed_again_and_again_it_brings_each_reading_once_and_counts_what_it_does_not_know(
    tmp_path: Path,
    store: Store,
    stored_readings: StoredReadings,
    receiver: Receiver,
    processes: list[Forwarding],
    batch_size: str,
) -> None:
    keys = [key for node in ("kitchen", "cellar") for key in stored_readings(store, node, 600)]
    process = Forwarding(tmp_path, SERVER_URL=receiver.url, SERVER_BATCH_SIZE=batch_size)
    processes.append(process)

    for step in (1000, 700, 400):
        eventually(lambda step=step: waiting(store) < step, told=process.output)  # type: ignore[misc]
        process.kill()
        process.start()
    eventually(lambda: waiting(store) == 0, told=process.output)

    assert sorted(receiver.ids()) == sorted(keys)


def test_a_request_under_way_at_the_kill_is_sent_again_under_its_key_and_counted(
    tmp_path: Path,
    store: Store,
    stored_readings: StoredReadings,
    scripted: ScriptedServer,
    processes: list[Forwarding],
) -> None:
    keys = stored_readings(store, count=3)
    times: Counter[str] = Counter()

    def hold_the_second_once(request: Received) -> Reply:
        (key,) = request.ids
        times[key] += 1
        if key == keys[1] and times[key] == 1:
            return Reply(send=lambda _connection, ended: ended.wait() and None)
        return Reply(409) if times[key] > 1 else Reply()

    scripted.script = hold_the_second_once
    process = Forwarding(tmp_path, SERVER_URL=scripted.url)
    processes.append(process)

    eventually(lambda: times[keys[1]] == 1 and waiting(store) == 2, told=process.output)
    process.kill()
    process.start()
    eventually(lambda: waiting(store) == 0, told=process.output)

    assert times == {keys[0]: 1, keys[1]: 2, keys[2]: 1}
    assert 1 <= unknown(store) <= 2  # the reading itself, and perhaps the one claimed with it
    with store.read() as connection:
        states = list(connection.scalars(select(schema.readings.c.forward_state).order_by(schema.readings.c.id)))
    assert states == [Forward.SETTLED, Forward.DUPLICATE, Forward.SETTLED]
