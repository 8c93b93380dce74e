"""What was taken and given up, by the outbox's own record: triggers write it in the very commit that does it.

The node that the harness runs puts two tables and their triggers into its
outbox (:func:`keep`); the harness reads it into a :class:`Ledger` as often as
it likes, and before it does something to the file. A reading whose identity or
time changed before it was ever published is known by what it became.
"""

import sqlite3
from pathlib import Path
from typing import NamedTuple

from mqtt_client.reading import Reading, decode, reading_id

RECORD = """
CREATE TABLE IF NOT EXISTS taken (number INTEGER PRIMARY KEY AUTOINCREMENT, payload BLOB, before BLOB);
CREATE TRIGGER IF NOT EXISTS taken_put AFTER INSERT ON readings
    BEGIN INSERT INTO taken (payload) VALUES (new.payload); END;
CREATE TRIGGER IF NOT EXISTS taken_changed AFTER UPDATE ON readings WHEN new.payload IS NOT old.payload
    BEGIN INSERT INTO taken (payload, before) VALUES (new.payload, old.payload); END;
CREATE TABLE IF NOT EXISTS given_up (epoch TEXT, first INTEGER, last INTEGER, PRIMARY KEY (epoch, first));
CREATE TRIGGER IF NOT EXISTS loss_added AFTER INSERT ON losses WHEN new.last IS NOT NULL
    BEGIN INSERT OR REPLACE INTO given_up SELECT epoch, new.first, new.last FROM epochs WHERE id = new.epoch_id; END;
"""


def keep() -> None:
    """Let this process's outbox keep the record."""
    from mqtt_client.outbox.outbox import Outbox

    begin = Outbox.__init__

    def begin_and_record(self: Outbox, connection: sqlite3.Connection, *args: object, **named: object) -> None:
        connection.executescript(RECORD)
        begin(self, connection, *args, **named)  # type: ignore[arg-type]

    Outbox.__init__ = begin_and_record  # type: ignore[method-assign]


class Held(NamedTuple):
    """What an outbox still holds."""

    readings: set[str]
    losses: int


class Ledger:
    """Every reading that was ever taken by the nodes of one run, by its id as text."""

    def __init__(self) -> None:
        self.taken: dict[str, Reading] = {}
        self.given_up: set[str] = set()
        """Every number that a node gave up for lost, of readings taken or refused by a full card."""
        self.conflicts: dict[str, list[Reading]] = {}
        """Ids that were taken twice, with other contents, and those: a card was copied, or went back in time."""
        self._read_through: dict[Path, int] = {}

    def absorb(self, node: str, outbox: Path) -> None:
        """Read what an outbox has taken since the last time, and all that it has given up."""
        if not outbox.exists():
            return
        connection = sqlite3.connect(outbox, timeout=30)  # read-only it could not open the journal of a stopped node
        try:
            query = "SELECT number, payload, before FROM taken WHERE number > ? ORDER BY number"
            rows = connection.execute(query, (self._read_through.get(outbox, 0),)).fetchall()
            for epoch, first, last in connection.execute("SELECT epoch, first, last FROM given_up"):
                self.given_up.update(reading_id(node, epoch, seq) for seq in range(first, last + 1))
        except sqlite3.DatabaseError:  # made a moment ago without its tables, or damaged, or its disk is full
            return
        finally:
            connection.close()
        for number, payload, before in rows:
            self._read_through[outbox] = number
            if before is not None:
                self._forget(decode(before))
            reading = decode(payload)
            known = self.taken.setdefault(id_of(reading), reading)
            if known != reading:
                self.conflicts.setdefault(id_of(reading), [known]).append(reading)

    def _forget(self, before: Reading) -> None:
        """Note that a reading has become another one, before it was ever published."""
        others = [one for one in self.conflicts.pop(id_of(before), []) if one != before]
        if self.taken.get(id_of(before)) == before:
            del self.taken[id_of(before)]
        for one in others:
            self.taken[id_of(before)] = one

    def begin_anew(self, outbox: Path) -> None:
        """Note that another file lies there from now on."""
        self._read_through.pop(outbox, None)


def id_of(reading: Reading) -> str:
    """Return a reading's identity as text."""
    return reading_id(reading.node, reading.epoch, reading.seq)


def held(outbox: Path) -> Held:
    """Return what an outbox holds now."""
    connection = sqlite3.connect(outbox, timeout=30)
    try:
        readings = {id_of(decode(payload)) for (payload,) in connection.execute("SELECT payload FROM readings")}
        (losses,) = connection.execute("SELECT count(*) FROM losses").fetchone()
    finally:
        connection.close()
    return Held(readings, losses)
