"""The service feels that its jobs move on, and they feel when it is gone."""

import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from bridge.cli import JOBS
from bridge.pulse import EVERY_S, Stop
from bridge.service import KILL_AFTER_S, SILENT_S, Job
from tests.processes import Mosquitto, eventually, free_port, python


def a_job(program: str, name: str = "ingest") -> Job:
    return Job(name, python("-c", f"import time, threading\nfrom bridge.pulse import Stop\n{program}"))


def ended(job: Job) -> None:
    job.end()
    job.wait(time.monotonic() + 10)
    job.close()


def test_a_job_that_asks_whether_to_stop_is_felt() -> None:
    job = a_job("stop = Stop(); stop.hold_line()\nwhile not stop.is_set(): time.sleep(0.01)")
    job.tend(0.0)

    def moves() -> bool:
        job.tend(1000.0)
        return not job.is_silent(1000.0)

    eventually(moves)
    assert job.is_silent(1000.0 + SILENT_S["ingest"] + 1)
    ended(job)


def test_a_job_that_waits_to_be_stopped_is_felt_too() -> None:
    job = a_job("stop = Stop(); stop.hold_line(); stop.wait()")
    job.tend(0.0)

    def moves() -> bool:
        job.tend(1000.0)
        return not job.is_silent(1000.0)

    eventually(moves)
    ended(job)


def test_a_thread_beside_is_no_sign_that_the_job_moves_on() -> None:
    stop = Stop()
    ours, theirs = socket.socketpair()
    stop._line = theirs
    beside = threading.Thread(target=stop.is_set)

    beside.start()
    beside.join()

    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    stop.is_set()
    assert ours.recv(1) == b"."
    ours.close()
    theirs.close()


def test_every_job_has_a_limit_to_its_silence() -> None:
    assert set(SILENT_S) == set(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_that_was_stopped_is_killed_and_started_again(
    name: str, broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PORT", str(broker.port))
    monkeypatch.setenv("WEB_PORT", str(free_port()))
    job = Job(name, python("-m", "bridge", "run", "--only", name, "--lifeline"))
    job.tend(0.0)
    assert job._process is not None
    stopped = job._process

    def has_begun() -> bool:
        job.tend(1000.0)
        return not job.is_silent(1000.0)

    eventually(has_begun, within_s=60)
    stopped.send_signal(signal.SIGSTOP)
    silent = 1001.0 + SILENT_S[name]
    eventually(lambda: "T" in Path(f"/proc/{stopped.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2])

    assert job.is_silent(silent)
    job.abort(silent)
    job.abort(silent + KILL_AFTER_S - 1)
    assert stopped.poll() is None
    job.abort(silent + KILL_AFTER_S + 1)
    status = eventually(lambda: job.tend(silent))

    assert status == -signal.SIGKILL
    job.tend(silent + 60)
    assert job._process is not None
    assert job._process.pid != stopped.pid
    ended(job)


def test_a_page_that_answers_nobody_is_no_job_that_moves_on(tmp_path: Path) -> None:
    job = a_job(
        "import bridge.web.serve as serve\n"
        "from mqtt_client.settings import load\n"
        "from bridge.settings import BridgeSettings\n"
        "serve.make_app = lambda *_: lambda environ, start: time.sleep(3600)\n"
        "stop = Stop(); stop.hold_line()\n"
        f"serve.run_web(load(BridgeSettings, {{'WEB_PORT': '{free_port()}'}}), None, stop)",
        "web",
    )
    job.tend(time.monotonic())

    def is_missed() -> bool:
        now = time.monotonic()
        job.tend(now)
        return now - job._felt_at > 4 * EVERY_S and now - job._started_at > 4 * EVERY_S

    eventually(is_missed, within_s=60)
    job.end()
    job.wait(time.monotonic())
    job.close()


def test_a_job_that_hangs_is_ended_where_it_hangs_and_started_again(capfd: pytest.CaptureFixture[str]) -> None:
    job = a_job("Stop().hold_line(); print('hanging', flush=True); time.sleep(3600)")
    job.tend(0.0)
    eventually(lambda: "hanging" in capfd.readouterr().out)
    assert job.is_silent(1000.0)

    for _ in range(2):
        job.abort(1000.0)
    status = eventually(lambda: job.tend(1000.0))

    assert status == -signal.SIGABRT
    assert "line 3 in <module>" in capfd.readouterr().err
    job.tend(2000.0)
    assert not job.is_silent(2000.0)
    ended(job)


def test_a_job_stops_when_the_service_is_gone() -> None:
    ours, theirs = socket.socketpair()
    program = "from bridge.pulse import Stop\nstop = Stop(); stop.hold_line(); stop.wait()"
    with theirs:
        process = subprocess.Popen(python("-c", program), stdin=theirs.fileno())

    ours.close()

    assert process.wait(30) == 0


def test_a_job_stops_also_when_the_service_was_killed_before_it_read_the_pulses() -> None:
    ours, theirs = socket.socketpair()
    program = "from bridge.pulse import Stop; stop = Stop(); stop.hold_line(); stop.wait()"
    with theirs:
        process = subprocess.Popen(python("-c", program), stdin=theirs.fileno())
    ours.recv(1, socket.MSG_PEEK)  # a pulse has come, and stays unread

    ours.close()

    assert process.wait(30) == 0


def test_waiting_ends_at_its_time_and_with_the_order() -> None:
    stop = Stop()

    assert stop.wait(0.01) is False
    threading.Timer(0.05, stop.set).start()
    assert stop.wait(30) is True
    assert stop.is_set()
