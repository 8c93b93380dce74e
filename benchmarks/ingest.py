"""a, b: from the broker's queue into the store, committed and acknowledged, beside clients that keep nothing.

``mosquitto_sub`` (C) writes to /dev/null; bare paho acknowledges in its
callback. Ours decodes, judges, commits with fsync, acknowledges and receipts.
The time is from the first commit to the last, scaled to all readings, so that
the start of an interpreter counts for nobody; whole seconds stand beside.
"""

import os
import sqlite3
import tempfile
import time
from pathlib import Path

from benchmarks.load import backlog, make_session, payload, publish_all
from benchmarks.measuring import Cost, Figure, cpu_s, median, peak_mib, run, tell
from bridge.ingest.ingest import filters
from mqtt_client.topics import Topics
from tests.processes import Mosquitto, Process, eventually, python

SINGLES = 50_000
BACKLOG = 200_000
RUNS = 3
READINGS = "sensors/+/reading/+"

BARE_PAHO = """
import sys
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from mqtt_client.broker import connect_properties
port, wanted = int(sys.argv[1]), int(sys.argv[2])
seen = 0
client = Client(CallbackAPIVersion.VERSION2, client_id="paho", protocol=MQTTv5, manual_ack=True)
def on_message(client, data, message):
    global seen
    client.ack(message.mid, message.qos)
    seen += 1
    if seen == wanted:
        client.disconnect()
client.on_message = on_message
client.on_connect = lambda *_: client.subscribe("sensors/+/reading/+", 1)
properties = connect_properties(session_expiry_s=3600, receive_maximum=500)
client.connect("127.0.0.1", port, clean_start=False, properties=properties)
client.loop_forever()
"""


def mosquitto_sub(port: int, count: int) -> Cost:
    """Drain a queue with the C client."""
    options = ["-V", "5", "-p", str(port), "-i", "msub", "-c", "-x", "3600", "-q", "1", "-t", READINGS]
    return run(["mosquitto_sub", *options, "-C", str(count)])


def committed(database: Path) -> int:
    """Return how many readings are committed."""
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)
        try:
            return int(connection.execute("SELECT max(id) FROM readings").fetchone()[0] or 0)
        finally:
            connection.close()
    except sqlite3.Error:
        return 0


def ours(folder: Path, port: int, count: int, name: str) -> tuple[float, Cost]:
    """Drain the queue with ingest; return readings a second from first to last commit, and the whole cost."""
    database = folder / f"{name}.db"
    environment = {**os.environ, "MQTT_PORT": str(port), "STORE_URL": f"sqlite:///{database}", "SERVER_URL": ""}
    begin = time.perf_counter()
    process = Process(python("-m", "bridge", "run", "--only", "ingest"), folder / f"{name}.log", environment, folder)
    first = eventually(lambda: (committed(database), time.perf_counter()) if committed(database) else None)
    eventually(lambda: committed(database) >= count, within_s=120, told=process.output)
    end = time.perf_counter()
    cost = Cost(end - begin, cpu_s(process.process.pid), peak_mib(process.process.pid))
    process.stop()
    remaining = count - first[0]
    return remaining / max(1e-9, end - first[1]), cost


def singles(folder: Path) -> None:
    """Benchmark a: SINGLES readings, one a message."""
    broker = Mosquitto(folder / "broker", "max_queued_bytes 0")
    rates: dict[str, list[float]] = {"sub": [], "paho": [], "ours": []}
    costs: dict[str, Cost] = {}
    for number in range(RUNS):
        make_session(broker.port, "msub", [READINGS])
        make_session(broker.port, "paho", [READINGS])
        make_session(broker.port, "mqtt-bridge-main", filters(Topics(), None))
        publish_all(broker.port, (payload(f"run{number}", index) for index in range(SINGLES)))
        costs["sub"] = mosquitto_sub(broker.port, SINGLES)
        rates["sub"].append(SINGLES / costs["sub"].wall_s)
        costs["paho"] = run(python("-c", BARE_PAHO, str(broker.port), str(SINGLES)))
        rates["paho"].append(SINGLES / costs["paho"].wall_s)
        rate, costs["ours"] = ours(folder, broker.port, SINGLES, f"singles{number}")
        rates["ours"].append(rate)
    broker.kill()
    default = Mosquitto(folder / "broker-default", "max_queued_bytes 0\nmax_inflight_messages 20")
    rates["window"] = []
    for number in range(RUNS):
        make_session(default.port, "msub", [READINGS])
        publish_all(default.port, (payload(f"run{number}", index) for index in range(SINGLES)))
        costs["window"] = mosquitto_sub(default.port, SINGLES)
        rates["window"].append(SINGLES / costs["window"].wall_s)
    default.kill()
    base = median(rates["sub"])
    labels = {
        "sub": "mosquitto_sub to /dev/null",
        "window": "the same, the broker's own window of 20",
        "paho": "bare paho, acknowledges only",
        "ours": "ingest, committed",
    }
    tell(
        "ingest_singles",
        f"a. {SINGLES:,} queued readings, one a message (ratio to mosquitto_sub)",
        [
            Figure(
                label,
                median(rates[key]),
                "readings/s",
                costs[key].cpu_s,
                costs[key].peak_mib,
                median(rates[key]) / base,
            )
            for key, label in labels.items()
        ],
    )


def recovery(folder: Path) -> None:
    """Benchmark b: BACKLOG readings that a node buffered, as backlog messages of 200."""
    broker = Mosquitto(folder / "broker-backlog", "max_queued_bytes 0\nmax_packet_size 65536")
    rates: dict[str, list[float]] = {"sub": [], "ours": []}
    costs: dict[str, Cost] = {}
    for number in range(RUNS):
        make_session(broker.port, "msub", [READINGS])
        publish_all(broker.port, (payload(f"run{number}", index) for index in range(SINGLES)))
        costs["sub"] = mosquitto_sub(broker.port, SINGLES)
        rates["sub"].append(SINGLES / costs["sub"].wall_s)
        make_session(broker.port, "mqtt-bridge-main", filters(Topics(), None))
        messages = (
            ("sensors/node0/backlog", backlog(f"run{number}", first, 200)) for first in range(1, BACKLOG, 200)
        )
        publish_all(broker.port, messages)
        rate, costs["ours"] = ours(folder, broker.port, BACKLOG, f"backlog{number}")
        rates["ours"].append(rate)
    broker.kill()
    base, rate_ours = median(rates["sub"]), median(rates["ours"])
    tell(
        "ingest_backlog",
        f"b. {BACKLOG:,} buffered readings of one node, 200 a message (ratio to mosquitto_sub draining singles)",
        [
            Figure("mosquitto_sub, singles", base, "readings/s", costs["sub"].cpu_s, costs["sub"].peak_mib, 1.0),
            Figure(
                "ingest, committed",
                rate_ours,
                "readings/s",
                costs["ours"].cpu_s,
                costs["ours"].peak_mib,
                rate_ours / base,
            ),
        ],
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        singles(Path(name))
        recovery(Path(name))
