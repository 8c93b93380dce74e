"""The store's write lock between processes, and what keeps it from being opened."""

import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.errors import StoreBusy, StoreDamaged, StoreUnusable
from bridge.store import jobs
from bridge.store.database import Store, open_store, sqlite_path


@pytest.fixture
def other(store: Store) -> Iterator[sqlite3.Connection]:
    """Another process's connection, as far as SQLite can tell."""
    path = sqlite_path(str(store.engine.url))
    assert isinstance(path, Path)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        yield connection


def busy_timeout_ms(store: Store) -> int:
    with store.read() as connection:
        return int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one())


def test_a_writer_waits_for_the_lock_of_another(store: Store, other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    writing = threading.Thread(target=jobs.report, args=(store, "forward", {"state": "ok"}))

    writing.start()
    with pytest.raises(KeyError):
        jobs.reported(store)["forward"]
    other.execute("COMMIT")
    writing.join(10)

    assert jobs.reported(store)["forward"].word == "ok"


def test_a_lock_held_for_too_long_is_told_and_the_next_write_succeeds(
    store: Store, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_ms = busy_timeout_ms(store)
    other.execute("BEGIN IMMEDIATE")
    with monkeypatch.context() as patched:
        patched.setattr("bridge.store.database.BUSY_TIMEOUT_S", 0.05)

        with pytest.raises(StoreBusy, match="locked"):
            jobs.report(store, "forward", {"state": "ok"})

    other.execute("COMMIT")
    jobs.report(store, "forward", {"state": "ok"})
    assert busy_timeout_ms(store) == before_ms == 30_000


def test_damage_that_is_met_where_a_write_begins_is_told_as_such(store: Store, other: sqlite3.Connection) -> None:
    jobs.report(store, "forward", {"state": "ok"})
    other.execute("UPDATE jobs SET state = 'changed behind its back'")
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = sqlite_path(str(store.engine.url))
    assert isinstance(path, Path)
    with path.open("r+b") as file:
        file.write(b"noise" * 200)

    with pytest.raises(StoreDamaged):
        jobs.report(store, "forward", {"state": "ok"})


def test_a_store_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    freed: list[bool] = []
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as maker:
        maker.execute("BEGIN IMMEDIATE")

        def finish() -> None:
            freed.append(True)
            maker.execute("ROLLBACK")

        finishing = threading.Timer(0.2, finish)
        finishing.start()
        opened = open_store(f"sqlite:///{file}")
        finishing.join()

    assert freed
    assert opened.id
    opened.close()


def test_postgresql_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(StoreUnusable, match=r"psycopg: install this project with \[bridge,postgres\]"):
        open_store("postgresql+psycopg://bridge@127.0.0.1:1/readings")
