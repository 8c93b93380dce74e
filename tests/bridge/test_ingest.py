"""Ingest as its own process, beside a real broker."""

import json
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bridge.ingest.ingest import run_ingest
from bridge.settings import BridgeSettings
from bridge.store.database import Store
from bridge.store.intake import Intake, Message
from bridge.store.sources import Source
from mqtt_client.errors import StorageFull
from mqtt_client.settings import load
from tests.bridge.peer import Peer
from tests.processes import Mosquitto, Process, eventually, python
from tests.wire import EPOCH, backlog, reading

READING = "sensors/kitchen/reading/main"


@pytest.fixture
def peer(broker: Mosquitto) -> Iterator[Peer]:
    connected = Peer(broker.port)
    yield connected
    connected.close()


def start(folder: Path, broker: Mosquitto, store: str = "bridge", **variables: str) -> Process:
    environment = {
        **os.environ,
        "MQTT_PORT": str(broker.port),
        "STORE_URL": f"sqlite:///{folder}/{store}.db",
        "SERVER_URL": "",
        **variables,
    }
    return Process(python("-m", "bridge", "run", "--only", "ingest"), folder / f"{store}.log", environment, folder)


@pytest.fixture
def ingest(broker: Mosquitto, tmp_path: Path) -> Iterator[Process]:
    process = start(tmp_path, broker)
    eventually(lambda: "connected to the broker" in process.output(), told=process.output)
    yield process
    process.kill()


def committed(folder: Path) -> list[int]:
    connection = sqlite3.connect(folder / "bridge.db")
    try:
        return [seq for (seq,) in connection.execute("SELECT seq FROM readings ORDER BY id")]
    finally:
        connection.close()


def test_a_reading_is_committed_and_receipted(ingest: Process, peer: Peer, tmp_path: Path) -> None:
    peer.publish(READING, reading(1))
    peer.publish(READING, reading(2))

    eventually(lambda: peer.receipt().get("through") == 2, told=lambda: peer.messages)

    assert committed(tmp_path) == [1, 2]
    assert peer.receipt() == {"store": peer.receipt()["store"], "epoch": EPOCH, "through": 2, "beyond": []}


def test_receipts_acknowledge_selectively_and_pass_what_is_lost(ingest: Process, peer: Peer) -> None:
    for seq in (1, 4, 5, 9):
        peer.publish(READING, reading(seq))
    eventually(lambda: peer.receipt().get("beyond") == [[4, 5], [9, 9]], told=lambda: peer.messages)

    peer.publish("sensors/kitchen/lost", json.dumps({"epoch": EPOCH, "from": 2, "to": 3, "reason": "full"}).encode())

    eventually(lambda: (peer.receipt()["through"], peer.receipt()["beyond"]) == (5, [[9, 9]]), told=peer.receipt)


def test_the_receipt_of_the_epoch_that_a_node_announced_is_retained_also_when_an_older_one_comes_later(
    ingest: Process, peer: Peer, broker: Mosquitto
) -> None:
    peer.publish("sensors/kitchen/info", b'{"epoch":"newepoch","floor":1}')
    eventually(lambda: peer.receipt().get("epoch") == "newepoch", told=lambda: peer.messages)

    peer.publish("sensors/kitchen/backlog", backlog(range(1, 4)))
    eventually(lambda: peer.receipt().get("epoch") == EPOCH, told=lambda: peer.messages)

    stranger = Peer(broker.port)
    eventually(lambda: stranger.receipt().get("epoch") == "newepoch", told=lambda: stranger.messages)
    stranger.close()


def test_everything_published_while_ingest_was_killed_arrives_once(
    ingest: Process, peer: Peer, broker: Mosquitto, tmp_path: Path
) -> None:
    peer.publish(READING, reading(1))
    eventually(lambda: peer.receipt().get("through") == 1)

    ingest.kill()
    peer.publish(READING, *(reading(seq) for seq in range(2, 400)))
    ingest.start()

    eventually(lambda: peer.receipt().get("through") == 399, told=ingest.output)
    assert committed(tmp_path) == list(range(1, 400))


def test_killed_in_the_middle_of_a_stream_nothing_is_lost_or_doubled(
    ingest: Process, peer: Peer, tmp_path: Path
) -> None:
    for round_ in range(5):
        peer.publish("sensors/kitchen/backlog", backlog(range(round_ * 200 + 1, round_ * 200 + 201)))
        peer.publish("sensors/kitchen/backlog", backlog(range(round_ * 200 + 1, round_ * 200 + 201)))
        ingest.kill()
        ingest.start()

    eventually(lambda: peer.receipt().get("through") == 1000, told=ingest.output)
    assert sorted(committed(tmp_path)) == list(range(1, 1001))


def test_an_empty_broker_learns_every_receipt_again(ingest: Process, broker: Mosquitto, peer: Peer) -> None:
    peer.publish(READING, reading(1))
    eventually(lambda: peer.receipt().get("through") == 1)

    broker.kill()
    broker.restart(empty=True)
    stranger = Peer(broker.port)

    eventually(lambda: stranger.receipt().get("through") == 1, told=ingest.output)
    stranger.close()


def test_availability_turns_offline_when_it_is_killed_and_when_it_ends(ingest: Process, peer: Peer) -> None:
    topic = "sensors/bridge/main/availability"
    eventually(lambda: peer.last(topic) == b"online")

    ingest.kill()
    eventually(lambda: peer.last(topic) == b"offline")
    ingest.start()
    eventually(lambda: peer.last(topic) == b"online")
    status = ingest.stop()

    eventually(lambda: peer.last(topic) == b"offline")
    assert status == 0


def test_a_second_one_over_the_same_store_says_who_holds_it(
    ingest: Process, broker: Mosquitto, tmp_path: Path
) -> None:
    second = start(tmp_path, broker)

    status = second.process.wait(20)

    assert status == 1
    assert str(ingest.process.pid) in second.output()


@pytest.mark.parametrize("bridge_id", ["main", "other"])
def test_a_bridge_with_another_store_sends_no_receipts_and_ends_with_2(
    ingest: Process, broker: Mosquitto, peer: Peer, tmp_path: Path, bridge_id: str
) -> None:
    peer.publish(READING, reading(1))
    eventually(lambda: peer.receipt().get("through") == 1)
    store = peer.receipt()["store"]

    second = start(tmp_path, broker, store="other", BRIDGE_ID=bridge_id)
    status = second.process.wait(20)
    peer.publish(READING, reading(2))

    eventually(lambda: peer.receipt().get("through") == 2, told=ingest.output)
    assert status == 2
    assert "another store" in second.output()
    assert ingest.is_running()
    receipts = [json.loads(payload)["store"] for topic, payload in peer.messages if topic.endswith("/receipt")]
    assert set(receipts) == {store}


def test_a_restored_store_is_told(ingest: Process, broker: Mosquitto, peer: Peer, tmp_path: Path) -> None:
    peer.publish(READING, reading(1))
    eventually(lambda: peer.receipt().get("through") == 1)
    ingest.stop()
    image = (tmp_path / "bridge.db").read_bytes()
    ingest.start()
    peer.publish(READING, reading(2))
    eventually(lambda: peer.receipt().get("through") == 2)

    ingest.stop()
    (tmp_path / "bridge.db").write_bytes(image)
    ingest.start()

    eventually(lambda: "went back in time" in ingest.output(), told=ingest.output)


def test_it_waits_for_a_broker_that_is_not_there_yet(broker: Mosquitto, tmp_path: Path, peer: Peer) -> None:
    broker.kill()
    process = start(tmp_path, broker)
    eventually(lambda: (tmp_path / "bridge.db").exists())

    broker.restart()

    eventually(lambda: "connected to the broker" in process.output(), told=process.output)
    process.kill()


def test_it_ends_at_sigterm_while_the_broker_is_away(broker: Mosquitto, tmp_path: Path) -> None:
    broker.kill()
    process = start(tmp_path, broker)
    eventually(lambda: (tmp_path / "bridge.db").exists())

    process.signal(signal.SIGTERM)

    assert process.process.wait(10) == 0


def troubles(peer: Peer) -> object:
    return json.loads(peer.last("sensors/bridge/main/health") or b"{}").get("troubles")


def test_while_nothing_can_be_committed_one_burst_is_held_and_the_rest_comes_again(
    broker: Mosquitto, peer: Peer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.ingest.subscription.BURST_MESSAGES", 50)
    monkeypatch.setattr("bridge.ingest.ingest.RETRY_COMMIT_S", 0.05)
    put, is_full, sizes = Intake.put, threading.Event(), list[int]()

    def put_or_refuse(intake: Intake, burst: Sequence[Message]) -> list[Source]:
        sizes.append(len(burst))
        if is_full.is_set() and any(message.topic == READING for message in burst):
            raise StorageFull("no room")
        return put(intake, burst)

    monkeypatch.setattr(Intake, "put", put_or_refuse)
    settings = load(BridgeSettings, {"MQTT_PORT": str(broker.port), "STORE_URL": str(store.engine.url)})
    stop = threading.Event()
    job = threading.Thread(target=run_ingest, args=(settings, store, stop))
    job.start()
    eventually(lambda: peer.last("sensors/bridge/main/availability") == b"online")

    is_full.set()
    peer.publish(READING, *(reading(seq) for seq in range(1, 301)))
    tries = len(sizes)
    eventually(lambda: len(sizes) > tries + 10)
    eventually(lambda: troubles(peer) == ["no room"], told=lambda: peer.messages)
    is_full.clear()
    eventually(lambda: troubles(peer) == [], told=lambda: peer.messages)
    eventually(lambda: peer.receipt().get("through") == 300, told=lambda: peer.messages)
    stop.set()
    job.join()

    assert committed(tmp_path) == list(range(1, 301))
    assert max(sizes) <= 50
