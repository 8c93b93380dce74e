"""Keeps the roll-ups: a thread beside the schedule that adds up what ingest has queued.

It works in short transactions and gives way between them, so ingest never
waits for it long. It remembers nothing: what a kill interrupts is in the queue.
"""

import logging
import threading
import time

from sqlalchemy import select

from bridge.errors import StoreBusy
from bridge.store import schema
from bridge.store.changes import Changes
from bridge.store.database import Store
from bridge.store.rollups import Rollups
from mqtt_client.errors import StorageFull

log = logging.getLogger("rollups")

LOOK_S = 0.25
GIVE_WAY_S = 0.002
"""Between two transactions: longer than a waiting writer sleeps before it looks at the lock again."""
RETRY_S = 5.0
PRUNE_EVERY_S = 3600.0


def keep_rollups(store: Store, stop: threading.Event) -> threading.Thread:
    """Start the thread; it ends when told to stop."""
    thread = threading.Thread(target=_run, args=(store, stop), name="rollups", daemon=True)
    thread.start()
    return thread


def _run(store: Store, stop: threading.Event) -> None:
    keeper = _Keeper(store, stop)
    told = ""
    while not stop.is_set():
        try:
            keeper.turn()
            told = ""
        except (StorageFull, StoreBusy) as exc:
            if str(exc) != told:
                log.warning("roll-ups wait: %s", exc)
            told = str(exc)
            keeper.look_again()
            stop.wait(RETRY_S)
        except Exception:
            log.exception("roll-ups failed and are tried again; nothing is lost by it")
            keeper.look_again()
            stop.wait(RETRY_S)
        stop.wait(LOOK_S)
    keeper.close()


class _Keeper:
    def __init__(self, store: Store, stop: threading.Event) -> None:
        self._store = store
        self._stop = stop
        self._rollups = Rollups(store)
        self._changes = Changes(store)
        self._prune_at = 0.0

    def turn(self) -> None:
        """Add up all that is queued; once an hour forget what is too old."""
        if self._changes.seen():
            self._rollups.add()
            while self._rollups.more_wait and not self._stop.is_set():
                self._stop.wait(GIVE_WAY_S)
                self._rollups.add()
        if time.monotonic() >= self._prune_at:
            self._prune()
            self._prune_at = time.monotonic() + PRUNE_EVERY_S

    def look_again(self) -> None:
        """Take it that something is queued."""
        self._changes.forget()

    def close(self) -> None:
        """Give the connection back."""
        self._changes.close()

    def _prune(self) -> None:
        with self._store.read() as connection:
            numbers = connection.scalars(select(schema.series.c.id)).all()
        for number in numbers:
            while not self._stop.is_set() and self._rollups.prune(number):
                self._stop.wait(GIVE_WAY_S)
