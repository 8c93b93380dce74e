"""Everything that takes part in one run, each a real process with its own place: nodes, broker, bridge, receiver.

Between any two parties stands a proxy; under the outbox of the first node, the
store, the archives and the broker a disk that can be filled; on every wrist a
clock that can be moved.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.bad_server import BadServer
from tests.faults.clocks import MovableClock
from tests.faults.ledger import Ledger, held
from tests.faults.proxy import Proxies
from tests.faults.small_disk import SmallDisk
from tests.processes import Mosquitto, Process, eventually, free_port, python

ROOT = Path(__file__).parents[2]
HOOK = Path(__file__).parent / "hook"
JOBS = ("ingest", "forward", "archive")
BOUNDED = 200
"""Readings that the last node's outbox holds at most."""


@dataclass(frozen=True)
class Plan:
    """How a world is made."""

    seed: int = 1
    nodes: int = 3
    interval_s: float = 0.02
    batch_size: int = 1
    queued_messages: int = 1_000_000
    archive_interval_s: float = 4.0
    cleanup_interval_s: float = 15.0
    bounded: bool = True
    """Whether the last node's outbox is a small one."""
    worn_break: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    """More settings, for all programs."""


class World:
    """A running fleet in one folder."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.ledger = Ledger()
        self.ended: list[str] = []
        """What ended although nobody had killed it, and how."""
        self._proxies = Proxies()
        self._web_port = free_port()
        self._expected: dict[str, Process] = {}
        self._twins: dict[str, dict[str, str]] = {}
        self.disks: dict[str, SmallDisk] = {}
        for name in ("outbox", "store", "archives", "broker"):
            self.disks[name] = SmallDisk(self.pids)
        self.clocks = {
            name: MovableClock(folder / f"{name}.clock") for name in (*self.node_names, "bridge", "receiver")
        }
        try:
            self._start()
        except BaseException:
            self.end()
            raise

    def _start(self) -> None:
        queued = f"max_queued_messages {self.plan.queued_messages}" if self.plan.queued_messages < 1_000_000 else ""
        self.broker = Mosquitto(self.disks["broker"].folder, queued)
        self._expected["broker"] = self.broker
        self.receiver_port = free_port()
        self.receiver = self._process(
            "receiver",
            "-c",
            "from examples.receiver import main; main()",
            "--port",
            str(self.receiver_port),
            "--database",
            str(self.receiver_database),
        )
        self.server = BadServer(self.receiver_port, self.plan.seed)
        self.links = {name: self._proxies.add(self.broker.port) for name in (*self.node_names, "bridge")}
        self.links["server"] = self._proxies.add(self.server.port)
        self.bridge = self._process("bridge", "-m", "bridge", "run")
        eventually(lambda: "connected to the broker" in self.bridge.output(), told=self.bridge.output, within_s=120)
        self.nodes = {name: self._process(name, "-m", "mqtt_client", "run") for name in self.node_names}

    # Places -------------------------------------------------------------------------------------

    @property
    def node_names(self) -> list[str]:
        """The nodes."""
        return [f"node-{number}" for number in range(1, self.plan.nodes + 1)]

    def outbox(self, node: str) -> Path:
        """Return the file of a node's outbox."""
        folder = self.disks["outbox"].folder if node == "node-1" else self.folder / node
        return folder / "outbox.db"

    @property
    def store(self) -> Path:
        """The file of the bridge's store."""
        return self.disks["store"].folder / "bridge.db"

    @property
    def archives(self) -> Path:
        """The archive folder."""
        return self.disks["archives"].folder / "archives"

    @property
    def backup(self) -> Path:
        """The backup folder, on another file system."""
        return self.folder / "backup"

    @property
    def receiver_database(self) -> Path:
        """What the server has stored."""
        return self.folder / "receiver.db"

    def environment(self, program: str, **more: str) -> dict[str, str]:
        """Return a program's environment: its settings, its clock, its break."""
        kind = "node" if program.startswith("node-") else program
        bounded = self.plan.bounded and program == self.node_names[-1]
        found = {
            **os.environ,
            "PYTHONPATH": f"{HOOK}{os.pathsep}{ROOT}",
            "FAULTS_FOR": kind,
            "FAULTS_CLOCK": str(self.clocks[program].path),
            "TIMEZONE": "UTC",
            "MQTT_PORT": str(self.links[program].port) if program in getattr(self, "links", {}) else "1",
            "NODE_ID": program,
            "NODE_SENSORS": f"main=simulated:{self.plan.seed}",
            "NODE_CLOCK_WAIT": "2",
            "SAMPLE_INTERVAL": str(self.plan.interval_s),
            "OUTBOX_PATH": str(self.outbox(program)),
            "OUTBOX_MAX_READINGS": str(BOUNDED if bounded else 1_000_000),
            "STORE_URL": f"sqlite:///{self.store}",
            "SERVER_URL": f"http://127.0.0.1:{self.links['server'].port}/data" if hasattr(self, "links") else "",
            "WEB_PORT": str(self._web_port),
            "SERVER_BATCH_SIZE": str(self.plan.batch_size),
            "SERVER_TIMEOUT": "5",
            "SERVER_MAX_TRIES": "3",
            "ARCHIVE_DIRECTORY": str(self.archives),
            "BACKUP_DIRECTORY": str(self.backup),
            "ARCHIVE_INTERVAL": str(self.plan.archive_interval_s),
            "CLEANUP_INTERVAL": str(self.plan.cleanup_interval_s),
            **self.plan.settings,
            **self._twins.get(program, {}),
            **more,
        }
        if self.plan.worn_break:
            found["FAULTS_BREAK"] = self.plan.worn_break
        return found

    # Processes ----------------------------------------------------------------------------------

    def _process(self, program: str, *arguments: str, **settings: str) -> Process:
        process = Process(
            python(*arguments), self.folder / f"{program}.log", self.environment(program, **settings), self.folder
        )
        self._expected[program] = process
        return process

    def start(self, name: str, **settings: str) -> None:
        """Start a program (again); a node with other settings if given."""
        if name == "broker":
            self.broker.restart()
        elif name in self.nodes:
            self.nodes[name] = self._process(name, "-m", "mqtt_client", "run", **settings)
            return
        else:
            self.process(name).start()
        self._expected[name] = self.process(name)

    def kill(self, name: str) -> None:
        """Kill a program and all its processes with -9."""
        self._expected.pop(name, None)
        self.process(name).kill()

    def stop(self, name: str) -> int:
        """End a program in order."""
        self._expected.pop(name, None)
        return self.process(name).stop()

    def process(self, name: str) -> Process:
        """Return a program."""
        return {"broker": self.broker, "bridge": self.bridge, "receiver": self.receiver, **self.nodes}[name]

    def job(self, name: str) -> int | None:
        """Return the process of one of the bridge's jobs, None while it has none."""
        for child in children(self.bridge.process.pid):
            words = command_of(child)
            if "--only" in words and words[words.index("--only") + 1] == name:
                return child
        return None

    def kill_job(self, name: str) -> None:
        """Kill one of the bridge's jobs alone, if it runs; the service starts it again."""
        pid = self.job(name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_service(self) -> None:
        """Kill the bridge's service and none of its jobs."""
        self._expected.pop("bridge", None)
        self.bridge.process.kill()
        self.bridge.process.wait(10)

    def empty_broker(self) -> None:
        """Kill the broker, and take from it all that it kept."""
        self.kill("broker")
        (self.broker.folder / "mosquitto.db").unlink(missing_ok=True)

    def pids(self) -> list[int]:
        """Return all processes."""
        own = [process.process.pid for process in self._expected.values() if process.is_running()]
        return own + [child for pid in own for child in children(pid)]

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run a command of the bridge to its end and return what it prints."""
        done = subprocess.run(
            python("-m", "bridge", *arguments),
            env=self.environment("bridge"),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self, node: str) -> dict[str, object]:
        """Return what a node says of itself."""
        done = subprocess.run(
            python("-m", "mqtt_client", "status", "--json"),
            env=self.environment(node),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def tend(self) -> None:
        """Note, and start again, what ended although nobody had killed it; read what was taken."""
        for name, process in list(self._expected.items()):
            if not process.is_running():
                self.ended.append(f"{name} ended by itself with {process.process.returncode}")
                process.start()
        self.absorb()

    def clone(self, name: str, outbox: Path, node: str) -> None:
        """Start one more node, with a card of its own, under the name of another."""
        self._twins[name] = {"NODE_ID": node, "OUTBOX_PATH": str(outbox)}
        self.clocks[name], self.links[name] = self.clocks[node], self.links[node]
        self.nodes[name] = self._process(name, "-m", "mqtt_client", "run")

    def absorb(self) -> None:
        """Read what was taken since the last time."""
        for node in self.node_names:
            self.ledger.absorb(node, self.outbox(node))

    def count_taken(self) -> int:
        """Return how many readings were taken so far."""
        self.absorb()
        return len(self.ledger.taken)

    def count_received(self) -> int:
        """Return how many readings the server has."""
        with reading_from(self.receiver_database) as connection:
            (found,) = connection.execute("SELECT count(*) FROM readings").fetchone()
        return int(found)

    # The end of a run ---------------------------------------------------------------------------

    def finish(self, node: str) -> None:
        """Start a node again to send what it holds, and to take one last reading."""
        script = self.folder / "last.csv"
        script.write_text("time,temperature,humidity\n0,21.5,48.25\n", encoding="utf-8")
        self.stop(node)
        self.start(node, NODE_SENSORS=f"last=replay:{script}:once", SAMPLE_INTERVAL="0.1")

    def drain(self, within_s: float) -> bool:
        """Let nodes take one last reading each and wait until all has arrived; return whether it did."""
        for node in self.node_names:
            self.finish(node)
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self.tend()
            if self.is_empty():
                return True
            time.sleep(0.25)
        return False

    def is_empty(self) -> bool:
        """Tell whether nothing is under way any more."""
        with contextlib.suppress(sqlite3.DatabaseError):
            if any(held(self.outbox(node)) != (set(), 0) for node in self.node_names):
                return False
            with reading_from(self.store) as connection:
                (waiting,) = connection.execute("SELECT count(*) FROM readings WHERE forward_state < 2").fetchone()
            if not waiting and self.letters():
                self.run("dead-letters", "retry", "--all", check=False)
                return False
            return not waiting
        return False

    def letters(self) -> int:
        """Return how many dead letters wait for a decision."""
        with reading_from(self.store) as connection:
            (found,) = connection.execute("SELECT count(*) FROM dead_letters WHERE state = 0").fetchone()
        return int(found)

    def end(self) -> None:
        """End everything that was started."""
        for name in ("broker", "bridge", "receiver", *getattr(self, "nodes", {})):
            if hasattr(self, name) or name in getattr(self, "nodes", {}):
                self._expected.pop(name, None)
                with contextlib.suppress(AssertionError):
                    self.process(name).kill()
        self._proxies.end()
        if hasattr(self, "server"):
            self.server.end()
        for disk in self.disks.values():
            disk.end()

    def logs(self) -> str:
        """Return the last lines of every log."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-2500:]}" for file in files)


@contextlib.contextmanager
def reading_from(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a database to read from it beside its owner."""
    connection = sqlite3.connect(database, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def command_of(pid: int) -> list[str]:
    """Return a process's command."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that nobody has open, with its journal."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for ending in ("", "-wal", "-shm"):
        target.with_name(target.name + ending).unlink(missing_ok=True)
        if source.with_name(source.name + ending).exists():
            shutil.copyfile(source.with_name(source.name + ending), target.with_name(target.name + ending))
