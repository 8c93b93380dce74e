"""The plot of what is asked for, from the store and the archives together, each reading once.

Files are read by columns, which is many times as fast as row by row; the
store's rows are collected line by line. Nothing is remembered.
"""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from bridge.archive.csv_file import FIRST_QUANTITIES, NoArchive
from bridge.errors import NotFound
from bridge.export.reading import Readings
from bridge.export.selection import Selection
from bridge.export.whereabouts import Gap, Whereabouts
from bridge.plot.frames import read_file
from bridge.plot.plot import draw, title_of
from bridge.plot.series import Series
from bridge.settings import BridgeSettings
from bridge.store.database import Store
from bridge.store.shelf import Stored
from mqtt_client.errors import TryLater

Key = tuple[str, str, str]


def plot_selected(
    settings: BridgeSettings, store: Store, selection: Selection, output: Path, theme: str = "light"
) -> list[Gap]:
    """Draw what is asked for into a file; return what could not be read.

    Raises:
        NotFound: there are no such readings; no file was touched.
        PersonNeeded: the file's name has no known ending.
        TryLater: a file cannot be read or written.
    """
    try:
        series, gaps = selected_series(settings, store, selection)
        if not series:
            raise NotFound("nothing to plot: there are no such readings in the store or the archives")
        title = None if _has_both(series) else title_of({line.quantity for line in series}, settings.ui_language)
        draw(
            series,
            output,
            language=settings.ui_language,
            timezone=settings.timezone,
            theme=theme,
            title=title,
        )
    except TryLater:
        raise
    except (OSError, NoArchive) as exc:
        raise TryLater(f"cannot draw to {str(output)!r}: {exc}") from exc
    return gaps


def selected_series(settings: BridgeSettings, store: Store, selection: Selection) -> tuple[list[Series], list[Gap]]:
    """Return the lines of what is asked for, and what could not be read."""
    lines: list[Series] = []
    with store.read() as connection:
        whereabouts = Whereabouts(settings, connection, selection)
        readings = Readings(connection, whereabouts, selection, settings.timezone)
        for place in whereabouts.places:
            if place.path is None:
                lines += _collected(filter(None, map(selection.take, readings.rows(place.archive_id))))
            else:
                file = read_file(whereabouts.path_of(place), settings.timezone)
                lines += filter(None, (_cut(line, selection) for line in file))
    return _joined(lines), whereabouts.gaps


def _has_both(series: Iterable[Series]) -> bool:
    return set(FIRST_QUANTITIES) <= {line.quantity for line in series}


def _cut(line: Series, selection: Selection) -> Series | None:
    """Return what was asked for of a line, None where that is nothing."""
    if (selection.nodes and line.node not in selection.nodes) or (
        selection.quantities and line.quantity not in selection.quantities
    ):
        return None
    first, last = np.searchsorted(line.times_ms, [selection.from_ms, selection.to_ms])
    if first == last:
        return None
    return Series(line.node, line.sensor, line.quantity, line.times_ms[first:last], line.values[first:last])


def _collected(readings: Iterable[Stored]) -> Iterator[Series]:
    """Turn rows into lines."""
    times: dict[Key, array[int]] = {}
    values: dict[Key, array[float]] = {}
    for node, sensor, _, time_ms, _, measured in readings:
        for quantity, value in measured.items():
            key = node, sensor, quantity
            if key not in times:
                times[key], values[key] = array("q"), array("d")
            times[key].append(time_ms)
            values[key].append(value)
    for key, moments in times.items():
        yield Series(*key, np.frombuffer(moments, np.int64), np.frombuffer(values[key], np.float64))


def _joined(lines: Iterable[Series]) -> list[Series]:
    """Put the parts of each line together, sorted by time."""
    parts: dict[Key, list[Series]] = {}
    for line in lines:
        parts.setdefault((line.node, line.sensor, line.quantity), []).append(line)
    joined = []
    for key, pieces in parts.items():
        times = np.concatenate([piece.times_ms for piece in pieces])
        order = np.argsort(times, kind="stable")
        joined.append(Series(*key, times[order], np.concatenate([piece.values for piece in pieces])[order]))
    return joined
