"""The demo's programs: a broker, the Flask server, the bridge and two nodes, on free ports of the loopback interface.

Their settings, data and logs are in one folder. Whatever happens to the demo,
none of them goes on: they are ended in order, killed when that takes too
long, and told by the kernel when the demo itself was killed.
"""

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bridge.settings import BridgeSettings
from mqtt_client.settings import NodeSettings, described

ROOT = Path(__file__).resolve().parent.parent
NODES = ("office", "simulated")
END_WITHIN_S = 10
READY_WITHIN_S = 30

IOTCORE = """id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 200000
max_inflight_count = 100
dynamic_filters = true
"""


class DemoFailed(Exception):
    """The demo cannot go on; its text is for the person who started it."""


class Program:
    """A program that was started here; what it writes goes to ``log``."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for the demo alone
                preexec_fn=end_with_parent,
            )

    def check(self) -> None:
        """Raise DemoFailed when it has ended."""
        status = self._process.poll()
        if status is not None:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            raise DemoFailed("\n  ".join([f"{self.name} ended by itself, with status {status}:", *lines]))

    def end(self) -> None:
        """End it in order, or kill it when that takes too long; what it left of its own is killed in any case."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            print(f"{self.name} did not end within {END_WITHIN_S} s and is killed")
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill it with all that it started."""
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group that has ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def end_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies, however it dies (prctl(2), Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def environment() -> dict[str, str]:
    """Return this environment without settings of ours, which are in the folder's files."""
    ours = described(NodeSettings) | described(BridgeSettings)
    names = {*ours, *(alias for setting in ours.values() for alias in setting.aliases)}
    kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in names}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on, below those that connections are given."""
    while True:
        port = random.randrange(16_000, 20_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def is_listening(port: int) -> bool:
    """Tell whether somebody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def quoted(value: object) -> str:
    """Return a value as .env holds it, whatever is in it."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def mosquitto() -> str | None:
    """Return the installed mosquitto; Debian keeps it where only root looks."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")


class Programs:
    """All programs of the demo, with their folder and ports."""

    def __init__(self, folder: Path, *, embedded: bool = False, archive_interval_s: float = 15) -> None:
        self.folder = folder
        self.archives = folder / "archives"
        self.store = folder / "bridge.db"
        self.received = folder / "server.db"
        self.mosquitto = None if embedded else mosquitto()
        self.broker_port, self.server_port, self.web_port = free_port(), free_port(), free_port()
        self._archive_interval_s = archive_interval_s
        self._running: dict[str, Program] = {}

    def start(self) -> None:
        """Start each program when those that it needs are ready."""
        self._write_settings()
        self._start("broker", self._broker())
        receiver = [sys.executable, str(ROOT / "examples" / "receiver.py")]
        self._start("server", [*receiver, "--port", str(self.server_port), "--database", str(self.received)])
        self._wait_for(self.broker_port, "the broker")
        self._wait_for(self.server_port, "the server")
        self._start("bridge", self.bridge("run"))
        self.start_nodes()

    def start_nodes(self) -> None:
        """Start the nodes, for the first time or again with what their outboxes hold."""
        for node in NODES:
            self._start(node, [sys.executable, "-m", "mqtt_client", "run", "--env-file", str(self.env_file(node))])

    def _start(self, name: str, command: list[str]) -> None:
        self._running[name] = Program(name, command, self.folder)

    def _write_settings(self) -> None:
        sensors = {
            "office": {
                "NODE_SENSORS": f"main=replay:{ROOT / 'examples' / 'office-room.csv'}",
                "SAMPLE_INTERVAL": 0.05,
            },
            "simulated": {"NODE_SENSORS": "main=simulated", "SAMPLE_INTERVAL": 1},
        }
        for node in NODES:
            self._write_env(node, {"NODE_ID": node, "OUTBOX_PATH": self.outbox(node)} | sensors[node])
        bridge = {
            "SERVER_URL": f"http://127.0.0.1:{self.server_port}/data",
            "STORE_URL": f"sqlite:///{self.store}",
            "ARCHIVE_INTERVAL": self._archive_interval_s,
            "ARCHIVE_DIRECTORY": self.archives,
            "BACKUP_DIRECTORY": self.folder / "backup",
            "WEB_PORT": self.web_port,
        }
        self._write_env("bridge", bridge)

    def _write_env(self, program: str, settings: dict[str, object]) -> None:
        broker = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": self.broker_port}
        lines = [f"{variable}={quoted(value)}\n" for variable, value in (broker | settings).items()]
        self.env_file(program).write_text("".join(lines), encoding="utf-8")

    def env_file(self, program: str) -> Path:
        """Return the file with a program's settings."""
        return self.folder / f"{program}.env"

    def outbox(self, node: str) -> Path:
        """Return the file of a node's outbox."""
        return self.folder / f"{node}-outbox.db"

    def bridge(self, *command: str) -> list[str]:
        """Return a command of the bridge with its settings."""
        return [sys.executable, "-m", "bridge", *command, "--env-file", str(self.env_file("bridge"))]

    def _broker(self) -> list[str]:
        if self.mosquitto is None:
            configuration = self.folder / "iotcore.toml"
            configuration.write_text(IOTCORE.format(port=self.broker_port), encoding="utf-8")
            return [sys.executable, "-m", "iotcore", "--config", str(configuration), "--log-level", "CRITICAL"]
        configuration = self.folder / "mosquitto.conf"
        text = (ROOT / "mosquitto" / "mosquitto.conf").read_text(encoding="utf-8")
        text = text.replace("listener 1883 ", f"listener {self.broker_port} ")
        text = text.replace("/var/lib/mosquitto/", f"{self.folder}/")
        configuration.write_text(text + ("user root\n" if os.geteuid() == 0 else ""), encoding="utf-8")
        return [self.mosquitto, "-c", str(configuration)]

    def comes_true(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait until the condition is true, and tell whether it is; raises DemoFailed when a program has ended."""
        deadline = time.monotonic() + within_s
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def _wait_for(self, port: int, name: str) -> None:
        if not self.comes_true(lambda: is_listening(port), READY_WITHIN_S):
            raise DemoFailed(f"{name} does not listen after {READY_WITHIN_S} s; its log is in {self.folder}")

    def check(self) -> None:
        """Raise DemoFailed when a program has ended by itself."""
        for program in self._running.values():
            program.check()

    def run_once(self, *command: str) -> None:
        """Run a command of the bridge to its end; raises DemoFailed when it fails."""
        done = subprocess.run(self.bridge(*command), cwd=self.folder, env=environment(), capture_output=True)
        if done.returncode:
            told = done.stderr.decode("utf-8", "replace")
            raise DemoFailed(f"mqtt-bridge {' '.join(command)} ended with status {done.returncode}: {told}")

    def end(self, *names: str) -> None:
        """End these programs in this order; without names all, those first that send."""
        for name in names or (*NODES, "bridge", "server", "broker"):
            if name in self._running:
                self._running.pop(name).end()

    def kill(self) -> None:
        """Kill what still runs."""
        for program in self._running.values():
            program.kill()
