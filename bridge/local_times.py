"""Times of readings as people read them: the old script's text, RFC 3339, and Excel's day numbers.

All are made from milliseconds since 1970-01-01T00:00:00Z. Rows come sorted by
time, so what belongs to a minute is worked out once and kept for the next row.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from bridge.forward.body import timestamp_text
from mqtt_client.reading import from_ms

MINUTE_MS = 60_000
DAY_MS = 86_400_000

_EXCEL_DAY_0 = datetime(1899, 12, 30)  # noqa: DTZ001  Excel counts days of local time
EXCEL_FIRST_DAY = 61
"""1900-03-01: Excel counts a 29 February 1900 that never was, so earlier day numbers mean other days elsewhere."""


def localize(time_ms: int, zone: ZoneInfo) -> datetime:
    """Return a time in this zone, or in UTC where the zone's would leave the years 1 to 9999."""
    utc = from_ms(time_ms)
    try:
        return utc.astimezone(zone)
    except OverflowError:
        return utc


class LocalTimes:
    """Texts and day numbers of times in one zone."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._minute = -1 << 62
        self._script = self._utc = ""
        self._second = 0
        self._day_ms = 0

    def script(self, time_ms: int) -> str:
        """Return the old script's text, ``[24/Nov/2026 20:31:05]``: English months whatever the locale."""
        rest = self._turn_to(time_ms)
        second = self._second + rest // 1000
        if second < 60:
            return f"{self._script}{second:02d}]"
        return timestamp_text(localize(time_ms, self.zone))

    def rfc3339(self, time_ms: int) -> str:
        """Return RFC 3339 in UTC with milliseconds, ``2026-11-24T20:31:05.123Z``."""
        rest = self._turn_to(time_ms)
        return f"{self._utc}{rest // 1000:02d}.{rest % 1000:03d}Z"

    def excel(self, time_ms: int) -> float | None:
        """Return the local time as Excel's day number, None before 1900-03-01, which it cannot show."""
        rest = self._turn_to(time_ms)
        days = (self._day_ms + rest) / DAY_MS
        return days if days >= EXCEL_FIRST_DAY else None

    def day(self, time_ms: int) -> int:
        """Return the local day as Excel's whole day number; also below what Excel can show."""
        rest = self._turn_to(time_ms)
        return (self._day_ms + rest) // DAY_MS

    def _turn_to(self, time_ms: int) -> int:
        """Make the minute of this time the current one; return the milliseconds that have passed in it."""
        minute, rest = divmod(time_ms, MINUTE_MS)
        if minute != self._minute:
            start = minute * MINUTE_MS
            local = localize(start, self.zone)
            self._utc = from_ms(start).isoformat(timespec="minutes")[:16] + ":"
            self._script = timestamp_text(local)[:-3]
            self._second = local.second  # not 0 where the zone's offset has seconds, before standard time
            self._day_ms = (local.replace(tzinfo=None) - _EXCEL_DAY_0) // timedelta(milliseconds=1)
            self._minute = minute
        return rest


def day_date(day: int) -> str:
    """Return an Excel day number as ``2026-11-24``."""
    return (_EXCEL_DAY_0 + timedelta(days=day)).date().isoformat()


def parse_rfc3339(text: str) -> int:
    """Return the milliseconds of an RFC 3339 time.

    Raises:
        ValueError: it is none, or has no offset.
    """
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    return (time.astimezone(UTC) - from_ms(0)) // timedelta(milliseconds=1)
