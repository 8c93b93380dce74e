"""The lock files: whether somebody holds one is asked of the kernel, whatever process id stands in the file."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from mqtt_client.errors import LockHeld
from mqtt_client.lock import FileLock, is_held
from tests.processes import Process, eventually, python

HOLD = "import sys, time; from pathlib import Path; from mqtt_client.lock import FileLock; "
HOLD += "held = FileLock(Path(sys.argv[1]), 'test'); print('held', flush=True); time.sleep(600)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's lock lies."""
    return tmp_path / "outbox.db.lock"


def test_a_lock_whose_holder_was_killed_is_free_also_when_its_process_id_was_given_again(path: Path) -> None:
    holder = Process(python("-c", HOLD, str(path)), path.with_suffix(".log"), dict(os.environ), path.parent)
    eventually(lambda: "held" in holder.output(), told=holder.output)
    before = is_held(path)
    holder.kill()

    path.write_text(f"{os.getpid()}\n", encoding="ascii")

    assert (before, is_held(path)) == (True, False)


def test_a_lock_is_held_also_by_a_process_that_has_no_id_here(path: Path) -> None:
    lock = FileLock(path, "test")

    path.write_text("999999999\n", encoding="ascii")

    assert is_held(path)
    lock.release()


def test_a_file_that_is_not_there_is_no_lock(path: Path) -> None:
    assert not is_held(path)
    assert not path.exists()


def test_who_only_looks_is_in_nobody_s_way(path: Path) -> None:
    with path.open("w", encoding="ascii") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        threading.Timer(0.02, lambda: fcntl.flock(looker, fcntl.LOCK_UN)).start()

        lock = FileLock(path, "test")

        with pytest.raises(LockHeld, match=str(os.getpid())):
            FileLock(path, "test")
        lock.release()
