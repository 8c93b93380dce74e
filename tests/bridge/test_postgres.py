"""Several bridges over one PostgreSQL store, for real."""

import csv
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from bridge import dead_letters
from bridge.archive.archiver import archive
from bridge.errors import LeaseLost
from bridge.settings import BridgeSettings
from bridge.store import leases, locks, schema
from bridge.store.database import Store, open_store
from bridge.store.intake import Intake, Message
from bridge.store.leases import Lease
from bridge.store.outgoing import Outcome, claim, dead_claimants, recover, settle, waiting_nodes
from bridge.store.schema import Forward
from mqtt_client.errors import LockHeld
from mqtt_client.settings import load
from mqtt_client.topics import Topics
from tests.http_servers import Receiver
from tests.postgres import PostgreSQL
from tests.processes import Mosquitto, Process, eventually, free_port, python
from tests.wire import backlog, reading

ROWS = 2665
OFFICE_ROOM = Path(__file__).parents[2] / "examples" / "office-room.csv"
READING = "sensors/kitchen/reading/main"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    process = PostgreSQL(tmp_path_factory.mktemp("postgres") / "server")
    yield process
    process.kill()


@pytest.fixture
def url(server: PostgreSQL) -> str:
    """A database of the test's own."""
    name = f"test_{os.urandom(4).hex()}"
    admin = open_store(server.url)
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.close()
    return server.url.removesuffix("postgres") + name


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Callable[[str], BridgeSettings]:
    def make(bridge_id: str) -> BridgeSettings:
        folder = tmp_path / bridge_id
        return load(
            BridgeSettings,
            {
                "STORE_URL": url,
                "BRIDGE_ID": bridge_id,
                "BRIDGE_SHARE_GROUP": "fleet",
                "ARCHIVE_DIRECTORY": str(folder / "archives"),
                "BACKUP_DIRECTORY": str(folder / "backup"),
                "TIMEZONE": "UTC",
            },
        )

    return make


def seqs(store: Store) -> list[int]:
    with store.read() as connection:
        return list(connection.scalars(select(schema.readings.c.seq).order_by(schema.readings.c.id)))


def test_two_bridges_take_each_reading_once_and_both_know_the_receipt(store: Store) -> None:
    one, other = Intake(store, Topics()), Intake(store, Topics())

    one.put([Message(READING, reading(seq)) for seq in (1, 2, 4)])
    other.put([Message(READING, reading(seq)) for seq in (2, 3)])
    one.put([Message("sensors/kitchen/backlog", backlog(range(1, 7)))])

    assert seqs(store) == [1, 2, 4, 3, 5, 6]
    for intake in (one, other):
        (source,) = intake.every_source()
        assert (source.through, list(source.committed)) == (6, [(1, 6)])


def test_what_postgresql_takes_in_no_text_is_a_dead_letter_and_the_next_reading_passes(store: Store) -> None:
    told = b'{"epoch":"k3f9x2ab","from":1,"to":2,"reason":"\\u0000"}'

    Intake(store, Topics()).put(
        [Message("sensors/kitchen/lost", told), Message("sensors/a\0b/backlog", b"[]"), Message(READING, reading(1))]
    )

    assert seqs(store) == [1]
    assert [letter.payload for letter in dead_letters.pending(store)] == [told, b"[]"]


def test_a_lease_is_held_by_one_and_told_to_another(settings: Callable[[str], BridgeSettings], store: Store) -> None:
    lock = locks.take(settings("a"), "ingest")

    with pytest.raises(LockHeld, match=str(os.getpid())):
        locks.take(settings("a"), "ingest")
    locks.take(settings("b"), "ingest").release()
    lock.release()
    locks.take(settings("a"), "ingest").release()


def test_a_holder_that_was_cut_off_can_commit_nothing(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 0.0)  # over at once, and never renewed in time
    old = Lease(url, "archive", "archive")
    eventually(lambda: _is_over(store))
    new = Lease(url, "archive", "archive")

    with pytest.raises(LeaseLost), store.fenced(old.check).write() as connection:
        connection.execute(schema.meta.insert().values(key="old", value="x"))
    with store.fenced(new.check).write() as connection:
        connection.execute(schema.meta.insert().values(key="new", value="x"))

    with store.read() as connection:
        keys = set(connection.scalars(select(schema.meta.c.key)))
    old.release()
    new.release()
    assert "new" in keys
    assert "old" not in keys


def _is_over(store: Store) -> bool:
    with store.read() as connection:
        return bool(connection.exec_driver_sql(
            "SELECT 1 FROM leases WHERE expires_ms < extract(epoch FROM clock_timestamp()) * 1000"
        ).first())  # fmt: skip


def test_bridges_claim_different_readings_and_settle_only_their_own(store: Store) -> None:
    Intake(store, Topics()).put([Message(READING, reading(seq)) for seq in range(1, 11)])
    nodes = waiting_nodes(store)

    with store.write() as first:
        of_a = claim(first, "a", nodes, 4)
        with store.write() as second:
            of_b = claim(second, "b", nodes, 4)
    with store.write() as connection:
        settle(connection, "b", [Outcome(of_a, Forward.SETTLED, status=200)])
        settle(connection, "a", [Outcome(of_a, Forward.SETTLED, status=200)])

    assert [one.seq for one in of_a] == [1, 2, 3, 4]
    assert [one.seq for one in of_b] == [5, 6, 7, 8]
    assert dead_claimants(store, None) == ["b"]
    assert recover(store, "b") == 4
    with store.read() as connection:
        states = Counter(connection.scalars(select(schema.readings.c.forward_state)))
    assert states == {Forward.SETTLED: 4, Forward.PENDING: 6}


def test_archives_are_made_as_on_sqlite(store: Store, settings: Callable[[str], BridgeSettings]) -> None:
    Intake(store, Topics()).put([Message(READING, reading(seq)) for seq in range(1, 30)])

    first = archive(settings("a"), store)
    second = archive(settings("b"), store)

    assert [one.rows for one in first] == [29]
    assert second == []


class Group:
    """Three bridges over one store, on one broker, as processes."""

    def __init__(self, folder: Path, broker: Mosquitto, url: str, server_url: str) -> None:
        self.folder = folder
        self._environment = {
            **os.environ,
            "MQTT_PORT": str(broker.port),
            "STORE_URL": url,
            "SERVER_URL": server_url,
            "BRIDGE_SHARE_GROUP": "fleet",
            "ARCHIVE_INTERVAL": "3",
        }
        self.bridges = {name: self._start(name) for name in ("a", "b", "c")}
        for process in self.bridges.values():
            eventually(lambda p=process: "connected to the broker" in p.output(), told=process.output, within_s=60)

    def environment(self, name: str) -> dict[str, str]:
        folder = self.folder / name
        return {
            **self._environment,
            "BRIDGE_ID": name,
            "WEB_PORT": str(free_port()),
            "ARCHIVE_DIRECTORY": str(folder / "archives"),
            "BACKUP_DIRECTORY": str(folder / "backup"),
        }

    def _start(self, name: str) -> Process:
        (self.folder / name).mkdir()
        jobs = python("-m", "bridge", "run")
        return Process(jobs, self.folder / f"{name}.log", self.environment(name), self.folder / name)

    def run(self, name: str, *arguments: str) -> str:
        done = subprocess.run(
            python("-m", "bridge", *arguments),
            env=self.environment(name), cwd=self.folder / name, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def archived(self) -> Counter[str]:
        ids: Counter[str] = Counter()
        for file in self.folder.glob("*/archives/archive_*.csv"):
            with file.open(encoding="utf-8", newline="") as stream:
                ids.update(row["id"] for row in csv.DictReader(stream))
        return ids

    def logs(self) -> str:
        return "\n".join(process.output()[-1500:] for process in self.bridges.values())

    def kill(self) -> None:
        for process in self.bridges.values():
            process.kill()


class Node:
    """A node that takes ROWS readings, as fast as it can, and then only sees to it that they arrive."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self._environment = {
            **os.environ,
            "MQTT_PORT": str(broker.port),
            "NODE_ID": "office",
            "NODE_SENSORS": f"room=replay:{OFFICE_ROOM}:once",
            "SAMPLE_INTERVAL": "0.005",
            "OUTBOX_PATH": str(folder / "outbox.db"),
        }
        self.process = Process(python("-m", "mqtt_client", "run"), folder / "node.log", self._environment, folder)

    def status(self) -> dict[str, object]:
        """Return what ``mqtt-node status`` says."""
        command = python("-m", "mqtt_client", "status", "--json")
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def all_is_receipted(self) -> bool:
        """Tell whether everything was taken, and nothing waits any more."""
        status = self.status()
        return status["next_seq"] == ROWS + 1 and status["waiting"] == 0


@pytest.mark.timeout(280)
def test_one_of_three_bridges_is_killed_and_one_restarted_and_nothing_is_lost_or_doubled(
    tmp_path: Path, broker: Mosquitto, url: str, receiver: Receiver
) -> None:
    group = Group(tmp_path, broker, url, receiver.url)
    node = Node(tmp_path, broker)
    eventually(lambda: len(receiver.ids()) > 300, told=group.logs)

    group.bridges["a"].kill()
    eventually(lambda: len(receiver.ids()) > 900, told=group.logs, within_s=60)
    group.bridges["b"].stop()
    group.bridges["b"].start()
    eventually(lambda: node.all_is_receipted(), within_s=150, told=lambda: (group.logs(), node.process.output()))
    eventually(lambda: len(receiver.ids()) >= ROWS, within_s=60, told=group.logs)
    status = json.loads(group.run("c", "status", "--json"))
    eventually(lambda: group.run("c", "archive") and sum(group.archived().values()) >= ROWS, within_s=60)
    node.process.kill()
    group.kill()

    epoch = node.status()["epoch"]
    expected = Counter(f"office-{epoch}-{seq}" for seq in range(1, ROWS + 1))
    assert Counter(receiver.ids()) == expected
    assert group.archived() == expected
    assert status["lost"] == 0
