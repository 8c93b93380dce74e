"""Alarms: when one is raised and cleared, by readings as they arrive in a real store and by everything else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from bridge.alarms import board
from bridge.alarms.arrivals import Arrivals
from bridge.alarms.board import Alarm
from bridge.alarms.circumstances import Circumstances
from bridge.alarms.notices import payload
from bridge.alarms.readings import QuantityRules
from bridge.alarms.rules import Rule, read_rules
from bridge.alarms.watch import Watch
from bridge.alarms.words import Words
from bridge.settings import BridgeSettings
from bridge.store import jobs, schema
from bridge.store.database import Store, now_ms
from bridge.store.intake import Intake, Message
from mqtt_client.reading import format_time, from_ms
from mqtt_client.topics import Topics
from tests.wire import reading

READING = "sensors/kitchen/reading/main"
MINUTE_MS = 60_000
WARM = 'name = "warm"\nquantity = "temperature"\nabove = 30\nhysteresis = 1'


class Bridge:
    """A store that readings are put into, and alarms that are judged, at times that the test chooses."""

    def __init__(self, store: Store, settings: BridgeSettings, folder: Path) -> None:
        self.store = store
        self.settings = settings
        self.now_ms = now_ms()
        self._file = folder / "alarms.toml"
        self._intake = Intake(store, Topics())
        self._seq = 0
        self._rules: list[Rule] = []

    def rule(self, text: str) -> None:
        """Begin with this one rule."""
        self._file.write_text(f"[[rule]]\n{text}\n", encoding="utf-8")
        self._rules = read_rules(self._file)
        self.restart()

    def restart(self) -> None:
        """Forget everything that is not in the store."""
        self.watch = Watch(board.load(self.store))
        words = Words("en")
        self._quantities = QuantityRules(self._rules, self.watch, words, board.events(self.store))
        self._circumstances = Circumstances(self.settings, self.store, self._rules, words)
        self._arrivals = Arrivals(self.store)

    def measure(self, *temperatures: float, at_s: float = 0.0, step_s: float = 1.0, **changes: object) -> None:
        """Commit readings that were measured from at_s seconds after now on."""
        messages = []
        for number, value in enumerate(temperatures):
            self._seq += 1
            time = format_time(from_ms(self.now_ms + round(1000 * (at_s + number * step_s))))
            given = {"time": time, "values": {"temperature": value, "humidity": 1}} | changes
            messages.append(Message(READING, reading(self._seq, **given)))
        self._intake.put(messages)

    def look(self, later_s: float = 0.0) -> list[str]:
        """Judge what was committed, later_s seconds after now; return the new events, oldest first."""
        at_ms = self.now_ms + round(1000 * later_s)
        for page in self._arrivals.new(self._quantities.oldest_ms(at_ms)):
            self._quantities.judge(page, at_ms)
        for case, sight in self._circumstances.look(at_ms):
            self.watch.see(case, sight)
        changes = self.watch.changes(at_ms)
        board.save(self.store, changes.changed, changes.removed, changes.events)
        self.watch.saved(changes)
        return [f"{event.event} {event.text}" for event in changes.events]


@pytest.fixture
def bridge(store: Store, bridge_settings: Callable[..., BridgeSettings], tmp_path: Path) -> Bridge:
    """A store with alarms."""
    return Bridge(store, bridge_settings(), tmp_path)


def raised(bridge: Bridge) -> list[str]:
    return [alarm.text for alarm in board.raised(bridge.store)]


def test_a_value_out_of_bounds_raises_an_alarm_and_one_back_by_the_hysteresis_clears_it(bridge: Bridge) -> None:
    bridge.rule(WARM)

    bridge.measure(29.9, 30.0, 30.5, at_s=-10)
    first = bridge.look()
    bridge.measure(29.5, at_s=-5)
    between = bridge.look()
    bridge.measure(29, at_s=-4)
    last = bridge.look()

    assert first == ["raised kitchen: temperature 30.5 °C is above 30 °C"]
    assert between == []
    assert last == ["cleared kitchen: temperature 29 °C is back within bounds"]
    assert raised(bridge) == []


def test_a_crossing_between_two_looks_is_not_missed(bridge: Bridge) -> None:
    bridge.rule(WARM)

    bridge.measure(20, 31, 20, 32, 20, at_s=-10)

    assert [event.split()[0] for event in bridge.look()] == ["raised", "cleared", "raised", "cleared"]


def test_readings_of_one_moment_are_all_judged(bridge: Bridge) -> None:
    bridge.rule(WARM)

    bridge.measure(20, 31, at_s=-1, step_s=0)

    assert bridge.look() == ["raised kitchen: temperature 31 °C is above 30 °C"]


def test_a_rule_has_two_bounds(bridge: Bridge) -> None:
    bridge.rule('name = "frost"\nquantity = "temperature"\nabove = 30\nbelow = 4')

    bridge.measure(20, 3, 20, 31, at_s=-10)

    assert bridge.look() == [
        "raised kitchen: temperature 3 °C is below 4 °C",
        "cleared kitchen: temperature 20 °C is back within bounds",
        "raised kitchen: temperature 31 °C is above 30 °C",
    ]


def test_an_alarm_waits_for_its_delay_and_a_reading_within_bounds_begins_it_again(bridge: Bridge) -> None:
    bridge.rule(WARM + '\nfor = "30 s"')

    bridge.measure(31, 31, 29.9, 31, 31, 31, at_s=-55, step_s=10)
    before = bridge.look()
    bridge.measure(31, at_s=5)
    after = bridge.look(5)

    assert before == []
    assert after == ["raised kitchen: temperature 31 °C is above 30 °C for 30 s"]
    (alarm,) = board.raised(bridge.store)
    assert alarm.since_ms == bridge.now_ms - 25_000


def test_readings_of_a_backlog_never_raise_an_alarm(bridge: Bridge) -> None:
    bridge.rule(WARM)

    bridge.measure(31, 32, 33, at_s=-3600)

    assert bridge.look() == []


def test_a_late_reading_ends_an_alarm_that_began_before_it(bridge: Bridge) -> None:
    bridge.rule(WARM)
    bridge.measure(31, at_s=-10)
    bridge.look()

    bridge.measure(20, at_s=-5)

    assert bridge.look(3600) == ["cleared kitchen: temperature 20 °C is back within bounds"]


def test_a_late_reading_from_before_an_alarm_does_not_end_it(bridge: Bridge) -> None:
    bridge.rule(WARM)
    bridge.measure(31, at_s=-10)
    bridge.look()

    bridge.measure(20, at_s=-50)
    bridge.measure(20, at_s=-5000)

    assert bridge.look() == []
    assert len(raised(bridge)) == 1


def test_a_late_reading_within_bounds_begins_a_delay_again(bridge: Bridge) -> None:
    bridge.rule(WARM + '\nfor = "10 min"')
    bridge.measure(31, at_s=0)
    bridge.look()

    bridge.measure(20, at_s=100)
    bridge.measure(31, at_s=700)

    assert bridge.look(700) == []


def test_a_node_whose_clock_is_known_to_be_wrong_is_judged_by_its_newest_reading(bridge: Bridge) -> None:
    bridge.rule(WARM)

    bridge.measure(35, 20, 31, at_s=-1e8, clock="unsynced")

    assert bridge.look() == ["raised kitchen: temperature 31 °C is above 30 °C"]


def test_a_reading_of_the_future_changes_nothing(bridge: Bridge) -> None:
    bridge.rule(WARM)

    bridge.measure(35, at_s=3600)
    bridge.measure(31, at_s=-1)

    assert bridge.look() == ["raised kitchen: temperature 31 °C is above 30 °C"]


@pytest.mark.parametrize("limit", ['nodes = ["freezer"]', 'sensors = ["shelf"]'])
def test_a_rule_watches_only_the_nodes_and_sensors_that_it_names(bridge: Bridge, limit: str) -> None:
    bridge.rule(f"{WARM}\n{limit}")

    bridge.measure(31, at_s=-1)

    assert bridge.look() == []


def test_a_raised_alarm_survives_a_restart_and_what_was_seen_is_not_told_again(bridge: Bridge) -> None:
    bridge.rule(WARM)
    bridge.measure(31, 20, 31, at_s=-10)
    bridge.look()

    bridge.restart()
    again = bridge.look()
    bridge.measure(20, at_s=-5)
    then = bridge.look()

    assert again == []
    assert then == ["cleared kitchen: temperature 20 °C is back within bounds"]


def test_what_was_told_before_a_restart_is_not_told_again_when_it_was_cleared(bridge: Bridge) -> None:
    bridge.rule(WARM)
    bridge.measure(31, 20, at_s=-10)
    bridge.look()

    bridge.restart()

    assert bridge.look() == []
    assert [event.event for event in board.events(bridge.store)] == ["cleared", "raised"]


def test_a_delay_survives_a_restart(bridge: Bridge) -> None:
    bridge.rule(WARM + '\nfor = "10 min"')
    bridge.measure(31)
    bridge.look()
    bridge.look(11)

    bridge.restart()
    bridge.measure(31, at_s=601)

    assert bridge.look(601) == ["raised kitchen: temperature 31 °C is above 30 °C for 10 min"]


def test_what_arrives_while_nobody_looks_is_seen_at_the_next_start(bridge: Bridge) -> None:
    bridge.rule(WARM)
    bridge.look()

    bridge.measure(31, at_s=-1)
    bridge.restart()

    assert bridge.look() == ["raised kitchen: temperature 31 °C is above 30 °C"]


def test_readings_are_followed_in_pages_each_once(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.alarms.arrivals.PAGE_ROWS", 3)
    arrivals = Arrivals(bridge.store)
    bridge.measure(*range(7))

    pages = [[arrival.values["temperature"] for arrival in page] for page in arrivals.new(0)]
    bridge.measure(7)
    later = [[arrival.values["temperature"] for arrival in page] for page in arrivals.new(0)]

    assert pages == [[0, 1, 2], [3, 4, 5], [6]]
    assert later == [[7]]


def test_rows_with_the_numbers_of_pruned_ones_are_seen_too(bridge: Bridge) -> None:
    arrivals = Arrivals(bridge.store)
    bridge.measure(1, 2, 3)
    list(arrivals.new(0))
    with bridge.store.write() as connection:
        connection.execute(schema.readings.delete())
    list(arrivals.new(0))

    bridge.measure(4)

    assert [arrival.values["temperature"] for page in arrivals.new(0) for arrival in page] == [4]


def test_a_silent_node_raises_an_alarm_once_ingest_has_listened_that_long(bridge: Bridge) -> None:
    bridge.rule('name = "silent"\nno_data_for = "10 s"')
    bridge.measure(20)
    jobs.report(bridge.store, "ingest", {"state": "ok"})

    first = bridge.look(5)
    listening = bridge.look(12)
    silent = bridge.look(16)
    bridge.now_ms += 17_000
    with bridge.store.write() as connection:
        connection.execute(update(schema.nodes).values(last_received_ms=bridge.now_ms))

    assert (first, listening) == ([], [])
    assert silent == ["raised kitchen: no reading for 10 s"]
    assert bridge.look() == ["cleared kitchen: readings arrive again"]


def test_silence_is_not_counted_while_nobody_listens(bridge: Bridge) -> None:
    bridge.rule('name = "silent"\nno_data_for = "10 s"')
    bridge.measure(20)

    jobs.report(bridge.store, "ingest", {"state": "waiting"})

    assert bridge.look(1) == bridge.look(15) == bridge.look(3600) == []


def test_a_node_that_is_named_and_was_never_heard_is_silent(bridge: Bridge) -> None:
    bridge.rule('name = "silent"\nno_data_for = "10 s"\nnodes = ["cellar"]')
    jobs.report(bridge.store, "ingest", {"state": "ok"})

    assert bridge.look(1) == []
    assert bridge.look(11) == ["raised cellar: no reading for 10 s"]


def test_a_loss_raises_an_alarm_for_a_while(bridge: Bridge) -> None:
    bridge.rule('name = "lost"\nlost_within = "1h"')
    lost = b'{"epoch":"k3f9x2ab","from":1,"to":120,"reason":"outbox full"}'
    Intake(bridge.store, Topics()).put([Message("sensors/kitchen/lost", lost)])

    told = bridge.look(1)
    later = bridge.look(3700)

    assert told == ["raised kitchen: 120 readings are lost"]
    assert later == ["cleared kitchen: no loss was told for 1 h"]


def test_a_loss_of_unknown_number_is_said_so(bridge: Bridge) -> None:
    bridge.rule('name = "lost"\nlost_within = "1h"')
    lost = b'{"epoch":"k3f9x2ab","from":1,"to":null,"reason":"damaged"}'
    Intake(bridge.store, Topics()).put([Message("sensors/kitchen/lost", lost)])

    assert bridge.look(1) == ["raised kitchen: readings are lost, their number is unknown"]


@pytest.mark.parametrize("word", ["down", "paused"])
def test_a_server_that_takes_nothing_raises_an_alarm_after_its_delay(bridge: Bridge, word: str) -> None:
    bridge.rule('name = "server"\nserver_unreachable_for = "5s"')
    away = {"state": word, "reason": "connection refused", "since_ms": bridge.now_ms}
    jobs.report(bridge.store, "forward", away)

    before = bridge.look(4) + bridge.look(4.9)
    after = bridge.look(5)
    jobs.report(bridge.store, "forward", {"state": "ok", "since_ms": bridge.now_ms + 6000})

    assert before == []
    assert after == ["raised the server does not take readings: connection refused"]
    assert bridge.look(6) == ["cleared the server takes readings again"]


def test_of_a_server_nothing_is_said_while_nobody_sends(bridge: Bridge) -> None:
    bridge.rule('name = "server"\nserver_unreachable_for = "5s"')
    jobs.report(bridge.store, "forward", {"state": "stopped", "reason": "stopped"})

    assert bridge.look(1) == bridge.look(10) == []


def test_a_disk_that_is_nearly_full_raises_an_alarm(bridge: Bridge) -> None:
    bridge.rule('name = "disk"\ndisk_free_below = "99.99 %"')

    (event,) = bridge.look()

    assert event.startswith("raised ")
    assert " are free on the disk of " in event


def test_a_disk_with_room_raises_none(bridge: Bridge) -> None:
    bridge.rule('name = "disk"\ndisk_free_below = "1 B"')

    assert bridge.look() == []


def test_events_of_long_ago_are_forgotten(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.alarms.board.EVENTS_KEPT", 3)
    bridge.rule(WARM)

    for number in range(3):
        bridge.measure(31, 20, at_s=-30 + 5 * number)
        bridge.look()

    assert len(board.events(bridge.store)) == 3


def test_a_store_that_takes_nothing_loses_no_event(bridge: Bridge) -> None:
    bridge.rule(WARM)
    bridge.measure(31, 20, at_s=-10)
    for page in Arrivals(bridge.store).new(0):
        bridge._quantities.judge(page, bridge.now_ms)

    refused = bridge.watch.changes(bridge.now_ms)
    once_more = bridge.watch.changes(bridge.now_ms)

    assert [event.event for event in once_more.events] == [event.event for event in refused.events]
    assert len(once_more.events) == 2


def test_the_message_is_a_list_of_what_is_out_of_bounds() -> None:
    alarm = Alarm("warm", "kitchen", "main/temperature", "critical", "main", "temperature", 0, 5000, 31.5, "hot")

    assert payload([]) == b"[]"
    assert json.loads(payload([alarm])) == [
        {
            "rule": "warm",
            "severity": "critical",
            "sensor": "main",
            "quantity": "temperature",
            "value": 31.5,
            "unit": "°C",
            "since": "1970-01-01T00:00:00.000Z",
            "raised": "1970-01-01T00:00:05.000Z",
            "text": "hot",
        }
    ]


@pytest.mark.parametrize(
    ("rule", "value", "sentence"),
    [
        (
            'quantity = "temperature"\nabove = -15\nfor = "2d"',
            -12.5,
            "a/b : température -12,5 °C, au-dessus de -15 °C",
        ),
        ('quantity = "humidity"\nbelow = 40', 39.5, "a/b : humidité 39,5 %RH, au-dessous de 40 %RH"),
        ('quantity = "co2"\nabove = 800', 700, "a/b : CO₂ 700 ppm, de nouveau dans les limites"),
        ('quantity = "soil"\nabove = 0.5', 0.75, "a/b : soil 0,75, au-dessus de 0,5"),
    ],
)
def test_alarms_are_said_in_french_too(tmp_path: Path, rule: str, value: float, sentence: str) -> None:
    file = tmp_path / "alarms.toml"
    file.write_text(f'[[rule]]\nname = "x"\n{rule}', encoding="utf-8")
    (read,) = read_rules(file)

    said = Words("fr").value(read, "a/b", value)

    assert said.removesuffix(" depuis 2 j") == sentence
