"""The store's front door, on a real SQLite file."""

from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from bridge import dead_letters
from bridge.store import schema
from bridge.store.counters import counted
from bridge.store.database import Store, open_store
from bridge.store.intake import Intake, Message
from bridge.store.sources import FORGOTTEN
from bridge.store.waiting import MOST_TOLD, bridge_health
from mqtt_client import messages
from mqtt_client.errors import InvalidReading
from mqtt_client.topics import Topics
from tests.wire import EPOCH, backlog, reading

READING = "sensors/kitchen/reading/main"
BACKLOG = "sensors/kitchen/backlog"
LOST = "sensors/kitchen/lost"


@pytest.fixture
def intake(store: Store) -> Intake:
    return Intake(store, Topics())


def rows(store: Store) -> list[tuple[int, str]]:
    with store.read() as connection:
        found = connection.execute(
            select(schema.readings.c.seq, schema.readings.c["values"]).order_by(schema.readings.c.id)
        )
        return [(row[0], row[1]) for row in found]


def reasons(store: Store) -> list[str]:
    return [letter.reason for letter in dead_letters.pending(store)]


def receipt(intake: Intake) -> tuple[int, list[tuple[int, int]]]:
    (source,) = intake.every_source()
    made = source.receipt("s")
    return made.through, made.beyond


def test_readings_are_committed_once_in_the_order_of_arrival(store: Store, intake: Intake) -> None:
    intake.put([Message(READING, reading(seq)) for seq in (1, 3, 2, 3)])

    assert [seq for seq, _ in rows(store)] == [1, 3, 2]
    assert receipt(intake) == (3, [])


def test_a_second_process_knows_what_the_first_committed(store: Store, intake: Intake) -> None:
    intake.put([Message(READING, reading(seq)) for seq in (1, 2, 5)])

    later = Intake(store, Topics())
    later.put([Message(READING, reading(seq)) for seq in (2, 3)])

    assert [seq for seq, _ in rows(store)] == [1, 2, 5, 3]
    assert later.repeats == 1
    assert receipt(later) == (3, [(5, 5)])


def test_each_reading_of_a_backlog_is_judged_alone(store: Store, intake: Intake) -> None:
    good, bad = reading(1), reading(2, values={"temperature": "warm"})
    payload = b'{"epoch":"%s","floor":1,"readings":[%s,%s,%s]}' % (EPOCH.encode(), good, bad, reading(3))

    intake.put([Message(BACKLOG, payload)])

    assert [seq for seq, _ in rows(store)] == [1, 3]
    assert len(reasons(store)) == 1
    assert "Expected `float`" in reasons(store)[0]
    assert receipt(intake) == (3, [])


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"null", "Expected `object`"),
        (b"[" * 10_000 + b"]" * 10_000, "Expected `object`"),
        (b'{"v":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (reading(1, v=2), "v"),
        (reading(1, node="cellar"), "names node 'cellar'"),
        (reading(1, node="../etc"), "node is '../etc'"),
        (reading(0), ">= 1"),
        (reading(1).replace(b'"seq":1', b'"seq":1.5'), "Expected `int`"),
        (reading(1, time="yesterday"), "time"),
        (reading(1, time="2026-11-24T20:31:05.123"), "timezone"),
        (reading(1, clock="late"), "clock"),
        (reading(1, values={}), "length >= 1"),
        (reading(1, values={"id": 3}), "reserved"),
        (reading(1, values={"Température": 3}), "not a name"),
        (reading(1, values={"temperature": True}), "Expected `float`"),
        (reading(1).replace(b"21.4", b"NaN"), "malformed"),
        (reading(1).replace(b"21.4", b"1e999"), "out of range"),
        (reading(1, values={f"q{i}": i for i in range(33)}), "length <= 32"),
    ],
)
def test_what_is_no_reading_is_a_dead_letter_with_its_reason_and_the_next_one_passes(
    store: Store, intake: Intake, payload: bytes, reason: str
) -> None:
    intake.put([Message(READING, payload), Message(READING, reading(7))])

    assert [seq for seq, _ in rows(store)] == [7]
    assert len(reasons(store)) == 1
    assert reason in reasons(store)[0]


def test_unknown_keys_are_ignored(store: Store, intake: Intake) -> None:
    intake.put([Message(READING, reading(1, colour="blue", nested={"a": [1]}))])

    assert rows(store) == [(1, '{"temperature":21.4,"humidity":48.2}')]


def test_a_refused_reading_with_an_identity_counts_as_committed_and_once(store: Store, intake: Intake) -> None:
    refused = Message(READING, reading(1, values={"id": 3}))

    intake.put([refused, Message(READING, reading(2))])
    intake.put([refused])

    assert receipt(intake) == (2, [])
    assert len(reasons(store)) == 1


def test_the_same_identity_with_other_content_is_an_identity_conflict_once(store: Store, intake: Intake) -> None:
    intake.put([Message(READING, reading(1))])

    other = Message(READING, reading(1, values={"temperature": 3}))
    intake.put([other])
    intake.put([other])

    assert rows(store) == [(1, '{"temperature":21.4,"humidity":48.2}')]
    assert reasons(store) == ["identity conflict"]


def test_repeats_and_conflicts_within_one_burst_are_told_apart(store: Store, intake: Intake) -> None:
    burst = [reading(1), reading(1), reading(2), reading(1, values={"temperature": 3}), reading(2)]

    intake.put([Message(READING, payload) for payload in burst])

    assert [seq for seq, _ in rows(store)] == [1, 2]
    assert reasons(store) == ["identity conflict"]
    assert intake.repeats == 3


def test_losses_pass_the_receipt_and_are_counted_until_the_reading_comes_after_all(
    store: Store, intake: Intake
) -> None:
    intake.put([Message(READING, reading(1)), Message(READING, reading(5))])
    told = Message(LOST, b'{"epoch":"%s","from":2,"to":4,"reason":"outbox full"}' % EPOCH.encode())

    intake.put([told, told])
    lost_before = list(intake.every_source()[0].lost)
    intake.put([Message(READING, reading(3))])

    assert lost_before == [(2, 4)]
    assert list(intake.every_source()[0].lost) == [(2, 2), (4, 4)]
    assert receipt(intake) == (5, [])


def test_a_loss_of_unknown_number_is_counted_once(store: Store, intake: Intake) -> None:
    told = Message(LOST, b'{"epoch":"%s","from":2,"to":null,"reason":"damaged"}' % EPOCH.encode())

    intake.put([Message(READING, reading(1)), told, told])

    with store.read() as connection:
        assert connection.scalar(select(schema.sources.c.lost_unknown)) == 1
    assert receipt(intake) == (2, [])


def test_an_empty_store_under_a_running_node_begins_at_its_floor(store: Store, intake: Intake) -> None:
    intake.put([Message(BACKLOG, backlog(range(101, 104), floor=101))])

    assert receipt(intake) == (103, [])
    assert list(intake.every_source()[0].lost) == []


def test_a_restored_store_counts_what_the_node_has_forgotten_as_lost(store: Store, intake: Intake) -> None:
    intake.put([Message(BACKLOG, backlog(range(1, 4), floor=1))])

    intake.put([Message(BACKLOG, backlog(range(8, 10), floor=8))])

    assert list(intake.every_source()[0].lost) == [(4, 7)]
    assert receipt(intake) == (9, [])
    with store.read() as connection:
        assert connection.scalar(select(schema.losses.c.reason)) == FORGOTTEN


def test_the_nodes_own_reason_for_a_loss_wins_over_what_its_floor_said_first(store: Store, intake: Intake) -> None:
    intake.put([Message(BACKLOG, backlog([1]))])
    intake.put([Message(BACKLOG, backlog([5], floor=5))])
    told = f'{{"epoch":"{EPOCH}","from":2,"to":4,"reason":"the outbox was full"}}'

    intake.put([Message(LOST, told.encode())])

    with store.read() as connection:
        found = connection.execute(select(schema.losses.c.first, schema.losses.c.last, schema.losses.c.reason)).all()
    assert [tuple(row) for row in found] == [(2, 4, "the outbox was full")]


def test_epochs_of_one_node_are_told_apart(store: Store, intake: Intake) -> None:
    intake.put([Message(READING, reading(1)), Message(READING, reading(1, epoch="newcard1"))])

    assert len(rows(store)) == 2
    assert [source.epoch for source in intake.every_source()] == [EPOCH, "newcard1"]


def test_a_failed_commit_leaves_nothing_and_the_same_burst_passes_later(store: Store, intake: Intake) -> None:
    burst = [Message(READING, reading(seq)) for seq in (1, 2)]
    with store.write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON readings WHEN new.seq = 2 "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    with pytest.raises(Exception, match="full"):
        intake.put(burst)
    with store.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")

    intake.put(burst)

    assert [seq for seq, _ in rows(store)] == [1, 2]
    assert receipt(intake) == (2, [])


def test_strangers_letters_are_capped_in_size_and_number(
    store: Store, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "STRANGERS_KEPT", 3)

    intake.put([Message(READING, b"x" * 100_000)] * 5)

    kept = dead_letters.pending(store)
    assert [len(letter.payload) for letter in kept] == [dead_letters.STRANGERS_BYTES] * 3
    with store.read() as connection:
        assert connection.scalar(select(schema.counters.c.value)) == 2


def test_a_dead_letter_is_taken_again_when_it_is_good_by_now(store: Store, intake: Intake) -> None:
    intake.put([Message(READING, reading(1, values={"id": 3}))])

    with pytest.raises(InvalidReading, match="reserved"):
        intake.take_again(Message(READING, reading(1, values={"id": 3})), ("kitchen", EPOCH, 1))
    intake.take_again(Message(READING, reading(1)), ("kitchen", EPOCH, 1))

    assert [seq for seq, _ in rows(store)] == [1]


def test_topics_of_nobody_are_dead_letters(store: Store, intake: Intake) -> None:
    for topic in ("sensors/bridge/reading/main", "sensors/kitchen/reading/a b", "other/kitchen/backlog"):
        intake.put([Message(topic, reading(1))])

    assert len(reasons(store)) == 3


def test_the_newest_reading_of_a_node_is_remembered_and_a_late_one_does_not_replace_it(
    store: Store, intake: Intake
) -> None:
    intake.put([Message(READING, reading(9, values={"temperature": 9}))])
    intake.put([Message(BACKLOG, backlog([2]))])

    with store.read() as connection:
        assert connection.scalar(select(schema.nodes.c.last_values)) == '{"temperature":9.0}'


def test_a_node_whose_retained_messages_are_cleared_is_no_longer_told_as_offline(
    store: Store, intake: Intake
) -> None:
    intake.put([Message(READING, reading(1)), Message("sensors/kitchen/availability", b"offline")])

    intake.put([Message("sensors/kitchen/availability", b"")])

    with store.read() as connection:
        assert connection.scalar(select(schema.nodes.c.availability)) is None
    assert [seq for seq, _ in rows(store)] == [1]
    assert reasons(store) == []


def test_a_flood_of_rubbish_is_kept_up_to_its_room_and_the_rest_counted(store: Store, intake: Intake) -> None:
    kept = dead_letters.STRANGERS_KEPT
    rubbish = [Message(READING, b"rubbish %d" % number) for number in range(kept + 500)]

    intake.put(rubbish[: kept - 1])
    intake.put(rubbish[kept - 1 :])
    intake.put([Message(READING, b"rubbish"), Message(READING, reading(1))])

    assert len(reasons(store)) == kept
    assert counted(store)["dead_letters_discarded"] == 501
    assert [seq for seq, _ in rows(store)] == [1]


def test_rubbish_that_is_judged_anew_stays_a_letter_where_there_is_no_room_for_another(
    store: Store, intake: Intake
) -> None:
    intake.put([Message(READING, b"rubbish")] * dead_letters.STRANGERS_KEPT)

    with pytest.raises(InvalidReading, match="no room"):
        intake.rehearse(Message(READING, b"rubbish"))


def test_losses_beyond_all_measure_are_told_and_stop_nothing(store: Store, intake: Intake) -> None:
    claims = [b'{"epoch":"e%d","from":1,"to":4611686018427387904,"reason":"?"}' % number for number in range(6)]

    intake.put([Message(LOST, claim) for claim in claims])
    told = messages.encode(bridge_health(store, None, "0"))

    assert messages.decode(messages.BridgeHealth, told).lost == MOST_TOLD


def message(kind: str, node: str, seqs: list[int], temperature: int) -> Message:
    if kind == "backlog":
        return Message(f"sensors/{node}/backlog", backlog(seqs, node))
    if kind == "lost":
        told = b'{"epoch":"%s","from":%d,"to":%d,"reason":"full"}' % (EPOCH.encode(), min(seqs), max(seqs))
        return Message(f"sensors/{node}/lost", told)
    clock = "none" if kind == "refused" else "synced"
    payload = reading(seqs[0], node, values={"temperature": temperature}, clock=clock)
    return Message(f"sensors/{node}/reading/main", payload)


@given(
    st.lists(
        st.builds(
            message,
            st.sampled_from(["reading", "reading", "reading", "backlog", "lost", "refused"]),
            st.sampled_from(["kitchen", "attic"]),
            st.lists(st.integers(1, 12), min_size=1, max_size=4),
            st.sampled_from([21, 21, 21, 22]),
        ),
        max_size=20,
    )
)
def test_a_burst_becomes_what_its_messages_become_one_by_one(sent: list[Message]) -> None:
    with TemporaryDirectory() as folder:
        at_once, one_by_one = (open_store(f"sqlite:///{folder}/{name}.db") for name in ("burst", "single"))

        Intake(at_once, Topics()).put(sent)
        single = Intake(one_by_one, Topics())
        for one in sent:
            single.put([one])

        tables = (schema.ranges, schema.losses, schema.dead_letters, schema.nodes)
        for table in (*tables, schema.readings):
            wanted = [
                column
                for column in table.c
                if not column.name.endswith("_ms") and column.name not in ("id", "source_id")
            ]
            with at_once.read() as ours, one_by_one.read() as theirs:
                assert sorted(map(repr, ours.execute(select(*wanted)))) == sorted(
                    map(repr, theirs.execute(select(*wanted)))
                )
        at_once.close()
        one_by_one.close()
