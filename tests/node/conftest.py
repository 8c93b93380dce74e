"""Fixtures of the node's tests: outboxes, a clock that obeys, a bridge that says what the test wants."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mqtt_client.outbox.opening import open_outbox
from mqtt_client.outbox.outbox import Outbox
from tests.node.actors import FakeBridge, RunningNode
from tests.processes import Mosquitto

OpenOutbox = Callable[..., Outbox]


@pytest.fixture
def outbox_path(tmp_path: Path) -> Path:
    """Where the test's outbox lies."""
    return tmp_path / "data" / "outbox.db"


@pytest.fixture
def opened(outbox_path: Path) -> Iterator[OpenOutbox]:
    """Open the test's outbox (again); the one that is open is closed first."""
    current: list[Outbox] = []

    def open_again(
        *, node: str = "kitchen", boot: str = "boot-1", max_readings: int = 1000, path: Path = outbox_path
    ) -> Outbox:
        while current:
            current.pop().close()
        current.append(open_outbox(path, node, boot, max_readings))
        return current[-1]

    yield open_again
    while current:
        current.pop().close()


@pytest.fixture
def bridge(broker: Mosquitto) -> Iterator[FakeBridge]:
    """A bridge on the test's broker that collects readings, and sends receipts when it is told to."""
    one = FakeBridge(broker.port)
    yield one
    one.stop()


@pytest.fixture
def start_node(tmp_path: Path, broker: Mosquitto) -> Iterator[Callable[..., RunningNode]]:
    """Start ``mqtt-node run`` with settings; all that were started end with the test."""
    started: list[RunningNode] = []

    def start(**settings: object) -> RunningNode:
        started.append(RunningNode(tmp_path, broker.port, settings))
        return started[-1]

    yield start
    for node in started:
        node.kill()
