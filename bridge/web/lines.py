"""Lines for charts and sparklines, from the roll-ups: by minute where that is not too much, else by hour.

Each line is thinned to what a screen can show, with its gaps kept, so that
thirty days of a hundred nodes are answered in well under a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Table, select

from bridge.plot.series import Outline, Series, outline
from bridge.store import schema
from bridge.store.database import Store
from bridge.store.rollups import HOUR_MS, MINUTE_MS, MINUTES_KEPT_DAYS
from bridge.web.facts import Line

ROWS_AT_MOST = 150_000
"""Minutes read for one chart; above, hours are read."""
POINTS_AT_MOST = 24_000
POINTS_OF_A_LINE = 1200
DAY_MS = 24 * HOUR_MS

Columns = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """A line as it is drawn, and the figures of its range."""

    line: Line
    outline: Outline
    count: int
    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class Chart:
    """The lines of one quantity; ``step_ms`` is the width of what one point stands for."""

    step_ms: int
    drawn: list[Drawn]


def read_chart(
    store: Store,
    lines: Sequence[Line],
    from_ms: int,
    to_ms: int,
    now_ms: int,
    last: dict[int, tuple[int, float]] | None = None,
) -> Chart:
    """Read the lines of one quantity.

    Args:
        store: the store.
        lines: of one quantity.
        from_ms: the range's first millisecond.
        to_ms: its end.
        now_ms: this moment: no point lies in the future.
        last: by line, its very last reading (time, value), which no roll-up may have yet.
    """
    by_minute = len(lines) * (to_ms - from_ms) / MINUTE_MS <= ROWS_AT_MOST
    by_minute = by_minute and from_ms > now_ms - MINUTES_KEPT_DAYS * DAY_MS
    step_ms, table = (MINUTE_MS, schema.rollups_minute) if by_minute else (HOUR_MS, schema.rollups_hour)
    found = _read(store, table, [line.id for line in lines], from_ms - from_ms % step_ms, to_ms)
    points = max(60, min(POINTS_OF_A_LINE, POINTS_AT_MOST // max(1, len(lines))))
    drawn: list[Drawn] = []
    for line in lines:
        columns = found.get(line.id)
        if columns is not None:
            times = np.minimum(columns[:, 0].astype(np.int64) + step_ms // 2, now_ms)
            newest = (last or {}).get(line.id)
            drawn.append(_drawn(line, times, columns, newest, points, to_ms - from_ms))
    return Chart(step_ms, drawn)


def _drawn(
    line: Line,
    times_ms: NDArray[np.int64],
    columns: Columns,
    newest: tuple[int, float] | None,
    points: int,
    span_ms: int,
) -> Drawn:
    counts, lows, highs, totals = columns[:, 1], columns[:, 2], columns[:, 3], columns[:, 4]
    values = totals / counts
    if newest is not None and newest[0] > times_ms[-1]:
        times_ms, values = np.append(times_ms, newest[0]), np.append(values, newest[1])
    whole = Series(line.node, line.sensor, line.quantity, times_ms, values)
    return Drawn(
        line,
        outline(whole, points, span_ms),
        int(counts.sum()),
        float(lows.min()),
        float(np.average(totals / counts, weights=counts)),
        float(highs.max()),
    )


def read_spark(store: Store, line_id: int, now_ms: int) -> tuple[list[float], list[float]]:
    """Return the last hour of a line: minutes ago (negative) and mean values."""
    found = _read(store, schema.rollups_minute, [line_id], now_ms - HOUR_MS, now_ms).get(line_id)
    if found is None:
        return [], []
    return ((found[:, 0] - now_ms) / MINUTE_MS).tolist(), (found[:, 4] / found[:, 1]).tolist()


def _read(store: Store, table: Table, ids: list[int], from_ms: int, to_ms: int) -> dict[int, Columns]:
    """Return, by line, start, count, minimum, maximum and total of each roll-up in the range, sorted by time."""
    columns = table.c
    query = (
        select(columns.series_id, columns.start_ms, columns["count"], columns.minimum, columns.maximum, columns.total)
        .where(columns.series_id.in_(ids), columns.start_ms >= from_ms, columns.start_ms < to_ms)
        .order_by(columns.series_id, columns.start_ms)
    )
    with store.read() as connection:
        rows = connection.execute(query).cursor.fetchall()  # as tuples: a hundred thousand rows are too many to wrap
    if not rows:
        return {}
    flat = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * 6).reshape(-1, 6)
    flat = flat[np.isfinite(flat).all(axis=1)]
    starts = np.flatnonzero(np.diff(flat[:, 0], prepend=np.nan))
    return {int(part[0, 0]): part[:, 1:] for part in np.split(flat, starts[1:])}
