"""The old script's file of unsent readings."""

import json
import subprocess
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from mqtt_client.errors import PersonNeeded
from mqtt_client.legacy import import_file
from mqtt_client.outbox.outbox import Outbox
from tests.node.conftest import OpenOutbox
from tests.processes import python

PARIS = ZoneInfo("Europe/Paris")


def entry(second: int, temperature: float = 22.0, **more: object) -> dict[str, object]:
    return {"temperature": temperature, "humidity": 50.0, "timestamp": f"[24/Nov/2026 20:31:{second:02}]", **more}


def readings(outbox: Outbox) -> list[dict[str, object]]:
    rows = outbox.pending(outbox.current, 1, 10**6, 10**6, 10**9) if outbox.waiting else []
    return [json.loads(row.payload) for row in rows]


def test_unsent_readings_enter_with_their_own_local_timestamps(opened: OpenOutbox, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text(json.dumps([entry(5), entry(6, 22.5), entry(7, envoye=True), entry(8, sent=False)]))
    outbox = opened()

    outcome = import_file(file, outbox, PARIS)

    assert (outcome.imported, outcome.known, outcome.sent, outcome.malformed) == (3, 0, 1, [])
    first = readings(outbox)[0]
    assert (first["time"], first["clock"], first["sensor"]) == ("2026-11-24T19:31:05.000Z", "unsynced", "main")
    assert first["values"] == {"temperature": 22.0, "humidity": 50.0}


def test_run_twice_and_grown_only_what_is_new_enters_equal_entries_each(opened: OpenOutbox, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text(json.dumps([entry(5), entry(5)]))
    import_file(file, opened(), PARIS)
    file.write_text(json.dumps([entry(5), entry(5), entry(5), entry(6)]))

    outcome = import_file(file, opened(), PARIS)

    assert (outcome.imported, outcome.known) == (2, 2)
    assert opened().waiting == 4


@pytest.mark.parametrize(
    "text",
    [
        '{"donnees": [{"temperature": 1, "humidity": 2, "timestamp": "[01/Jan/2026 00:00:00]"}]}',
        '{"temperature": 1, "humidity": 2, "timestamp": "[01/Jan/2026 00:00:00]"}',
        '{"temperature": 1, "timestamp": "2026-01-01T00:00:00"}\n\n{"temp',
        '[{"Température": "1", "humidité": "2", "timestamp": "01/Jan/2026 00:00:00"}]',
    ],
)
def test_other_forms_of_the_file_are_read_too(opened: OpenOutbox, tmp_path: Path, text: str) -> None:
    file = tmp_path / "old.json"
    file.write_text(text, encoding="utf-8")
    outbox = opened()

    outcome = import_file(file, outbox, PARIS)

    assert outcome.imported == 1
    (reading,) = readings(outbox)
    assert reading["time"] == "2025-12-31T23:00:00.000Z"
    assert isinstance(reading["values"], dict)
    assert reading["values"]["temperature"] == 1.0


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (7, "is not an object"),
        ({"timestamp": "[24/Nov/2026 20:31:05]"}, "no values"),
        ({"temperature": "warm", "timestamp": "[24/Nov/2026 20:31:05]"}, "temperature is 'warm'"),
        ({"temperature": 1e400, "timestamp": "[24/Nov/2026 20:31:05]"}, "finite"),
        ({"temperature": 1, "timestamp": "[24/Foo/2026 20:31:05]"}, "timestamp is"),
        ({"temperature": 1}, "timestamp is None"),
        ({"temperature": 1, "timestamp": 1e30}, "timestamp is"),
    ],
)
def test_malformed_entries_are_told_by_position_and_the_good_ones_enter(
    opened: OpenOutbox, tmp_path: Path, bad: object, reason: str
) -> None:
    file = tmp_path / "old.json"
    file.write_text(json.dumps([entry(5), bad, entry(6)]))

    outcome = import_file(file, opened(), PARIS)

    assert outcome.imported == 2
    assert [one.position for one in outcome.malformed] == [2]
    assert reason in outcome.malformed[0].reason


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot be read"), (b"\xff\xfe\x00", "is not UTF-8"), (b"hello", "is not JSON"), (b"3", "single int")],
)
def test_a_file_that_cannot_be_read_is_named(
    opened: OpenOutbox, tmp_path: Path, content: bytes | None, told: str
) -> None:
    file = tmp_path / "old.json"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(PersonNeeded, match=told) as caught:
        import_file(file, opened(), PARIS)

    assert str(file) in str(caught.value)


def test_more_than_the_outbox_has_room_for_is_refused_whole(opened: OpenOutbox, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text(json.dumps([entry(index % 60, index) for index in range(101)]))
    outbox = opened(max_readings=100)

    with pytest.raises(PersonNeeded, match="room for 100"):
        import_file(file, outbox, PARIS)

    assert outbox.waiting == 0


def test_killed_in_the_middle_and_run_again_each_enters_once(
    opened: OpenOutbox, outbox_path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "old.json"
    file.write_text(json.dumps([entry(index % 60, index / 10) for index in range(3000)]))
    killed = """
import os, sys
from pathlib import Path
from zoneinfo import ZoneInfo
from mqtt_client.legacy import import_file
from mqtt_client.outbox.opening import open_outbox
from mqtt_client.outbox.outbox import Outbox
put = Outbox.put
def put_some(self, drafts, entries=()):
    rows = put(self, drafts, entries)
    if rows[-1].seq >= 1000:
        os.kill(os.getpid(), 9)
    return rows
Outbox.put = put_some
import_file(Path(sys.argv[2]), open_outbox(Path(sys.argv[1]), "kitchen", "boot", 10**6), ZoneInfo("UTC"))
"""
    done = subprocess.run(
        python("-c", killed, str(outbox_path), str(file)), cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == -9

    outbox = opened(max_readings=10**6)
    before = outbox.waiting
    import_file(file, outbox, ZoneInfo("UTC"))

    assert before == 1000
    values = [reading["values"] for reading in readings(outbox)]
    assert sorted(value["temperature"] for value in values if isinstance(value, dict)) == [
        i / 10 for i in range(3000)
    ]
