"""A secured broker for each test, and one that a module's tests share where they change nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import Process
from tests.security.secured import SecuredBroker, Speaker


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredBroker]:
    """A secured broker of the test's own."""
    broker = SecuredBroker(tmp_path / "secured")
    yield broker
    broker.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A secured broker with the nodes kitchen and attic (by certificate), whose accounts no test changes."""
    broker = SecuredBroker(tmp_path_factory.mktemp("shared") / "secured")
    broker.add("kitchen")
    broker.add("attic", by_certificate=True)
    yield broker
    broker.kill()


@pytest.fixture
def processes() -> Iterator[Callable[[Process], Process]]:
    """Keep programs until the test's end, and kill then what still runs."""
    kept: list[Process] = []

    def keep(process: Process) -> Process:
        kept.append(process)
        return process

    yield keep
    for process in kept:
        process.kill()


@pytest.fixture
def speakers() -> Iterator[Callable[[Speaker], Speaker]]:
    """Keep clients until the test's end, and end them then."""
    kept: list[Speaker] = []

    def keep(speaker: Speaker) -> Speaker:
        kept.append(speaker)
        return speaker

    yield keep
    for speaker in kept:
        speaker.close()
