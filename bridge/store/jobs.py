"""What each job last said of itself, for status, health and the live page.

One row a job; what was said stays after the job has ended, so a reader judges
by ``at_ms`` whether it is still true. A power cut loses the last words at most.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from bridge.store import schema
from bridge.store.database import Store, now_ms

_PUT = text(
    "INSERT INTO jobs (name, state, at_ms) VALUES (:name, :state, :at_ms) "
    "ON CONFLICT (name) DO UPDATE SET state = excluded.state, at_ms = excluded.at_ms"
)


@dataclass(frozen=True)
class JobState:
    """What a job said (its key ``state`` is one word: ok, waiting, paused, down, …), and when."""

    name: str
    state: Mapping[str, object]
    at_ms: int

    @property
    def word(self) -> str:
        """The state in one word, ``unknown`` where the job gave none."""
        return str(self.state.get("state", "unknown"))


def job_name(job: str, bridge_id: str, group: str | None) -> str:
    """Return the name under which a job reports: its own, in a share group with the bridge's behind it."""
    return f"{job}@{bridge_id}" if group else job


def report(store: Store, name: str, state: Mapping[str, object]) -> None:
    """Commit what a job says of itself; values must be such that JSON has them.

    Raises:
        StorageFull: the disk is full.
        StoreBusy: another process held the write lock for too long.
    """
    with store.write() as connection:
        put(connection, name, state)


def put(connection: Connection, name: str, state: Mapping[str, object]) -> None:
    """Write it within a transaction of the caller's, which saves a commit of its own."""
    row = {"name": name, "state": json.dumps(state, ensure_ascii=False), "at_ms": now_ms()}
    connection.execute(_PUT, row)


def reported(store: Store) -> dict[str, JobState]:
    """Return what every job said last, by the job's name."""
    with store.read() as connection:
        rows = connection.execute(select(schema.jobs)).all()
    return {row.name: JobState(row.name, json.loads(row.state), row.at_ms) for row in rows}
