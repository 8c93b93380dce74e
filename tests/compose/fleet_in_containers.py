"""compose.yaml for real: `make test-compose` runs this, `make test` does not, since it needs a Docker engine."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.compose.fleet import Fleet, NoEngine
from tests.processes import eventually

SENSORS = {("kitchen", "main"), ("garage", "main"), ("garage", "wall")}
LONG_RUNNING = ("kitchen", "garage", "bridge", "broker", "receiver")

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The fleet after ``up``, with its images built before."""
    try:
        started = Fleet(tmp_path_factory.mktemp("compose"))
    except NoEngine as exc:
        pytest.exit(str(exc), returncode=1)
    try:
        started.compose("build")
        yield started
    finally:
        started.end()


def test_readings_of_every_sensor_are_at_the_server_within_a_minute(fleet: Fleet) -> None:
    began = time.monotonic()

    fleet.compose("up", "--detach")
    eventually(
        lambda: {(one["node"], one["sensor"]) for one in fleet.received()} >= SENSORS,
        within_s=max(1.0, 60 - (time.monotonic() - began)),
        told=fleet.logs,
    )

    eventually(
        lambda: {name: fleet.health()[name] for name in LONG_RUNNING} == dict.fromkeys(LONG_RUNNING, "healthy"),
        within_s=60,
        told=fleet.health,
    )


def test_the_operator_watches_topics_without_typing_a_password(fleet: Fleet) -> None:
    heard = fleet.run("broker", "mosquitto_sub", "-t", "sensors/+/reading/#", "-v", "-C", "3", "-W", "30")

    assert heard.count("sensors/") == 3


def test_the_doctor_finds_nothing_that_fails(fleet: Fleet) -> None:
    found = json.loads(fleet.run("bridge", "mqtt-bridge", "doctor", "--json"))

    assert [one for one in found["findings"] if one["result"] == "fail"] == []
    assert {one["what"] for one in found["findings"]} >= {"certificate", "forgery", "session", "server", "clock"}


def test_no_program_is_root_or_can_write_outside_its_data(fleet: Fleet) -> None:
    for service in LONG_RUNNING:
        said = fleet.run(service, "sh", "-c", "id -u; touch /intruder 2>&1 || echo refused")

        assert not said.startswith("0\n")
        assert said.endswith("refused\n")


def test_a_node_with_a_wrong_password_is_refused(fleet: Fleet) -> None:
    said = fleet.run(
        "garage", "env", "MQTT_PASSWORD=wrong", "OUTBOX_PATH=/tmp/other.db", "mqtt-node", "check", "--connect",
        check=False,
    )  # fmt: skip

    assert "FAULT account: account 'garage' is refused: Not authorized" in said


def test_a_node_s_own_account_cannot_forge_what_is_another_s(fleet: Fleet) -> None:
    added = fleet.compose("run", "--rm", "-T", "setup", "set-up", "add", "cellar").stdout
    password = added.partition("MQTT_PASSWORD=")[2].partition("\n")[0]

    def answer(topic: str) -> str:
        return fleet.run(
            "broker", "mosquitto_pub", "-h", "broker", "-p", "8883", "-u", "cellar", "-P", password, "-q", "1", "-d",
            "-t", topic, "-m", "{}", check=False,
        )  # fmt: skip

    own = "sensors/cellar/command/result"
    eventually(lambda: any(code in answer(own) for code in ("RC:0)", "RC:16)")), told=lambda: answer(own))
    for topic in ("sensors/kitchen/reading/main", "sensors/kitchen/receipt", "sensors/cellar/receipt"):
        assert "RC:135)" in answer(topic)


def test_nothing_is_lost_or_doubled_when_each_container_is_restarted_in_turn(fleet: Fleet) -> None:
    for service in LONG_RUNNING:
        fleet.compose("restart", service)
        before = len(fleet.received())
        eventually(lambda before=before: len(fleet.received()) > before, within_s=60, told=fleet.logs)

    wanted = {key: max(seqs) for key, seqs in fleet.received_seqs().items()}
    eventually(
        lambda: all(set(fleet.received_seqs()[key]) >= set(range(1, last + 1)) for key, last in wanted.items()),
        within_s=120,
        told=fleet.received_seqs,
    )

    assert {node for node, _epoch in wanted} == {"kitchen", "garage"}  # one epoch each: no outbox was begun anew
    assert len(wanted) == 2
    assert all(len(seqs) == len(set(seqs)) for seqs in fleet.received_seqs().values())
    status = json.loads(fleet.run("bridge", "mqtt-bridge", "status", "--json"))
    assert (status["lost"], status["dead_letters"]) == (0, 0)


def test_what_is_taken_while_bridge_or_broker_is_away_arrives_when_it_is_back(fleet: Fleet) -> None:
    for service in ("bridge", "broker"):
        fleet.compose("stop", service)
        before = {key: max(seqs) for key, seqs in fleet.received_seqs().items()}
        time.sleep(12)  # the outage itself: two beats of every sensor
        fleet.compose("start", service)

        eventually(
            lambda before=before: all(
                set(seqs) >= set(range(1, before[key] + 3)) for key, seqs in fleet.received_seqs().items()
            ),
            within_s=120,
            told=fleet.logs,
        )
