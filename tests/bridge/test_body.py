"""What is posted, byte for byte."""

import json
import locale
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.forward.body import array, single
from bridge.store.outgoing import OutgoingReading
from mqtt_client.reading import to_ms


def reading(time: datetime, values: str = '{"temperature":21.4,"humidity":48.2}') -> OutgoingReading:
    return OutgoingReading(1, 1, "kitchen", "k3f9x2ab", 1234, "main", to_ms(time), 2, values, 0, 0)


@pytest.fixture
def french() -> Iterator[None]:
    """The French locale, where the system has one."""
    before = locale.setlocale(locale.LC_ALL)
    for name in ("fr_FR.UTF-8", "fr_FR", "C"):
        try:
            locale.setlocale(locale.LC_ALL, name)
            break
        except locale.Error:
            continue
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.usefixtures("french")
def test_it_is_what_the_contract_shows() -> None:
    body = single(reading(datetime(2026, 11, 24, 20, 31, 5, 123000, UTC)), ZoneInfo("UTC"))

    assert body == (
        '{"temperature":21.4,"humidity":48.2,"timestamp":"[24/Nov/2026 20:31:05]","node":"kitchen","sensor":"main",'
        '"id":"kitchen-k3f9x2ab-1234","time":"2026-11-24T20:31:05.123Z","clock":"corrected"}'
    )


MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@pytest.mark.parametrize(("month", "name"), list(enumerate(MONTHS, start=1)))
def test_months_are_english(month: int, name: str) -> None:
    body = json.loads(single(reading(datetime(2026, month, 3, 4, 5, 6, tzinfo=UTC)), ZoneInfo("UTC")))

    assert body["timestamp"] == f"[03/{name}/2026 04:05:06]"


def test_the_timestamp_is_local_and_the_time_is_not() -> None:
    winter = reading(datetime(2026, 1, 1, 23, 30, tzinfo=UTC))
    summer = reading(datetime(2026, 7, 1, 23, 30, tzinfo=UTC))

    bodies = json.loads(array([winter, summer], ZoneInfo("Europe/Paris")))

    assert [body["timestamp"] for body in bodies] == ["[02/Jan/2026 00:30:00]", "[02/Jul/2026 01:30:00]"]
    assert [body["time"] for body in bodies] == ["2026-01-01T23:30:00.000Z", "2026-07-01T23:30:00.000Z"]


@given(
    time=st.datetimes(timezones=st.just(UTC)),
    timezone=st.sampled_from([ZoneInfo("America/New_York"), ZoneInfo("Asia/Tokyo"), ZoneInfo("UTC")]),
)
def test_any_time_that_a_reading_can_have_can_be_posted(time: datetime, timezone: ZoneInfo) -> None:
    body = json.loads(single(reading(time), timezone))

    assert datetime.fromisoformat(body["time"]) == time.replace(microsecond=time.microsecond // 1000 * 1000)
