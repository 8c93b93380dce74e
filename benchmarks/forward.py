"""c: from the store to a server, one POST a reading and arrays, beside the old script's loop and a bare HTTP client.

The fast server answers 204 from one asyncio thread; Flask is the example
receiver on waitress, which commits every reading (fsync) before it answers.
"""

import http.client
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests

from benchmarks.load import FastServer
from benchmarks.measuring import Figure, cpu_s, median, peak_mib, tell
from bridge.store.counters import counted
from bridge.store.database import Store, open_store
from bridge.store.intake import Intake, Message
from bridge.store.outgoing import ANSWERED
from mqtt_client.topics import Topics
from tests.processes import Process, eventually, free_port, python
from tests.wire import backlog

RUNS = 3
RECEIVER = Path(__file__).parents[1] / "examples" / "receiver.py"
BODY = {
    "temperature": 21.4,
    "humidity": 48.2,
    "timestamp": "[24/Nov/2026 20:31:05]",
    "node": "kitchen",
    "sensor": "main",
    "time": "2026-11-24T20:31:05.123Z",
    "clock": "synced",
}


def body(number: int) -> bytes:
    """Return the JSON of one reading."""
    return json.dumps({**BODY, "id": f"kitchen-k3f9x2ab-{number}"}).encode()


def old_script(url: str, count: int) -> float:
    """The loop of the script that this replaces: ``requests.post`` for each reading; return requests a second."""
    begin = time.perf_counter()
    for number in range(count):
        requests.post(url, json={**BODY, "id": f"old-{number}"}, timeout=10).raise_for_status()
    return count / (time.perf_counter() - begin)


def bare_client(url: str, first: int, count: int, threads: int) -> float:
    """``http.client`` with kept connections and nothing else, keys from first on; return requests a second."""
    parts = urlsplit(url)

    def work(share: range) -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        for number in share:
            connection.request("POST", parts.path, body(number), {"Content-Type": "application/json"})
            connection.getresponse().read()
        connection.close()

    workers = [
        threading.Thread(target=work, args=(range(first + part, first + count, threads),)) for part in range(threads)
    ]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return count / (time.perf_counter() - begin)


def fill(url: str, epoch: str, count: int, nodes: int) -> Store:
    """Put readings of some nodes into a new store."""
    store = open_store(url)
    intake = Intake(store, Topics())
    each = count // nodes
    for first in range(1, each + 1, 200):
        burst = range(first, min(each, first + 199) + 1)
        intake.put(
            [Message(f"sensors/n{node}/backlog", backlog(burst, f"n{node}", epoch=epoch)) for node in range(nodes)]
        )
    return store


def ours(folder: Path, name: str, server_url: str, count: int, **variables: str) -> Figure:
    """Forward count readings of four nodes from a full store."""
    url = f"sqlite:///{folder}/{name}.db"
    store = fill(url, name, count, 4)
    environment = {**os.environ, "STORE_URL": url, "SERVER_URL": server_url, **variables}
    process = Process(python("-m", "bridge", "run", "--only", "forward"), folder / f"{name}.log", environment, folder)
    eventually(lambda: _settled(store), within_s=60, told=process.output)
    before, begin = _settled(store), time.perf_counter()
    eventually(lambda: _settled(store) == count, within_s=300, told=process.output)
    took_s = time.perf_counter() - begin
    figure = Figure(
        name, (count - before) / took_s, "readings/s", cpu_s(process.process.pid), peak_mib(process.process.pid)
    )
    process.stop()
    store.close()
    return figure


def _settled(store: Store) -> int:
    """Return how many readings were answered, by counters: looking costs the two nothing."""
    return sum(number for name, number in counted(store).items() if name.startswith(ANSWERED))


def middle(make: Callable[[int], Figure]) -> Figure:
    """Return the run with the median rate."""
    figures = sorted((make(number) for number in range(RUNS)), key=lambda figure: figure.value)
    return figures[RUNS // 2]


def into_fast_server(folder: Path) -> None:
    """Singles and arrays into the server that answers at once."""
    server = FastServer(folder)
    old = median([old_script(server.url, 2_000) for _ in range(RUNS)])
    single = middle(lambda number: ours(folder, f"fast-single-{number}", server.url, 20_000))
    array = middle(lambda number: ours(folder, f"fast-array-{number}", server.url, 200_000, SERVER_BATCH_SIZE="500"))
    server.kill()
    tell(
        "forward_fast",
        "c. forwarding into a server that answers at once (ratio to the old script's loop)",
        [
            Figure("old script: requests.post for each", old, "readings/s", ratio=1.0),
            Figure(
                "forward, one POST a reading",
                single.value,
                "readings/s",
                single.cpu_s,
                single.peak_mib,
                single.value / old,
            ),
            Figure(
                "forward, arrays of 500", array.value, "readings/s", array.cpu_s, array.peak_mib, array.value / old
            ),
        ],
    )


def into_flask(folder: Path) -> None:
    """Singles into the example receiver, which commits each."""
    port = free_port()
    options = ("--port", str(port), "--database", str(folder / "receiver.db"))
    receiver = Process(python(str(RECEIVER), *options), folder / "receiver.log")
    url = f"http://127.0.0.1:{port}/data"
    eventually(lambda: _answers(url), told=receiver.output)
    bare = median([bare_client(url, number * 1_000_000, 4_000, 4) for number in range(RUNS)])
    single = middle(lambda number: ours(folder, f"flask-single-{number}", url, 8_000))
    receiver.kill()
    tell(
        "forward_flask",
        "c. forwarding into Flask on waitress, which commits each (ratio to a bare HTTP client, 4 connections)",
        [
            Figure("http.client, bodies ready", bare, "readings/s", ratio=1.0),
            Figure(
                "forward, one POST a reading",
                single.value,
                "readings/s",
                single.cpu_s,
                single.peak_mib,
                single.value / bare,
            ),
        ],
    )


def _answers(url: str) -> bool:
    try:
        return requests.get(url, params={"limit": 1}, timeout=2).ok
    except requests.RequestException:
        return False


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        into_fast_server(Path(name))
        into_flask(Path(name))
