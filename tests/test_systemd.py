"""Both programs tell a service manager that they are ready and that work moves on; their units fit them."""

import configparser
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from mqtt_client import condition
from mqtt_client.clock import SystemTime
from mqtt_client.condition import Condition
from mqtt_client.health import NodeState
from mqtt_client.notify import STATUS_S, Notifier
from mqtt_client.sensors.quality import Quality
from mqtt_client.sensors.sampler import Sampler
from tests.node.test_sensors import Scripted
from tests.processes import Mosquitto, Process, eventually, python

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
PROGRAMS = ["node", "bridge"]


class Manager:
    """Plays systemd: a datagram socket that collects what services tell."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self._socket.setblocking(False)
        self._told: list[str] = []

    def told(self) -> list[str]:
        """Return all lines so far."""
        try:
            while True:
                self._told += self._socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return self._told

    def count(self, line: str) -> int:
        """Return how often a line came."""
        return self.told().count(line)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    one = Manager(f"@mqtt-test-{os.getpid()}-{time.monotonic_ns()}")
    yield one
    one.close()


@pytest.fixture
def start(tmp_path: Path, broker: Mosquitto, manager: Manager) -> Iterator[Callable[..., Process]]:
    """Start a program as systemd would, with a watchdog of so many seconds."""
    started: list[Process] = []

    def begin(*command: str, watchdog_s: float = 0.3, **settings: str) -> Process:
        environment = {
            **os.environ,
            "MQTT_HOST": "127.0.0.1",
            "MQTT_PORT": str(broker.port),
            "NODE_ID": "kitchen",
            "SERVER_URL": "",
            "NOTIFY_SOCKET": manager.path,
            "WATCHDOG_USEC": str(int(watchdog_s * 1e6)),
            **settings,
        }
        environment.pop("WATCHDOG_PID", None)
        started.append(Process(python("-m", *command), tmp_path / "log", environment, tmp_path))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


COMMANDS = [("mqtt_client", "run"), ("bridge", "run")]


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_ready_once_feeds_the_watchdog_and_says_when_it_stops(
    start: Callable[..., Process], manager: Manager, command: tuple[str, str]
) -> None:
    process = start(*command)

    eventually(lambda: manager.count("WATCHDOG=1") > 3, told=process.output)
    status = process.stop()

    assert status == 0
    assert manager.told()[0] == "READY=1"
    assert manager.told()[-1] == "STOPPING=1"
    assert manager.count("READY=1") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_process_that_hangs_does_not_feed_the_watchdog(
    start: Callable[..., Process], manager: Manager, command: tuple[str, str]
) -> None:
    process = start(*command)
    eventually(lambda: manager.count("WATCHDOG=1") > 1, told=process.output)

    process.signal(signal.SIGSTOP)
    eventually(lambda: is_stopped(process))
    fed = manager.count("WATCHDOG=1")
    time.sleep(1.0)  # three times the watchdog's own: silence cannot be waited for otherwise
    assert manager.count("WATCHDOG=1") == fed

    process.signal(signal.SIGCONT)
    eventually(lambda: manager.count("WATCHDOG=1") > fed)


def is_stopped(process: Process) -> bool:
    return Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(") ")[2].startswith("T")


def test_the_node_is_ready_and_fed_without_a_broker_and_says_what_is_wrong(
    start: Callable[..., Process], manager: Manager, broker: Mosquitto
) -> None:
    broker.kill()

    start("mqtt_client", "run")

    eventually(lambda: any("readings wait; broker 127.0.0.1" in line for line in manager.told()))
    assert manager.told()[0] == "READY=1"
    eventually(lambda: manager.count("WATCHDOG=1") > 2)


def test_the_status_follows_a_new_connection_at_once(start: Callable[..., Process], manager: Manager) -> None:
    start("mqtt_client", "run", watchdog_s=3600.0)

    eventually(lambda: any(re.fullmatch(r"STATUS=\d readings wait; connected", line) for line in manager.told()))


def test_without_a_watchdog_it_tells_its_status_only_now_and_then() -> None:
    assert Notifier({"NOTIFY_SOCKET": "/nonexistent"}).deadline is None
    assert Notifier({}).is_due(1e9) is False
    assert STATUS_S >= 10


def test_a_watchdog_of_another_process_is_not_fed(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "300000"}
    ours, others = (
        Notifier({**environment, "WATCHDOG_PID": str(os.getpid())}),
        Notifier({**environment, "WATCHDOG_PID": "1"}),
    )

    for one in (ours, others):
        one.ready(0.0)
        one.tell("well", 0.0, is_moving=True)

    assert (ours.deadline, others.deadline) == (pytest.approx(0.1), STATUS_S)
    ours.close()
    others.close()


def test_a_socket_in_the_file_system_is_found_and_a_status_is_one_line(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    notifier = Notifier({"NOTIFY_SOCKET": manager.path})

    notifier.tell("two\nlines READY=1", 0.0, is_moving=False)

    assert manager.told() == ["STATUS=two lines READY=1"]
    notifier.close()
    manager.close()
    notifier.tell("nobody hears it", 0.0, is_moving=True)


def test_work_moves_on_while_one_sensor_answers_and_not_when_all_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "HANG_S", 0.05)
    events: SimpleQueue[Any] = SimpleQueue()
    hanging, well = (
        Sampler(name, Scripted(1.0, pause_s=pause_s), 3600, Quality({}, {}, 300), SystemTime(), events)
        for name, pause_s in (("hanging", 30.0), ("well", 0.0))
    )
    parts: Any = SimpleNamespace()
    one, both = (Condition(parts, parts, list_, parts, NodeState(0)) for list_ in ([hanging], [hanging, well]))
    assert one.is_moving

    hanging.start(time.monotonic())
    well.start(time.monotonic())

    eventually(lambda: not one.is_moving)
    assert both.is_moving


@pytest.mark.parametrize(
    ("command", "wrong"),
    [(("mqtt_client", "run"), {"SAMPLE_INTERVAL": "0"}), (("bridge", "run"), {"SERVER_URL": "x"})],
)
def test_wrong_settings_end_with_2_before_it_is_ready(
    start: Callable[..., Process], manager: Manager, command: tuple[str, str], wrong: dict[str, str]
) -> None:
    process = start(*command, **wrong)

    assert process.process.wait(30) == 2
    assert manager.told() == []


# The units and what installs them ------------------------------------------------------------------


def unit(program: str) -> dict[str, list[str]]:
    """Return a unit's options, each with all its values."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # options keep their capitals
    text = (DEPLOY / "systemd" / f"mqtt-{program}.service").read_text(encoding="utf-8")
    parser.read_string(text)
    assert parser.sections() == ["Unit", "Service", "Install"]
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        option, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(option, []).append(value)
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_unit_is_told_by_the_program_watches_it_and_leaves_wrong_settings_to_a_person(program: str) -> None:
    options = unit(program)

    assert options["Type"] == ["notify"]
    assert options["NotifyAccess"] == ["main"]
    assert int(options["WatchdogSec"][0]) >= 30
    assert (options["Restart"], options["RestartPreventExitStatus"]) == (["always"], ["2"])
    assert options["StartLimitIntervalSec"] == ["0"]
    assert options["StateDirectory"] == [f"mqtt-{program}"]
    assert "network-online.target" in options["After"][0]
    assert not options.keys() & {"Requires", "BindsTo", "Wants"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_unit_and_the_installation_agree_on_paths_and_names(program: str) -> None:
    options = unit(program)
    script = (DEPLOY / f"install-{program}.sh").read_text(encoding="utf-8")
    names = dict(re.findall(r"^(program|settings)=(\S+)$", script, re.MULTILINE))
    home = names["program"]

    assert options["ExecStart"] == [f"/opt/{home}/bin/{home} run --env-file /etc/{home}/{names['settings']}"]
    assert options["User"] == options["Group"] == [home]


def test_the_node_may_use_its_devices_and_the_bridge_none() -> None:
    node, bridge = unit("node"), unit("bridge")

    assert node["DevicePolicy"] == ["closed"]
    assert {"char-i2c rw", "char-spi rw", "char-gpiochip rw"} <= set(node["DeviceAllow"])
    assert "PrivateDevices" not in node
    assert bridge["PrivateDevices"] == ["yes"]


@pytest.mark.parametrize("script", ["install-node.sh", "install-bridge.sh", "installation.sh"])
def test_the_scripts_are_posix_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n", str(DEPLOY / script)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def installation(tmp_path: Path) -> Callable[[str], "subprocess.CompletedProcess[str]"]:
    """Run lines of shell with the installation's functions, in folders of the test's own and without its account."""
    (tmp_path / "etc").mkdir()
    script = (DEPLOY / "install-node.sh").read_text(encoding="utf-8")
    take_node_file = re.search(r"^take_node_file\(\).*?^}", script, re.MULTILINE | re.DOTALL)
    assert take_node_file

    def run(lines: str) -> "subprocess.CompletedProcess[str]":
        text = (
            f"set -eu\nprogram=mqtt-node settings=node.env\n. {DEPLOY}/installation.sh\n"
            f"configuration={tmp_path}/etc\nchown() {{ :; }}\n{take_node_file[0]}\n{lines}\n"
        )
        return subprocess.run(
            ["sh", "-c", text, str(DEPLOY / "install-node.sh")], capture_output=True, text=True, check=False
        )

    return run


NODE_FILE = """# All that node kitchen needs
NODE_ID=kitchen
MQTT_HOST=broker.lan
MQTT_PASSWORD=a$b#c=d
MQTT_TLS_CA=ca.crt
MQTT_TLS_KEY=/keys/own.key
#file ca.crt
#-----BEGIN CERTIFICATE-----
#abc==
#-----END CERTIFICATE-----
#file kitchen.crt
#second
"""


def test_a_nodes_file_becomes_settings_and_certificates(
    tmp_path: Path, installation: Callable[[str], "subprocess.CompletedProcess[str]"]
) -> None:
    (tmp_path / "kitchen.env").write_text(NODE_FILE)

    done = installation("take_node_file kitchen.env")

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "etc" / "node.env").read_text().splitlines() == [
        "NODE_ID=kitchen",
        "MQTT_HOST=broker.lan",
        "MQTT_PASSWORD=a$b#c=d",
        f"MQTT_TLS_CA={tmp_path}/etc/ca.crt",
        "MQTT_TLS_KEY=/keys/own.key",
    ]
    assert (tmp_path / "etc" / "ca.crt").read_text() == (
        "-----BEGIN CERTIFICATE-----\nabc==\n-----END CERTIFICATE-----\n"
    )
    assert (tmp_path / "etc" / "kitchen.crt").read_text() == "second\n"
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "etc").iterdir()} == {0o640}


def test_settings_that_are_given_again_replace_the_old_ones_and_leave_a_persons_own(
    tmp_path: Path, installation: Callable[[str], "subprocess.CompletedProcess[str]"]
) -> None:
    own = "# mine\nNODE_SENSORS=main=iio\nMQTT_HOST=old\n"
    (tmp_path / "etc" / "node.env").write_text(own)
    (tmp_path / "kitchen.env").write_text(NODE_FILE)

    for _ in range(2):
        installation(
            "take_node_file kitchen.env; default_setting OUTBOX_PATH=/x; default_setting NODE_SENSORS=main=cpu"
        )

    lines = (tmp_path / "etc" / "node.env").read_text().splitlines()
    assert lines[:2] == ["# mine", "NODE_SENSORS=main=iio"]
    assert sorted(lines[2:]) == sorted(set(lines[2:]))
    assert {"MQTT_HOST=broker.lan", "OUTBOX_PATH=/x"} <= set(lines)


@pytest.mark.parametrize(
    ("text", "told"),
    [("hello\n", "holds no settings"), (NODE_FILE + "#file ../../etc/passwd\n#x\n", "is no file name")],
)
def test_a_file_that_is_none_of_ours_is_refused(
    tmp_path: Path, installation: Callable[[str], "subprocess.CompletedProcess[str]"], text: str, told: str
) -> None:
    (tmp_path / "strange.env").write_text(text)

    done = installation("take_node_file strange.env")

    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "etc" / "node.env").exists()
