"""Alarms end to end: readings through a real broker and ingest, alarms back as retained messages."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.alarms import board
from bridge.store.database import open_store
from mqtt_client.reading import format_time, from_ms
from tests.bridge.peer import Peer
from tests.processes import Mosquitto, Process, eventually, python
from tests.wire import reading

READING = "sensors/kitchen/reading/main"
ALARM = "sensors/kitchen/alarm"
OF_THE_BRIDGE = "sensors/bridge/main/alarm"
RULES = """\
[[rule]]
name = "warm"
quantity = "temperature"
above = 30
hysteresis = 1

[[rule]]
name = "server"
server_unreachable_for = "1s"
severity = "critical"
"""


@pytest.fixture
def environment(broker: Mosquitto, tmp_path: Path) -> dict[str, str]:
    """Settings with rules, and with a server that nobody answers for."""
    rules = tmp_path / "alarms.toml"
    rules.write_text(RULES, encoding="utf-8")
    return {
        **os.environ,
        "MQTT_PORT": str(broker.port),
        "STORE_URL": f"sqlite:///{tmp_path}/bridge.db",
        "SERVER_URL": "",
        "ALARM_RULES": str(rules),
        "UI_LANGUAGE": "en",
    }


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start one job, or with none named the service."""
    running: list[Process] = []

    def begin(job: str, **changes: str) -> Process:
        log = tmp_path / f"{job}-{len(running)}.log"
        command = python("-m", "bridge", "run", "--only", job)
        process = Process(command, log, {**environment, **changes}, tmp_path)
        running.append(process)
        if job == "ingest":
            eventually(lambda: "connected to the broker" in process.output(), told=process.output)
        return process

    yield begin
    for process in running:
        process.kill()


@pytest.fixture
def peer(broker: Mosquitto) -> Iterator[Peer]:
    """A client that sees everything."""
    connected = Peer(broker.port)
    yield connected
    connected.close()


def measured(seq: int, temperature: float, age_s: float = 0.0) -> bytes:
    at_ms = round(1000 * (time.time() - age_s))
    return reading(seq, time=format_time(from_ms(at_ms)), values={"temperature": temperature})


def command(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        python("-m", "bridge", *arguments), env=environment, capture_output=True, text=True, timeout=60
    )


def rules_in(message: bytes | None) -> list[str] | None:
    return None if message is None else [alarm["rule"] for alarm in json.loads(message)]


def test_an_alarm_is_published_retained_and_cleared_again(
    start: Callable[..., Process], peer: Peer, broker: Mosquitto
) -> None:
    start("alarms")
    start("ingest")

    peer.publish(READING, measured(1, 20), measured(2, 31.5))
    eventually(lambda: rules_in(peer.last(ALARM)) == ["warm"], told=lambda: peer.messages)
    late_comer = Peer(broker.port)
    retained = eventually(lambda: late_comer.last(ALARM))
    late_comer.close()
    peer.publish(READING, measured(3, 20))

    eventually(lambda: peer.last(ALARM) == b"[]", told=lambda: peer.messages)
    (alarm,) = json.loads(retained)
    assert (alarm["quantity"], alarm["value"], alarm["unit"]) == ("temperature", 31.5, "°C")
    assert alarm["text"] == "kitchen: temperature 31.5 °C is above 30 °C"


def test_a_node_without_alarms_says_so(start: Callable[..., Process], peer: Peer) -> None:
    start("alarms")
    start("ingest")

    peer.publish(READING, measured(1, 20))

    eventually(lambda: peer.last(ALARM) == b"[]" and peer.last(OF_THE_BRIDGE) == b"[]", told=lambda: peer.messages)


def test_an_alarm_of_the_bridge_is_published_under_its_own_name_and_told_by_status(
    start: Callable[..., Process], peer: Peer, environment: dict[str, str]
) -> None:
    away = {"SERVER_URL": "http://127.0.0.1:9/data", "SERVER_TIMEOUT": "1"}
    for job in ("alarms", "ingest", "forward"):
        start(job, **away)

    peer.publish(READING, measured(1, 20))

    eventually(lambda: rules_in(peer.last(OF_THE_BRIDGE)) == ["server"], told=lambda: peer.messages)
    (alarm,) = json.loads(peer.last(OF_THE_BRIDGE) or b"[]")
    told = command(environment, "status").stdout
    kept = json.loads(command(environment, "status", "--json").stdout)
    assert alarm["severity"] == "critical"
    assert "critical the server does not take readings" in told
    assert [one["rule"] for one in kept["alarms"]] == ["server"]


def test_a_broker_that_lost_everything_is_told_again(
    start: Callable[..., Process], peer: Peer, broker: Mosquitto
) -> None:
    start("alarms")
    start("ingest")
    peer.publish(READING, measured(1, 31))
    eventually(lambda: rules_in(peer.last(ALARM)) == ["warm"], told=lambda: peer.messages)

    broker.kill()
    broker.restart(empty=True)

    late_comer = Peer(broker.port)
    eventually(lambda: rules_in(late_comer.last(ALARM)) == ["warm"], told=lambda: late_comer.messages)
    late_comer.close()


def test_a_kill_in_an_alarm_tells_it_once_and_clears_it_after_the_restart(
    start: Callable[..., Process], peer: Peer, tmp_path: Path
) -> None:
    alarms = start("alarms")
    start("ingest")
    peer.publish(READING, measured(1, 31))
    eventually(lambda: rules_in(peer.last(ALARM)) == ["warm"], told=lambda: peer.messages)

    alarms.signal(signal.SIGKILL)
    alarms.process.wait(10)
    peer.publish(READING, measured(2, 20))
    start("alarms")

    eventually(lambda: peer.last(ALARM) == b"[]", told=lambda: peer.messages)
    store = open_store(f"sqlite:///{tmp_path}/bridge.db")
    assert [event.event for event in board.events(store)] == ["cleared", "raised"]
    store.close()


def test_a_backlog_raises_nothing(start: Callable[..., Process], peer: Peer) -> None:
    start("alarms")
    start("ingest")
    old = b",".join(measured(seq, 35, age_s=7200 - seq) for seq in range(1, 101))

    peer.publish("sensors/kitchen/backlog", b'{"epoch":"k3f9x2ab","floor":1,"readings":[%s]}' % old)
    eventually(lambda: peer.receipt().get("through") == 100)
    peer.publish(READING, measured(101, 20))
    eventually(lambda: peer.receipt().get("through") == 101)
    eventually(lambda: peer.last(ALARM) == b"[]", told=lambda: peer.messages)

    assert all(payload == b"[]" for topic, payload in peer.messages if topic == ALARM)


def test_alarms_of_rules_that_are_no_more_end(
    start: Callable[..., Process], peer: Peer, environment: dict[str, str], tmp_path: Path
) -> None:
    alarms = start("alarms")
    start("ingest")
    peer.publish(READING, measured(1, 31))
    eventually(lambda: rules_in(peer.last(ALARM)) == ["warm"], told=lambda: peer.messages)

    alarms.stop()
    start("alarms", ALARM_RULES="")

    eventually(lambda: peer.last(ALARM) == b"[]", told=lambda: peer.messages)


@pytest.mark.parametrize("words", [("check",), ("run",), ("run", "--only", "alarms")])
def test_a_wrong_rule_is_told_with_its_line_and_ends_with_2(
    environment: dict[str, str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "alarms.toml").write_text('[[rule]]\nname = "warm"\nquantity = "co2"\nabove = "hot"\n')

    done = command(environment, *words)

    assert done.returncode == 2
    assert "line 4: rule 'warm': above is 'hot'; allowed is a finite number" in done.stderr


def test_check_counts_the_rules(environment: dict[str, str]) -> None:
    done = command(environment, "check")

    assert done.returncode == 0
    assert "2 rules" in done.stdout
