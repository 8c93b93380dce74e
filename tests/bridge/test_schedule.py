"""The schedule goes on when the clock was wrong."""

import os
import threading
from collections.abc import Callable

import pytest

from bridge import schedule
from bridge.priority import NICENESS
from bridge.schedule import Task, run_schedule
from bridge.settings import BridgeSettings
from bridge.store.database import Store, now_ms
from bridge.store.jobs import reported
from tests.bridge.conftest import StoredReadings
from tests.processes import eventually

YEARS_MS = 12 * 365 * 86_400_000


def test_a_last_run_in_the_future_delays_by_one_interval_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000_000_000_000]
    monkeypatch.setattr(schedule, "now_ms", lambda: clock[0])
    task = Task("archive", 30.0, lambda: None, last_ms=clock[0] + YEARS_MS, retry_ms=clock[0] + YEARS_MS)

    due = task.due_ms()
    clock[0] += 20_000

    assert due == 1_000_000_030_000
    assert task.due_ms() == due


def test_a_run_that_was_noted_under_a_clock_years_ahead_does_not_end_archiving(
    store: Store, stored_readings: StoredReadings, bridge_settings: Callable[..., BridgeSettings]
) -> None:
    stored_readings(store, count=3)
    schedule._note_run(store, "archive", now_ms() + YEARS_MS)
    stop = threading.Event()
    thread = threading.Thread(target=run_schedule, args=(bridge_settings(ARCHIVE_INTERVAL=1), store, stop))

    thread.start()
    try:
        found = eventually(lambda: reported(store).get("archive"))
    finally:
        stop.set()
        thread.join(30)

    assert found.state["rows"] == 3


def test_archives_and_the_like_give_way_to_readings(
    store: Store, bridge_settings: Callable[..., BridgeSettings]
) -> None:
    stop = threading.Event()
    stop.set()
    nicenesses: list[int] = []

    def run() -> None:
        nicenesses.append(os.nice(0))
        run_schedule(bridge_settings(), store, stop)
        nicenesses.append(os.nice(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    before, after = nicenesses
    assert after == min(19, before + NICENESS)
