"""What an operator tells a node, and what comes back."""

import json
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from mqtt_client.clock import SystemTime
from mqtt_client.commands import READ_WITHIN_S, REMEMBERED, Commands
from mqtt_client.messages import Command, CommandResult
from mqtt_client.sensors.quality import Quality
from mqtt_client.sensors.sampler import Sampler
from tests.node.actors import FakeBridge, RunningNode
from tests.node.test_sensors import Scripted
from tests.processes import Mosquitto, eventually

StartNode = Callable[..., RunningNode]


@pytest.fixture
def operator(broker: Mosquitto) -> Iterator[FakeBridge]:
    """Somebody who sends commands and hears the results."""
    one = FakeBridge(broker.port)
    one._client.subscribe("sensors/+/command/result", 1)
    yield one
    one.stop()


def results(operator: FakeBridge) -> list[Any]:
    return operator.payloads("/command/result")


def tell(operator: FakeBridge, payload: object, *, retain: bool = False) -> None:
    operator.say("sensors/kitchen/command", payload, retain=retain)


def started(start_node: StartNode, operator: FakeBridge, **settings: object) -> RunningNode:
    node = start_node(**{"NODE_SENSORS": "main=fixed", "SAMPLE_INTERVAL": 3600, **settings})
    eventually(lambda: operator.live, told=node.output)
    return node


def test_read_takes_a_reading_of_each_sensor_now_and_answers_after_it(
    start_node: StartNode, operator: FakeBridge
) -> None:
    node = started(start_node, operator, NODE_SENSORS="a=fixed,b=fixed", NODE_DEADBAND="temperature:5,humidity:50")
    eventually(lambda: len(operator.live) == 2)

    done = node.run("command", "kitchen", "read")
    eventually(lambda: results(operator))

    assert (done.returncode, done.stdout) == (0, "kitchen: ok\n")
    assert [reading["sensor"] for reading in sorted(operator.live[2:], key=lambda one: one["sensor"])] == ["a", "b"]
    assert all(reading["values"] == {"temperature": 22.0, "humidity": 50.0} for reading in operator.live)
    topics = [topic for topic, _ in operator.messages]
    assert topics.index("sensors/kitchen/command/result") > topics.index("sensors/kitchen/reading/b", 3)


def test_read_does_not_wait_for_a_slow_commit(start_node: StartNode, operator: FakeBridge) -> None:
    node = start_node(NODE_SENSORS="main=fixed", SAMPLE_INTERVAL=3600, OUTBOX_COMMIT_INTERVAL=3600)
    node.wait_for_log("connected to broker")
    eventually(lambda: "online" in operator.availability())

    tell(operator, {"id": "1", "name": "read"})
    eventually(lambda: results(operator))

    assert len(operator.received) == 2


def test_read_tells_which_sensor_failed_with_exit_status_1(start_node: StartNode, operator: FakeBridge) -> None:
    node = started(start_node, operator, NODE_SENSORS="good=fixed,bad=replay:none.csv")

    done = node.run("command", "kitchen", "read")

    assert done.returncode == 1
    assert done.stderr.startswith("kitchen: bad: none.csv")


def test_identify_without_an_led_says_so(start_node: StartNode, operator: FakeBridge) -> None:
    node = started(start_node, operator)

    done = node.run("command", "kitchen", "identify")

    assert (done.returncode, done.stderr) == (1, "kitchen: this node has no LED; set NODE_LED_PIN\n")


def test_an_interval_that_was_set_survives_kill_9_until_it_is_set_to_null(
    start_node: StartNode, operator: FakeBridge
) -> None:
    node = started(start_node, operator)

    assert node.run("command", "kitchen", "set-interval", "0.05").returncode == 0
    node.kill()
    before = len(operator.live)
    node.start()
    eventually(lambda: len(operator.live) > before + 5, told=node.output)
    assert node.status()["commanded_interval"] == 0.05
    assert operator.payloads("/info")[-1]["interval"] == 0.05

    assert node.run("command", "kitchen", "set-interval", "null").returncode == 0
    assert operator.payloads("/info")[-1]["interval"] == 3600
    eventually(lambda: node.status()["commanded_interval"] is None)
    assert node.status()["sample_interval"] == 3600


@pytest.mark.parametrize("damaged", ["the head", "a page of readings"])
def test_an_interval_that_was_set_survives_a_salvage_of_the_outbox(
    start_node: StartNode, operator: FakeBridge, damaged: str
) -> None:
    node = started(start_node, operator)
    node.run("command", "kitchen", "set-interval", "7")
    node.run("command", "kitchen", "set-interval", "0.005")
    outbox = node.folder / "data" / "outbox.db"
    eventually(lambda: outbox.stat().st_size > 12 * 4096, told=node.output, within_s=30)
    node.stop()
    with outbox.open("r+b") as stream:
        stream.seek(0 if damaged == "the head" else outbox.stat().st_size // 4096 // 2 * 4096)
        stream.write(bytes(4096))

    node.start()
    node.wait_for_log("set aside")

    eventually(lambda: node.output().count("node kitchen: epoch") == 2, told=node.output)
    assert "every 0.005 s" in node.output().rpartition("node kitchen: epoch")[2]
    eventually(lambda: node.status()["commanded_interval"] == 0.005, told=node.output)


@pytest.mark.parametrize(
    ("payload", "answered", "told"),
    [
        ("garbage", "", "allowed is"),
        ('{"name":"read"}', "", "id"),
        ({"id": "1", "name": "fly"}, "1", "fly"),
        ({"id": "2", "name": "set-interval", "value": "5"}, "2", "allowed is"),
        ({"id": "3", "name": "set-interval", "value": 0}, "3", "seconds from 0.001 to 86400, or null"),
        ({"id": "4", "name": "set-interval", "value": 86401}, "4", "out of range"),
        ({"id": "5", "name": "read", "value": 1}, "5", "allowed is no value"),
        ('{"id":"6","name":"set-interval","value":1e999}', "6", "allowed is"),
    ],
)
def test_what_is_malformed_is_refused_with_the_reason(payload: object, answered: str, told: str) -> None:
    commands = Commands([], None)
    text = payload if isinstance(payload, str) else json.dumps(payload)

    taken = commands.take(text.encode(), is_retained=False)

    (result,) = commands.take_results()
    assert taken is None
    assert (result.id, result.status) == (answered, "error")
    assert told in (result.error or "")


def test_a_command_that_comes_twice_is_executed_once_and_answered_twice() -> None:
    blinks: list[str] = []
    commands = Commands([], lambda: blinks.append("blink"))
    payload = b'{"id":"1","name":"identify"}'

    for _ in range(2):
        taken = commands.take(payload, is_retained=False)
        if taken is not None:
            commands.identify(taken.id)

    assert blinks == ["blink"]
    assert commands.take_results() == [CommandResult("1", "ok")] * 2


def test_a_repeat_of_a_command_under_way_waits_for_the_one_result() -> None:
    commands = Commands([], None)
    commands.take(b'{"id":"1","name":"set-interval","value":5}', is_retained=False)

    repeat = commands.take(b'{"id":"1","name":"set-interval","value":5}', is_retained=False)
    commands.finish("1")

    assert repeat is None
    assert commands.take_results() == [CommandResult("1", "ok")]


def test_the_memory_of_ids_is_bounded() -> None:
    commands = Commands([], None)
    for number in range(REMEMBERED + 1):
        commands.take(b'{"id":"%d","name":"read"}' % number, is_retained=False)

    assert commands.take(b'{"id":"1","name":"read"}', is_retained=False) is None
    assert commands.take(b'{"id":"0","name":"read"}', is_retained=False) == Command("0", "read")


def test_a_sensor_that_hangs_is_named_and_the_others_are_read() -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    hanging = Sampler("stuck", Scripted(1.0, pause_s=5.0), 3600, Quality({}, {}, 300), SystemTime(), events)
    hanging.start(time.monotonic())
    commands = Commands([hanging], None)

    commands.take(b'{"id":"1","name":"read"}', is_retained=False)
    commands.read("1", 100.0)
    commands.tick(100.0 + READ_WITHIN_S)
    hanging.stop()

    assert commands.take_results() == [CommandResult("1", "error", "stuck: no answer in 10 s")]
    assert commands.deadline is None


def test_a_retained_command_is_stale_and_left_alone(start_node: StartNode, operator: FakeBridge) -> None:
    tell(operator, {"id": "old", "name": "set-interval", "value": 0.05}, retain=True)

    node = started(start_node, operator)
    node.wait_for_log("a retained command is stale")
    done = node.run("command", "kitchen", "read")

    assert done.returncode == 0
    assert [result["id"] for result in results(operator) if result["id"] == "old"] == []
    assert node.status()["commanded_interval"] is None


def test_a_command_to_a_node_that_is_offline_or_unknown_says_so_at_once(
    start_node: StartNode, operator: FakeBridge
) -> None:
    node = started(start_node, operator)
    node.stop()

    offline, unknown = node.run("command", "kitchen", "read"), node.run("command", "cellar", "read")

    assert (offline.returncode, unknown.returncode) == (1, 1)
    assert offline.stderr == "node kitchen is offline; the command was not sent\n"
    assert "no node 'cellar' has ever been online under 'sensors' on this broker" in unknown.stderr


def test_a_node_that_does_not_answer_is_told_after_the_timeout(start_node: StartNode, operator: FakeBridge) -> None:
    node = started(start_node, operator)
    operator.say("sensors/deaf/availability", "online")
    operator._client.subscribe("sensors/deaf/command", 1)

    done = node.run("command", "deaf", "read", "--timeout", "0.3")

    assert done.returncode == 1
    assert "has not answered within 0.3 s" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("kitchen", "fly"), ("a/b", "read"), ("kitchen", "set-interval", "often"), ("kitchen",)]
)
def test_wrong_usage_is_exit_status_2_without_a_broker(
    start_node: StartNode, broker: Mosquitto, arguments: tuple[str, ...]
) -> None:
    node = start_node()
    broker.kill()

    assert node.run("command", *arguments).returncode == 2


def test_another_node_on_the_same_card_does_not_inherit_the_interval(
    start_node: StartNode, operator: FakeBridge
) -> None:
    node = started(start_node, operator, NODE_CONFIRM="broker")
    node.run("command", "kitchen", "set-interval", "7")
    eventually(lambda: node.status()["waiting"] == 0)
    node.stop()

    other = start_node(NODE_ID="cellar", NODE_SENSORS="main=fixed", SAMPLE_INTERVAL=3600)
    other.wait_for_log("node cellar: epoch")

    assert other.status()["commanded_interval"] is None
    assert "every 3600 s" in other.output().rpartition("node cellar")[2]


def test_the_account_of_a_node_that_runs_here_is_left_to_it(start_node: StartNode, operator: FakeBridge) -> None:
    node = started(start_node, operator, MQTT_PASSWORD="secret")

    refused = [node.run("command", "kitchen", "read"), node.run("discovery", "--remove")]
    node.stop()
    stopped = node.run("discovery", "--remove")

    assert [done.returncode for done in refused] == [1, 1]
    assert all("the node that runs here uses this account" in done.stderr for done in refused)
    assert "is another node" not in node.output()
    assert stopped.returncode == 0


def test_identify_lets_the_led_flash(start_node: StartNode, operator: FakeBridge) -> None:
    node = started(start_node, operator, NODE_LED_PIN=17, GPIOZERO_PIN_FACTORY="mock")

    done = node.run("command", "kitchen", "identify")

    assert (done.returncode, done.stdout) == (0, "kitchen: ok\n")
