"""The service feels that its jobs move on, and they feel when it is gone."""

import signal
import socket
import subprocess
import threading
import time

import pytest

from bridge.pulse import Stop
from bridge.service import SILENT_S, Job
from tests.processes import eventually, python


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


def test_a_job_without_a_limit_may_be_silent() -> None:
    job = a_job("time.sleep(60)", "web")
    job.tend(0.0)

    assert not job.is_silent(1e9)
    ended(job)


def test_a_job_that_hangs_is_ended_where_it_hangs_and_started_again(capfd: pytest.CaptureFixture[str]) -> None:
    job = a_job("Stop().hold_line(); print('hanging', flush=True); time.sleep(3600)")
    job.tend(0.0)
    eventually(lambda: "hanging" in capfd.readouterr().out)
    assert job.is_silent(1000.0)

    for _ in range(2):
        job.abort()
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
