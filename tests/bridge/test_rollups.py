"""Roll-ups: each reading counts once, by its minute and its hour, however it came and whatever became of it."""

import json
import threading
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from bridge.rollups import keep_rollups
from bridge.store import rollups, schema
from bridge.store.database import Store, now_ms, open_store
from bridge.store.intake import Intake, Message
from bridge.store.migrate import upgrade
from bridge.store.rollups import HOUR_MS, MINUTE_MS, Rollups
from mqtt_client.reading import format_time, from_ms
from mqtt_client.topics import Topics
from tests.processes import eventually

START_MS = 1_795_550_400_000
"""A full hour."""

Row = tuple[str, str, str, int, int, float, float, float]


@pytest.fixture
def intake(store: Store) -> Intake:
    return Intake(store, Topics())


def message(seq: int, time_ms: int, values: dict[str, float], node: str = "kitchen") -> Message:
    payload = {"v": 1, "node": node, "sensor": "main", "epoch": "k3f9x2ab", "seq": seq, "clock": "synced"}
    payload |= {"time": format_time(from_ms(time_ms)), "values": values}
    return Message(f"sensors/{node}/reading/main", json.dumps(payload).encode())


def kept(store: Store, name: str = "rollups_minute") -> list[Row]:
    table, series, nodes = schema.metadata.tables[name], schema.series, schema.nodes
    columns = (table.c.start_ms, table.c["count"], table.c.minimum, table.c.maximum, table.c.total)
    query = select(nodes.c.name, series.c.sensor, series.c.quantity, *columns)
    query = query.join_from(table, series).join(nodes, nodes.c.id == series.c.node_id)
    with store.read() as connection:
        return [Row(row) for row in connection.execute(query.order_by(*query.selected_columns))]


def add_all(store: Store) -> None:
    adding = Rollups(store)
    while adding.add():
        pass


def test_minutes_and_hours_tell_count_least_greatest_and_sum(store: Store, intake: Intake) -> None:
    temperatures = [(0, 21.0), (20_000, 19.0), (40_000, 23.0), (MINUTE_MS, 30.0), (HOUR_MS, -4.0)]
    intake.put([message(n + 1, START_MS + ms, {"temperature": t}) for n, (ms, t) in enumerate(temperatures)])

    add_all(store)

    series = ("kitchen", "main", "temperature")
    assert kept(store) == [
        (*series, START_MS, 3, 19.0, 23.0, 63.0),
        (*series, START_MS + MINUTE_MS, 1, 30.0, 30.0, 30.0),
        (*series, START_MS + HOUR_MS, 1, -4.0, -4.0, -4.0),
    ]
    assert kept(store, "rollups_hour") == [
        (*series, START_MS, 4, 19.0, 30.0, 93.0),
        (*series, START_MS + HOUR_MS, 1, -4.0, -4.0, -4.0),
    ]


def test_a_reading_of_weeks_ago_joins_its_minute_and_a_repeat_joins_nothing(store: Store, intake: Intake) -> None:
    now = START_MS + 21 * 24 * HOUR_MS
    intake.put([message(1, START_MS, {"temperature": 20.0}), message(3, now, {"temperature": 25.0})])
    add_all(store)

    intake.put([message(2, START_MS + 1000, {"temperature": 22.0}), message(3, now, {"temperature": 25.0})])
    intake.put([message(1, START_MS, {"temperature": 20.0})])
    add_all(store)

    assert [row[3:5] for row in kept(store)] == [(START_MS, 2), (now, 1)]


def test_quantities_sensors_and_nodes_have_lines_of_their_own(store: Store, intake: Intake) -> None:
    both = {"temperature": 20.0, "humidity": 50.0}
    intake.put([message(1, START_MS, both), message(1, START_MS, both, node="barn")])

    add_all(store)

    assert [row[:3] for row in kept(store)] == [
        (node, "main", quantity) for node in ("barn", "kitchen") for quantity in ("humidity", "temperature")
    ]


def test_what_a_failed_transaction_took_from_the_queue_is_added_by_the_next(
    store: Store, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake.put([message(1, START_MS, {"temperature": 20.0})])
    adding = Rollups(store)
    with monkeypatch.context() as patch:
        patch.setattr(rollups, "_merge", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            adding.add()

    while adding.add():
        pass

    assert [row[4] for row in kept(store)] == [1]


def test_two_that_add_up_at_the_same_time_count_each_reading_once(store: Store, intake: Intake) -> None:
    for first in range(1, 4001, 50):
        intake.put([message(seq, START_MS + seq, {"temperature": 1.0}) for seq in range(first, first + 50)])

    threads = [threading.Thread(target=add_all, args=(store,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [row[4] for row in kept(store)] == [4000]


def test_pruned_readings_keep_their_roll_ups(store: Store, intake: Intake) -> None:
    intake.put([message(1, START_MS, {"temperature": 20.0})])
    add_all(store)

    with store.write() as connection:
        connection.execute(delete(schema.readings))
    add_all(store)

    assert [row[4] for row in kept(store)] == [1]


def test_minutes_are_forgotten_in_the_end_and_hours_are_not(store: Store, intake: Intake) -> None:
    now = now_ms()
    intake.put([message(1, START_MS - 400 * 24 * HOUR_MS, {"humidity": 1.0}), message(2, now, {"humidity": 2.0})])
    add_all(store)

    while Rollups(store).prune(1):
        pass

    assert [row[3] for row in kept(store)] == [now - now % MINUTE_MS]
    assert len(kept(store, "rollups_hour")) == 2


def test_a_node_that_invents_quantities_fills_no_disk(store: Store, intake: Intake) -> None:
    wanted = rollups.SERIES_OF_A_NODE + 30
    for seq, at in enumerate(range(0, wanted, 30), 1):
        intake.put([message(seq, START_MS, {f"q{number}": 1.0 for number in range(at, at + 30)})])

    add_all(store)

    assert len(kept(store)) == rollups.SERIES_OF_A_NODE


def test_the_thread_adds_up_what_arrives(store: Store, intake: Intake) -> None:
    stop = threading.Event()
    thread = keep_rollups(store, stop)

    intake.put([message(1, START_MS, {"temperature": 20.0})])
    eventually(lambda: kept(store))
    intake.put([message(2, START_MS, {"temperature": 20.0})])

    eventually(lambda: kept(store)[0][4] == 2)
    stop.set()
    thread.join()


def test_readings_of_an_older_release_are_queued_by_its_migration(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    old = open_store(url)
    Intake(old, Topics()).put([message(1, START_MS, {"temperature": 20.0}), message(2, START_MS, {"humidity": 5.0})])
    with old.write() as connection:
        for name in ("rollup_queue", "rollups_minute", "rollups_hour", "series", "alarms", "alarm_events"):
            connection.exec_driver_sql(f"DROP TABLE {name}")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
    upgrade(old.engine)

    add_all(old)

    assert [row[2:5] for row in kept(old)] == [("humidity", START_MS, 1), ("temperature", START_MS, 1)]
    old.close()


def test_the_newest_value_of_each_sensor_is_known_and_a_late_one_does_not_replace_it(
    store: Store, intake: Intake
) -> None:
    intake.put(
        [message(1, START_MS + 5000, {"temperature": 20.0}), message(2, START_MS + 9000, {"temperature": 21.0})]
    )
    add_all(store)
    intake.put([message(3, START_MS, {"temperature": 5.0})])

    add_all(store)

    with store.read() as connection:
        newest = connection.execute(select(schema.series.c.last_ms, schema.series.c.last_value)).one()
    assert tuple(newest) == (START_MS + 9000, 21.0)
