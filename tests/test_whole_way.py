"""The whole way with real processes: node, mosquitto, bridge, server; each is taken away once in the middle."""

import csv
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import requests

from tests.processes import Mosquitto, Process, eventually, free_port, python

OFFICE_ROOM = Path(__file__).parents[1] / "examples" / "office-room.csv"
RECEIVER = Path(__file__).parents[1] / "examples" / "receiver.py"
OUTAGE_S = 20.0


class Whole:
    """Node, broker, bridge and server in one folder, each a process of its own."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.folder = folder
        self.broker = broker
        self.server_port = free_port()
        self.environment = {
            **os.environ,
            "MQTT_PORT": str(broker.port),
            "TIMEZONE": "Europe/Paris",
            "NODE_ID": "office",
            "NODE_SENSORS": f"room=replay:{OFFICE_ROOM}:once",
            "SAMPLE_INTERVAL": "0.005",
            "OUTBOX_PATH": str(folder / "outbox.db"),
            "STORE_URL": f"sqlite:///{folder}/bridge.db",
            "SERVER_URL": f"http://127.0.0.1:{self.server_port}/data",
            "ARCHIVE_DIRECTORY": str(folder / "archives"),
            "BACKUP_DIRECTORY": str(folder / "backup"),
            "ARCHIVE_INTERVAL": "7",
        }
        options = ("--port", str(self.server_port), "--database", str(folder / "receiver.db"))
        self.server = self._process("server", str(RECEIVER), *options)
        self.bridge = self._process("bridge", "-m", "bridge", "run")
        eventually(lambda: "connected to the broker" in self.bridge.output(), told=self.bridge.output)
        self.node = self._process("node", "-m", "mqtt_client", "run")

    def _process(self, name: str, *arguments: str) -> Process:
        return Process(python(*arguments), self.folder / f"{name}.log", self.environment, self.folder)

    def run(self, *arguments: str) -> str:
        """Run a command to its end and return what it prints."""
        done = subprocess.run(
            python("-m", *arguments),
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def received(self) -> list[dict[str, Any]]:
        """Return what the server holds, in the order of arrival."""
        found: list[dict[str, Any]] = requests.get(f"http://127.0.0.1:{self.server_port}/data", timeout=30).json()
        return found

    def end(self) -> None:
        """End every process."""
        for process in (self.node, self.bridge, self.server):
            process.kill()

    def logs(self) -> str:
        """Return the last lines of every log."""
        return "\n".join(f"--- {p.log.name}\n{p.output()[-1500:]}" for p in (self.node, self.bridge, self.server))


@pytest.fixture
def whole(tmp_path: Path, broker: Mosquitto) -> Iterator[Whole]:
    started = Whole(tmp_path, broker)
    yield started
    started.end()


def archived_csv(folder: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for file in sorted(folder.glob("archive_*.csv")):
        with file.open(encoding="utf-8", newline="") as stream:
            rows += csv.DictReader(stream)
    return rows


def archived_ids_xlsx(folder: Path) -> list[str]:
    ids: list[str] = []
    for file in sorted(folder.glob("archive_*.xlsx")):
        book = openpyxl.load_workbook(file, read_only=True)
        rows = book.worksheets[0].iter_rows(values_only=True)
        column = list(next(rows)).index("id")
        ids += [str(row[column]) for row in rows]
        book.close()
    return ids


@pytest.mark.timeout(280)
def test_every_row_of_the_office_reaches_server_and_archive_once_whatever_is_taken_away(whole: Whole) -> None:
    with OFFICE_ROOM.open(encoding="utf-8", newline="") as stream:
        rows = [{name: float(row[name]) for name in ("temperature", "humidity")} for row in csv.DictReader(stream)]
    eventually(lambda: len(whole.received()) > 200, told=whole.logs)

    whole.bridge.stop()
    time.sleep(OUTAGE_S)  # the outage itself
    whole.broker.kill()
    whole.broker.restart()
    whole.bridge.start()
    eventually(lambda: len(whole.received()) > 400, told=whole.logs, within_s=60)
    whole.server.kill()
    answers_500 = Process(python("-c", ALWAYS_500, str(whole.server_port)), whole.folder / "500.log")
    time.sleep(OUTAGE_S)
    answers_500.kill()
    whole.server.start()
    eventually(lambda: server_is_up(whole), told=whole.logs)
    eventually(lambda: len(whole.received()) >= len(rows), told=whole.logs, within_s=90)
    whole.node.stop()
    whole.run("bridge", "archive")

    received = whole.received()
    by_seq = {int(str(reading["id"]).rpartition("-")[2]): reading for reading in received}
    assert Counter(reading["id"] for reading in received).most_common(1)[0][1] == 1
    assert sorted(by_seq) == list(range(1, len(rows) + 1))
    assert [{name: by_seq[seq][name] for name in rows[0]} for seq in sorted(by_seq)] == rows
    times = [by_seq[seq]["time"] for seq in sorted(by_seq)]
    assert times == sorted(times)
    archived = archived_csv(whole.folder / "archives")
    assert Counter(row["id"] for row in archived) == Counter(reading["id"] for reading in received)
    assert Counter(archived_ids_xlsx(whole.folder / "archives")) == Counter(row["id"] for row in archived)
    assert {row["id"]: row["time"] for row in archived} == {row["id"]: row["time"] for row in received}
    status = json.loads(whole.run("bridge", "status", "--json"))
    assert (status["lost"], status["dead_letters"]) == (0, 0)


def server_is_up(whole: Whole) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{whole.server_port}/data/count", timeout=5).ok
    except requests.ConnectionError:
        return False


ALWAYS_500 = """
import http.server, sys

class Always500(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Always500).serve_forever()
"""
