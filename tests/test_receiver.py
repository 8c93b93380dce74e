"""The example receiver: each reading once, and clear words for what is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.http_servers import Receiver
from tests.processes import Process, eventually, free_port, python

READING = {"temperature": 21.4, "humidity": 48.2, "timestamp": "[24/Nov/2026 20:31:05]", "id": "kitchen-k3f9x2ab-1"}


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    running = Receiver(tmp_path / "receiver.db")
    yield running
    running.stop()


def post(receiver: Receiver, body: object, key: str | None = None, **headers: str) -> requests.Response:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    if key is not None:
        headers["Idempotency-Key"] = f'"{key}"'
    return requests.post(receiver.url, data=sent, headers={"Content-Type": "application/json", **headers}, timeout=10)


def test_a_repeat_is_answered_like_the_first_time_and_stored_once(receiver: Receiver) -> None:
    first = post(receiver, READING, key=READING["id"])
    again = post(receiver, READING, key=READING["id"])

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json() == {"number": 1, "id": READING["id"]}
    assert receiver.readings() == [READING]


def test_the_header_and_the_id_in_the_body_are_the_same_key(receiver: Receiver) -> None:
    post(receiver, READING, key=READING["id"])
    post(receiver, READING)
    post(receiver, [READING])

    assert receiver.readings() == [READING]


def test_a_key_used_for_another_reading_is_refused(receiver: Receiver) -> None:
    post(receiver, READING)

    answer = post(receiver, READING | {"temperature": 30})

    assert answer.status_code == 422
    assert "kitchen-k3f9x2ab-1" in answer.json()["detail"]


def test_readings_of_the_old_script_have_no_key_and_are_rows_each(receiver: Receiver) -> None:
    body = {"temperature": 22, "humidity": 50, "timestamp": "[24/Nov/2026 20:31:05]"}

    post(receiver, body)
    post(receiver, body)

    assert receiver.readings() == [body, body]


def test_an_array_is_stored_whole_or_not_at_all_and_the_wrong_element_is_named(receiver: Receiver) -> None:
    good = [READING | {"id": f"k-e-{number}"} for number in range(3)]

    refused = post(receiver, [*good, {"timestamp": "x"}])
    stored = post(receiver, good)

    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"pointer": "#/3", "detail": "element 3: a reading without any value"}]
    assert [row["number"] for row in stored.json()["stored"]] == [1, 2, 3]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"7",
        b"[7]",
        b"[" * 100_000,
        b'{"temperature":NaN,"timestamp":"x"}',
        b'{"temperature":1e999,"timestamp":"x"}',
        b'{"temperature":"warm","timestamp":"x"}',
        b'{"temperature":true,"timestamp":"x"}',
        b'{"temperature":21}',
        b'{"temperature":21,"timestamp":"x","id":7}',
        b'{"temperature":21,"timestamp":"x","id":"\\ud800"}',
        b'{"temperature":' + b"9" * 400 + b',"timestamp":"x"}',
    ],
)
def test_a_bad_body_is_answered_with_problem_details(receiver: Receiver, body: bytes) -> None:
    answer = post(receiver, body)

    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    assert answer.json()["detail"]
    assert receiver.readings() == []


def test_other_methods_and_paths_are_answered_with_problem_details_too(receiver: Receiver) -> None:
    wrong_method = requests.put(receiver.url, timeout=10)
    wrong_path = requests.get(receiver.url + "/nowhere", timeout=10)

    assert (wrong_method.status_code, wrong_path.status_code) == (405, 404)
    assert wrong_path.headers["Content-Type"] == "application/problem+json"


def test_it_lists_counts_and_says_what_it_is(receiver: Receiver) -> None:
    post(receiver, [READING | {"id": f"k-e-{number}"} for number in range(5)])

    newest = requests.get(receiver.url, params={"limit": 2}, timeout=10).json()

    assert [reading["id"] for reading in newest] == ["k-e-3", "k-e-4"]
    assert requests.get(receiver.url + "/count", timeout=10).json() == {"count": 5}
    assert "/data" in requests.get(receiver.url.removesuffix("/data"), timeout=10).text


def test_with_a_token_only_who_sends_it_is_let_in(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "guarded.db", token="a b?")
    try:
        without = post(receiver, READING)
        wrong = post(receiver, READING, Authorization="Bearer é")
        right = post(receiver, READING, Authorization="Bearer a b?")
    finally:
        receiver.stop()

    assert [answer.status_code for answer in (without, wrong, right)] == [401, 401, 200]


def test_as_a_program_it_has_after_kill_9_all_that_it_answered(tmp_path: Path) -> None:
    port = free_port()
    example = Path(__file__).parent.parent / "examples" / "receiver.py"
    command = python(str(example), "--port", str(port), "--database", "data/receiver.db")
    program = Process(command, tmp_path / "receiver.log", cwd=tmp_path)
    url = f"http://127.0.0.1:{port}/data"

    def answers() -> bool:
        try:
            return requests.get(url, timeout=10).ok
        except requests.ConnectionError:
            return False

    try:
        eventually(answers, told=program.output)
        answered = requests.post(url, json=READING, timeout=10)
        program.kill()
        program.start()
        eventually(answers, told=program.output)

        assert answered.status_code == 200
        assert requests.get(url, timeout=10).json() == [READING]
    finally:
        program.kill()
