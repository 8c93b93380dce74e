"""Real programs that the tests start on free loopback ports, and end."""

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to connections, so that none is taken between the choice and its use."""
WORKERS = 8


def _own_ports() -> Iterator[int]:
    """Return ports of this worker's share, round and round, from a random one on."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    size = len(PORTS) // WORKERS
    share = PORTS[worker * size : (worker + 1) * size]
    start = random.randrange(size)
    return itertools.cycle([*share[start:], *share[:start]])


_ports = _own_ports()


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on, and that was not returned lately."""
    for port in itertools.islice(_ports, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def eventually(condition: Callable[[], T], *, within_s: float = 30.0, told: Callable[[], object] | None = None) -> T:
    """Return the condition's value as soon as it is true; fail after within_s seconds, with what ``told`` returns."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within_s} s: {told() if told else value!r}")
        time.sleep(0.02)


class Process:
    """A program that runs until :meth:`stop` or :meth:`kill`; its output goes to a file."""

    def __init__(
        self, command: list[str], log: Path, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ):
        self.command = command
        self.log = log
        self._environment = dict(environment) if environment is not None else None
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                cwd=self._cwd,
                start_new_session=True,
            )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The running process."""
        assert self._process is not None
        return self._process

    def is_running(self) -> bool:
        """Tell whether it runs."""
        return self.process.poll() is None

    def output(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it and all processes that it started, with -9, and wait for it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self, within_s: float = 15.0) -> int:
        """End it in order and return its exit status; whatever is left of its group is killed."""
        if self.is_running():
            self.process.terminate()
        try:
            status = self.process.wait(within_s)
        finally:
            self.kill()
        return status


class Mosquitto(Process):
    """A real broker; its session store survives a restart unless it is wiped."""

    def __init__(self, folder: Path, extra_configuration: str = "", port: int | None = None) -> None:
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        assert program, "mosquitto is not installed; `make test` installs it where it may"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # started as root, mosquitto becomes another user
        self.port = port or free_port()
        self.folder = folder
        configuration = folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {folder}/\nautosave_interval 60\nmax_queued_messages 1000000\n"
            f"max_inflight_messages 1000\nset_tcp_nodelay true\n{extra_configuration}\n",
            encoding="utf-8",
        )
        if os.geteuid() == 0:
            configuration.write_text(configuration.read_text(encoding="utf-8") + "user root\n", encoding="utf-8")
        super().__init__([program, "-c", str(configuration)], folder / "mosquitto.log")
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it accepts connections."""

        def accepts() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        eventually(accepts, told=self.output)

    def restart(self, *, empty: bool = False) -> None:
        """Start it again after :meth:`kill` or :meth:`stop`, with what it kept or without."""
        if empty:
            (self.folder / "mosquitto.db").unlink(missing_ok=True)
        self.start()
        self.wait_ready()


def python(*arguments: str) -> list[str]:
    """Return a command that runs this Python."""
    return [sys.executable, *arguments]
