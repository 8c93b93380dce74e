"""The outbox, door by door."""

import json
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from mqtt_client.errors import LockHeld, PersonNeeded
from mqtt_client.outbox.opening import open_outbox
from mqtt_client.outbox.outbox import Outbox
from tests.node.actors import TIME_MS, drafts
from tests.node.conftest import OpenOutbox


def publish(outbox: Outbox) -> None:
    """Do as if all readings had gone to the broker."""
    outbox.begin_publishing()
    outbox.current.attempted.add(1, outbox.current.next_seq - 1)


def held_seqs(outbox: Outbox) -> list[int]:
    """Return the seqs of the current epoch that are held, as a query would."""
    return [seq for first, last in outbox.current.rows for seq in range(first, last + 1)]


def test_numbers_readings_from_one_without_gaps_across_restarts(opened: OpenOutbox) -> None:
    outbox = opened()
    first = outbox.put(drafts(3))
    publish(outbox)
    outbox.settle(outbox.current.name, 3, [])

    again = opened().put(drafts(2))

    assert [row.seq for row in first + again] == [1, 2, 3, 4, 5]
    assert {row.epoch for row in first + again} == {first[0].epoch}


def test_keeps_what_was_put_over_a_restart(opened: OpenOutbox) -> None:
    rows = opened().put(drafts(5))

    outbox = opened()
    found = outbox.pending(outbox.current, 1, 5, 100, 10**6)

    assert [row.payload for row in found] == [row.payload for row in rows]
    assert json.loads(found[0].payload)["values"] == {"temperature": 0.0}


def test_a_receipt_with_holes_settles_exactly_what_it_covers(opened: OpenOutbox) -> None:
    outbox = opened()
    outbox.put(drafts(20))
    publish(outbox)

    outbox.settle(outbox.current.name, 4, [(7, 9), (15, 15)])

    expected = [5, 6, *range(10, 15), *range(16, 21)]
    assert held_seqs(outbox) == expected
    assert outbox.current.floor == 5
    assert held_seqs(opened()) == expected


def test_receipts_may_repeat_be_old_overlap_or_name_another_epoch(opened: OpenOutbox) -> None:
    outbox = opened()
    outbox.put(drafts(10))
    publish(outbox)
    name = outbox.current.name

    for through, beyond in ((6, []), (6, []), (2, [(1, 3), (2, 5)]), (0, []), (6, [(8, 8), (8, 8)])):
        outbox.settle(name, through, beyond)
    outbox.settle("strange1", 10, [])

    assert held_seqs(outbox) == [7, 9, 10]
    assert outbox.current.name == name


def test_a_receipt_ahead_of_the_outbox_begins_a_new_epoch_and_loses_nothing(opened: OpenOutbox) -> None:
    outbox = opened()
    outbox.put(drafts(3))
    old = outbox.current.name

    began = outbox.settle(old, 100, [])

    assert began
    assert outbox.current.name != old
    rows = outbox.pending(outbox.current, 1, 100, 100, 10**6)
    assert [json.loads(row.payload)["values"]["temperature"] for row in rows] == [0.0, 1.0, 2.0]
    assert {json.loads(row.payload)["epoch"] for row in rows} == {outbox.current.name}


def test_a_restored_image_keeps_old_rows_under_their_identity_and_new_ones_apart(
    opened: OpenOutbox, outbox_path: Path, tmp_path: Path
) -> None:
    outbox = opened()
    outbox.put(drafts(5))
    publish(outbox)
    outbox.settle(outbox.current.name, 2, [])
    old = outbox.current.name
    outbox.flush()
    outbox.close()
    image = tmp_path / "image.db"
    shutil.copy(outbox_path, image)
    first = open_outbox(outbox_path, "kitchen", "boot-1", 1000)
    first.put(drafts(10, start=5))
    first.close()
    shutil.copy(image, outbox_path)

    restored = open_outbox(outbox_path, "kitchen", "boot-2", 1000)
    restored.put(drafts(4, start=50))
    began = restored.settle(old, 6, [])
    temperatures = {
        (row.epoch, json.loads(row.payload)["values"]["temperature"])
        for epoch in restored.epochs
        for row in restored.pending(epoch, 1, 100, 100, 10**6)
    }
    new = restored.current.name
    restored.close()

    assert began
    assert temperatures == {(new, 50.0), (new, 51.0), (new, 52.0), (new, 53.0)}


def test_rows_of_an_old_epoch_stay_until_their_own_receipt(opened: OpenOutbox) -> None:
    outbox = opened()
    outbox.put(drafts(5))
    publish(outbox)
    old = outbox.current.name
    outbox.begin_epoch()
    outbox.put(drafts(3))

    outbox = opened()
    outbox.settle(old, 3, [])

    assert [(epoch.name == old, epoch.rows.count) for epoch in outbox.epochs] == [(True, 2), (False, 3)]
    outbox.settle(old, 5, [])
    assert [epoch.rows.count for epoch in opened().epochs] == [3]


def test_full_it_gives_up_the_oldest_and_tells_exactly_which(opened: OpenOutbox) -> None:
    outbox = opened(max_readings=200)
    for start in range(0, 1000, 7):
        outbox.put(drafts(min(7, 1000 - start), start=start))

    lost = {seq for loss in outbox.losses.told if loss.last for seq in range(loss.first, loss.last + 1)}

    assert outbox.waiting <= 200
    assert lost | set(held_seqs(outbox)) == set(range(1, 1001))
    assert not lost & set(held_seqs(outbox))
    assert outbox.losses.count == len(lost)
    assert len(outbox.losses.told) == 1, "ranges merge"
    again = opened(max_readings=200)
    assert (held_seqs(again), again.losses.count) == (sorted(set(range(1, 1001)) - lost), len(lost))


def test_the_floor_is_not_above_a_loss_that_no_receipt_has_passed(opened: OpenOutbox) -> None:
    outbox = opened(max_readings=100)
    outbox.put(drafts(130))
    epoch = outbox.current
    assert epoch.floor > 1

    assert outbox.floor(epoch) == 1

    outbox.settle(epoch.name, epoch.floor - 1, [])
    assert outbox.floor(epoch) == epoch.floor
    outbox.close()


def test_what_a_receipt_covered_is_not_given_up_as_lost(opened: OpenOutbox) -> None:
    outbox = opened(max_readings=100)
    outbox.put(drafts(100))
    publish(outbox)
    outbox.settle(outbox.current.name, 0, [(2, 50)])
    outbox.put(drafts(49, start=100))

    outbox.put(drafts(2, start=149))

    assert [(loss.first, loss.last) for loss in outbox.losses.told] == [(1, 1), (51, 51)]


def test_losses_go_when_a_receipt_passes_them(opened: OpenOutbox) -> None:
    outbox = opened(max_readings=100)
    outbox.put(drafts(100))
    outbox.put(drafts(10, start=100))
    publish(outbox)
    (loss,) = outbox.losses.told
    assert loss.last is not None

    outbox.settle(outbox.current.name, loss.last - 1, [])
    assert outbox.losses.told == [loss]
    outbox.settle(outbox.current.name, loss.last, [])

    assert opened(max_readings=100).losses.told == []


def test_another_node_is_refused_while_readings_wait_and_welcome_after(opened: OpenOutbox, outbox_path: Path) -> None:
    outbox = opened()
    outbox.put(drafts(1))
    outbox.close()

    with pytest.raises(PersonNeeded, match=r"NODE_ID: 'cellar' was given, but .* holds readings of 'kitchen'"):
        open_outbox(outbox_path, "cellar", "boot-1", 1000)

    kitchen = open_outbox(outbox_path, "kitchen", "boot-1", 1000)
    publish(kitchen)
    kitchen.settle(kitchen.current.name, 1, [])
    old = kitchen.current.name
    kitchen.close()
    cellar = open_outbox(outbox_path, "cellar", "boot-1", 1000)
    assert cellar.put(drafts(1))[0].seq == 1
    assert cellar.current.name != old
    cellar.close()


def test_a_second_process_is_told_who_holds_it(opened: OpenOutbox, outbox_path: Path) -> None:
    opened()

    with pytest.raises(LockHeld, match=r"outbox: process \d+ does this already"):
        open_outbox(outbox_path, "kitchen", "boot-1", 1000)


def test_an_outbox_of_a_newer_release_is_refused(opened: OpenOutbox, outbox_path: Path) -> None:
    opened().close()
    with sqlite3.connect(outbox_path) as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE key = 'version'")
    connection.close()

    with pytest.raises(PersonNeeded, match="newer release"):
        open_outbox(outbox_path, "kitchen", "boot-1", 1000)


def test_any_sequence_of_receipts_and_restarts_leaves_what_no_receipt_covered(opened: OpenOutbox) -> None:
    choose = random.Random(7)
    outbox = opened(max_readings=10**6)
    name = outbox.current.name
    model: set[int] = set()
    taken = 0
    for _ in range(300):
        match choose.randrange(4):
            case 0:
                number = choose.randrange(1, 30)
                outbox.put(drafts(number, start=taken))
                publish(outbox)
                model |= set(range(taken + 1, taken + number + 1))
                taken += number
            case 1:
                through = choose.randrange(0, taken + 1)
                ranges = [(choose.randrange(1, taken + 2),) * 2 for _ in range(3)]
                ranges = [(first, min(taken, last + choose.randrange(9))) for first, last in ranges if first <= taken]
                outbox.settle(name, through // 2, ranges)
                model -= set(range(1, through // 2 + 1))
                model -= {seq for first, last in ranges for seq in range(first, last + 1)}
            case 2:
                outbox.flush()
            case 3 if choose.randrange(10) == 0:
                outbox = opened(max_readings=10**6)

    assert set(held_seqs(outbox)) == model
    outbox = opened(max_readings=10**6)
    assert set(held_seqs(outbox)) == model
    assert {row.seq for row in outbox.pending(outbox.current, 1, taken, taken, 10**9)} == model


def test_remembers_over_a_restart_what_the_broker_has_acknowledged(opened: OpenOutbox) -> None:
    outbox = opened()
    outbox.put(drafts(10))
    outbox.begin_publishing()
    outbox.current.published.add(1, 8)
    outbox.put(drafts(1))

    again = opened().current

    assert again.unpublished(1, 100) == [(9, 11)]


def test_what_was_put_and_never_sent_is_not_taken_for_sent_after_a_restart(opened: OpenOutbox) -> None:
    opened().put(drafts(10))

    assert opened().current.unpublished(1, 10) == [(1, 10)]


def test_held_readings_are_corrected_by_the_monotonic_clock_before_they_go(opened: OpenOutbox) -> None:
    outbox = opened()
    outbox.put(drafts(3, held=True))
    assert outbox.current.unpublished(1, 3) == []

    outbox.release("boot-1", TIME_MS + 5_000_000)

    rows = [json.loads(row.payload) for row in outbox.pending(outbox.current, 1, 3, 10, 10**6)]
    assert [row["clock"] for row in rows] == ["corrected"] * 3
    assert rows[2]["time"] == "2026-11-24T07:23:20.002Z"
    assert outbox.current.unpublished(1, 3) == [(1, 3)]


def test_what_an_earlier_boot_held_goes_as_it_is(opened: OpenOutbox) -> None:
    opened().put(drafts(2, held=True))

    outbox = opened(boot="boot-2")
    outbox.put(drafts(1, held=True))
    outbox.release(None, None)

    rows = [json.loads(row.payload) for row in outbox.pending(outbox.current, 1, 9, 10, 10**6)]
    assert [(row["seq"], row["clock"]) for row in rows] == [(1, "unsynced"), (2, "unsynced")]
    assert list(outbox.current.held) == [(3, 3)]


def test_a_row_that_is_no_reading_any_more_is_told_as_lost(opened: OpenOutbox, outbox_path: Path) -> None:
    opened().put(drafts(3))
    opened().close()
    with sqlite3.connect(outbox_path) as connection:
        connection.execute("UPDATE readings SET payload = X'00FF' WHERE seq = 2")
    connection.close()

    outbox = opened()
    rows = outbox.pending(outbox.current, 1, 3, 10, 10**6)
    outbox.flush()

    assert [row.seq for row in rows] == [1, 3]
    assert [(loss.first, loss.last) for loss in outbox.losses.told] == [(2, 2)]
