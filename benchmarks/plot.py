"""Plots: 10^4, 10^5 and 10^6 points drawn as the bridge does, beside the old script's way at 10^4.

The old script gave matplotlib its timestamps as texts, so each became a
category with a tick of its own. Both draw temperature and humidity as PNG.
"""

import tempfile
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from benchmarks.measuring import Figure, in_child, median, tell
from bridge.local_times import LocalTimes
from bridge.plot.plot import draw
from bridge.plot.series import Series

RUNS = 3
POINTS = (10_000, 100_000, 1_000_000)
OLD_POINTS = 10_000
START_MS = 1_795_000_000_000
STEP_MS = 5_000
PARIS = ZoneInfo("Europe/Paris")


def series(points: int, nodes: int = 5) -> list[Series]:
    """Return this many points in all, of temperature and humidity of some nodes."""
    each = points // (2 * nodes)
    times = START_MS + STEP_MS * np.arange(each, dtype=np.int64)
    noise = np.random.default_rng(1)
    wave = np.sin(times / 86_400_000 * 2 * np.pi)
    return [
        Series(f"node-{node}", "main", quantity, times, 20 + node + size * wave + noise.normal(0, 0.2, each))
        for node in range(nodes)
        for quantity, size in (("temperature", 4), ("humidity", 12))
    ]


def ours(points: int, output: Path) -> float:
    """Draw as the bridge does; return CPU seconds."""
    lines = series(points)
    begin = time.process_time()
    draw(lines, output, language="fr", timezone=PARIS)
    return time.process_time() - begin


def old(points: int, output: Path) -> float:
    """Draw as the old script did, in matplotlib's own words; return CPU seconds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    temperature, humidity = series(2 * points // 2, nodes=1)
    times = LocalTimes(PARIS)
    texts = [times.script(int(moment)) for moment in temperature.times_ms]
    begin = time.process_time()
    pyplot.figure(figsize=(12, 6))
    pyplot.plot(texts, temperature.values, label="Température (°C)")
    pyplot.plot(texts, humidity.values, label="Humidité (%)")
    pyplot.xlabel("Temps")
    pyplot.legend()
    pyplot.xticks(rotation=45)
    pyplot.tight_layout()
    pyplot.savefig(output)
    return time.process_time() - begin


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "plot.png"
        figures = []
        for points in POINTS:
            runs = [in_child(lambda points=points: ours(points, output)) for _ in range(RUNS)]  # type: ignore[misc]
            seconds = median([value for value, _ in runs])
            peak = max(cost.peak_mib or 0 for _, cost in runs)
            figures.append(Figure(f"bridge, {points:,} points", seconds, "CPU s", None, peak))
        seconds, cost = in_child(lambda: old(OLD_POINTS, output))
        figures.append(
            Figure(
                f"old script, {OLD_POINTS:,} points",
                seconds,
                "CPU s",
                None,
                cost.peak_mib,
                seconds / figures[0].value,
                f"beside the bridge at {POINTS[0]:,}; one run",
            )
        )
    tell("plot", "Drawing a PNG: CPU seconds (one thread, so wall seconds on an idle machine); median of 3", figures)
