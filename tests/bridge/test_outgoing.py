"""The store's queries for the forwarder."""

import json

from sqlalchemy import select

from bridge.store import schema
from bridge.store.database import Store
from bridge.store.outgoing import (
    SENT_AGAIN_UNKNOWN,
    SERVER_DUPLICATES,
    Outcome,
    OutgoingReading,
    claim,
    recover,
    settle,
    waiting_nodes,
)
from bridge.store.schema import Forward
from tests.bridge.conftest import StoredReadings


def claimed(store: Store, nodes: list[int], limit: int = 100, skip: int = 0) -> list[OutgoingReading]:
    with store.write() as connection:
        return claim(connection, "main", nodes, limit, skip)


def settled(store: Store, *outcomes: Outcome) -> None:
    with store.write() as connection:
        settle(connection, "main", outcomes)


def counters(store: Store) -> dict[str, int]:
    """Return the counters but for those of answers by their class."""
    with store.read() as connection:
        rows = connection.execute(select(schema.counters)).all()
    return {row.name: row.value for row in rows if not row.name.startswith("answered_")}


def states(store: Store) -> list[int]:
    with store.read() as connection:
        query = select(schema.readings.c.forward_state).order_by(schema.readings.c.id)
        return list(connection.scalars(query))


def test_readings_of_each_node_are_claimed_in_the_order_of_their_commits(
    store: Store, stored_readings: StoredReadings
) -> None:
    first = stored_readings(store, "kitchen", 3)
    other = stored_readings(store, "cellar", 2)
    later = stored_readings(store, "kitchen", 2)

    assert waiting_nodes(store) == [1, 2]
    found = claimed(store, [1, 2], limit=4)

    assert [reading.key for reading in found if reading.node == "kitchen"] == [*first, later[0]]
    assert [reading.key for reading in found if reading.node == "cellar"] == other


def test_what_is_claimed_is_not_claimed_again(store: Store, stored_readings: StoredReadings) -> None:
    stored_readings(store, "kitchen", 5)

    ids = [reading.id for _ in range(3) for reading in claimed(store, [1], limit=2)]

    assert ids == [1, 2, 3, 4, 5]
    assert claimed(store, [1]) == []


def test_a_probe_passes_over_the_first_reading(store: Store, stored_readings: StoredReadings) -> None:
    keys = stored_readings(store, "kitchen", 3)

    (probe,) = claimed(store, [1], limit=1, skip=1)

    assert probe.key == keys[1]


def test_a_settled_reading_waits_no_longer(store: Store, stored_readings: StoredReadings) -> None:
    stored_readings(store, "kitchen", 2)
    found = claimed(store, [1])

    settled(store, Outcome(found[:1], Forward.SETTLED, status=204), Outcome(found[1:], Forward.DUPLICATE, status=409))

    assert waiting_nodes(store) == []
    assert counters(store) == {SERVER_DUPLICATES: 1}
    with store.read() as connection:
        rows = connection.execute(select(schema.readings)).all()
    assert [(row.forward_state, row.forward_tries, row.forward_status) for row in rows] == [(2, 1, 204), (3, 1, 409)]
    assert all(row.forwarded_ms for row in rows)


def test_a_failed_try_is_remembered_and_counted_when_its_outcome_is_unknown(
    store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, "kitchen", 2)
    first, second = claimed(store, [1])

    settled(
        store,
        Outcome([first], Forward.PENDING, "no answer within 10 s", unknown=True),
        Outcome([second], Forward.PENDING, "503 Service Unavailable", status=503),
    )

    again = claimed(store, [1])
    assert [(reading.tries, reading.unknown) for reading in again] == [(1, 1), (1, 0)]
    assert counters(store) == {SENT_AGAIN_UNKNOWN: 1}
    with store.read() as connection:
        attempts = connection.execute(select(schema.attempts.c.reading_id, schema.attempts.c.outcome)).all()
    assert [tuple(row) for row in attempts] == [(1, "no answer within 10 s"), (2, "503 Service Unavailable")]


def test_what_was_given_back_unsent_leaves_no_trace(store: Store, stored_readings: StoredReadings) -> None:
    stored_readings(store, "kitchen", 1)

    settled(store, Outcome(claimed(store, [1]), Forward.PENDING, tried=False))

    (again,) = claimed(store, [1])
    assert (again.tries, again.unknown) == (0, 0)
    assert counters(store) == {}


def test_a_refused_reading_becomes_a_dead_letter_with_all_of_it(
    store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, "kitchen", 1, values={"temperature": -4.5})
    found = claimed(store, [1])

    settled(store, Outcome(found, Forward.DEAD, "refused: 422", status=422, body="no!"))

    assert states(store) == [Forward.DEAD]
    with store.read() as connection:
        letter = connection.execute(select(schema.dead_letters)).one()
    assert (letter.reason, letter.status, letter.body, letter.reading_id) == ("refused: 422", 422, "no!", 1)
    assert (letter.node, letter.epoch, letter.seq) == ("kitchen", "k3f9x2ab", 1)
    assert json.loads(letter.payload) == {
        "v": 1,
        "node": "kitchen",
        "sensor": "main",
        "epoch": "k3f9x2ab",
        "seq": 1,
        "time": "2026-11-24T20:31:05.123Z",
        "clock": "synced",
        "values": {"temperature": -4.5},
    }


def test_what_was_under_way_at_a_crash_comes_back_as_of_unknown_outcome(
    store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, "kitchen", 3)
    claimed(store, [1], limit=2)

    recovered = recover(store, "main")

    assert recovered == 2
    assert recover(store, "main") == 0
    assert counters(store) == {SENT_AGAIN_UNKNOWN: 2}
    assert [(reading.id, reading.unknown) for reading in claimed(store, [1])] == [(1, 1), (2, 1), (3, 0)]


def test_a_transaction_that_fails_claims_and_settles_nothing(store: Store, stored_readings: StoredReadings) -> None:
    stored_readings(store, "kitchen", 2)
    found = claimed(store, [1], limit=1)

    class PowerCut(Exception):
        pass

    try:
        with store.write() as connection:
            settle(connection, "main", [Outcome(found, Forward.SETTLED, status=200)])
            claim(connection, "main", [1], 1)
            raise PowerCut
    except PowerCut:
        pass

    assert states(store) == [Forward.CLAIMED, Forward.PENDING]
