"""The status table of the server's answers."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.forward.answers import (
    LONGEST_RETRY_AFTER_S,
    Answer,
    Kind,
    Verdict,
    back_off_s,
    body_text,
    judge,
    retry_after_s,
)

NOW = datetime(2026, 11, 24, 20, 31, 5, tzinfo=UTC)
REFUSED = {400, 413, 415, 422}
AGAIN = {408, 409, 425, 429}


def verdict(answer: Answer, *, unknown_before: bool = False, expect: str | None = None) -> Verdict:
    return judge(answer, unknown_before=unknown_before, expect=expect, now=NOW)


@given(status=st.integers(100, 999), unknown_before=st.booleans(), body=st.binary(max_size=300))
def test_every_status_has_the_verdict_of_the_table(status: int, unknown_before: bool, body: bytes) -> None:
    found = verdict(Answer(status, body), unknown_before=unknown_before)

    if 200 <= status <= 299:
        expected = Kind.SETTLED
    elif status == 409 and unknown_before:
        expected = Kind.DUPLICATE
    elif status in AGAIN or 500 <= status <= 599:
        expected = Kind.AGAIN
    elif status in REFUSED:
        expected = Kind.REFUSED
    else:
        expected = Kind.SETUP
    assert found.kind is expected
    assert found.unknown == (status == 504)
    assert str(status) in found.told
    assert "\n" not in found.told
    assert "\0" not in found.told


@pytest.mark.parametrize("sent", [True, False])
def test_no_answer_means_again_and_is_of_unknown_outcome_only_when_the_request_left(sent: bool) -> None:
    found = verdict(Answer(trouble="connection refused", sent=sent))

    assert found == Verdict(Kind.AGAIN, "connection refused", unknown=sent, down=not sent)


def test_a_2xx_without_the_expected_text_is_a_wrong_set_up_of_unknown_outcome() -> None:
    found = verdict(Answer(200, b"<html>Welcome to the hotel"), expect='"number"')

    assert (found.kind, found.unknown) == (Kind.SETUP, True)


def test_a_2xx_with_the_expected_text_is_settled() -> None:
    assert verdict(Answer(201, b'{"number": 7}'), expect='"number"').kind is Kind.SETTLED


def test_a_body_that_broke_off_before_the_expected_text_means_again() -> None:
    found = verdict(Answer(200, b'{"num', complete=False), expect='"number"')

    assert (found.kind, found.unknown) == (Kind.AGAIN, True)


@pytest.mark.parametrize(
    ("status", "setting"), [(401, "SERVER_TOKEN"), (403, "SERVER_TOKEN"), (404, "SERVER_URL"), (405, "SERVER_URL")]
)
def test_a_wrong_set_up_names_the_setting_to_check(status: int, setting: str) -> None:
    assert setting in verdict(Answer(status)).told


def test_a_redirect_tells_where_it_leads() -> None:
    found = verdict(Answer(302, location="http://portal.example/login"))

    assert found.kind is Kind.SETUP
    assert "http://portal.example/login" in found.told


@given(seconds=st.integers(0, 10**6))
def test_retry_after_in_seconds_and_as_a_date_ask_for_the_same(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)

    asked_s = {retry_after_s(str(seconds), NOW), retry_after_s(date, NOW)}

    assert asked_s == {min(seconds, LONGEST_RETRY_AFTER_S)}


@given(text=st.one_of(st.none(), st.text(max_size=40)))
def test_any_retry_after_is_read_as_a_bounded_wait_or_not_at_all(text: str | None) -> None:
    wait_s = retry_after_s(text, NOW)

    assert wait_s is None or 0 <= wait_s <= LONGEST_RETRY_AFTER_S


def test_an_address_of_the_server_becomes_a_text_without_nul() -> None:
    assert verdict(Answer(302, location="http://a\0b")).told.startswith("302 Found to http://ab ")


def test_a_date_in_the_past_asks_for_no_wait() -> None:
    assert retry_after_s("Sun, 06 Nov 1994 08:49:37 GMT", NOW) == 0


def test_retry_after_is_heard_on_every_answer_that_means_again() -> None:
    assert verdict(Answer(429, retry_after="7")).wait_s == 7
    assert verdict(Answer(503, retry_after="7")).wait_s == 7


def test_back_off_doubles_up_to_a_minute_and_jitters_from_zero() -> None:
    highest = [back_off_s(failures, lambda _low, high: high) for failures in range(1, 10)]
    lowest = [back_off_s(failures, lambda low, _high: low) for failures in (1, 5, 10_000)]

    assert highest == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert lowest == [0, 0, 0]


@given(body=st.binary(max_size=300), length=st.integers(1, 50))
def test_a_body_becomes_a_bounded_text_without_nul(body: bytes, length: int) -> None:
    text = body_text(body, length)

    assert len(text) <= length
    assert "\0" not in text
