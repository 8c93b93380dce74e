"""What can happen to a node's card: it fills, it is replaced, it goes bad, it goes back in time, it is copied."""

import json
import os
from pathlib import Path

import pytest

from mqtt_client.reading import format_time
from tests.faults.conftest import MakeWorld
from tests.faults.judge import judge, lost_in, received_by
from tests.faults.ledger import held
from tests.faults.world import World, copy_database, reading_from
from tests.processes import eventually

NODE = "node-1"


def taken(world: World) -> set[str]:
    world.absorb()
    return set(world.ledger.taken)


def takes(world: World, number: int) -> None:
    """Wait until so many more readings were taken."""
    before = len(taken(world))
    eventually(lambda: len(taken(world)) >= before + number, told=world.logs)


def has_receipts(world: World) -> bool:
    return len(held(world.outbox(NODE)).readings) < 30


def drained(world: World) -> None:
    assert world.drain(90), world.logs()
    world.run("archive")


def test_full_it_gives_up_the_oldest_and_store_status_and_health_say_exactly_which(make_world: MakeWorld) -> None:
    world = make_world(bounded=True, interval_s=0.01)
    takes(world, 50)

    world.kill("broker")
    takes(world, 500)  # the outbox holds 200
    world.start("broker")
    drained(world)
    verdict = judge(world)

    assert verdict.problems == [], verdict
    received = {str(body["id"]) for body in received_by(world.receiver_database)}
    lost = lost_in(world.store)
    assert received | lost == taken(world)
    assert not received & lost
    assert len(lost) > 200
    with reading_from(world.store) as connection:
        (health,) = connection.execute("SELECT health FROM nodes").fetchone()
    assert world.status(NODE)["lost"] == json.loads(health)["lost"] == len(world.ledger.given_up)
    assert json.loads(world.run("status", "--json"))["lost"] == len(lost)


def test_a_new_card_begins_anew_and_only_what_lay_on_the_old_one_is_gone(make_world: MakeWorld) -> None:
    world = make_world()
    takes(world, 50)
    world.stop(NODE)
    world.absorb()
    on_the_old_card = held(world.outbox(NODE)).readings

    for file in world.outbox(NODE).parent.glob("outbox.db*"):
        file.unlink()
    world.ledger.begin_anew(world.outbox(NODE))
    world.start(NODE)
    takes(world, 50)
    drained(world)
    verdict = judge(world, forgiven=frozenset(on_the_old_card))

    assert verdict.problems == [], verdict
    assert len({one.rpartition("-")[0] for one in taken(world)}) == 2, "two epochs"


def test_an_older_image_of_the_card_begins_a_new_epoch_before_it_sends_anything(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world()
    drained(world)  # what the image had taken and never published would come back under a new identity
    world.stop(NODE)
    copy_database(world.outbox(NODE), tmp_path / "image.db")
    world.start(NODE)
    takes(world, 60)
    eventually(lambda: has_receipts(world), told=world.logs)
    world.stop(NODE)
    world.absorb()
    only_there = held(world.outbox(NODE)).readings

    copy_database(tmp_path / "image.db", world.outbox(NODE))
    world.ledger.begin_anew(world.outbox(NODE))
    world.start(NODE)
    takes(world, 50)
    drained(world)
    verdict = judge(world, forgiven=frozenset(only_there))

    assert verdict.problems == [], verdict
    assert "it went back in time" in world.nodes[NODE].output()


@pytest.mark.parametrize("damage", ["pages", "header"])
def test_a_corrupt_outbox_is_set_aside_and_the_node_goes_on(make_world: MakeWorld, damage: str) -> None:
    world = make_world(interval_s=0.01)
    takes(world, 50)
    world.kill("bridge")
    takes(world, 300)
    world.stop(NODE)
    world.absorb()
    on_the_card = held(world.outbox(NODE)).readings

    with world.outbox(NODE).open("r+b") as stream:
        stream.seek(0 if damage == "header" else world.outbox(NODE).stat().st_size // 4096 // 2 * 4096)
        stream.write(os.urandom(3 * 4096))
    world.ledger.begin_anew(world.outbox(NODE))
    world.start(NODE)
    world.start("bridge")
    takes(world, 50)
    drained(world)
    verdict = judge(world, forgiven=frozenset(on_the_card))

    assert verdict.problems == [], verdict
    assert list(world.outbox(NODE).parent.glob("outbox.db.corrupt-*"))
    assert "set aside" in world.nodes[NODE].output()
    assert json.loads(world.run("status", "--json"))["lost_unknown"] > 0
    received = {str(body["id"]) for body in received_by(world.receiver_database)}
    assert len(received & on_the_card) > len(on_the_card) / 3, "much of it was salvaged"


TOLD = "is another node with this NODE_ID"


def test_two_nodes_of_one_name_are_told_and_lose_nothing(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    takes(world, 20)
    other = tmp_path / "other" / "outbox.db"

    world.clone("node-1b", other, NODE)
    eventually(lambda: told_of_a_twin(world), told=world.logs, within_s=90)
    put_right(world, other)
    verdict = judge(world)

    assert verdict.problems == [], verdict
    assert len({one.rpartition("-")[0] for one in taken(world)}) == 2, "each had an epoch of its own"


def test_one_card_copied_into_two_pis_is_told_and_neither_doubles_nor_loses(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world()
    drained(world)  # what a card had taken and never published would go out from both
    world.stop(NODE)
    other = tmp_path / "other" / "outbox.db"
    copy_database(world.outbox(NODE), other)

    world.start(NODE)
    world.clone("node-1b", other, NODE)
    eventually(lambda: told_of_a_twin(world), told=world.logs, within_s=90)
    put_right(world, other)
    conflicts = world.ledger.conflicts
    verdict = judge(world, forgiven=frozenset(conflicts))

    assert verdict.problems in ([], [f"{world.letters()} dead letters are left"]), verdict
    assert all(is_there(world, one) for one in conflicts), "of two readings under one number the first one counts"


def told_of_a_twin(world: World) -> bool:
    return any(TOLD in process.output() for process in world.nodes.values())


def put_right(world: World, other: Path) -> None:
    """Do what a person does: let one after the other send what it holds, alone."""
    world.stop(NODE)
    world.finish("node-1b")
    eventually(lambda: held(other) == (set(), 0), told=world.logs, within_s=60)
    world.stop("node-1b")
    world.ledger.absorb(NODE, other)
    world.start(NODE)
    drained(world)


def is_there(world: World, one: str) -> bool:
    """Tell whether the server has one of the two readings of this number, and letters hold nothing but the other."""
    node, epoch, seq = one.rsplit("-", 2)
    with reading_from(world.store) as connection:
        query = "SELECT payload FROM dead_letters WHERE node = ? AND epoch = ? AND seq = ?"
        letters = [json.loads(row[0])["time"] for row in connection.execute(query, (node, epoch, int(seq)))]
    arrived = [body["time"] for body in received_by(world.receiver_database) if body["id"] == one]
    taken_under_it = {format_time(reading.time) for reading in world.ledger.conflicts[one]}
    return len(arrived) == 1 and {*letters, *arrived} <= taken_under_it and arrived[0] not in letters
