"""Fixtures that all tests share: real brokers, real folders, a clean environment."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Mosquitto

OURS = ("MQTT_", "NODE_", "OUTBOX_", "SERVER_", "STORE_", "ARCHIVE_", "BACKUP_", "BRIDGE_", "WEB_", "LOG_", "SAMPLE_")


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in a folder of its own, with none of our variables set by whoever runs the tests."""
    for variable in list(os.environ):
        if variable.startswith(OURS):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real mosquitto on a free loopback port."""
    process = Mosquitto(tmp_path / "broker")
    yield process
    process.kill()
