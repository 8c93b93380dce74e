"""Moments as people write them: ``30d``, ``2026-11-01``, ``yesterday``, ``2026-11-01 12:30``, RFC 3339."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from bridge.durations import parse_duration
from mqtt_client.reading import to_ms

ALLOWED = (
    "30d (ago; also s, min, h, w), now, today, yesterday, 2026-11-01, '2026-11-01 12:30' "
    "or RFC 3339 such as 2026-11-01T12:30:00Z"
)

_DAYS_AGO = {"today": 0, "aujourd'hui": 0, "yesterday": 1, "hier": 1}


def parse_moment(text: str, now: datetime, zone: ZoneInfo, *, is_end: bool = False) -> int:
    """Return a moment in milliseconds since 1970-01-01T00:00:00Z.

    Args:
        text: what was written; without an offset it is local time.
        now: the current time.
        zone: of local times.
        is_end: whether a range ends here; a day is then taken with all of itself.

    Raises:
        ValueError: it is no moment.
    """
    text = text.strip()
    word = text.lower()
    try:
        if word == "now":
            return to_ms(now)
        if word in _DAYS_AGO:
            return _day(now.astimezone(zone) - timedelta(days=_DAYS_AGO[word]), zone, is_end)
        if text[:1].isdigit() and text[-1:].isalpha() and not text.endswith(("Z", "z")):
            return to_ms(now - timedelta(seconds=parse_duration(text)))
        moment = datetime.fromisoformat(text)
        if len(text) <= len("2026-11-01") and "T" not in text:
            return _day(moment, zone, is_end)
        return to_ms(moment if moment.tzinfo else moment.replace(tzinfo=zone))
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no moment; allowed are {ALLOWED}") from None


def _day(day: datetime, zone: ZoneInfo, is_end: bool) -> int:
    """Return when a local day begins, or when the next one does."""
    date = day.date() + timedelta(days=1 if is_end else 0)
    return to_ms(datetime(date.year, date.month, date.day, tzinfo=zone))
