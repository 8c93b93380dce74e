"""Charts as Plotly draws them; colours of text, grid and ground are the style sheet's, so they follow the theme."""

import base64
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from bridge.local_times import localize
from bridge.web.lines import Chart, Drawn
from bridge.web.texts import Texts
from mqtt_client.reading import UNITS

Json = dict[str, object]

COLOURS = (
    "#2f7fd0", "#cc6a10", "#23913f", "#d4484a", "#8e63ca", "#12898f", "#c4559b", "#85800f", "#9a6a4e", "#6d7884",
)  # fmt: skip
"""Each has a contrast of 3:1 or more on the light and on the dark ground."""
DASHES = ("solid", "dash", "dot", "dashdot")
UNIFIED_HOVER_AT_MOST = 8
QUARTER_MS = 900_000
"""A zone's offset changes at no other times."""

CONFIG: Any = {
    "displaylogo": False,
    "displayModeBar": "hover",
    "doubleClick": "autosize",
    "modeBarButtons": [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
    "responsive": True,
    "showSendToCloud": False,
    "showTips": False,
}


def figure(
    chart: Chart, quantity: str, order: dict[str, int], shown_ms: tuple[int, int], text: Texts, zoom_key: str
) -> Json:
    """Return a chart's figure.

    Args:
        chart: its lines.
        quantity: what is measured.
        order: each node's place among all nodes: a node has one colour in every chart.
        shown_ms: first and last time shown.
        text: language and zone.
        zoom_key: as long as it stays the same, what the user did to the axes stays too.
    """
    unit = text.unit(UNITS.get(quantity) or "")
    traces: list[Json] = []
    sensors_of: Counter[str] = Counter()
    for name, one in zip(line_names(chart.drawn), chart.drawn, strict=True):
        place, sensor = order.get(one.line.node, 0), sensors_of[one.line.node]
        sensors_of[one.line.node] += 1
        line = {
            "color": colour(place),
            "dash": DASHES[(place // len(COLOURS) + sensor) % len(DASHES)],
            "width": 1.7,
        }
        traces += _traces(name, one, line, unit, text.zone)
    many = len(chart.drawn) > UNIFIED_HOVER_AT_MOST
    return {
        "data": traces,
        "layout": {
            **empty_layout(),
            "hovermode": "closest" if many else "x unified",
            "hoverlabel": {"namelength": -1},
            "modebar": {"bgcolor": "rgba(0,0,0,0)"},
            "separators": ", " if text.language == "fr" else ".,",
            "showlegend": len(chart.drawn) > 1,
            "legend": {"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0, "maxheight": 0.3},
            "xaxis": {
                "visible": True,
                "type": "date",
                "range": _local_ms(np.array(shown_ms, dtype=np.int64), text.zone).tolist(),
                "uirevision": zoom_key,
                "hoverformat": "%d/%m/%Y %H:%M" if text.language == "fr" else "%Y-%m-%d %H:%M",
                "tickformatstops": _tick_formats(text.language),
            },
            "yaxis": {
                "visible": True,
                "title": {"text": unit, "standoff": 6},
                "uirevision": zoom_key,
                "zeroline": False,
                "fixedrange": False,
                "tickformat": "~g" if quantity != "pressure" else "~f",
            },
        },
    }


def colour(place: int) -> str:
    """Return the colour of the node at this place."""
    return COLOURS[place % len(COLOURS)]


def empty_layout() -> Json:
    """Return the layout of a chart that has no lines yet."""
    return {
        "uirevision": "same",
        "autosize": True,
        "height": 300,
        "margin": {"l": 56, "r": 12, "t": 8, "b": 36},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 12},
        "dragmode": "zoom",
    }


def blank() -> Json:
    """Return a chart that has not been read yet: no lines, no axes."""
    unseen = {"visible": False}
    return {"data": [], "layout": {**empty_layout(), "xaxis": unseen, "yaxis": unseen}}


def line_names(drawn: Sequence[Drawn]) -> list[str]:
    """Return a name for each line of one quantity: its node's, with the sensor's where a node has several."""
    lines_of = Counter(one.line.node for one in drawn)
    return [
        one.line.node if lines_of[one.line.node] == 1 else f"{one.line.node} · {one.line.sensor}" for one in drawn
    ]


def local_range_ms(texts: Sequence[str], zone: ZoneInfo) -> tuple[int, int]:
    """Return the times that Plotly gives as local texts, in milliseconds since 1970-01-01T00:00:00Z.

    Raises:
        ValueError: a text is no time.
    """
    first, last = (datetime.fromisoformat(str(one)[:23].rstrip()).replace(tzinfo=zone) for one in texts)
    return round(first.timestamp() * 1000), round(last.timestamp() * 1000)


def _traces(name: str, one: Drawn, line: Json, unit: str, zone: ZoneInfo) -> list[Json]:
    shared: Json = {"type": "scatter", "name": name, "legendgroup": name, "hovertemplate": f"%{{y:.2f}} {unit}"}
    traces: list[Json] = []
    if len(one.outline.times_ms):
        traces.append(
            {**shared, "mode": "lines", "line": line, **_points(one.outline.times_ms, one.outline.values, zone)}
        )
    if len(one.outline.lone_times_ms):
        marker = {"color": line["color"], "size": 5}
        points = _points(one.outline.lone_times_ms, one.outline.lone_values, zone)
        traces.append({**shared, "mode": "markers", "marker": marker, "showlegend": not traces, **points})
    return traces


def _points(times_ms: NDArray[np.int64], values: NDArray[np.float64], zone: ZoneInfo) -> Json:
    return {"x": _typed(_local_ms(times_ms, zone).astype(np.float64)), "y": _typed(np.round(values, 6))}


def _typed(values: NDArray[np.float64]) -> Json:
    """Return numbers as Plotly reads them without parsing: the bytes of an array."""
    return {"dtype": "f8", "bdata": base64.b64encode(values.astype("<f8").tobytes()).decode("ascii")}


def _local_ms(times_ms: NDArray[np.int64], zone: ZoneInfo) -> NDArray[np.int64]:
    """Return what a clock of this zone showed, as milliseconds: Plotly knows no zones."""
    quarters, places = np.unique(times_ms // QUARTER_MS, return_inverse=True)
    offsets = [_offset_ms(int(quarter) * QUARTER_MS, zone) for quarter in quarters.tolist()]
    return times_ms + np.array(offsets, dtype=np.int64)[places]


@lru_cache(maxsize=100_000)
def _offset_ms(time_ms: int, zone: ZoneInfo) -> int:
    offset = localize(time_ms, zone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds() * 1000)


def _tick_formats(language: str) -> list[Json]:
    day, year = ("%d/%m", "%d/%m/%Y") if language == "fr" else ("%d %b", "%d %b %Y")
    return [
        {"dtickrange": [None, 60_000], "value": "%H:%M:%S"},
        {"dtickrange": [60_000, 43_200_000], "value": f"%H:%M\n{day}"},
        {"dtickrange": [43_200_000, 604_800_000], "value": day},
        {"dtickrange": [604_800_000, None], "value": year},
    ]
