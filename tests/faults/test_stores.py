"""What can happen to the bridge's store: it is lost, it goes bad, it goes back in time, it meets another one."""

import json
import os
from pathlib import Path

import pytest

from tests.faults.conftest import MakeWorld
from tests.faults.judge import judge, lost_in, received_by
from tests.faults.test_cards import drained, taken, takes
from tests.faults.world import World, copy_database
from tests.processes import Process, eventually, python


def settled(world: World) -> set[str]:
    """Let all that was taken arrive and be archived, and let the fleet run on; return what was taken."""
    known = arrived(world)
    run_on(world)
    return known


def arrived(world: World) -> set[str]:
    """Let the nodes take nothing more, and all that was taken arrive and be archived; return what was taken."""
    drained(world)
    return taken(world)


def run_on(world: World) -> None:
    """Let the nodes take readings again."""
    for node in world.node_names:
        world.stop(node)
        world.start(node, NODE_SENSORS="main=simulated")


@pytest.mark.parametrize("accident", ["empty", "corrupt"])
def test_a_store_that_is_lost_or_corrupt_under_a_running_fleet_begins_at_the_nodes_floor(
    make_world: MakeWorld, accident: str
) -> None:
    world = make_world()
    takes(world, 30)
    settled(world)
    takes(world, 10)

    world.kill("bridge")
    if accident == "empty":
        for file in world.store.parent.glob("bridge.db*"):
            file.unlink()
    else:
        with world.store.open("r+b") as stream:
            stream.seek(100)
            stream.write(os.urandom(world.store.stat().st_size - 100))
    world.start("bridge")
    eventually(lambda: world.bridge.output().count("connected to the broker") > 1, told=world.logs, within_s=60)
    since = taken(world)
    takes(world, 50)
    drained(world)
    verdict = judge(world, forgiven=frozenset(since))

    fresh = [problem for problem in verdict.problems if not problem.startswith("received, and in no ")]
    assert fresh == [], verdict  # what the old store had not archived is only there
    assert lost_in(world.store) <= since, "the old store's last receipt may have let nodes forget a few"
    assert len(list(world.store.parent.glob("bridge.db.corrupt-*"))) >= (accident == "corrupt")
    received = {str(body["id"]) for body in received_by(world.receiver_database)}
    assert taken(world) - since <= received
    assert "receipts now come from store" in world.nodes["node-1"].output()


def test_an_older_image_of_the_store_is_told_and_doubles_nothing(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    takes(world, 30)
    drained(world)
    world.stop("bridge")
    copy_database(world.store, tmp_path / "image.db")
    before = taken(world)
    world.start("bridge")
    settled(world)
    takes(world, 60)
    between = arrived(world) - before
    world.stop("bridge")  # with nothing in it that has not arrived: the older image knows nothing of it
    run_on(world)

    copy_database(tmp_path / "image.db", world.store)
    world.start("bridge")
    eventually(lambda: "went back in time" in world.bridge.output(), told=world.logs)
    takes(world, 50)
    drained(world)
    verdict = judge(world, forgiven=frozenset(between))

    assert verdict.problems == [], verdict
    assert lost_in(world.store) <= between, "told as lost is at most what only the newer store knew"
    assert taken(world) <= {str(body["id"]) for body in received_by(world.receiver_database)}


def test_a_second_bridge_with_a_store_of_its_own_ends_and_the_fleet_does_not_notice(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world()
    takes(world, 30)
    settings = world.environment("bridge", STORE_URL=f"sqlite:///{tmp_path}/second.db", BRIDGE_ID="second")
    second = Process(python("-m", "bridge", "run"), tmp_path / "second.log", settings, tmp_path)

    eventually(lambda: not second.is_running(), told=second.output, within_s=60)
    takes(world, 30)
    drained(world)
    verdict = judge(world)

    assert second.process.returncode == 2
    assert "with another store" in second.output()
    assert verdict.problems == [], verdict
    assert json.loads(world.run("status", "--json"))["repeats"] < len(taken(world))
