"""Deliberate breaks, each a fault that a careless change could make; the harness has to turn red with every one.

They are put on a process of the harness from outside (hook/sitecustomize.py);
nothing of this is in the product. By hand::

    python -m tests.faults.torture --seconds 40 --seed 1 --break acknowledge-before-commit
"""

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple


def acknowledge_before_commit() -> None:
    """Let ingest acknowledge, and receipt, what a failing or killed commit then loses."""
    from bridge.ingest.ingest import Ingest
    from bridge.ingest.subscription import Subscription
    from bridge.store.intake import Intake, Message
    from mqtt_client import messages

    put = Intake.put

    def put_late(self: Intake, burst: list[Message]) -> Any:
        time.sleep(0.3)  # the commit takes its time; a kill in it finds all acknowledged
        return put(self, burst)

    commit = Ingest._commit

    def commit_late(self: Ingest, now: float) -> None:
        self._subscription.acknowledge(self._unsaved)
        for received in self._unsaved:
            levels = self._topics.levels(received.topic) or [""]
            if "reading" in levels and received.payload:
                _receipt(self, self._subscription, levels[0], received.payload)
        self._subscription.receive(0.01)
        commit(self, now)

    def _receipt(ingest: Ingest, subscription: Subscription, node: str, payload: bytes) -> None:
        from mqtt_client.reading import decode

        reading = decode(payload)
        receipt = messages.Receipt(ingest._store.id, reading.epoch, reading.seq)
        subscription.publish(ingest._topics.receipt(node), messages.encode(receipt), retain=True)

    Intake.put = put_late  # type: ignore[method-assign,assignment]
    Ingest._commit = commit_late  # type: ignore[method-assign]


def settle_on_puback() -> None:
    """Let the node forget what the broker acknowledged."""
    os.environ["NODE_CONFIRM"] = "broker"


def no_unique_index() -> None:
    """Let the server store whatever comes, as often as it comes."""
    import examples.receiver as receiver

    def store(database: sqlite3.Connection, key: str | None, body: str) -> int:
        row = database.execute("INSERT INTO readings (key, body) VALUES (?, ?)", (key, body))
        return int(row.lastrowid or 0)

    receiver.UNIQUE = "SELECT 1"
    receiver.store = store


def archive_without_intent() -> None:
    """Let the archiver forget, after a kill, that it had begun: rows of an open archive go to the next one too."""
    from sqlalchemy import delete, update

    from bridge.archive import durable
    from bridge.archive.adoption import Adopted
    from bridge.store import schema, shelf
    from bridge.store.database import Store
    from bridge.store.schema import ArchiveState

    def none_open(store: Store) -> list[shelf.Archive]:
        readings, archives = schema.readings, schema.archives
        with store.write() as connection:
            unfinished = list(connection.scalars(archives.select().where(archives.c.state < ArchiveState.DONE)))
            for number in unfinished:
                connection.execute(update(readings).where(readings.c.archive_id == number).values(archive_id=None))
                connection.execute(delete(archives).where(archives.c.id == number))
        return []

    rename_new, died = durable.rename_new, Path("died-while-archiving")

    def rename_and_die(source: Path, target: Path) -> None:
        rename_new(source, target)
        if target.suffix == ".xlsx" and not died.exists():  # once: both files are in place, the store not told
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def look_into(_self: Adopted, _folders: Iterable[Path]) -> None:
        """Never look what files hold already."""

    shelf.open_archives = none_open
    durable.rename_new = rename_and_die
    Adopted.look_into = look_into  # type: ignore[method-assign,assignment]


class Break(NamedTuple):
    """A break: who wears it, how it is put on, and the faults that bring it to light."""

    program: str
    put_on: Callable[[], None]
    faults: tuple[str, ...]


BREAKS = {
    "acknowledge-before-commit": Break("bridge", acknowledge_before_commit, ("kill ingest", "kill bridge")),
    "settle-on-puback": Break("node", settle_on_puback, ("empty broker", "refuse bridge")),
    "no-unique-index": Break("receiver", no_unique_index, ("server reset", "kill forward")),
    "archive-without-intent": Break("bridge", archive_without_intent, ("kill bridge",)),
}


def wear(name: str, program: str) -> None:
    """Put a break on this process, if it is of that program."""
    if program == BREAKS[name].program:
        BREAKS[name].put_on()
