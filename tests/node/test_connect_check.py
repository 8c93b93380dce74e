"""``mqtt-node check --connect`` at real brokers, right and wrong, and beside a running node."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mqtt_client.connect_check import find
from mqtt_client.probe.finding import Finding
from mqtt_client.settings import NodeSettings, env_file_variables, load
from tests.processes import Mosquitto, Process, eventually, free_port, python
from tests.security.secured import SecuredBroker

ROOT = Path(__file__).parents[2]


def at_broker(**variables: object) -> dict[str, Finding]:
    given = {"NODE_ID": "kitchen", "TIMEZONE": "UTC"} | {name: str(value) for name, value in variables.items()}
    return {finding.what: finding for finding in find(load(NodeSettings, given))}


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredBroker]:
    process = SecuredBroker(tmp_path / "secured")
    yield process
    process.kill()


@pytest.fixture
def run_node(tmp_path: Path) -> Iterator[Callable[[dict[str, str]], Process]]:
    """Run a node with these variables; killed at the test's end where it still runs."""
    started: list[Process] = []

    def run(variables: dict[str, str]) -> Process:
        environment = os.environ | variables | {"PYTHONPATH": str(ROOT)}
        started.append(Process(python("-m", "mqtt_client", "run"), tmp_path / "log", environment, tmp_path))
        return started[-1]

    yield run
    for process in started:
        process.kill()


def test_nothing_but_the_bridge_is_missing_for_a_node_that_was_added(secured: SecuredBroker) -> None:
    variables = env_file_variables(secured.add("kitchen"))

    found = at_broker(**variables)

    assert {what: one.result for what, one in found.items() if one.result != "ok"} == {"bridge": "warn"}
    assert found["forgery"].told == "publishing to topics of others is refused (3 tried)"
    assert found["certificate"].told.startswith("valid until")


def test_a_wrong_password_and_a_broker_that_does_not_run_are_told(secured: SecuredBroker) -> None:
    variables = env_file_variables(secured.add("kitchen"))

    wrong = at_broker(**variables | {"MQTT_PASSWORD": "wrong"})
    absent = at_broker(MQTT_PORT=free_port())

    assert wrong["account"].told.startswith("account 'kitchen' is refused: Not authorized (a wrong password")
    assert "mqtt-bridge nodes add" in wrong["account"].advice
    assert absent["broker"].result == "fail"


def test_a_clock_behind_the_bridge_s_is_told(broker: Mosquitto) -> None:
    ahead = (datetime.now(UTC) + timedelta(minutes=10)).isoformat(timespec="milliseconds")
    for topic, payload in (("availability", "online"), ("health", json.dumps({"store": "one", "time": ahead}))):
        command = ["mosquitto_pub", "-p", str(broker.port), "-r", "-t", f"sensors/bridge/main/{topic}", "-m", payload]
        subprocess.run(command, check=True)

    found = at_broker(MQTT_PORT=broker.port)

    assert found["bridge"].result == "ok"
    assert found["clock"].result == "warn"
    assert "s ahead of this one" in found["clock"].told
    assert found["forgery"].result == "warn"


def test_a_bridge_that_can_commit_nothing_is_told(broker: Mosquitto) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    health = json.dumps({"store": "one", "time": now, "troubles": ["the store's disk is full"]})
    for topic, payload in (("availability", "online"), ("health", health)):
        command = ["mosquitto_pub", "-p", str(broker.port), "-r", "-t", f"sensors/bridge/main/{topic}", "-m", payload]
        subprocess.run(command, check=True)

    found = at_broker(MQTT_PORT=broker.port)

    assert found["bridge"].result == "warn"
    assert found["bridge"].told == "it takes no readings now: the store's disk is full"


def test_a_running_node_keeps_its_connection_while_it_is_checked(
    secured: SecuredBroker, tmp_path: Path, run_node: Callable[[dict[str, str]], Process]
) -> None:
    variables = env_file_variables(secured.add("kitchen")) | {"OUTBOX_PATH": str(tmp_path / "outbox.db")}

    node = run_node(variables)
    eventually(lambda: "connected to broker" in node.output(), told=node.output)
    eventually(lambda: "is running and connected" in getattr(at_broker(**variables).get("account"), "told", ""))

    assert node.output().count("connected to broker") == 1
    assert node.stop() == 0
    assert "trying again" not in node.output()


def test_the_command_tells_it_in_its_own_words_and_fails_where_something_fails(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin", "MQTT_PORT": str(free_port()), "NODE_ID": "kitchen", "PYTHONPATH": str(ROOT)}

    def check(*options: str) -> "subprocess.CompletedProcess[str]":
        command = python("-m", "mqtt_client", "check", "--connect", *options)
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    lines, as_json = check(), check("--json")

    assert lines.returncode == as_json.returncode == 1
    assert "FAULT broker: nobody listens at localhost:" in lines.stdout
    assert json.loads(as_json.stdout)[-1]["verdict"] == "FAULT"
