"""A corrupt store is set aside, told, and the work goes on in a new one."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.store.damage import is_damaged, set_aside, were_set_aside
from bridge.store.database import open_store
from tests.processes import Mosquitto, Process, eventually, free_port, python


@pytest.fixture
def environment(broker: Mosquitto, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "MQTT_PORT": str(broker.port),
        "STORE_URL": f"sqlite:///{tmp_path}/bridge.db",
        "SERVER_URL": "http://127.0.0.1:9/data",
        "ARCHIVE_INTERVAL": "1",
        "WEB_PORT": str(free_port()),
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A store that was used and closed."""
    file = tmp_path / "bridge.db"
    open_store(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def service(environment: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    process = Process(["true"], tmp_path / "service.log", environment, tmp_path)
    process.process.wait()
    process.command = python("-m", "bridge", "run")
    yield process
    process.kill()


def spoil(file: Path) -> None:
    """Overwrite all but the header with noise, also for those who have the file open."""
    with file.open("r+b") as stream:
        stream.seek(100)
        stream.write(os.urandom(file.stat().st_size - 100))


def status(environment: dict[str, str], folder: Path) -> dict[str, object]:
    done = subprocess.run(
        python("-m", "bridge", "status", "--json"), env=environment, cwd=folder, capture_output=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_sound_store_is_not_called_damaged_nor_is_a_missing_one(file: Path) -> None:
    assert not is_damaged(file)
    assert not is_damaged(file.with_name("none.db"))
    assert were_set_aside(f"sqlite:///{file}") == []


def test_noise_is_damage_and_so_is_a_file_of_something_else(file: Path) -> None:
    spoil(file)
    letter = file.with_name("letter.db")
    letter.write_text("Dear Sir or Madam, " * 100)

    assert is_damaged(file)
    assert is_damaged(letter)


def test_it_is_set_aside_with_its_journal_and_never_over_another(file: Path) -> None:
    file.with_name("bridge.db-wal").write_bytes(b"journal")
    first = set_aside(file)
    open_store(f"sqlite:///{file}").close()
    second = set_aside(file)

    assert first != second
    assert first.with_name(first.name + "-wal").read_bytes() == b"journal"
    assert were_set_aside(f"sqlite:///{file}") == sorted([first, second])
    assert not file.exists()


def test_a_service_over_a_damaged_store_begins_a_new_one_and_tells(
    file: Path, service: Process, environment: dict[str, str], tmp_path: Path
) -> None:
    spoil(file)

    service.start()
    eventually(lambda: "connected to the broker" in service.output(), told=service.output)

    (aside,) = were_set_aside(environment["STORE_URL"])
    assert f"is damaged; it is set aside as {aside}" in service.output()
    assert any(str(aside) in problem for problem in status(environment, tmp_path)["problems"])  # type: ignore[attr-defined]


def test_damage_that_is_met_while_it_runs_ends_no_service(
    file: Path, service: Process, environment: dict[str, str], tmp_path: Path
) -> None:
    service.start()
    eventually(lambda: "connected to the broker" in service.output(), told=service.output)

    spoil(file)
    eventually(lambda: were_set_aside(environment["STORE_URL"]), told=service.output)
    eventually(lambda: service.output().count("connected to the broker") > 1, told=service.output)

    assert service.is_running()
    assert not is_damaged(file)
    assert len(were_set_aside(environment["STORE_URL"])) == 1
