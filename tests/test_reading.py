"""A reading's JSON: what goes in comes out, and what is no reading is refused with a reason."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_client.errors import InvalidReading
from mqtt_client.reading import RESERVED_QUANTITIES, Reading, decode, encode, from_ms, to_ms

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
QUANTITIES = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True).filter(
    lambda name: name not in RESERVED_QUANTITIES
)
VALUES = st.dictionaries(QUANTITIES, st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=32)
TIMES = st.integers(0, 253_402_300_799_999).map(from_ms)
READINGS = st.builds(
    Reading,
    v=st.just(1),
    node=NAMES.filter(lambda name: name != "bridge"),
    sensor=NAMES,
    epoch=NAMES,
    seq=st.integers(1, 2**62),
    time=TIMES,
    clock=st.sampled_from(["synced", "unsynced", "corrected"]),
    values=VALUES,
)

GOOD: dict[str, Any] = {
    "v": 1,
    "node": "kitchen",
    "sensor": "main",
    "epoch": "k3f9x2ab",
    "seq": 1234,
    "time": "2026-11-24T20:31:05.123Z",
    "clock": "synced",
    "values": {"temperature": 21.4, "humidity": 48.2},
}


def verdict(payload: bytes) -> str:
    """Return a reading's identity, or the reason why it is none; any other exception fails the test."""
    try:
        return decode(payload).id
    except InvalidReading as exc:
        return str(exc)


@given(READINGS)
def test_what_is_encoded_decodes_to_the_same(reading: Reading) -> None:
    assert decode(encode(reading)) == reading


@given(READINGS)
def test_encoding_twice_gives_the_same_bytes(reading: Reading) -> None:
    assert encode(decode(encode(reading))) == encode(reading)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_reading_or_refused(payload: bytes) -> None:
    assert verdict(payload)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(GOOD)), inner),
    )
)
def test_any_json_in_any_place_is_a_reading_or_refused(value: object) -> None:
    for key in GOOD:
        assert verdict(json.dumps({**GOOD, key: value}).encode())


@given(TIMES, st.integers(-23 * 60, 23 * 60))
def test_times_keep_their_milliseconds_whatever_their_zone(time: datetime, minutes: int) -> None:
    if timedelta(days=2) < time - datetime(1970, 1, 1, tzinfo=UTC) and time.year < 9999:
        elsewhere = time.astimezone(timezone(timedelta(minutes=minutes)))

        assert to_ms(elsewhere) == to_ms(time)


def test_the_wire_form_is_the_contract_to_the_letter() -> None:
    text = (
        '{"v":1,"node":"kitchen","sensor":"main","epoch":"k3f9x2ab","seq":1234,"time":"2026-11-24T20:31:05.123Z",'
        '"clock":"synced","values":{"temperature":21.4,"humidity":48.2}}'
    )

    reading = decode(text.encode())

    assert encode(reading).decode() == text
    assert reading.id == "kitchen-k3f9x2ab-1234"


def test_unknown_keys_are_ignored() -> None:
    assert decode(json.dumps({**GOOD, "colour": "red"}).encode()).seq == 1234


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("v", 2),
        ("node", "bridge"),
        ("node", "a/b"),
        ("node", ""),
        ("sensor", "x" * 65),
        ("epoch", "é"),
        ("seq", 0),
        ("seq", -1),
        ("seq", 1.5),
        ("seq", "1"),
        ("seq", True),
        ("time", "2026-11-24 20:31"),
        ("time", "2026-11-24T20:31:05"),
        ("time", 5),
        ("time", "9999-12-31T23:59:59-23:59"),
        ("time", "0001-01-01T00:00:00+00:01"),
        ("clock", "late"),
        ("values", {}),
        ("values", {"temperature": "21"}),
        ("values", {"temperature": None}),
        ("values", {"Temperature": 1}),
        ("values", {"node": 1}),
        ("values", {f"q{index}": 1 for index in range(33)}),
    ],
)
def test_what_is_wrong_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidReading):
        decode(json.dumps({**GOOD, key: value}).encode())


@pytest.mark.parametrize(
    "payload", [b"", b"null", b"[]", b'{"v":1}', b"\xff", b'{"values":{"a":NaN}}', b"[" * 10_000]
)
def test_what_is_no_object_of_ours_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidReading):
        decode(payload)
