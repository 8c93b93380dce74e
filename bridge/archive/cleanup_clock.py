"""Whether the clock may say which backups are old: one that leapt far ahead would have all of them deleted at once.

A clock is believed while it is near the last clean-up's time. After a leap,
which a long time switched off is too, it is believed once it has gone on from
there for a week: who has a wrong clock has a week to see it, and who was away
keeps files a week longer. Both times are kept in the store's ``meta``; what a
power cut takes back is the last look.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select

from bridge.store import schema
from bridge.store.database import Store
from mqtt_client.errors import TryLater
from mqtt_client.reading import format_time, from_ms, to_ms

WEEK = timedelta(days=7)
BELIEVED = "cleanup_clock_ms"
"""The time of the last clean-up that believed the clock."""
LEAPT = "cleanup_clock_leapt_ms"
"""The first time seen after a leap that is not believed yet."""
LAST_RUN = "last_cleanup_ms"
"""What the schedule knows of the last clean-up: a store of an earlier release has this alone."""

_unsaved: dict[str, dict[str, int]] = {}
"""By the store's id: what a full store did not take, which this process goes on from."""


def doubt(store: Store, now: datetime, cleanup_interval_s: float) -> str:
    """Look at the clock once in each clean-up; return why it is not believed, nothing where it is."""
    known = _unsaved.get(store.id) or _known(store)
    now_ms, week_ms = to_ms(now), int(WEEK / timedelta(milliseconds=1))
    believed_ms, leapt_ms = known.get(BELIEVED, known.get(LAST_RUN, now_ms)), known.get(LEAPT)
    if abs(now_ms - believed_ms) <= max(week_ms, int(2000 * cleanup_interval_s)):
        leapt_ms = None
    elif leapt_ms is None or now_ms < leapt_ms:
        leapt_ms = now_ms
    elif now_ms >= leapt_ms + week_ms:
        leapt_ms = None
    times_ms = {BELIEVED: now_ms} if leapt_ms is None else {BELIEVED: believed_ms, LEAPT: leapt_ms}
    try:
        _keep(store, times_ms)
        _unsaved.pop(store.id, None)
    except TryLater:  # old backups may be what fills the disk
        _unsaved[store.id] = times_ms
    if leapt_ms is None:
        return ""
    return (
        f"the clock says {format_time(now.astimezone(UTC))}, and the last clean-up was at "
        f"{format_time(from_ms(believed_ms))}; it is believed if it still goes on like this at "
        f"{format_time(from_ms(leapt_ms + week_ms))}"
    )


def _known(store: Store) -> dict[str, int]:
    meta = schema.meta.c
    with store.read() as connection:
        rows = connection.execute(select(meta.key, meta.value).where(meta.key.in_((BELIEVED, LEAPT, LAST_RUN)))).all()
    return {row.key: int(row.value) for row in rows}


def _keep(store: Store, times_ms: dict[str, int]) -> None:
    table = schema.meta
    with store.write() as connection:
        connection.execute(delete(table).where(table.c.key.in_((BELIEVED, LEAPT))))
        connection.execute(insert(table), [{"key": key, "value": str(at_ms)} for key, at_ms in times_ms.items()])
