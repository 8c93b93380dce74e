"""What a node costs its machine: memory, processor, card and start, beside a bare paho script and mqtt-io.

All three publish one made-up value a second with QoS 1 to one mosquitto, at the same time, each in an
environment of its own with nothing but what it needs, as on a Pi. Whatever the kernel counts of a process is
read from /proc: VmRSS and PSS at the end, processor time and bytes written to storage (write_bytes) over the
measured time. The start is the time from the program's start to its first value at a subscriber, the best of
several starts. Nothing is left behind but the environments, in --environments, which the next run uses again.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from os import environ
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paho.mqtt.client import Client, MQTTMessage, MQTTv5  # noqa: E402  # the repository's own modules come first
from paho.mqtt.enums import CallbackAPIVersion  # noqa: E402

from tests.processes import Mosquitto, Process, eventually  # noqa: E402

BARE = """
import json, sys, time
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
while True:
    client.publish("bare/reading", json.dumps({"temperature": 22.0, "humidity": 50.0, "time": time.time()}), 1)
    time.sleep(1)
"""

MQTT_IO = """
mqtt: {{host: 127.0.0.1, port: {port}, topic_prefix: mqttio}}
sensor_modules: [{{name: made_up, module: mock}}]
sensor_inputs: [{{name: temperature, module: made_up, interval: 1}}]
"""


@dataclass(frozen=True)
class Candidate:
    """A program to be measured."""

    name: str
    command: list[str]
    topics: str
    """Where its values go."""
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Figures:
    """What was measured of one program."""

    name: str
    rss_mib: float
    pss_mib: float
    cpu_s_a_minute: float
    first_value_s: float
    written_kib_an_hour: float


def python_with(folder: Path, *packages: str) -> str:
    """Return the Python of an environment with these packages, made where there is none yet."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder.name} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, *packages], check=True)
    return str(python)


def node_python(folder: Path) -> str:
    """Return the Python of an environment in which the node is installed as it stands here."""
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as copy:
        for name in ("mqtt_client", "bridge"):
            shutil.copytree(ROOT / name, Path(copy, name))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        return python_with(folder, f"{copy}[node]")


def candidates(environments: Path, folder: Path, port: int) -> list[Candidate]:
    """Return the programs, each with its settings in the folder."""
    (folder / "bare.py").write_text(BARE, encoding="utf-8")
    (folder / "mqtt-io.yml").write_text(MQTT_IO.format(port=port), encoding="utf-8")
    node = {
        "MQTT_HOST": "127.0.0.1",
        "MQTT_PORT": str(port),
        "NODE_ID": "measured",
        "NODE_SENSORS": "main=fixed",
        "NODE_CONFIRM": "broker",
        "SAMPLE_INTERVAL": "1",
        "OUTBOX_PATH": str(folder / "outbox.db"),
    }
    bare_python = python_with(environments / "bare", "paho-mqtt")
    io_python = python_with(environments / "mqtt-io", "mqtt-io")
    program = Path(node_python(environments / "node")).parent / "mqtt-node"
    return [
        Candidate("bare paho script", [bare_python, str(folder / "bare.py"), str(port)], "bare/reading", {}),
        Candidate("mqtt-node run", [str(program), "run"], "sensors/measured/reading/main", node),
        Candidate("mqtt-io", [io_python, "-m", "mqtt_io", str(folder / "mqtt-io.yml")], "mqttio/sensor/#", {}),
    ]


class Audience:
    """A subscriber that counts what comes."""

    def __init__(self, port: int, topics: str) -> None:
        self.heard = 0
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(topics, 1)
        self._client.loop_start()

    def _on_message(self, _client: Client, _userdata: object, _message: MQTTMessage) -> None:
        self.heard += 1

    def leave(self) -> None:
        """End the subscription."""
        self._client.disconnect()
        self._client.loop_stop()


def first_value_s(candidate: Candidate, folder: Path, port: int, starts: int) -> float:
    """Start it some times; return the best time in seconds to its first value."""
    best = float("inf")
    for _ in range(starts):
        audience = Audience(port, candidate.topics)
        began = time.monotonic()
        process = start(candidate, folder)
        try:
            eventually(lambda audience=audience: audience.heard, told=process.output)  # type: ignore[misc]
            best = min(best, time.monotonic() - began)
        finally:
            process.stop()
            audience.leave()
    return best


def start(candidate: Candidate, folder: Path) -> Process:
    """Start it with an environment of its own."""
    variables = {"PATH": environ.get("PATH", ""), "HOME": str(folder), **candidate.variables}
    log = folder / f"{candidate.name.replace(' ', '-')}.log"
    return Process(candidate.command, log, variables, folder)


def kib(pid: int, file: str, key: str) -> int:
    """Return a figure of a process that the kernel tells in kB."""
    for line in Path("/proc", str(pid), file).read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise LookupError(f"{file} has no {key}")


def cpu_s(pid: int) -> float:
    """Return the processor time of a process so far, user and system, to the nanosecond that its threads ran."""
    threads = Path("/proc", str(pid), "task").iterdir()
    return sum(int((thread / "schedstat").read_text(encoding="ascii").split()[0]) for thread in threads) / 1e9


def written_bytes(pid: int) -> int:
    """Return what a process has sent to storage so far."""
    return int(Path("/proc", str(pid), "io").read_text(encoding="ascii").partition("\nwrite_bytes: ")[2].split()[0])


def measure(seconds: float, starts: int, environments: Path, folder: Path) -> list[Figures]:
    """Run the programs side by side and return what each of them cost."""
    with ExitStack() as stack:
        broker = Mosquitto(folder / "broker")
        stack.callback(broker.kill)
        programs = candidates(environments, folder, broker.port)
        first = [first_value_s(one, folder, broker.port, starts) for one in programs]
        running = []
        for one in programs:
            audience = Audience(broker.port, one.topics)
            stack.callback(audience.leave)
            process = start(one, folder)
            stack.callback(process.kill)
            running.append((process.process.pid, audience, process))
        for _pid, audience, process in running:
            eventually(lambda audience=audience: audience.heard > 3, told=process.output)  # type: ignore[misc]
        began, before = time.monotonic(), [(cpu_s(pid), written_bytes(pid)) for pid, _, _ in running]
        time.sleep(seconds)
        minutes = (time.monotonic() - began) / 60
        return [
            Figures(
                one.name,
                round(kib(pid, "status", "VmRSS") / 1024, 1),
                round(kib(pid, "smaps_rollup", "Pss") / 1024, 1),
                round((cpu_s(pid) - cpu) / minutes, 3),
                round(first_s, 2),
                round((written_bytes(pid) - written) / 1024 / minutes * 60),
            )
            for one, first_s, (pid, _, _), (cpu, written) in zip(programs, first, running, before, strict=True)
        ]


def table(found: list[Figures]) -> str:
    """Return the figures as lines of text; the first program is what the others are compared with."""
    head = (
        f"{'':18} {'VmRSS MiB':>10} {'ratio':>6} {'PSS MiB':>8} {'CPU s/min':>10} {'first value s':>14} {'KiB/h':>8}"
    )
    return "\n".join(
        [head]
        + [
            f"{one.name:18} {one.rss_mib:>10.1f} {one.rss_mib / found[0].rss_mib:>6.2f} {one.pss_mib:>8.1f} "
            f"{one.cpu_s_a_minute:>10.3f} {one.first_value_s:>14.2f} {one.written_kib_an_hour:>8.0f}"
            for one in found
        ]
    )


def main() -> None:
    """Measure, and print a table, then the same as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to measure; 60")
    parser.add_argument("--starts", type=int, default=3, help="starts, of which the best counts; 3")
    parser.add_argument("--environments", type=Path, help="where the environments are kept; else they are made anew")
    parser.add_argument("--folder", type=Path, help="a folder on the disk to write to; the system's temporary one")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, tempfile.TemporaryDirectory() as made:
        found = measure(options.seconds, options.starts, options.environments or Path(made), Path(folder))
    figures = json.dumps({"seconds": options.seconds, "programs": [asdict(one) for one in found]}, indent=2)
    print(table(found))
    print(figures)
    if options.json:
        options.json.write_text(figures + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
