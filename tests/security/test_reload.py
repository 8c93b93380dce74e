"""The broker in a container: nobody can signal it there, so it notices by itself that its files have changed."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.provision import accounts
from bridge.provision.directory import BrokerDirectory
from tests.processes import Process, eventually
from tests.security.secured import ROOT, SecuredBroker, Speaker


@pytest.fixture
def contained(secured: SecuredBroker) -> Iterator[Process]:
    """The broker run by the script that watches its files."""
    secured.kill()
    environment = os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"}
    script = ROOT / "mosquitto" / "run-and-reload.sh"
    running = Process(["sh", str(script), str(secured.directory)], secured.folder / "script.log", environment)
    secured.wait_ready()
    yield running
    running.kill()


def child_of(process: Process) -> int:
    """Return the process number of the mosquitto that the script started."""
    children = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text("ascii").split()
    return next(int(child) for child in children if Path(f"/proc/{child}/comm").read_text() == "mosquitto\n")


def test_accounts_are_taken_over_within_seconds(
    secured: SecuredBroker, contained: Process, speakers: Callable[[Speaker], Speaker]
) -> None:
    directory = BrokerDirectory(secured.directory)
    directory.plan()

    password = accounts.open_provision(directory)

    eventually(
        lambda: speakers(Speaker("127.0.0.1", secured.port, ("provision", password))).is_in, told=contained.output
    )


def test_it_ends_with_the_broker_in_order(contained: Process) -> None:
    assert contained.stop(within_s=10) == 0


def test_it_does_not_outlive_a_broker_that_was_killed(contained: Process) -> None:
    os.kill(child_of(contained), signal.SIGKILL)

    assert contained.process.wait(10) != 0
