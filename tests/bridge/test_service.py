"""The service: its jobs as processes, killed, ended and started again for real."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Mosquitto, Process, eventually, free_port, python


@pytest.fixture
def environment(broker: Mosquitto, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "MQTT_PORT": str(broker.port),
        "STORE_URL": f"sqlite:///{tmp_path}/bridge.db",
        "ARCHIVE_DIRECTORY": str(tmp_path / "archives"),
        "BACKUP_DIRECTORY": str(tmp_path / "backup"),
        "SERVER_URL": "http://127.0.0.1:9/data",
        "WEB_PORT": str(free_port()),
    }


@pytest.fixture
def service(environment: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    process = Process(python("-m", "bridge", "run"), tmp_path / "service.log", environment, tmp_path)
    eventually(lambda: "connected to the broker" in process.output(), told=process.output)
    yield process
    process.kill()


def jobs(process: Process) -> dict[str, int]:
    """Return the process of each job of this service, by its name."""
    found: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            parent = entry.joinpath("stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            words = entry.joinpath("cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(parent) == process.process.pid and b"--only" in words:
            found[words[words.index(b"--only") + 1].decode()] = int(entry.name)
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def status(environment: dict[str, str], folder: Path) -> dict[str, object]:
    done = subprocess.run(
        python("-m", "bridge", "status", "--json"), env=environment, cwd=folder, capture_output=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_each_job_is_a_process_and_a_killed_one_is_started_again(service: Process) -> None:
    before = eventually(lambda: jobs(service))

    os.kill(before["ingest"], signal.SIGKILL)

    eventually(lambda: jobs(service).get("ingest", before["ingest"]) != before["ingest"], told=service.output)
    eventually(lambda: service.output().count("connected to the broker") == 2, told=service.output)
    assert {name: pid for name, pid in jobs(service).items() if name != "ingest"} == {
        name: pid for name, pid in before.items() if name != "ingest"
    }


def test_sigterm_ends_every_job_within_five_seconds(service: Process) -> None:
    running = eventually(lambda: jobs(service) if len(jobs(service)) >= 3 else None)

    status_ = service.stop(within_s=5.0)

    assert status_ == 0
    assert not any(is_running(pid) for pid in running.values())


def test_jobs_of_a_killed_service_end_by_themselves_and_the_next_one_starts(service: Process) -> None:
    running = eventually(lambda: jobs(service) if len(jobs(service)) >= 3 else None)

    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    service.start()

    eventually(lambda: not any(is_running(pid) for pid in running.values()), told=service.output)
    eventually(lambda: service.output().count("connected to the broker") == 2, told=service.output)
    assert service.is_running()


def test_a_second_service_over_the_same_store_ends_with_1_and_names_the_holder(
    service: Process, environment: dict[str, str], tmp_path: Path
) -> None:
    ingest = str(eventually(lambda: jobs(service).get("ingest")))

    second = Process(python("-m", "bridge", "run"), tmp_path / "second.log", environment, tmp_path)

    assert second.process.wait(30) == 1
    assert ingest in second.output()
    assert service.is_running()


def test_status_says_why_nothing_reaches_the_server(
    service: Process, environment: dict[str, str], tmp_path: Path
) -> None:
    found = status(environment, tmp_path)

    assert found["lost"] == 0
    assert found["dead_letters"] == 0
    problems = found["problems"]
    assert isinstance(problems, list)
    assert any("no node was ever heard" in problem for problem in problems)


def test_status_says_that_nothing_runs(environment: dict[str, str], tmp_path: Path, service: Process) -> None:
    service.stop()

    problems = status(environment, tmp_path)["problems"]

    assert isinstance(problems, list)
    assert any("ingest is not running" in problem for problem in problems)
