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

from sqlalchemy import Connection, TextClause, text

from bridge.store.database import Store, now_ms
from bridge.store.schema import CLOCKS, Forward, LetterState
from mqtt_client.reading import Reading, encode, from_ms, reading_id

SENT_AGAIN_UNKNOWN = "sent_again_unknown"
"""Counter: readings sent again after a try of unknown outcome."""
SERVER_DUPLICATES = "server_duplicates"
"""Counter: readings of which the server said, after such a try, that it had them."""


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


# On PostgreSQL: SELECT CAST(value AS bigint) AS value FROM json_array_elements_text(CAST(:numbers AS json)).
_NUMBERS = "SELECT value FROM json_each(:numbers)"
"""A JSON array of numbers as rows."""

# One seek in the partial index for each node, however many rows it has waiting.
_WAITING = text(
    """
    WITH RECURSIVE waiting (node_id) AS (
        SELECT min(node_id) FROM readings WHERE forward_state < 2
        UNION ALL
        SELECT (SELECT min(r.node_id) FROM readings AS r WHERE r.forward_state < 2 AND r.node_id > waiting.node_id)
        FROM waiting WHERE waiting.node_id IS NOT NULL
    )
    SELECT node_id FROM waiting WHERE node_id IS NOT NULL
    """
)
# On PostgreSQL: CROSS JOIN LATERAL (… FOR UPDATE SKIP LOCKED), and every bridge claims only for itself.
_PENDING = text(
    f"""
    SELECT r.id, r.node_id, n.name AS node, s.epoch, r.seq, r.sensor, r.time_ms, r.clock, r."values",
           r.forward_tries, r.forward_unknown
    FROM ({_NUMBERS}) AS wanted
    CROSS JOIN readings AS r ON r.id IN (
        SELECT q.id FROM readings AS q
        WHERE q.node_id = wanted.value AND q.forward_state < 2 AND q.forward_state = 0
        ORDER BY q.id LIMIT :limit OFFSET :skip
    )
    JOIN nodes AS n ON n.id = r.node_id
    JOIN sources AS s ON s.id = r.source_id
    ORDER BY r.node_id, r.id
    """  # noqa: S608  # a constant, not input
)
_MINE = f"WHERE id IN ({_NUMBERS}) AND forward_state < 2"
_CLAIM = text(f"UPDATE readings SET forward_state = 1 {_MINE}")  # noqa: S608
_GIVE_BACK = text(f"UPDATE readings SET forward_state = 0 {_MINE}")  # noqa: S608
_PUT_BACK = text(
    "UPDATE readings SET forward_state = 0, forward_tries = forward_tries + 1, forward_status = :status, "  # noqa: S608
    f"forward_unknown = forward_unknown + :unknown {_MINE}"
)
_SETTLE = text(
    "UPDATE readings SET forward_state = :becomes, forward_tries = forward_tries + 1, forward_status = :status, "  # noqa: S608
    f"forwarded_ms = :at_ms {_MINE}"
)
_CLAIMED = text("SELECT id FROM readings WHERE forward_state < 2 AND forward_state = 1")
_COUNT = text(
    "INSERT INTO counters (name, value) VALUES (:name, :value) "
    "ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value"
)
_ATTEMPT = text("INSERT INTO attempts (reading_id, at_ms, outcome) VALUES (:reading_id, :at_ms, :outcome)")
_LETTER = text(
    "INSERT INTO dead_letters (state, at_ms, reason, payload, reading_id, node, epoch, seq, status, body) "
    "VALUES (:state, :at_ms, :reason, :payload, :reading_id, :node, :epoch, :seq, :status, :body)"
)


def recover(store: Store) -> int:
    """Give back what an earlier process had claimed and not settled; return how many of unknown outcome that are."""
    with store.read() as connection:
        claimed = [int(row[0]) for row in connection.execute(_CLAIMED)]
    if claimed:
        at_ms = now_ms()
        with store.write() as connection:
            _run(connection, _PUT_BACK, claimed, status=None, unknown=1)
            _count(connection, {SENT_AGAIN_UNKNOWN: len(claimed)})
            outcome = "the bridge ended before the answer"
            connection.execute(
                _ATTEMPT, [{"reading_id": number, "at_ms": at_ms, "outcome": outcome} for number in claimed]
            )
    return len(claimed)


def waiting_nodes(store: Store) -> list[int]:
    """Return the nodes that have readings to forward, at a cost by nodes and not by readings."""
    with store.read() as connection:
        return [int(row[0]) for row in connection.execute(_WAITING)]


def claim(connection: Connection, nodes: Iterable[int], limit: int, skip: int = 0) -> list[OutgoingReading]:
    """Claim the first readings of each of these nodes within the caller's transaction; commit it before any POST.

    Args:
        connection: of a write transaction.
        nodes: ids of nodes of which nothing is claimed.
        limit: at most so many readings of each node.
        skip: pass over so many of each node's first readings.
    """
    parameters = {"numbers": json.dumps(list(nodes)), "limit": limit, "skip": skip}
    readings = [OutgoingReading(*row) for row in connection.execute(_PENDING, parameters)]
    if readings:
        _run(connection, _CLAIM, [reading.id for reading in readings])
    return readings


def settle(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Write what became of claimed readings, counters, attempts and dead letters in the caller's transaction."""
    at_ms = now_ms()
    alike: dict[tuple[Forward, bool, int | None, bool], list[int]] = {}
    for outcome in outcomes:
        likeness = (outcome.becomes, outcome.tried, outcome.status, outcome.unknown)
        alike.setdefault(likeness, []).extend(reading.id for reading in outcome.readings)
    for (becomes, tried, status, unknown), ids in alike.items():
        if becomes is not Forward.PENDING:
            arrived_ms = None if becomes is Forward.DEAD else at_ms
            _run(connection, _SETTLE, ids, becomes=int(becomes), status=status, at_ms=arrived_ms)
        elif tried:
            _run(connection, _PUT_BACK, ids, status=status, unknown=int(unknown))
        else:
            _run(connection, _GIVE_BACK, ids)
    _count(connection, _counted(outcomes))
    _remember(connection, outcomes, at_ms)


def _counted(outcomes: Iterable[Outcome]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for outcome in outcomes:
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


def _run(connection: Connection, statement: TextClause, ids: list[int], **parameters: int | None) -> None:
    connection.execute(statement, {"numbers": json.dumps(ids), **parameters})


def _count(connection: Connection, counted: dict[str, int]) -> None:
    if counted:
        connection.execute(_COUNT, [{"name": name, "value": value} for name, value in counted.items()])
