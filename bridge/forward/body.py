"""The JSON that the user's server reads: one reading, or an array of them."""

from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

from bridge.store.outgoing import OutgoingReading
from bridge.store.schema import CLOCKS
from mqtt_client.reading import from_ms

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def timestamp_text(moment: datetime) -> str:
    """Return ``[24/Nov/2026 20:31:05]``, with English month names whatever the locale."""
    return f"[{moment:%d}/{_MONTHS[moment.month - 1]}/{moment.year:04d} {moment:%H:%M:%S}]"


@lru_cache(maxsize=4096)
def _second(second: int, timezone: tzinfo) -> tuple[str, str]:
    """Return a second as the script's text in local time, and as the beginning of RFC 3339 in UTC."""
    moment = from_ms(second * 1000)
    try:
        local = moment.astimezone(timezone)
    except (OverflowError, ValueError):  # in the years 1 and 9999 the local year may not exist
        local = moment.astimezone(UTC)
    return timestamp_text(local), moment.isoformat()[:19]


def single(reading: OutgoingReading, timezone: tzinfo) -> str:
    """Return one reading as JSON; its values stand as they were stored.

    No quantity can have the name of another key: those names are reserved, and refused on arrival.
    """
    second, milliseconds = divmod(reading.time_ms, 1000)
    timestamp, time = _second(second, timezone)
    return (
        f'{reading.values[:-1]},"timestamp":"{timestamp}","node":"{reading.node}","sensor":"{reading.sensor}",'
        f'"id":"{reading.key}","time":"{time}.{milliseconds:03d}Z","clock":"{CLOCKS[reading.clock]}"}}'
    )


def array(readings: Iterable[OutgoingReading], timezone: tzinfo) -> str:
    """Return several readings as a JSON array."""
    return f"[{','.join(single(reading, timezone) for reading in readings)}]"
