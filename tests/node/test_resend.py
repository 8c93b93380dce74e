"""When what has no receipt is sent again; time is the test's."""

from mqtt_client.intervals import Intervals
from mqtt_client.outbox.epoch import Epoch
from mqtt_client.publisher.delivery import Backoff
from mqtt_client.publisher.presence import Presence
from mqtt_client.publisher.resend import LIMIT, Resend
from mqtt_client.publisher.telling import Telling
from tests.node.actors import drafts
from tests.node.conftest import OpenOutbox


def epoch_of(number: int) -> Epoch:
    """Return an epoch whose readings were all published."""
    epoch = Epoch(1, "k3f9x2ab", number + 1, 1)
    epoch.rows.add(1, number)
    epoch.published.add(1, number)
    return epoch


def planned(resend: Resend, epoch: Epoch) -> list[int]:
    """Send all that may be sent now; return the seqs."""
    found: list[int] = []
    while (step := resend.next_range(epoch)) is not None:
        (first, last), limit = step
        last = min(last, first + limit - 1)
        found += range(first, last + 1)
        resend.sent(first, last)
    return found


def test_a_hole_below_a_moving_beyond_is_sent_again_after_30_seconds() -> None:
    epoch = epoch_of(100)
    epoch.settle([(1, 4), (6, 100)])
    resend = Resend(now=0.0)

    assert not resend.tick(epoch, 29.0)
    assert resend.tick(epoch, 30.0)

    assert planned(resend, epoch) == [5]


def test_the_wait_doubles_to_a_quarter_of_an_hour_and_a_receipt_resets_it() -> None:
    epoch = epoch_of(3)
    resend = Resend(now=0.0)
    now, waits = 0.0, []
    for _ in range(7):
        deadline = resend.deadline(epoch)
        assert deadline is not None
        waits.append(deadline - now)
        now = deadline
        assert resend.tick(epoch, now)

    resend.receipt_moved(now)

    assert waits == [30, 60, 120, 240, 480, 900, 900]
    assert resend.deadline(epoch) == now + 30


def test_no_more_than_the_limit_is_without_a_receipt_at_a_time() -> None:
    epoch = epoch_of(3 * LIMIT)
    resend = Resend(now=0.0)
    resend.restart(epoch, 0.0)

    first = planned(resend, epoch)
    epoch.settle([(1, 200)])
    second = planned(resend, epoch)

    assert first == list(range(1, LIMIT + 1))
    assert second == list(range(LIMIT + 1, LIMIT + 201))


def test_what_was_never_published_is_not_sent_again() -> None:
    epoch = epoch_of(10)
    epoch.published = Intervals([(1, 3), (7, 8)])
    resend = Resend(now=0.0)
    resend.restart(epoch, 0.0)

    assert planned(resend, epoch) == [1, 2, 3, 7, 8]


def test_an_unknown_loss_is_told_only_after_all_readings_of_its_epoch(opened: OpenOutbox) -> None:
    outbox = opened()
    outbox.put(drafts(3))
    outbox.begin_publishing()
    outbox.current.attempted.add(1, 3)
    outbox.losses.add(outbox.current.name, 4, None, "damaged")
    outbox.flush()
    telling = Telling(outbox)

    before = telling.next_loss()
    outbox.current.settle([(1, 3)])
    after = telling.next_loss()

    assert before is None
    assert after is not None
    assert after.last is None


def test_losses_are_told_once_and_again_when_no_receipt_passes_them(opened: OpenOutbox) -> None:
    outbox = opened(max_readings=100)
    outbox.put(drafts(100))
    outbox.put(drafts(1))
    telling = Telling(outbox)
    telling.tick(0.0, bridge_is_online=False, is_under_way=False)
    loss = telling.next_loss()
    assert loss is not None
    telling.sent(loss)

    told_again = []
    for now in (1.0, 10.0, 100.0):
        telling.tick(now, bridge_is_online=now > 50, is_under_way=False)
        told_again.append(telling.next_loss())

    assert told_again == [None, None, loss]


def test_connections_that_end_soon_are_taken_for_a_second_node_and_slow_down() -> None:
    presence = Presence("node-kitchen", "localhost:1883")
    delays, now = [], 0.0
    for _ in range(9):
        presence.connected(now)
        now += 2
        delays.append(presence.disconnected("unspecified error", False, now))
        now += delays[-1]

    assert delays[:2] == [1.0, 1.0]
    assert delays[2:] == sorted(delays[2:])
    assert delays[-1] == 300
    assert presence.trouble is not None
    assert "another node with this NODE_ID" in presence.trouble


def test_one_long_connection_ends_the_suspicion() -> None:
    presence = Presence("node-kitchen", "localhost:1883")
    for now in range(5):
        presence.connected(float(now))
        presence.disconnected("unspecified error", False, now + 0.5)
    presence.connected(100.0)

    delay_s = presence.disconnected("unspecified error", False, 3700.0)

    assert delay_s == 1.0


def test_a_topic_that_nobody_takes_is_left_alone_longer_each_time() -> None:
    backoff = Backoff()
    waits, now = [], 0.0
    for _ in range(8):
        backoff.failed("nobody subscribes", now)
        assert not backoff.is_open(now)
        waits.append(backoff.until - now)
        now = backoff.until

    assert waits[0] <= 2
    assert 30 <= waits[-1] <= 60
    assert backoff.succeeded()
    assert backoff.is_open(now)
