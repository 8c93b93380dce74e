"""The live page's charts: 30 days of 100 nodes at a reading a minute, 4.3 million readings, as the browser asks.

Each answer is one chart as the browser gets it: read from the roll-ups,
thinned, encoded and compressed. The roll-ups are written as readings a
minute leave them; the store's folder is temporary and needs 250 MB.
"""

import math
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from benchmarks.measuring import Figure, median, tell
from bridge.settings import BridgeSettings
from bridge.store.database import Store, now_ms, open_store
from bridge.store.rollups import MINUTE_MS
from bridge.web.app import make_app
from mqtt_client.settings import load

NODES, DAYS = 100, 30
RANGES = ("1h", "24h", "7d", "30d")
RUNS = 7


def fill(store: Store) -> None:
    """Write roll-ups of one quantity by minute and by hour."""
    end_ms = now_ms() // MINUTE_MS * MINUTE_MS
    chance = random.Random(1)
    with store.write() as connection:
        for node in range(1, NODES + 1):
            name, phase = f"node-{node:03d}", chance.random() * 6
            connection.exec_driver_sql("INSERT INTO nodes (id, name) VALUES (?, ?)", (node, name))
            row = (node, node, "main", "temperature")
            connection.exec_driver_sql("INSERT INTO series (id, node_id, sensor, quantity) VALUES (?, ?, ?, ?)", row)
            rows = []
            for minute in range(DAYS * 1440):
                value = round(21 + 3 * math.sin(minute / 229 + phase) + chance.gauss(0, 0.2), 2)
                rows.append((node, end_ms - minute * MINUTE_MS, 1, value, value, value))
            connection.exec_driver_sql("INSERT INTO rollups_minute VALUES (?, ?, ?, ?, ?, ?)", rows[::-1])
        connection.exec_driver_sql(
            "INSERT INTO rollups_hour SELECT series_id, start_ms - start_ms % 3600000, sum(count), min(minimum), "
            "max(maximum), sum(total) FROM rollups_minute GROUP BY 1, 2"
        )


def question(client: FlaskClient, range_name: str) -> dict[str, Any]:
    """Return what the browser asks when this range is chosen."""
    asked = next(one for one in client.get("/_dash-dependencies").get_json() if "figure" in one["output"])
    values = {"beat": 1, "range": range_name}
    outputs = [
        [{"id": {"quantity": "temperature", "type": kind}, "property": what}]
        for kind, what in (("chart", "figure"), ("figures", "children"), ("step", "children"))
    ]
    return {
        "output": asked["output"],
        "outputs": [*outputs, {"id": "drawn", "property": "data"}],
        "inputs": [{**one, "value": values.get(one["id"])} for one in asked["inputs"]],
        "state": [{"id": "drawn", "property": "data", "value": None}],
        "changedPropIds": ["range.data"],
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        url = f"sqlite:///{Path(temporary) / 'bridge.db'}"
        store = open_store(url)
        fill(store)
        settings = load(BridgeSettings, {"STORE_URL": url, "SERVER_URL": "", "TIMEZONE": "Europe/Paris"})
        client = make_app(settings, store).test_client()
        figures = []
        for range_name in RANGES:
            asked, took_ms, cpu_s = question(client, range_name), [], []
            for _ in range(RUNS):
                begin, begin_cpu = time.perf_counter(), time.process_time()
                answer = client.post("/_dash-update-component", json=asked, headers={"Accept-Encoding": "gzip"})
                took_ms.append(1000 * (time.perf_counter() - begin))
                cpu_s.append(time.process_time() - begin_cpu)
                assert answer.status_code == 200, answer.text
            name = f"{range_name} of {NODES} nodes, {len(answer.data) / 1000:.0f} kB"
            figures.append(Figure(name, median(took_ms), "ms", median(cpu_s)))
        store.close()
    tell(
        "charts", f"One chart as the browser gets it, from 4.3 million readings; wall time, median of {RUNS}", figures
    )
