"""What the user wants to see in the charts: which time, which nodes, and how closely."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from bridge.web.charts import local_range_ms
from bridge.web.page import OWN_RANGE, RANGES_S, TICK_MS

LIVE_POINTS = 1800
"""A chart is drawn anew when time has moved by this part of its width, and at each tick at most."""


@dataclass(frozen=True)
class Selection:
    """What the charts show; times in milliseconds since 1970-01-01T00:00:00Z."""

    from_ms: int
    to_ms: int
    key: str
    """Changes when the axes are to be set anew."""
    is_live: bool
    """Whether its end is now."""

    def is_due(self, tick: int) -> bool:
        """Tell whether the charts are to be drawn anew at this tick of the page's clock."""
        every = max(1, (self.to_ms - self.from_ms) // LIVE_POINTS // TICK_MS) if self.is_live else 20
        return tick % every == 0


def select(
    range_name: str,
    first: str | None,
    last: str | None,
    zoom: Sequence[str] | None,
    now_ms: int,
    zone: ZoneInfo,
) -> Selection:
    """Return what to show; what cannot be understood counts as not given.

    Args:
        range_name: ``1h``, ``24h``, ``7d``, ``30d`` or ``own``.
        first: first day of an own range, as ``2026-11-24``.
        last: its last day.
        zoom: the part that was chosen with the mouse, as Plotly gives it.
        now_ms: this moment.
        zone: in which days begin.
    """
    from_ms, to_ms, key = now_ms - RANGES_S.get(range_name, 86_400) * 1000, now_ms, range_name
    is_live = True
    if range_name == OWN_RANGE:
        from_ms, to_ms = _days(first, last, now_ms, zone)
        key, is_live = f"{first}/{last}", to_ms >= now_ms
        to_ms = min(to_ms, now_ms) if from_ms < now_ms else to_ms
    if zoom:
        try:
            near, far = local_range_ms(zoom, zone)
        except (ValueError, TypeError, OverflowError):
            return Selection(from_ms, to_ms, key, is_live)
        if near < far:
            return Selection(near, far, f"{key}/{near}/{far}", is_live and far >= now_ms)
    return Selection(from_ms, to_ms, key, is_live)


def zoom_of(relayout: Mapping[str, object] | None) -> list[str] | bool | None:
    """Return what a change of a chart's axes means: a zoom, None for the whole range again, False for neither."""
    if not relayout:
        return False
    if relayout.get("xaxis.autorange"):
        return None
    near, far = relayout.get("xaxis.range[0]"), relayout.get("xaxis.range[1]")
    if isinstance(near, str) and isinstance(far, str):
        return [near, far]
    return False


def _days(first: str | None, last: str | None, now_ms: int, zone: ZoneInfo) -> tuple[int, int]:
    """Return the time from the first day's beginning to the last day's end; a week where they are missing."""
    today = datetime.fromtimestamp(now_ms / 1000, zone).date()
    begin, end = _day(first) or today - timedelta(days=6), _day(last) or today
    if end < begin:
        begin, end = end, begin
    return _midnight_ms(begin, zone), _midnight_ms(end + timedelta(days=1), zone)


def _day(text: str | None) -> date | None:
    """Return a day as ``2026-11-24`` or, as in French, ``24/11/2026``; None where it is neither."""
    for form in ("%Y-%m-%d", "%d/%m/%Y"):
        try:
            day = datetime.strptime((text or "").strip(), form).date()  # noqa: DTZ007  # a day has no zone yet
        except ValueError:
            continue
        return day if 1970 <= day.year <= 9000 else None
    return None


def _midnight_ms(day: date, zone: ZoneInfo) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)
