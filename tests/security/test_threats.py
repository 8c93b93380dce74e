"""A rogue node with an account of its own: what it says is judged, shown harmlessly, and starves nobody."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from mqtt_client.settings import NodeSettings, env_file_variables, load
from mqtt_client.status import read_status
from tests.http_servers import Receiver
from tests.processes import Process, eventually, python
from tests.security.secured import ROOT, SecuredBroker, Speaker, node
from tests.wire import EPOCH, reading

Keep = Callable[[Speaker], Speaker]
Run = Callable[[Process], Process]
FLOOD_S = 5.0
FLOOD_PER_S = 1000
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def bridge_environment(broker: SecuredBroker, **more: str) -> dict[str, str]:
    account = env_file_variables(broker.directory / "accounts" / "bridge.env")
    broker.variables |= account | {"SERVER_URL": "", "TIMEZONE": "UTC"} | more
    return os.environ | broker.variables | {"PYTHONPATH": str(ROOT)}


def rows(broker: SecuredBroker, query: str) -> list[tuple[object, ...]]:
    engine = create_engine(broker.variables["STORE_URL"])
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]
    finally:
        engine.dispose()


@pytest.fixture
def bridge(secured: SecuredBroker, tmp_path: Path, processes: Run) -> Process:
    """The bridge's ingest, with its own account."""
    command = python("-m", "bridge", "run", "--only", "ingest")
    running = processes(Process(command, tmp_path / "bridge.log", bridge_environment(secured), tmp_path))
    eventually(lambda: "connected to the broker" in running.output(), told=running.output)
    return running


def test_a_payload_that_names_another_node_or_sensor_is_kept_as_a_dead_letter_and_counts_for_nobody_else(
    secured: SecuredBroker, bridge: Process, speakers: Keep
) -> None:
    rogue = speakers(Speaker.of_node(secured.add("rogue")))

    rogue.publish("sensors/rogue/reading/main", reading(1, "kitchen"))
    rogue.publish("sensors/rogue/reading/main", reading(2, "rogue", sensor="other"))
    rogue.publish("sensors/rogue/backlog", b'{"epoch":"%s","floor":1,"readings":[%s]}' % (EPOCH.encode(), reading(3)))
    rogue.publish("sensors/rogue/reading/main", reading(4, "rogue"))

    eventually(lambda: rows(secured, "SELECT seq FROM readings"), told=bridge.output)
    assert rows(secured, "SELECT seq FROM readings") == [(4,)]
    assert rows(secured, "SELECT name FROM nodes") == [("rogue",)]
    assert [reason for (reason,) in rows(secured, "SELECT reason FROM dead_letters ORDER BY id")] == [
        "the payload names node 'kitchen', the topic 'rogue'",
        "the payload names sensor 'other', the topic 'main'",
        "the payload names node 'kitchen', the topic 'rogue'",
    ]


def test_nobody_forges_a_line_or_colours_a_terminal(secured: SecuredBroker, bridge: Process, speakers: Keep) -> None:
    rogue = speakers(Speaker.of_node(secured.add("rogue")))
    evil = "\x1b[2J\x1b]0;owned\x07\r\n2026-11-24 20:31:05 ERROR ingest: forged [bold red]line[/]\u2028\x85"
    document = {"epoch": EPOCH, "floor": 1, "clock": evil, "sensor_faults": {evil: evil}, "troubles": [evil]}
    document |= {"certificates": [evil], "version": evil}

    rogue.publish("sensors/rogue/health", json.dumps(document).encode())
    rogue.publish("sensors/rogue/info", json.dumps(document | {"model": evil}).encode())
    rogue.publish("sensors/rogue/lost", json.dumps({"epoch": EPOCH, "from": 1, "to": 2, "reason": evil}).encode())
    rogue.publish("sensors/rogue/reading/..%2f..%2fetc", reading(3, "rogue"))
    rogue.publish("sensors/rogue/reading/main", evil.encode() + b"\xff\xfe")
    rogue.publish("sensors/rogue/reading/main", reading(4, evil))
    rogue.publish("sensors/rogue/availability", b"online")

    eventually(lambda: rows(secured, "SELECT id FROM nodes WHERE availability = 'online'"), told=bridge.output)
    shown = {
        "log": bridge.output(),
        "status": secured.bridge("status"),
        "nodes": secured.bridge("nodes", "list"),
        "letters": secured.bridge("dead-letters", "list"),
        "letter": secured.bridge("dead-letters", "show", "1"),
    }
    for where, output in shown.items():
        assert CONTROL.findall(output) == [], where
        assert not re.search(r"^2026-11-24 20:31:05 ERROR", output, re.MULTILINE), where
        assert "\u2028" not in output, where
    assert "red]line[/]" in shown["status"]
    assert json.loads(secured.bridge("status", "--json"))["nodes"][0]["clock"] == evil


def test_names_with_paths_in_them_reach_no_file(secured: SecuredBroker, bridge: Process, speakers: Keep) -> None:
    rogue = speakers(Speaker.of_node(secured.add("rogue")))
    for sensor in ("..", "..%2f..", "a b", "\u202egnp", "x" * 65, "=1-1"):
        rogue.publish(f"sensors/rogue/reading/{sensor}", reading(1, "rogue", sensor=sensor))
    rogue.publish("sensors/rogue/reading/main", reading(2, "rogue", epoch="../../etc"))
    rogue.publish("sensors/rogue/reading/main", reading(3, "rogue"))
    eventually(lambda: rows(secured, "SELECT seq FROM readings"), told=bridge.output)

    assert rows(secured, "SELECT seq, sensor FROM readings") == [(3, "main")]
    assert rows(secured, "SELECT epoch FROM sources") == [(EPOCH,)]


def test_a_flooding_node_does_not_starve_the_others(
    secured: SecuredBroker, tmp_path: Path, processes: Run, speakers: Keep
) -> None:
    receiver = Receiver(tmp_path / "receiver.db")
    environment = bridge_environment(secured, SERVER_URL=receiver.url)
    bridge = processes(Process(python("-m", "bridge", "run"), tmp_path / "bridge.log", environment, tmp_path))
    env_file = secured.add("kitchen")
    processes(node(env_file, tmp_path / "pi"))
    rogue = speakers(Speaker.of_node(secured.add("rogue")))
    eventually(lambda: of_node(receiver, "kitchen"), told=bridge.output)
    outbox = {"OUTBOX_PATH": str(tmp_path / "pi" / "outbox.db")}
    settings = load(NodeSettings, env_file_variables(env_file) | outbox)

    def taken() -> int:
        return read_status(settings)["next_seq"] - 1

    before = taken(), stored(secured, "kitchen"), of_node(receiver, "kitchen")
    flood_with(rogue)
    after = taken(), stored(secured, "kitchen"), of_node(receiver, "kitchen")
    of_rogue = stored(secured, "rogue"), of_node(receiver, "rogue")
    receiver.stop()

    was_taken, was_stored, was_sent = (then - earlier for then, earlier in zip(after, before, strict=True))
    share_of_rogue = of_rogue[0] / (FLOOD_S * FLOOD_PER_S)
    assert was_stored / was_taken > share_of_rogue / 2, "the store took the flood before the other node's readings"
    assert was_sent > min(was_stored, of_rogue[1]) / 3, "the server was given the flood before them"


def stored(broker: SecuredBroker, name: str) -> int:
    query = f"SELECT count(*) FROM readings JOIN nodes ON nodes.id = node_id WHERE name = '{name}'"
    return int(str(rows(broker, query)[0][0]))


def of_node(receiver: Receiver, name: str) -> int:
    return len([one for one in receiver.ids() if one.startswith(f"{name}-")])


def flood_with(rogue: Speaker) -> None:
    """Publish FLOOD_PER_S readings a second for FLOOD_S seconds."""
    begin = time.monotonic()
    for seq in range(1, int(FLOOD_S * FLOOD_PER_S) + 1):
        rogue.client.publish("sensors/rogue/reading/main", reading(seq, "rogue"), qos=1)
        ahead = begin + seq / FLOOD_PER_S - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
