"""Plots: a panel for each quantity, a line for each node, over real time in the local zone.

A picture is written beside and renamed, so a reader sees the old one or the
new one, and a kill leaves the old.
"""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from bridge.archive import durable
from bridge.archive.csv_file import FIRST_QUANTITIES
from bridge.archive.lock import archive_lock
from bridge.errors import NotFound
from bridge.local_times import DAY_MS
from bridge.plot.frames import read_series
from bridge.plot.series import Series, labels, outline
from bridge.plot.themes import THEMES, Theme, palette
from bridge.quantity_names import quantity_name
from bridge.settings import BridgeSettings
from mqtt_client.errors import PersonNeeded, TryLater
from mqtt_client.reading import UNITS

COMBINED = "graphique_combined.png"
FORMATS = ("png", "svg", "pdf")

POINTS_A_LINE = 4000
POINTS_IN_ALL = 60_000
MANY_LINES = 10
"""More lines in a panel are drawn thinner, and the panel taller."""
PANEL, TALL_PANEL = 3.1, 4.6
"""Heights in inches."""
LEGEND_LINES = 60
LEGEND_WIDTH = 140
"""Letters that fit beside one another below the panels."""
FIRST_MS, LAST_MS = -25_567 * DAY_MS, 84_006 * DAY_MS
"""The years 1900 to 2199; a clock that is further off tells no time that an axis could show beside others."""
LARGEST = 1e300
"""Larger values are drawn as this, since the arithmetic of axes would overflow."""


_TITLE = {
    "fr": ("Température et Humidité au cours du temps", "{} au cours du temps", " et "),
    "en": ("Temperature and humidity over time", "{} over time", " and "),
}
_TIME = {"fr": "Heure ({})", "en": "Time ({})"}
_MORE = {"fr": "… et {} autres", "en": "… and {} more"}
_NO_NAME = {"fr": "sans nom", "en": "without name"}

# Years, months, days, hours, minutes, seconds; French in numbers, since month names follow the process's locale.
_DATES = {
    "fr": ("%Y", "%m/%Y", "%d/%m", "%H:%M", "%H:%M", "%H:%M:%S"),
    "en": ("%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"),
}
_AT_ZERO = {
    "fr": ("", "%Y", "%m/%Y", "%d/%m", "%H:%M", "%H:%M:%S"),
    "en": ("", "%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M:%S"),
}


_OFFSETS = {
    "fr": ("", "%Y", "%m/%Y", "%d/%m/%Y", "%d/%m/%Y", "%d/%m/%Y %H:%M"),
    "en": ("", "%Y", "%b %Y", "%d %b %Y", "%d %b %Y", "%d %b %Y %H:%M"),
}


def plot_archives(settings: BridgeSettings, *, theme: str = "light", stop: threading.Event | None = None) -> Path:
    """Draw what the archive folder holds; return the picture's path. Waits while another process archives.

    Raises:
        NotFound: there is nothing to draw; no file was touched.
        Abandoned: told to stop while waiting.
        TryLater: a folder cannot be read or written; the old picture stays.
    """
    with archive_lock(settings, stop):
        try:
            return draw_folder(settings, theme)
        except OSError as exc:
            raise TryLater(f"cannot draw to {str(settings.archive_directory)!r}: {exc.strerror}") from exc


def draw_folder(settings: BridgeSettings, theme: str = "light") -> Path:
    """Do what :func:`plot_archives` does, for one who holds the archive lock and takes OSError as it comes."""
    series = read_series(settings.archive_directory, settings.timezone)
    if not series:
        raise NotFound(f"nothing to plot: {str(settings.archive_directory)!r} holds no archive with readings")
    output = settings.archive_directory / COMBINED
    draw(series, output, language=settings.ui_language, timezone=settings.timezone, theme=theme)
    return output


def draw(
    series: Sequence[Series],
    output: Path,
    *,
    language: str,
    timezone: ZoneInfo,
    theme: str = "light",
    title: str | None = None,
) -> None:
    """Draw lines into a file, in the format that its name ends with.

    Args:
        series: what to draw.
        output: a .png, .svg or .pdf; replaced where it is there.
        language: fr or en.
        timezone: of the time axis.
        theme: light or dark.
        title: instead of the usual one.

    Raises:
        NotFound: there is nothing to draw; no file was touched.
        PersonNeeded: no such format.
        OSError: the file cannot be written.
    """
    form = output.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise PersonNeeded(f"cannot draw {output.name!r}; allowed are names that end with .png, .svg or .pdf")
    beside = output.with_name(f".{output.name}.part")
    try:
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": COMBINED}):
            figure = build(series, language=language, timezone=timezone, theme=theme, title=title)
            figure.savefig(beside, format=form, dpi=150, facecolor=figure.get_facecolor())
        durable.sync_file(beside)
        os.replace(beside, output)
        durable.sync_folder(output.parent)
    finally:
        beside.unlink(missing_ok=True)


def build(
    series: Sequence[Series], *, language: str, timezone: ZoneInfo, theme: str = "light", title: str | None = None
) -> Figure:
    """Return the figure that :func:`draw` writes.

    Raises:
        NotFound: there is nothing to draw.
    """
    lines = [line for line in map(_drawable, series) if len(line.times_ms)]
    if not lines:
        raise NotFound("nothing to plot: no readings")
    colours = THEMES[theme]
    quantities = _in_order({line.quantity for line in lines})
    layout = ConstrainedLayoutEngine(rect=(0.008, 0.012, 0.982, 0.976), h_pad=0.06)
    named = {quantity: _named([line for line in lines if line.quantity == quantity]) for quantity in quantities}
    tall = max(map(len, named.values())) > MANY_LINES
    height = 1.6 + (TALL_PANEL if tall else PANEL) * len(quantities)
    figure = Figure(figsize=(12, height), layout=layout, facecolor=colours.ground)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(quantities), 1, sharex=True, squeeze=False)[:, 0]
    first = min(line.span_ms[0] for line in lines)
    last = max(line.span_ms[1] for line in lines)
    colour_of = palette(sorted({name for of_quantity in named.values() for name in of_quantity}), colours)
    for panel, quantity in zip(panels, quantities, strict=True):
        for name, line in named[quantity].items():
            _draw_line(panel, line, colour_of[name], len(named[quantity]), last - first)
        _style(panel, quantity, language, colours)
    _set_time_axis(panels[-1], first, last, timezone, language, colours)
    heading = title or _title(quantities, language)
    figure.suptitle(heading, fontsize=16, fontweight="bold", color=colours.text, x=0.01, ha="left")
    _add_legend(figure, colour_of, language, colours)
    figure.align_ylabels(list(panels))
    return figure


def _drawable(line: Series) -> Series:
    there = (line.times_ms >= FIRST_MS) & (line.times_ms < LAST_MS)
    return replace(line, times_ms=line.times_ms[there], values=np.clip(line.values[there], -LARGEST, LARGEST))


def _in_order(quantities: set[str]) -> list[str]:
    return [one for one in FIRST_QUANTITIES if one in quantities] + sorted(quantities - set(FIRST_QUANTITIES))


def _named(lines: Sequence[Series]) -> dict[str, Series]:
    return dict(sorted(zip(labels(lines), lines, strict=True)))


def _draw_line(panel: Axes, line: Series, colour: str, lines: int, span_ms: int) -> None:
    points = max(500, min(POINTS_A_LINE, POINTS_IN_ALL // lines))
    drawn = outline(line, points, span_ms)
    width = 1.4 if lines <= 3 else 1.1 if lines <= MANY_LINES else 0.8
    if len(drawn.times_ms):
        panel.plot(drawn.times_ms / DAY_MS, drawn.values, color=colour, linewidth=width, gid=line.node)
    if len(drawn.lone_times_ms):
        panel.plot(drawn.lone_times_ms / DAY_MS, drawn.lone_values, "o", color=colour, markersize=4, gid=line.node)


def _style(panel: Axes, quantity: str, language: str, colours: Theme) -> None:
    unit = UNITS.get(quantity)
    name = quantity_name(quantity, language)
    panel.set_ylabel(f"{name} ({unit})" if unit else name, color=colours.text, fontsize=11, labelpad=8)
    panel.set_facecolor(colours.ground)
    panel.grid(color=colours.grid, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.margins(y=0.08)
    panel.ticklabel_format(axis="y", useOffset=False)
    panel.tick_params(colors=colours.faint, length=0, labelsize=10)
    for side, spine in panel.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(colours.faint)


def _set_time_axis(
    panel: Axes, first_ms: int, last_ms: int, timezone: ZoneInfo, language: str, colours: Theme
) -> None:
    margin = (last_ms - first_ms) * 0.01 or 30_000
    panel.set_xlim((first_ms - margin) / DAY_MS, (last_ms + margin) / DAY_MS)
    locator = AutoDateLocator(tz=timezone, minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(
        ConciseDateFormatter(  # type: ignore[no-untyped-call]
            locator,
            tz=timezone,
            formats=_DATES[language],
            zero_formats=_AT_ZERO[language],
            offset_formats=_OFFSETS[language],
        )
    )
    panel.xaxis.get_offset_text().set_color(colours.faint)
    panel.set_xlabel(_TIME[language].format(timezone.key), color=colours.text, fontsize=11)


def _title(quantities: Sequence[str], language: str) -> str:
    usual = _TITLE[language][0]
    if set(FIRST_QUANTITIES) & set(quantities):
        return usual
    return title_of(quantities, language)


def title_of(quantities: Iterable[str], language: str) -> str:
    """Return a title that names these quantities."""
    _, other, conjunction = _TITLE[language]
    names = [quantity_name(quantity, language) for quantity in _in_order(set(quantities))]
    return other.format(conjunction.join(filter(None, [", ".join(names[:-1]), names[-1]])))


def _add_legend(figure: Figure, colour_of: Mapping[str, str], language: str, colours: Theme) -> None:
    """List the lines below the panels, where they hide nothing."""
    shown = list(colour_of.items())[:LEGEND_LINES]
    handles = [
        Line2D([], [], color=colour, linewidth=3, solid_capstyle="round", label=name or _NO_NAME[language])
        for name, colour in shown
    ]
    if len(colour_of) > LEGEND_LINES:
        more = _MORE[language].format(len(colour_of) - LEGEND_LINES)
        handles.append(Line2D([], [], linestyle="none", label=more))
    longest = max(len(str(handle.get_label())) for handle in handles)
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=max(1, min(len(handles), LEGEND_WIDTH // (longest + 7))),
        frameon=False,
        labelcolor=colours.text,
        fontsize=10,
        handlelength=1.2,
        columnspacing=1.6,
    )
