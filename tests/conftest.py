"""Fixtures that all tests share: real brokers, real folders, a clean environment."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.settings import BridgeSettings
from mqtt_client.settings import NodeSettings, described
from tests.processes import Mosquitto


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in a folder of its own, with none of our variables set by whoever runs the tests."""
    for settings in (described(NodeSettings), described(BridgeSettings)):
        for variable, setting in settings.items():
            for name in (variable, f"{variable}_FILE", *setting.aliases):
                monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real mosquitto on a free loopback port."""
    process = Mosquitto(tmp_path / "broker")
    yield process
    process.kill()
