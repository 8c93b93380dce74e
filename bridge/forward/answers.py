"""What the server's answer means for the readings that were posted: the status table, as a pure function.

| answer | verdict |
| --- | --- |
| 2xx (with SERVER_EXPECT: and a body that contains it) | settled |
| 409 after an earlier try of unknown outcome | duplicate: the server has it already |
| 408, 409 otherwise, 425, 429, 5xx, no answer | again, later |
| 400, 413, 415, 422 | refused: this reading will never be taken |
| 3xx, other 4xx, 2xx without SERVER_EXPECT | the set-up is wrong: a person has to change something |

An outcome is unknown when the request left and no answer came, when a gateway
answers 504 (its own wait for the server ended), and when a 2xx lacks SERVER_EXPECT.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus

LONGEST_BACK_OFF_S = 60.0
LONGEST_RETRY_AFTER_S = 3600.0
"""A server that asks for a longer silence is asked again after an hour all the same."""
_FIRST_BACK_OFF_S = 1.0
_AGAIN = frozenset({408, 409, 425, 429})
_REFUSED = frozenset({400, 413, 415, 422})
_SHOWN = 200
_TAG = re.compile(r"<[^<>]*>")


class Kind(Enum):
    """What happens to a reading after a try."""

    SETTLED = "settled"
    DUPLICATE = "duplicate"
    AGAIN = "again"
    REFUSED = "refused"
    SETUP = "set-up wrong"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one POST; without a status nothing did, and ``trouble`` says why."""

    status: int | None = None
    body: bytes = b""
    """The first part of the body, as much as is ever looked at."""
    complete: bool = True
    """False: the body broke off or took too long, so that a text missing in it proves nothing."""
    retry_after: str | None = None
    location: str | None = None
    allow: str | None = None
    """The methods that the address takes, where the server says (RFC 9110 §10.2.1)."""
    date: str | None = None
    """The server's clock, where it says (RFC 9110 §6.6.1)."""
    trouble: str = ""
    sent: bool = True
    """False: no connection was made, so the server cannot have seen the request."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means."""

    kind: Kind
    told: str
    """For logs, attempts and dead letters: the answer in one line."""
    unknown: bool = False
    """Whether the server may have taken the readings although this try did not settle them."""
    wait_s: float | None = None
    """Seconds that the server asked us to wait."""
    down: bool = False
    """Whether no server was there at all, whichever reading was sent."""


def judge(answer: Answer, *, unknown_before: bool, expect: str | None, now: datetime | None = None) -> Verdict:
    """Return what this answer means.

    Args:
        answer: what came back.
        unknown_before: an earlier try of these readings had an unknown outcome.
        expect: SERVER_EXPECT.
        now: the time that a date in ``Retry-After`` is compared with.
    """
    status, told = answer.status, _told(answer)
    if status is None:
        return Verdict(Kind.AGAIN, told, unknown=answer.sent, down=not answer.sent)
    if 200 <= status < 300:
        if expect is None or expect.encode() in answer.body:
            return Verdict(Kind.SETTLED, told)
        if not answer.complete:
            return Verdict(Kind.AGAIN, f"{told} (the body broke off)", unknown=True)
        return Verdict(Kind.SETUP, f"{told}, but without the text of SERVER_EXPECT", unknown=True)
    if status == 409 and unknown_before:
        return Verdict(Kind.DUPLICATE, told)
    if status in _AGAIN or 500 <= status < 600:
        wait_s = retry_after_s(answer.retry_after, now or datetime.now(UTC))
        return Verdict(Kind.AGAIN, told, unknown=status == 504, wait_s=wait_s)
    if status in _REFUSED:
        return Verdict(Kind.REFUSED, told)
    return Verdict(Kind.SETUP, f"{told} (check {'SERVER_TOKEN' if status in (401, 403, 407) else 'SERVER_URL'})")


def retry_after_s(text: str | None, now: datetime) -> float | None:
    """Return what a ``Retry-After`` header asks for (RFC 9110 §10.2.3), at most an hour; None without one."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), LONGEST_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    return min(max((moment - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)


def back_off_s(failures: int, jitter: Callable[[float, float], float]) -> float:
    """Return the seconds to wait after so many failures in a row: exponential with full jitter, at most a minute.

    ``jitter`` draws between two bounds, as random.uniform does. Source: M. Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015.
    """
    return jitter(0.0, min(LONGEST_BACK_OFF_S, _FIRST_BACK_OFF_S * 2.0 ** min(failures - 1, 10)))


def body_text(body: bytes, length: int) -> str:
    """Return the beginning of a body as text that every database takes."""
    return body[: 4 * length].decode("utf-8", "replace").replace("\0", "")[:length]


def _told(answer: Answer) -> str:
    if answer.status is None:
        return answer.trouble
    try:
        phrase = f" {HTTPStatus(answer.status).phrase}"
    except ValueError:
        phrase = ""
    if answer.location:
        phrase += f" to {answer.location[:_SHOWN]}".replace("\0", "")
    shown = (
        " ".join(_TAG.sub(" ", body_text(answer.body, 10 * _SHOWN)).split())[:_SHOWN] if answer.status >= 300 else ""
    )
    return f"{answer.status}{phrase}" + (f": {shown}" if shown else "")
