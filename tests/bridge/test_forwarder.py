"""The forwarder against servers that answer in every way of the status table."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from bridge.forward.forwarder import run_forwarder
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import Store
from bridge.store.jobs import reported
from bridge.store.schema import Forward
from mqtt_client.errors import StorageFull
from tests.bridge.conftest import StoredReadings
from tests.http_servers import Received, Receiver, Reply, ScriptedServer, reset, silence
from tests.processes import eventually, free_port

Settings = Callable[..., BridgeSettings]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin back-off, pauses and reports at a tenth of their seconds."""
    monkeypatch.setattr("bridge.forward.answers._FIRST_BACK_OFF_S", 0.1)
    monkeypatch.setattr("bridge.forward.pace._FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr("bridge.forward.state._EVERY_S", 0.5)


@contextmanager
def forwarding(settings: BridgeSettings, store: Store) -> Iterator[None]:
    """Run the forwarder for a block, and check that it ends in time."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(run_forwarder, settings, store, stop)
        try:
            yield
        finally:
            stop.set()
            running.result(timeout=10)


def states(store: Store) -> list[int]:
    with store.read() as connection:
        return list(connection.scalars(select(schema.readings.c.forward_state).order_by(schema.readings.c.id)))


def until_all(store: Store, *wanted: Forward) -> None:
    eventually(lambda: set(states(store)) <= set(wanted), told=lambda: (states(store), reported(store)))


def counter(store: Store, name: str) -> int:
    with store.read() as connection:
        return connection.scalar(select(schema.counters.c.value).where(schema.counters.c.name == name)) or 0


def job_word(store: Store) -> str:
    found = reported(store)
    return found["forward"].word if "forward" in found else "unknown"


def refuse(*ids: str, status: int = 500) -> Callable[[Received], Reply]:
    """Answer with this status whatever holds one of these readings."""
    return lambda request: Reply(status, b"no") if set(ids) & set(request.ids) else Reply()


def test_a_reading_is_posted_in_the_form_that_the_users_server_reads(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    (key,) = stored_readings(store, values={"temperature": 21.4, "humidity": 48.2})

    with forwarding(bridge_settings(SERVER_URL=scripted.url, SERVER_TOKEN="s3cret", TIMEZONE="Europe/Paris"), store):
        until_all(store, Forward.SETTLED)

    (request,) = scripted.received
    assert request.body == {
        "temperature": 21.4,
        "humidity": 48.2,
        "timestamp": "[24/Nov/2026 21:31:05]",
        "node": "kitchen",
        "sensor": "main",
        "id": key,
        "time": "2026-11-24T20:31:05.123Z",
        "clock": "synced",
    }
    assert request.headers["idempotency-key"] == f'"{key}"'
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.headers["content-type"] == "application/json"


def test_absent_quantities_are_left_out(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    stored_readings(store, values={"co2": 412.0})

    with forwarding(bridge_settings(SERVER_URL=scripted.url), store):
        until_all(store, Forward.SETTLED)

    assert scripted.received[0].body.keys() == {"co2", "timestamp", "node", "sensor", "id", "time", "clock"}


@pytest.mark.parametrize("batch_size", [1, 7])
def test_each_reading_arrives_once_and_in_its_nodes_order(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, receiver: Receiver, batch_size: int
) -> None:
    keys = {node: stored_readings(store, node, 60) for node in ("kitchen", "cellar", "attic", "yard", "shed")}

    with forwarding(bridge_settings(SERVER_URL=receiver.url, SERVER_BATCH_SIZE=batch_size), store):
        keys["kitchen"] += stored_readings(store, "kitchen", 20)
        until_all(store, Forward.SETTLED)

    arrived = receiver.ids()
    assert len(arrived) == 320
    for node, expected in keys.items():
        assert [key for key in arrived if key.startswith(f"{node}-")] == expected


def test_an_array_has_no_key_but_those_of_its_elements(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    keys = stored_readings(store, count=5)

    with forwarding(bridge_settings(SERVER_URL=scripted.url, SERVER_BATCH_SIZE=3, SERVER_CONCURRENCY=1), store):
        until_all(store, Forward.SETTLED)

    assert scripted.ids() == keys
    assert all(isinstance(request.body, list) and len(request.body) <= 3 for request in scripted.received)
    assert all("idempotency-key" not in request.headers for request in scripted.received)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503])
def test_what_the_server_cannot_take_now_is_sent_again_under_the_same_key(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer, status: int
) -> None:
    keys = stored_readings(store, count=2)
    scripted.script = lambda _request: Reply(status) if len(scripted.received) == 1 else Reply()

    with forwarding(bridge_settings(SERVER_URL=scripted.url), store):
        until_all(store, Forward.SETTLED)

    assert scripted.ids() == [keys[0], *keys]
    assert counter(store, "sent_again_unknown") == 0


def test_retry_after_is_obeyed(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    stored_readings(store)
    came_at: list[float] = []

    def script(_request: Received) -> Reply:
        came_at.append(time.monotonic())
        return Reply(503, headers={"Retry-After": "2"}) if len(came_at) == 1 else Reply()

    scripted.script = script
    with forwarding(bridge_settings(SERVER_URL=scripted.url), store):
        until_all(store, Forward.SETTLED)

    assert came_at[1] - came_at[0] >= 2


@pytest.mark.parametrize("status", [400, 413, 415, 422])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_refused_reading_alone_becomes_a_dead_letter_and_the_rest_go_on(
    store: Store,
    stored_readings: StoredReadings,
    bridge_settings: Settings,
    scripted: ScriptedServer,
    status: int,
    batch_size: int,
) -> None:
    keys = stored_readings(store, count=8)
    scripted.script = refuse(keys[2], keys[5], status=status)

    with forwarding(bridge_settings(SERVER_URL=scripted.url, SERVER_BATCH_SIZE=batch_size), store):
        until_all(store, Forward.SETTLED, Forward.DEAD)

    assert [index for index, state in enumerate(states(store)) if state == Forward.DEAD] == [2, 5]
    with store.read() as connection:
        letters = connection.execute(select(schema.dead_letters)).all()
    assert [(letter.status, letter.body, letter.seq) for letter in letters] == [(status, "no", 3), (status, "no", 6)]


@pytest.mark.parametrize("status", [302, 401, 404])
def test_a_wrong_set_up_pauses_all_is_told_and_kills_no_reading(
    store: Store,
    stored_readings: StoredReadings,
    bridge_settings: Settings,
    scripted: ScriptedServer,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for node in ("kitchen", "cellar", "attic"):
        stored_readings(store, node, 3)
    scripted.script = lambda _request: Reply(status, headers={"Location": scripted.url + "/elsewhere"})

    with forwarding(bridge_settings(SERVER_URL=scripted.url), store):
        eventually(lambda: job_word(store) == "paused")
        reason = reported(store)["forward"].state["reason"]
        asked = len(scripted.received)
        scripted.script = lambda _request: Reply()
        until_all(store, Forward.SETTLED)
        eventually(lambda: job_word(store) == "ok")

    assert asked <= 4  # one for each thread, then single probes
    assert str(status) in str(reason)
    assert len([record for record in caplog.records if "set-up is wrong" in record.getMessage()]) == 1


def test_a_captive_portal_settles_nothing(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    stored_readings(store)
    scripted.script = lambda _request: Reply(200, b"<html>Welcome to the hotel</html>")

    with forwarding(bridge_settings(SERVER_URL=scripted.url, SERVER_EXPECT='"stored"'), store):
        eventually(lambda: job_word(store) == "paused")
        scripted.script = lambda _request: Reply(200, b'{"stored": true}')
        until_all(store, Forward.SETTLED)


def test_a_conflict_after_a_lost_answer_is_the_servers_duplicate(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    keys = stored_readings(store, count=2)
    scripted.script = lambda request: (
        Reply(send=reset) if len(scripted.received) == 1 else Reply(409) if request.ids == [keys[0]] else Reply()
    )

    with forwarding(bridge_settings(SERVER_URL=scripted.url), store):
        until_all(store, Forward.SETTLED, Forward.DUPLICATE)

    assert states(store) == [Forward.DUPLICATE, Forward.SETTLED]
    assert counter(store, "sent_again_unknown") == 1
    assert counter(store, "server_duplicates") == 1


def test_a_conflict_over_an_array_settles_only_what_the_server_has(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    keys = stored_readings(store, count=4)
    has = {keys[1]}
    stored: list[str] = []

    def script(request: Received) -> Reply:
        if len(scripted.received) == 1:
            return Reply(send=reset)
        if has & set(request.ids):
            return Reply(409)
        stored.extend(request.ids)
        return Reply()

    scripted.script = script
    with forwarding(bridge_settings(SERVER_URL=scripted.url, SERVER_BATCH_SIZE=4), store):
        until_all(store, Forward.SETTLED, Forward.DUPLICATE)

    assert stored == [keys[0], keys[2], keys[3]]
    assert states(store)[1] == Forward.DUPLICATE


def test_a_server_that_never_answers_is_left_after_the_time_limit(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    stored_readings(store)
    scripted.script = lambda _request: Reply(send=silence) if len(scripted.received) == 1 else Reply()

    with forwarding(bridge_settings(SERVER_URL=scripted.url, SERVER_TIMEOUT=0.3), store):
        until_all(store, Forward.SETTLED)

    assert counter(store, "sent_again_unknown") == 1
    with store.read() as connection:
        assert list(connection.scalars(select(schema.attempts.c.outcome))) == ["no answer within 0.3 s"]


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_trickles_without_end_costs_no_more_than_the_time_limit(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer, head: bytes
) -> None:
    stored_readings(store)

    def trickle(connection: object, ended: threading.Event) -> None:
        connection.sendall(head)  # type: ignore[attr-defined]
        while not ended.wait(0.05):
            connection.sendall(b"x")  # type: ignore[attr-defined]

    scripted.script = lambda _request: Reply(send=trickle) if len(scripted.received) == 1 else Reply()
    with forwarding(bridge_settings(SERVER_URL=scripted.url, SERVER_TIMEOUT=0.5), store):
        until_all(store, Forward.SETTLED)


def test_an_endless_body_is_read_only_in_part(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    stored_readings(store, count=2)

    def flood(connection: object, ended: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")  # type: ignore[attr-defined]
        while not ended.is_set():
            connection.sendall(b"x" * 65536)  # type: ignore[attr-defined]

    scripted.script = lambda _request: Reply(send=flood)
    with forwarding(bridge_settings(SERVER_URL=scripted.url), store):
        until_all(store, Forward.SETTLED)

    assert len(scripted.received) == 2


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_reading_that_the_server_fails_on_becomes_a_dead_letter_once_a_later_one_passes(
    store: Store,
    stored_readings: StoredReadings,
    bridge_settings: Settings,
    scripted: ScriptedServer,
    batch_size: int,
) -> None:
    keys = stored_readings(store, count=6)
    scripted.script = refuse(keys[0])

    settings = bridge_settings(SERVER_URL=scripted.url, SERVER_MAX_TRIES=2, SERVER_BATCH_SIZE=batch_size)
    with forwarding(settings, store):
        until_all(store, Forward.SETTLED, Forward.DEAD)

    assert states(store) == [Forward.DEAD, *[Forward.SETTLED] * 5]
    with store.read() as connection:
        letter = connection.execute(select(schema.dead_letters)).one()
    assert (letter.status, letter.body) == (500, "no")


def test_a_server_that_fails_on_everything_makes_no_dead_letters(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    keys = stored_readings(store, count=4)
    scripted.script = lambda _request: Reply(500)

    with forwarding(bridge_settings(SERVER_URL=scripted.url, SERVER_MAX_TRIES=1), store):
        eventually(lambda: len(scripted.received) >= 4 and job_word(store) == "down")
        assert {keys[0], keys[1]} <= set(scripted.ids())
        scripted.script = lambda _request: Reply()
        until_all(store, Forward.SETTLED)


def test_a_lonely_reading_is_a_dead_letter_only_when_another_node_passes(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    (poison,) = stored_readings(store, "cellar", 1)
    scripted.script = refuse(poison)

    with forwarding(bridge_settings(SERVER_URL=scripted.url, SERVER_MAX_TRIES=1), store):
        eventually(lambda: scripted.ids().count(poison) >= 3)
        assert Forward.DEAD not in states(store)
        stored_readings(store, "kitchen", 1)
        until_all(store, Forward.SETTLED, Forward.DEAD)

    assert states(store) == [Forward.DEAD, Forward.SETTLED]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_node_that_is_blocked_does_not_stop_the_others(
    store: Store,
    stored_readings: StoredReadings,
    bridge_settings: Settings,
    scripted: ScriptedServer,
    concurrency: int,
) -> None:
    blocked = stored_readings(store, "cellar", 50)
    free = stored_readings(store, "kitchen", 50)
    scripted.script = lambda request: Reply(503) if request.ids[0].startswith("cellar-") else Reply()

    with forwarding(bridge_settings(SERVER_URL=scripted.url, SERVER_CONCURRENCY=concurrency), store):
        eventually(lambda: states(store)[50:] == [Forward.SETTLED] * 50)
        eventually(lambda: job_word(store) in ("waiting", "down"))

    assert [key for key in scripted.ids() if key in free] == free
    assert set(scripted.ids()) & set(blocked) == {blocked[0]}


def test_a_server_that_is_not_there_costs_few_tries_and_no_order(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, tmp_path: Path
) -> None:
    port = free_port()
    keys = stored_readings(store, count=30)

    with forwarding(bridge_settings(SERVER_URL=f"http://127.0.0.1:{port}/data", SERVER_MAX_TRIES=1), store):
        eventually(lambda: job_word(store) == "down")
        receiver = Receiver(tmp_path / "late.db", port=port)
        until_all(store, Forward.SETTLED)
    arrived = receiver.ids()
    receiver.stop()

    assert arrived == keys
    assert counter(store, "sent_again_unknown") == 0


def test_bursts_wait_for_their_interval(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    stored_readings(store, count=3)

    with forwarding(bridge_settings(SERVER_URL=scripted.url, SEND_INTERVAL=3600), store):
        until_all(store, Forward.SETTLED)
        stored_readings(store, count=2)
        eventually(lambda: reported(store)["forward"].state["settled"] == 3)

    assert states(store) == [Forward.SETTLED] * 3 + [Forward.PENDING] * 2


def test_without_a_server_nothing_is_forwarded(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings
) -> None:
    stored_readings(store)

    with forwarding(bridge_settings(SERVER_URL=""), store):
        eventually(lambda: job_word(store) == "ok")

    assert states(store) == [Forward.PENDING]


def test_stopped_with_a_request_under_way_it_ends_in_time_and_gives_the_rest_back(
    store: Store, stored_readings: StoredReadings, bridge_settings: Settings, scripted: ScriptedServer
) -> None:
    stored_readings(store, count=5)
    scripted.script = lambda _request: Reply(send=silence)

    with forwarding(bridge_settings(SERVER_URL=scripted.url, SERVER_TIMEOUT=600), store):
        eventually(lambda: len(scripted.received) == 1)
        began = time.monotonic()

    assert time.monotonic() - began < 4
    assert states(store) == [Forward.CLAIMED] + [Forward.PENDING] * 4


def test_answers_that_a_full_disk_keeps_from_being_settled_are_settled_when_there_is_room(
    store: Store,
    stored_readings: StoredReadings,
    bridge_settings: Settings,
    scripted: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = stored_readings(store, count=3)
    room = threading.Event()
    room.set()
    write = store.write

    @contextmanager
    def write_if_there_is_room() -> Iterator[Connection]:
        if not room.is_set():
            raise StorageFull("the store's disk is full")
        with write() as connection:
            yield connection

    def script(_request: Received) -> Reply:
        room.clear()
        return Reply()

    scripted.script = script
    monkeypatch.setattr(store, "write", write_if_there_is_room)
    with forwarding(bridge_settings(SERVER_URL=scripted.url), store):
        eventually(lambda: "disk is full" in caplog.text)
        assert scripted.ids() == [keys[0]]
        scripted.script = lambda _request: Reply()
        room.set()
        until_all(store, Forward.SETTLED)

    assert scripted.ids() == keys
    assert caplog.text.count("disk is full") == 1


def test_a_proxy_of_the_environment_never_stands_before_this_machine(
    store: Store,
    stored_readings: StoredReadings,
    bridge_settings: Settings,
    scripted: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    stored_readings(store)

    with forwarding(bridge_settings(SERVER_URL=scripted.url), store):
        until_all(store, Forward.SETTLED)

    assert len(scripted.received) == 1
