"""i: a fleet of simulated nodes, each with a connection of its own: lag, memory and CPU of ingest and forwarder.

The nodes live in a few asyncio processes that speak MQTT 5 themselves, since
paho's own loop ends at 1,024 sockets; they publish with QoS 1 and read their
acknowledgements. Lag is how many readings were published and not yet at the
server, sampled each second; it must not grow.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.load import FastServer
from benchmarks.measuring import Figure, cpu_s, median, peak_mib, raise_file_limit, tell
from bridge.store.database import open_store
from bridge.store.waiting import waiting
from tests.processes import Mosquitto, Process, eventually, python

INTERVAL_S = 5.0
PROCESSES = 4


async def node(port: int, name: str, begin: float, until: float, counts: list[int]) -> None:
    """One node: connect, then a reading each INTERVAL_S."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = name.encode()
    head = b"\x00\x04MQTT\x05\x02\x00\x00\x00" + len(client).to_bytes(2, "big") + client
    writer.write(b"\x10" + bytes([len(head)]) + head)
    await reader.readexactly(2)
    drain = asyncio.ensure_future(_drop(reader))
    topic = f"sensors/{name}/reading/main".encode()
    offset = (hash(name) % 1000) / 1000 * INTERVAL_S
    seq = 0
    while (due := begin + offset + seq * INTERVAL_S) < until:
        await asyncio.sleep(max(0.0, due - time.time()))
        seq += 1
        payload = (
            f'{{"v":1,"node":"{name}","sensor":"main","epoch":"fleet","seq":{seq},"time":"2026-11-24T20:31:05.123Z",'
            '"clock":"synced","values":{"temperature":21.4,"humidity":48.2}}'
        ).encode()
        body = len(topic).to_bytes(2, "big") + topic + (seq % 60_000 + 1).to_bytes(2, "big") + b"\x00" + payload
        size = len(body)
        writer.write(b"\x32" + bytes([size & 127 | 128, size >> 7]) + body)
        counts[0] += 1
    drain.cancel()
    writer.close()


async def _drop(reader: asyncio.StreamReader) -> None:
    while await reader.read(4096):
        pass


async def nodes(port: int, first: int, count: int, seconds: float) -> None:
    """Run a share of the fleet and print how many readings it published."""
    begin = time.time() + 10
    counts = [0]
    tasks = []
    for number in range(first, first + count):
        tasks.append(asyncio.ensure_future(node(port, f"n{number}", begin, begin + seconds, counts)))
        if number % 200 == 0:
            await asyncio.sleep(0.05)
    await asyncio.gather(*tasks)
    print(counts[0])


def fleet(folder: Path, size: int, seconds: float) -> None:
    """Run it all and tell."""
    raise_file_limit()
    broker = Mosquitto(folder / "broker", f"max_connections {size + 100}")
    server = FastServer(folder)
    url = f"sqlite:///{folder}/bridge.db"
    environment = {**os.environ, "MQTT_PORT": str(broker.port), "STORE_URL": url, "SERVER_URL": server.url}
    environment |= {"SERVER_BATCH_SIZE": "100"}
    jobs = {
        job: Process(python("-m", "bridge", "run", "--only", job), folder / f"{job}.log", environment, folder)
        for job in ("ingest", "forward")
    }
    eventually(lambda: "connected to the broker" in jobs["ingest"].output(), told=jobs["ingest"].output)
    share = size // PROCESSES
    command = [sys.executable, "-m", "benchmarks.fleet", "--nodes-of", str(broker.port)]
    publishers = [
        subprocess.Popen([*command, str(part * share), str(share), str(seconds)], stdout=subprocess.PIPE, text=True)
        for part in range(PROCESSES)
    ]
    store = open_store(url)
    lags: list[int] = []
    before = {job: cpu_s(process.process.pid) for job, process in jobs.items()}
    begin = time.perf_counter()
    while any(publisher.poll() is None for publisher in publishers):
        time.sleep(1.0)
        with store.read() as connection:
            lags.append(waiting(connection).to_forward)
    took_s = time.perf_counter() - begin
    published = sum(int(publisher.communicate()[0]) for publisher in publishers)
    with store.read() as connection:
        eventually(lambda: _committed(url) >= published, within_s=60, told=lambda: (_committed(url), published))
    half = len(lags) // 2
    figures = [
        Figure("readings published and committed", published, "readings", note=f"{size:,} nodes, {took_s:.0f} s"),
        Figure("waiting for the server, first half", median(lags[:half]), "readings"),
        Figure("waiting for the server, second half", median(lags[half:]), "readings"),
        Figure("most waiting for the server", max(lags), "readings"),
    ]
    for job, process in jobs.items():
        used = cpu_s(process.process.pid) - before[job]
        figures.append(Figure(job, 100 * used / took_s, "% of a core", used, peak_mib(process.process.pid)))
    tell("fleet", f"i. {size:,} nodes, one reading in {INTERVAL_S:g} s each", figures)
    store.close()
    for process in (*jobs.values(), server, broker):
        process.kill()


def _committed(url: str) -> int:
    store = open_store(url)
    try:
        with store.read() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM readings").scalar() or 0)
    finally:
        store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--nodes-of", nargs=4, metavar=("PORT", "FIRST", "COUNT", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.nodes_of:
        raise_file_limit()
        port, first, count = (int(word) for word in options.nodes_of[:3])
        asyncio.run(nodes(port, first, count, float(options.nodes_of[3])))
    else:
        with tempfile.TemporaryDirectory() as name:
            fleet(Path(name), options.nodes, options.seconds)
