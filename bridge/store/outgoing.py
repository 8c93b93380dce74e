"""The store's door to the server: which readings wait for it, which are on their way, what became of them.

A reading is claimed before it is posted and settled after the answer, each in
a committed transaction. So a power cut leaves rows that are claimed and not
settled: :func:`recover` gives them back and counts their outcome as unknown.
Readings of one node leave in the order in which they were committed.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, TextClause, text

from bridge.store.counters import count
from bridge.store.database import Store, now_ms
from bridge.store.schema import CLOCKS, Forward, LetterState
from mqtt_client.reading import Reading, encode, from_ms, reading_id

SENT_AGAIN_UNKNOWN = "sent_again_unknown"
"""Counter: readings sent again after a try of unknown outcome."""
SERVER_DUPLICATES = "server_duplicates"
"""Counter: readings of which the server said, after such a try, that it had them."""
ANSWERED = "answered_"
"""Counters: readings sent, by the answer's status behind it; ``none``: no answer."""


_RECOVER_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class OutgoingReading:
    """A claimed reading; ``tries`` and ``unknown`` count those before this claim."""

    id: int
    node_id: int
    node: str
    epoch: str
    seq: int
    sensor: str
    time_ms: int
    clock: int
    values: str
    """A JSON object, as stored."""
    tries: int
    unknown: int

    @property
    def key(self) -> str:
        """The identity as text: the idempotency key."""
        return reading_id(self.node, self.epoch, self.seq)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the readings of one request."""

    readings: Sequence[OutgoingReading]
    becomes: Forward
    told: str = ""
    status: int | None = None
    unknown: bool = False
    tried: bool = True
    """False: claimed, and given back without having been sent."""
    body: str = ""


# One seek in the partial index for each node, however many rows it has waiting; it passes over what is claimed.
_WAITING = text(
    """
    WITH RECURSIVE waiting (node_id) AS (
        SELECT min(node_id) FROM readings WHERE forward_state < 2 AND forward_state = 0
        UNION ALL
        SELECT (
            SELECT min(r.node_id) FROM readings AS r
            WHERE r.forward_state < 2 AND r.forward_state = 0 AND r.node_id > waiting.node_id
        )
        FROM waiting WHERE waiting.node_id IS NOT NULL
    )
    SELECT node_id FROM waiting WHERE node_id IS NOT NULL
    """
)
_FIRST_OF_NODE = """
    SELECT q.id FROM readings AS q WHERE q.node_id = wanted.value AND q.forward_state < 2 AND q.forward_state = 0
    ORDER BY q.id LIMIT :limit OFFSET :skip
"""
_JOINED = {
    "sqlite": f"CROSS JOIN readings AS r ON r.id IN ({_FIRST_OF_NODE})",
    "postgresql": (
        f"CROSS JOIN LATERAL ({_FIRST_OF_NODE} FOR UPDATE SKIP LOCKED) AS first JOIN readings AS r ON r.id = first.id"
    ),
}
_NUMBERS = {
    "sqlite": "SELECT value FROM json_each(:numbers)",
    "postgresql": (
        "SELECT CAST(value AS bigint) AS value FROM json_array_elements_text(CAST(:numbers AS json)) AS t (value)"
    ),
}
"""A JSON array of numbers as rows."""


class _Statements:
    """The statements that differ between the databases."""

    def __init__(self, dialect: str) -> None:
        numbers = _NUMBERS[dialect]
        mine = f"WHERE id IN ({numbers}) AND forward_state = 1 AND forward_owner = :owner"
        self.pending = text(
            'SELECT r.id, r.node_id, n.name AS node, s.epoch, r.seq, r.sensor, r.time_ms, r.clock, r."values", '  # noqa: S608
            f"r.forward_tries, r.forward_unknown FROM ({numbers}) AS wanted {_JOINED[dialect]} "
            "JOIN nodes AS n ON n.id = r.node_id JOIN sources AS s ON s.id = r.source_id ORDER BY r.node_id, r.id"
        )
        self.claim = text(
            f"UPDATE readings SET forward_state = 1, forward_owner = :owner WHERE id IN ({numbers})"  # noqa: S608
        )
        self.give_back = text(f"UPDATE readings SET forward_state = 0 {mine}")  # noqa: S608
        self.put_back = text(
            "UPDATE readings SET forward_state = 0, forward_tries = forward_tries + 1, forward_status = :status, "  # noqa: S608
            f"forward_unknown = forward_unknown + :unknown {mine}"
        )
        self.settle = text(
            "UPDATE readings SET forward_state = :becomes, forward_tries = forward_tries + 1, "  # noqa: S608
            f"forward_status = :status, forwarded_ms = :at_ms {mine}"
        )


@cache
def _statements(dialect: str) -> _Statements:
    return _Statements(dialect)


_OWNERS = text("SELECT DISTINCT forward_owner FROM readings WHERE forward_state < 2 AND forward_state = 1")
_LIVING = text("SELECT name FROM leases WHERE expires_ms >= extract(epoch FROM clock_timestamp()) * 1000")
_CLAIMED = text(
    "SELECT id FROM readings WHERE forward_state < 2 AND forward_state = 1 AND forward_owner = :owner LIMIT :limit"
)
_ATTEMPT = text("INSERT INTO attempts (reading_id, at_ms, outcome) VALUES (:reading_id, :at_ms, :outcome)")
_LETTER = text(
    "INSERT INTO dead_letters (state, at_ms, reason, payload, reading_id, node, epoch, seq, status, body) "
    "VALUES (:state, :at_ms, :reason, :payload, :reading_id, :node, :epoch, :seq, :status, :body)"
)


def dead_claimants(store: Store, own: str | None) -> list[str]:
    """Return the bridges that have claimed readings and are no more.

    On SQLite there is one forwarder, so what is claimed at its start belongs to dead ones. On PostgreSQL
    a bridge lives while it holds its lease.

    Args:
        store: the store.
        own: this bridge's id at its start, when its own claims are a dead process's; None later.
    """
    with store.read() as connection:
        owners = {str(row[0]) for row in connection.execute(_OWNERS)}
        if store.is_sqlite:
            return sorted(owners)
        living = {str(row[0]) for row in connection.execute(_LIVING)}
    return sorted(owner for owner in owners if owner == own or f"forward:{owner}" not in living)


def recover(store: Store, owner: str) -> int:
    """Give back what a process of this bridge had claimed and not settled, and that is no more.

    Returns:
        How many there were; of each the outcome is unknown.
    """
    number = 0
    while True:
        with store.write() as connection:
            some = {"owner": owner, "limit": _RECOVER_AT_ONCE}
            claimed = [int(row[0]) for row in connection.execute(_CLAIMED, some)]
            if not claimed:
                return number
            _run(connection, "put_back", owner, claimed, status=None, unknown=1)
            _count(connection, {SENT_AGAIN_UNKNOWN: len(claimed)})
            at_ms, outcome = now_ms(), "the bridge ended before the answer"
            connection.execute(
                _ATTEMPT, [{"reading_id": number, "at_ms": at_ms, "outcome": outcome} for number in claimed]
            )
        number += len(claimed)


def waiting_nodes(store: Store) -> list[int]:
    """Return the nodes that have readings to forward, at a cost by nodes and not by readings."""
    with store.read() as connection:
        return [int(row[0]) for row in connection.execute(_WAITING)]


def claim(
    connection: Connection, owner: str, nodes: Iterable[int], limit: int, skip: int = 0
) -> list[OutgoingReading]:
    """Claim the first readings of each of these nodes within the caller's transaction; commit it before any POST.

    Args:
        connection: of a write transaction.
        owner: the bridge that claims.
        nodes: ids of nodes of which nothing is claimed.
        limit: at most so many readings of each node.
        skip: pass over so many of each node's first readings.
    """
    parameters = {"numbers": json.dumps(list(nodes)), "limit": limit, "skip": skip}
    pending = _statements(connection.dialect.name).pending
    readings = [OutgoingReading(*row) for row in connection.execute(pending, parameters)]
    if readings:
        _run(connection, "claim", owner, [reading.id for reading in readings])
    return readings


def settle(connection: Connection, owner: str, outcomes: Sequence[Outcome]) -> None:
    """Write what became of claimed readings, counters, attempts and dead letters in the caller's transaction."""
    at_ms = now_ms()
    alike: dict[tuple[Forward, bool, int | None, bool], list[int]] = {}
    for outcome in outcomes:
        likeness = (outcome.becomes, outcome.tried, outcome.status, outcome.unknown)
        alike.setdefault(likeness, []).extend(reading.id for reading in outcome.readings)
    for (becomes, tried, status, unknown), ids in alike.items():
        if becomes is not Forward.PENDING:
            arrived_ms = None if becomes is Forward.DEAD else at_ms
            _run(connection, "settle", owner, ids, becomes=int(becomes), status=status, at_ms=arrived_ms)
        elif tried:
            _run(connection, "put_back", owner, ids, status=status, unknown=int(unknown))
        else:
            _run(connection, "give_back", owner, ids)
    _count(connection, _counted(outcomes))
    _remember(connection, outcomes, at_ms)


def _counted(outcomes: Iterable[Outcome]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.tried:
            counted[f"{ANSWERED}{outcome.status or 'none'}"] += len(outcome.readings)
        if outcome.becomes is Forward.DUPLICATE:
            counted[SERVER_DUPLICATES] += len(outcome.readings)
        elif outcome.becomes is Forward.PENDING and outcome.unknown:
            counted[SENT_AGAIN_UNKNOWN] += len(outcome.readings)
    return counted


def _remember(connection: Connection, outcomes: Iterable[Outcome], at_ms: int) -> None:
    attempts: list[dict[str, object]] = []
    letters: list[dict[str, object]] = []
    for outcome in outcomes:
        if outcome.becomes is Forward.PENDING and outcome.tried:
            attempts += (
                {"reading_id": reading.id, "at_ms": at_ms, "outcome": outcome.told} for reading in outcome.readings
            )
        elif outcome.becomes is Forward.DEAD:
            letters += (_letter(reading, outcome, at_ms) for reading in outcome.readings)
    if attempts:
        connection.execute(_ATTEMPT, attempts)
    if letters:
        connection.execute(_LETTER, letters)


def _letter(reading: OutgoingReading, outcome: Outcome, at_ms: int) -> dict[str, object]:
    payload = Reading(
        v=1,
        node=reading.node,
        sensor=reading.sensor,
        epoch=reading.epoch,
        seq=reading.seq,
        time=from_ms(reading.time_ms),
        clock=CLOCKS[reading.clock],  # type: ignore[arg-type]  # the table holds the type's own words
        values=json.loads(reading.values),
    )
    return {
        "state": int(LetterState.OPEN),
        "at_ms": at_ms,
        "reason": outcome.told,
        "payload": encode(payload),
        "reading_id": reading.id,
        "node": reading.node,
        "epoch": reading.epoch,
        "seq": reading.seq,
        "status": outcome.status,
        "body": outcome.body,
    }


def _run(connection: Connection, name: str, owner: str, ids: list[int], **parameters: int | None) -> None:
    statement: TextClause = getattr(_statements(connection.dialect.name), name)
    connection.execute(statement, {"numbers": json.dumps(ids), "owner": owner, **parameters})


def _count(connection: Connection, counted: dict[str, int]) -> None:
    for name, value in sorted(counted.items()):
        count(connection, name, value)
