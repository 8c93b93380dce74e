"""Values over time, as plots and charts show them: lines with their gaps, thinned to what can be seen.

Nothing is remembered and nothing is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.archive.summary import GAP_FACTOR, GAP_LEAST_MS
from bridge.plot.thin import thinned

Times = NDArray[np.int64]
Values = NDArray[np.float64]

PIXELS = 2000
"""Gaps below this part of the whole time are narrower than a pixel, so no line is broken there."""


@dataclass(frozen=True)
class Series:
    """One quantity of one sensor, sorted by time (milliseconds since 1970-01-01T00:00:00Z)."""

    node: str
    sensor: str
    quantity: str
    times_ms: Times
    values: Values

    @property
    def span_ms(self) -> tuple[int, int]:
        """First and last time."""
        return int(self.times_ms[0]), int(self.times_ms[-1])


@dataclass(frozen=True)
class Outline:
    """A line as it is drawn: NaN where it is broken; points between two gaps stand alone."""

    times_ms: Times
    values: Values
    lone_times_ms: Times
    lone_values: Values


def gap_limit_ms(times_ms: Times) -> float:
    """Return the spacing above which a gap begins: three times the median, at least five seconds."""
    spacings = np.diff(times_ms)
    spacings = spacings[spacings > 0]
    if not len(spacings):
        return float(GAP_LEAST_MS)
    middle = (len(spacings) - 1) // 2
    return max(GAP_FACTOR * float(np.partition(spacings, middle)[middle]), float(GAP_LEAST_MS))


def outline(series: Series, points: int, span_ms: int) -> Outline:
    """Thin a line to about this many points, each piece between two gaps by itself.

    Args:
        series: the line.
        points: to keep; at least the first and last of each piece are kept.
        span_ms: what the whole plot shows, in milliseconds.
    """
    limit = max(gap_limit_ms(series.times_ms), span_ms / PIXELS)
    breaks = np.flatnonzero(np.diff(series.times_ms) > limit) + 1
    starts, ends = np.r_[0, breaks], np.r_[breaks, len(series.times_ms)]
    times: list[Times] = []
    values: list[Values] = []
    lone: list[int] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - start == 1:
            lone.append(start)
            continue
        share = max(2, round(points * (end - start) / len(series.times_ms)))
        kept = start + thinned(series.times_ms[start:end], series.values[start:end], share)
        times += [series.times_ms[kept], series.times_ms[end - 1 : end]]
        values += [series.values[kept], np.array([np.nan])]
    empty_times, empty_values = np.empty(0, np.int64), np.empty(0)
    return Outline(
        np.concatenate(times) if times else empty_times,
        np.concatenate(values) if values else empty_values,
        series.times_ms[lone],
        series.values[lone],
    )


def labels(lines: Sequence[Series]) -> list[str]:
    """Return a name for each line of one quantity: its node's, with the sensor's where a node has several."""
    nodes = [line.node for line in lines]
    return [line.node if nodes.count(line.node) == 1 else f"{line.node} · {line.sensor}" for line in lines]
