"""What the first release left on the disk, under this release: its store, its outbox, and its wheel's way in.

tests/data/store-0001.db and outbox-0001.db were written by the programs of 0.1.0 (tables 0001): readings that wait
for server and archive, one archive, two dead letters, losses; and an outbox that was full, with 100 readings in it.
"""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from email import message_from_bytes
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from bridge.store.database import HEAD, open_store
from bridge.store.intake import Intake, Message
from mqtt_client import messages
from mqtt_client.reading import Reading, encode, from_ms
from mqtt_client.topics import Topics
from tests.http_servers import Receiver
from tests.processes import Mosquitto, Process, eventually, python

ROOT = Path(__file__).parent.parent
KEPT = Path(__file__).parent / "data"
NOT_IN_ARCHIVE = 107
WAITING_FOR_SERVER = 107


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    shutil.copy(KEPT / "store-0001.db", tmp_path / "bridge.db")
    return f"sqlite:///{tmp_path}/bridge.db"


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(database, timeout=10)
    found = connection.execute(query).fetchall()
    connection.close()
    return found


def contents(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return what the first tables held, by table, without their new columns."""
    columns = {
        "nodes": "name",
        "sources": "epoch, node_id, start, repeats",
        "ranges": "first, kind, source_id, last",
        "losses": "source_id, first, last, reason, at_ms",
        "archives": "state, csv_name, rows, csv_sha256, xlsx_sha256",
        "readings": 'id, source_id, seq, sensor, time_ms, "values", forward_state, archive_id',
        "dead_letters": "id, state, reason, payload, node, epoch, seq, status",
    }
    return {table: rows(database, f"SELECT {names} FROM {table} ORDER BY 1") for table, names in columns.items()}


def test_a_store_of_the_first_release_is_brought_to_these_tables_and_keeps_everything(
    store_url: str, tmp_path: Path
) -> None:
    (store_id,) = rows(tmp_path / "bridge.db", "SELECT value FROM meta WHERE key = 'store_id'")[0]

    before = contents(tmp_path / "bridge.db")

    store = open_store(store_url)
    store.close()

    assert store.id == store_id
    assert rows(tmp_path / "bridge.db", "SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert contents(tmp_path / "bridge.db") == before


def test_readings_that_the_first_release_took_in_are_known_as_repeats(store_url: str) -> None:
    store = open_store(store_url)
    with store.read() as connection:
        found = connection.exec_driver_sql(
            'SELECT n.name, s.epoch, r.seq, r.time_ms, r."values" FROM readings r '
            "JOIN nodes n ON n.id = r.node_id JOIN sources s ON s.id = r.source_id WHERE n.name = 'kitchen' "
            "ORDER BY r.seq LIMIT 1"
        ).one()
    reading = Reading(1, found[0], "main", found[1], found[2], from_ms(found[3]), "unsynced", json.loads(found[4]))
    topics = Topics("sensors")
    intake = Intake(store, topics)

    (source,) = intake.put([Message(topics.reading("kitchen", "main"), encode(reading))])

    store.close()
    assert intake.repeats == 1
    assert source.through == 175


def test_the_bridge_goes_on_where_the_first_release_stopped(
    store_url: str, broker: Mosquitto, tmp_path: Path
) -> None:
    receiver = Receiver(tmp_path / "receiver.db")
    environment = os.environ | {
        "MQTT_PORT": str(broker.port),
        "STORE_URL": store_url,
        "SERVER_URL": receiver.url,
        "ARCHIVE_DIRECTORY": str(tmp_path / "archives"),
        "BACKUP_DIRECTORY": str(tmp_path / "backup"),
        "ARCHIVE_INTERVAL": "1",
        "TIMEZONE": "Europe/Paris",
        "PYTHONPATH": str(ROOT),
    }
    bridge = Process(python("-m", "bridge", "run"), tmp_path / "bridge.log", environment, tmp_path)

    eventually(lambda: len(receiver.ids()) == WAITING_FOR_SERVER, told=bridge.output)
    archive = eventually(lambda: list((tmp_path / "archives").glob("*.csv")), told=bridge.output)
    letters = subprocess.run(
        python("-m", "bridge", "dead-letters", "list"), env=environment, capture_output=True, text=True, check=True
    ).stdout

    assert bridge.stop() == 0
    assert len(set(receiver.ids())) == WAITING_FOR_SERVER
    receiver.stop()
    with archive[0].open(encoding="utf-8", newline="") as stream:
        archived = {row["id"] for row in csv.DictReader(stream)}
    assert archived == set(receiver_ids(tmp_path / "receiver.db"))
    assert len(archived) == NOT_IN_ARCHIVE
    assert len(letters.splitlines()) == 2


def receiver_ids(database: Path) -> list[str]:
    return [json.loads(str(body))["id"] for (body,) in rows(database, "SELECT body FROM readings")]


def test_an_outbox_of_the_first_release_is_emptied_under_this_one(broker: Mosquitto, tmp_path: Path) -> None:
    shutil.copy(KEPT / "outbox-0001.db", tmp_path / "outbox.db")
    ((epoch, next_seq),) = rows(tmp_path / "outbox.db", "SELECT epoch, next_seq FROM epochs")
    held = [seq for (seq,) in rows(tmp_path / "outbox.db", "SELECT seq FROM readings")]
    environment = os.environ | {
        "MQTT_PORT": str(broker.port),
        "NODE_ID": "attic",
        "OUTBOX_PATH": str(tmp_path / "outbox.db"),
        "SAMPLE_INTERVAL": "3600",
        "SERVER_URL": "",
        "PYTHONPATH": str(ROOT),
    }
    bridge = Process(python("-m", "bridge", "run"), tmp_path / "bridge.log", environment, tmp_path)
    eventually(lambda: "connected to the broker" in bridge.output(), told=bridge.output)

    node = Process(python("-m", "mqtt_client", "run"), tmp_path / "node.log", environment, tmp_path)
    store = tmp_path / "data" / "bridge.db"
    arrived = eventually(
        lambda: (found := rows(store, "SELECT seq FROM readings")) and len(found) > len(held) and found,
        told=node.output,
    )
    lost = eventually(lambda: rows(store, "SELECT first, last FROM ranges WHERE kind = 1"), told=node.output)

    assert node.stop() == bridge.stop() == 0
    assert rows(store, "SELECT epoch FROM sources") == [(epoch,)]
    assert {seq for (seq,) in arrived} == {*held, next_seq}
    assert lost == [(1, min(map(int, map(str, held))) - 1)]


def test_the_receipt_that_the_first_release_s_node_reads_has_not_changed() -> None:
    receipt = messages.Receipt("f6c22c6ac525dc32", "k3f9x2ab", 7, ((9, 12),))

    assert json.loads(messages.encode(receipt)) == {
        "store": "f6c22c6ac525dc32",
        "epoch": "k3f9x2ab",
        "through": 7,
        "beyond": [[9, 12]],
    }


# --- the wheel -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("mqtt_client", "bridge"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = python("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source))
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_every_module_and_migration_and_the_page_s_files(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}

    sources = {
        str(path.relative_to(ROOT))
        for package in ("mqtt_client", "bridge")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == sources


def needed(wheel: Path, extra: str) -> set[str]:
    """Return every package that the wheel needs for an extra, directly or through another package."""
    with ZipFile(wheel) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
        own = message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    todo = [(Requirement(one), extra) for one in own]
    found: set[str] = set()
    while todo:
        requirement, of_extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        name = requirement.name.lower()
        if name not in found:
            found.add(name)
            todo += [(Requirement(one), "") for one in metadata.requires(name) or []]
    return found


def test_a_node_s_installation_brings_a_handful_of_packages_and_no_pandas(wheel: Path) -> None:
    names = needed(wheel, "node")

    assert names == {
        "click",
        "colorzero",
        "gpiozero",
        "msgspec",
        "paho-mqtt",
        "python-dotenv",
        "setuptools",
        "tzdata",
    }


def test_installed_from_the_wheel_both_commands_start_and_the_store_is_made(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(tmp_path / "venv")], check=True)
    bin_ = tmp_path / "venv" / "bin"
    command = [bin_ / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed", str(wheel)]
    subprocess.run(command, check=True)
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(libraries), "TIMEZONE": "UTC"}

    def run(*arguments: str) -> str:
        return subprocess.run(
            [bin_ / arguments[0], *arguments[1:]],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    assert "ok" in run("mqtt-node", "check")
    assert "store" in run("mqtt-bridge", "check")
    assert (tmp_path / "data" / "bridge.db").exists()


# --- the lock files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lock", "extras"), [("node", ["node"]), ("bridge", ["bridge", "postgres"])])
def test_the_images_lock_file_has_every_dependency_with_its_hashes(lock: str, extras: list[str]) -> None:
    text = (ROOT / "deploy" / f"requirements-{lock}.lock").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]

    locked = {line.partition("==")[0] for line in text.splitlines() if "==" in line}

    names = {one.partition(">")[0].partition("[")[0].partition("=")[0].strip().lower() for one in wanted}
    assert names <= locked
    assert text.count("==") == len([part for part in text.split("\n    # via") if "--hash=sha256:" in part])
