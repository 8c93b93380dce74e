"""The real node on a real broker, with a bridge that says what the test wants."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from paho.mqtt.client import Client

from mqtt_client.outbox.opening import open_outbox
from mqtt_client.publisher.publisher import Publisher
from mqtt_client.settings import NodeSettings, load
from tests.node.actors import FakeBridge, RunningNode, drafts
from tests.node.conftest import OpenOutbox
from tests.processes import Mosquitto, eventually

StartNode = Callable[..., RunningNode]


def fill(path: Path, number: int) -> str:
    """Put readings into the outbox of a node that does not run; return their epoch."""
    outbox = open_outbox(path / "data" / "outbox.db", "kitchen", "earlier boot", 10**6)
    for start in range(0, number, 1000):
        outbox.put(drafts(min(1000, number - start), start=start))
    name = outbox.current.name
    outbox.close()
    return name


def silent_sensor(folder: Path) -> str:
    """Return a sensor that gives one value and then none."""
    file = folder / "one.csv"
    file.write_text("time,temperature\n2026-01-01T00:00:00Z,1.5\n", encoding="utf-8")
    return f"main=replay:{file}:once"


def test_readings_go_live_one_by_one_and_a_receipt_empties_the_outbox(
    start_node: StartNode, bridge: FakeBridge
) -> None:
    bridge.go_online()
    node = start_node()
    eventually(lambda: len(bridge.live) >= 5)
    first = bridge.live[0]

    assert [reading["seq"] for reading in bridge.live[:5]] == [1, 2, 3, 4, 5]
    assert first["node"] == "kitchen"
    assert bridge.availability()[-1] == "online"

    bridge.receipt(first["epoch"], 3)
    eventually(lambda: node.status()["receipt"])
    node.stop()

    status = node.status()
    assert (status["receipt"]["store"], status["receipt"]["through"]) == ("s1", 3)
    assert status["waiting"] == status["next_seq"] - 4
    assert bridge.availability()[-1] == "offline"
    (info, *_) = bridge.payloads("/info")
    assert (info["epoch"], info["floor"], info["interval"]) == (first["epoch"], 1, 0.1)
    assert set(bridge.payloads("/health")[0]) >= {"epoch", "floor", "outbox_depth", "lost", "sensor_faults", "clock"}


def test_an_old_backlog_goes_oldest_first_in_bounded_messages_while_new_readings_go_live(
    start_node: StartNode, bridge: FakeBridge, tmp_path: Path
) -> None:
    epoch = fill(tmp_path, 3000)

    start_node()
    eventually(lambda: len(bridge.backlog) >= 3000 and len(bridge.live) >= 3)

    assert [reading["seq"] for reading in bridge.backlog][:3000] == list(range(1, 3001))
    messages = [payload for topic, payload in bridge.messages if topic.endswith("/backlog")]
    assert max(map(len, messages)) <= 48 * 1024
    assert max(len(json.loads(message)["readings"]) for message in messages) <= 200
    assert {(message["epoch"], message["floor"]) for message in bridge.payloads("/backlog")} == {(epoch, 1)}
    assert all(reading["seq"] > 3000 for reading in bridge.live)


def test_what_no_receipt_covered_is_sent_again_after_a_reconnect_and_nothing_else(
    start_node: StartNode, bridge: FakeBridge, tmp_path: Path
) -> None:
    epoch = fill(tmp_path, 50)
    bridge.go_online()
    node = start_node(NODE_SENSORS=silent_sensor(tmp_path))
    eventually(lambda: bridge.received >= {(epoch, seq) for seq in range(1, 52)})
    bridge.receipt(epoch, 10, [(20, 40)])
    node.stop()
    bridge.messages.clear()

    node.start()
    expected = [*range(11, 20), *range(41, 52)]
    eventually(lambda: len(bridge.backlog) >= len(expected), told=lambda: bridge.backlog)

    again = [reading["seq"] for reading in bridge.backlog if reading["seq"] <= 51]
    assert again == expected
    assert {message["floor"] for message in bridge.payloads("/backlog")} == {11}


def test_nothing_is_sent_again_while_no_bridge_is_online(
    start_node: StartNode, bridge: FakeBridge, tmp_path: Path
) -> None:
    epoch = fill(tmp_path, 20)
    node = start_node(NODE_SENSORS=silent_sensor(tmp_path))
    eventually(lambda: len(bridge.received) == 21)
    bridge.receipt(epoch, 5)
    node.stop()
    bridge.messages.clear()

    node.start()
    eventually(lambda: "online" in bridge.availability())
    eventually(lambda: len(bridge.payloads("/health")) >= 1)
    assert all(reading["seq"] > 21 for reading in bridge.backlog)

    bridge.go_online()
    eventually(lambda: {reading["seq"] for reading in bridge.backlog} >= set(range(6, 22)))


def test_at_most_500_readings_are_sent_again_without_a_receipt(
    start_node: StartNode, bridge: FakeBridge, tmp_path: Path
) -> None:
    epoch = fill(tmp_path, 1200)
    node = start_node(NODE_SENSORS=silent_sensor(tmp_path))
    eventually(lambda: len(bridge.received) >= 1200)
    eventually(lambda: node.status()["waiting"] >= 1200)
    node.stop()
    bridge.messages.clear()
    bridge.go_online()

    node.start()
    eventually(lambda: len(bridge.backlog) >= 500)
    bridge.receipt(epoch, 100)
    eventually(lambda: len(bridge.backlog) >= 600)

    seqs = [reading["seq"] for reading in bridge.backlog if reading["seq"] <= 1200]
    assert seqs == list(range(1, 601))


def test_without_a_subscriber_readings_stay_unsent_and_the_node_says_so(
    start_node: StartNode, broker: Mosquitto, tmp_path: Path
) -> None:
    node = start_node(NODE_SENSORS=silent_sensor(tmp_path))
    node.wait_for_log("not delivered: nobody subscribes to them")

    late = FakeBridge(broker.port)
    eventually(lambda: len(late.received) == 1)
    late.stop()

    node.stop()
    assert node.status()["waiting"] == 1


def test_a_broker_killed_and_restarted_empty_loses_nothing(
    start_node: StartNode, bridge: FakeBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    node = start_node()
    eventually(lambda: len(bridge.live) >= 3)
    broker.kill()
    node.wait_for_log("ended the connection")
    before = node.status()["waiting"]
    eventually(lambda: node.status()["waiting"] > before + 3)

    broker.restart(empty=True)
    second = FakeBridge(broker.port)
    second.go_online()
    eventually(lambda: len(second.received) > before)
    node.stop()

    waiting = node.status()["waiting"]
    epoch = node.status()["epoch"]
    eventually(lambda: second.received >= {(epoch, seq) for seq in range(1, waiting)}, told=lambda: second.received)
    second.stop()


def test_availability_turns_offline_when_the_node_is_killed(start_node: StartNode, bridge: FakeBridge) -> None:
    node = start_node()
    eventually(lambda: "online" in bridge.availability())

    node.kill()

    eventually(lambda: bridge.availability()[-1] == "offline")


def test_a_restored_outbox_reads_its_receipt_before_it_publishes_and_begins_a_new_epoch(
    start_node: StartNode, bridge: FakeBridge, tmp_path: Path
) -> None:
    epoch = fill(tmp_path, 3)
    bridge.receipt(epoch, 1000)
    bridge.go_online()

    node = start_node()
    node.wait_for_log("it went back in time")
    eventually(lambda: len(bridge.received) >= 5)

    assert epoch not in {name for name, _ in bridge.received}
    assert {reading["seq"] for reading in bridge.backlog} >= {1, 2, 3}, "what was never published goes along"


def test_with_confirm_broker_the_brokers_word_settles(
    start_node: StartNode, bridge: FakeBridge, tmp_path: Path
) -> None:
    fill(tmp_path, 30)
    node = start_node(NODE_CONFIRM="broker", NODE_SENSORS=silent_sensor(tmp_path))
    eventually(lambda: len(bridge.received) == 31)
    node.stop()

    assert node.status()["waiting"] == 0


def test_losses_are_told_until_a_receipt_passes_them(
    start_node: StartNode, bridge: FakeBridge, tmp_path: Path
) -> None:
    outbox = open_outbox(tmp_path / "data" / "outbox.db", "kitchen", "earlier boot", 100)
    outbox.put(drafts(100))
    outbox.put(drafts(20))
    epoch = outbox.current.name
    outbox.close()
    bridge.go_online()
    settings: dict[str, Any] = {"NODE_SENSORS": silent_sensor(tmp_path), "OUTBOX_MAX_READINGS": 1000}
    node = start_node(**settings)

    eventually(lambda: bridge.payloads("/lost"))
    node.stop()
    node.start()
    eventually(lambda: len(bridge.payloads("/lost")) >= 2)
    assert bridge.payloads("/lost")[0] == {"epoch": epoch, "from": 1, "to": 20, "reason": "the outbox was full"}
    bridge.receipt(epoch, 20)
    node.stop()
    bridge.messages.clear()
    node.start()
    eventually(lambda: len(bridge.received) >= 100)

    assert bridge.payloads("/lost") == []
    assert node.status()["lost"] == 20


def test_a_broker_that_is_down_at_the_start_is_waited_for(
    start_node: StartNode, broker: Mosquitto, tmp_path: Path
) -> None:
    broker.kill()
    node = start_node()
    node.wait_for_log("cannot be reached")
    eventually(lambda: node.status()["waiting"] > 2)

    broker.restart()
    bridge = FakeBridge(broker.port)
    eventually(lambda: len(bridge.received) >= 3)
    bridge.stop()

    assert any("cannot be reached" in line for line in node.output().splitlines())


def test_two_nodes_with_one_id_are_told_and_slow_down(
    start_node: StartNode, bridge: FakeBridge, tmp_path: Path
) -> None:
    one = start_node(OUTBOX_PATH=tmp_path / "one.db")
    two = start_node(OUTBOX_PATH=tmp_path / "two.db")

    one.wait_for_log("is another node with this NODE_ID (client node-kitchen) connected?")

    assert two.is_running()


@pytest.mark.parametrize("payload", ["{", "[]", '{"store":"s","epoch":"e","through":-1}', '{"store":1}', "\x00"])
def test_a_receipt_that_is_none_is_told_and_ignored(start_node: StartNode, bridge: FakeBridge, payload: str) -> None:
    node = start_node()
    eventually(lambda: len(bridge.live) >= 2)

    bridge.say("sensors/kitchen/receipt", payload)
    node.wait_for_log("a receipt cannot be read")
    seen = len(bridge.live)

    eventually(lambda: len(bridge.live) > seen + 2)


def test_a_small_packet_limit_of_the_broker_is_kept(tmp_path: Path, start_node: StartNode) -> None:
    fill(tmp_path, 100)
    small = Mosquitto(tmp_path / "small", "max_packet_size 2000")
    bridge = FakeBridge(small.port)
    start_node(MQTT_PORT=small.port, NODE_SENSORS=silent_sensor(tmp_path))

    eventually(lambda: len(bridge.received) == 101)

    assert max(len(payload) for topic, payload in bridge.messages if topic.endswith("/backlog")) < 2000
    bridge.stop()
    small.kill()


def test_sigterm_ends_the_node_within_five_seconds_with_the_broker_away(
    start_node: StartNode, broker: Mosquitto
) -> None:
    node = start_node()
    node.wait_for_log("connected to broker")
    broker.kill()
    node.wait_for_log("ended the connection")

    assert node.stop(within_s=5) == 0
    assert "readings wait" in node.output().splitlines()[-1]


def test_a_paho_that_cannot_empty_its_queue_is_given_up_for_a_new_client(
    broker: Mosquitto, bridge: FakeBridge, opened: OpenOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Client, "drop_out_messages")
    events: SimpleQueue[Any] = SimpleQueue()
    outbox = opened()
    settings = load(NodeSettings, {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(broker.port), "NODE_ID": "kitchen"})
    publisher = Publisher(settings, outbox, events, lambda: b"{}", None)

    def turn() -> None:
        while not events.empty():
            publisher.handle(events.get(), time.monotonic())
        publisher.pump(time.monotonic())

    def goes_live(number: int) -> bool:
        turn()
        return len(bridge.received) >= number

    publisher.open()
    publisher.offer(outbox.put(drafts(1)), time.monotonic())
    eventually(lambda: goes_live(1))
    broker.kill()
    eventually(lambda: (turn(), not publisher.is_ready)[1])
    outbox.put(drafts(2))
    broker.restart()
    second = FakeBridge(broker.port)
    eventually(lambda: (turn(), len(second.received) >= 2)[1])
    publisher.disconnect()
    second.stop()


def test_status_knows_of_broker_and_bridge_as_soon_as_they_come_however_seldom_readings_do(
    start_node: Callable[..., RunningNode], bridge: FakeBridge
) -> None:
    node = start_node(NODE_SENSORS="main=fixed", SAMPLE_INTERVAL=3600)
    eventually(lambda: bridge.live, told=node.output)

    eventually(lambda: node.status()["connected"], told=node.output)
    before = node.status()["bridge_online"]
    bridge.go_online()
    eventually(lambda: node.status()["bridge_online"], told=node.output)

    assert before is False
