"""d: end to end, from a reading's publish to its arrival at the server, at 1, 100 and 1,000 readings a second.

A publisher stamps each reading with the time at which it hands it to the
broker; the server, in this process, notes when it has come. So broker,
ingest (commit), forwarder (claim, POST) are in the figure. Once idle, and
once while a million rows are archived beside.
"""

import argparse
import json
import os
import socketserver
import tempfile
import threading
import time
from pathlib import Path

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.forward import fill
from benchmarks.measuring import Figure, percentile, tell
from tests.processes import Mosquitto, Process, eventually, free_port, python

RATES = {1: 20, 100: 1_500, 1_000: 10_000}
"""Readings a second: how many are sent."""
ARCHIVED = 1_000_000
NODES = 20


class Arrivals(socketserver.ThreadingTCPServer):
    """Answers POSTs with 204 and notes how long each reading was on its way."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", free_port()), Arrival)
        self.sent_at: dict[str, float] = {}
        self.delays_s: list[float] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.server_address[1]}/data"


class Arrival(socketserver.StreamRequestHandler):
    """One kept connection."""

    def handle(self) -> None:
        """Read requests until the other side closes."""
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line[15:])
            document = json.loads(self.rfile.read(length))
            now = time.perf_counter()
            self.wfile.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            assert isinstance(self.server, Arrivals)
            sent = self.server.sent_at.get(document["id"])
            if sent is not None:
                self.server.delays_s.append(now - sent)


class Sensors:
    """Publishes readings of NODES nodes at a steady rate."""

    def __init__(self, port: int, epoch: str) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self._client.max_inflight_messages_set(1000)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._epoch = epoch

    def publish(self, arrivals: Arrivals, rate: int, count: int) -> None:
        """Publish count readings, rate a second."""
        begin = time.perf_counter()
        for number in range(count):
            node, seq = f"node{number % NODES}", number // NODES + 1
            reading = (
                f'{{"v":1,"node":"{node}","sensor":"main","epoch":"{self._epoch}","seq":{seq},'
                '"time":"2026-11-24T20:31:05.123Z","clock":"synced","values":{"temperature":21.4}}'
            )
            pause_s = begin + number / rate - time.perf_counter()
            if pause_s > 0:
                time.sleep(pause_s)
            arrivals.sent_at[f"{node}-{self._epoch}-{seq}"] = time.perf_counter()
            self._client.publish(f"sensors/{node}/reading/main", reading.encode(), qos=1)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


def measure(folder: Path, title: str, *, archiving: bool) -> list[Figure]:
    """Return p50 and p99 in milliseconds for each rate."""
    broker = Mosquitto(folder / f"broker-{title}")
    arrivals = Arrivals()
    store_url = f"sqlite:///{folder}/{title}.db"
    if archiving:
        fill(store_url, "old", ARCHIVED, 4).close()
    environment = {
        **os.environ,
        "MQTT_PORT": str(broker.port),
        "STORE_URL": store_url,
        "SERVER_URL": "http://127.0.0.1:9/data" if archiving else arrivals.url,
        "ARCHIVE_DIRECTORY": str(folder / f"archives-{title}"),
        "BACKUP_DIRECTORY": str(folder / f"backup-{title}"),
    }
    if archiving:  # what is archived is on no way to the server
        _settle_all(folder / f"{title}.db")
        environment["SERVER_URL"] = arrivals.url
    jobs = [
        Process(python("-m", "bridge", "run", "--only", job), folder / f"{title}-{job}.log", environment, folder)
        for job in ("ingest", "forward")
    ]
    eventually(lambda: "connected to the broker" in jobs[0].output(), told=jobs[0].output)
    figures: list[Figure] = []
    for rate, count in RATES.items():
        archiver = None
        if archiving:
            archiver = Process(python("-m", "bridge", "archive"), folder / f"{title}-{rate}.log", environment, folder)
        arrivals.delays_s.clear()
        sensors = Sensors(broker.port, f"{title}{rate}")
        sensors.publish(arrivals, rate, count)
        eventually(
            lambda wanted=count: len(arrivals.delays_s) >= wanted, within_s=60, told=lambda: len(arrivals.delays_s)
        )
        sensors.close()
        if archiver:
            archiver.stop()
        for percent in (50, 99):
            value = percentile(arrivals.delays_s, percent) * 1000
            figures.append(Figure(f"{title}, {rate:,} readings/s, p{percent}", value, "ms"))
    for process in (*jobs, broker):
        process.kill()
    arrivals.shutdown()
    return figures


def _settle_all(database: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(database)
    connection.execute("UPDATE readings SET forward_state = 2")
    connection.commit()
    connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle-only", action="store_true", help="leave out the run beside an archive")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), "idle", archiving=False)
        if not options.idle_only:
            found += measure(Path(name), "archiving", archiving=True)
    tell("latency", "d. from publish to the server (milliseconds)", found)
