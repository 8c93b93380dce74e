"""Plots: what is drawn, read from the figure's own lines, and that a picture comes out."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from matplotlib.dates import num2date
from matplotlib.figure import Figure

from bridge.archive.archiver import archive
from bridge.errors import NotFound
from bridge.plot.frames import read_series
from bridge.plot.plot import COMBINED, build, draw, plot_archives
from bridge.plot.series import Series, gap_limit_ms, outline
from bridge.settings import BridgeSettings
from bridge.store.database import Store
from mqtt_client.errors import PersonNeeded, TryLater
from tests.bridge.archives import names
from tests.bridge.conftest import EXAMPLE_TIME_MS, StoredReadings

PARIS = ZoneInfo("Europe/Paris")
DAY_MS = 86_400_000


def series(
    node: str = "kitchen", quantity: str = "temperature", *, times_ms: list[int] | None = None, count: int = 100
) -> Series:
    times = np.array(times_ms or [EXAMPLE_TIME_MS + 5000 * number for number in range(count)], dtype=np.int64)
    return Series(node, "main", quantity, times, 20 + np.sin(np.arange(len(times)) / 10))


def figure_of(*lines: Series, language: str = "en", theme: str = "light") -> Figure:
    return build(lines, language=language, timezone=PARIS, theme=theme)


@pytest.fixture
def settings(bridge_settings: Callable[..., BridgeSettings], tmp_path: Path) -> BridgeSettings:
    """Settings with an archive folder."""
    return bridge_settings(ARCHIVE_DIRECTORY=tmp_path / "archives", TIMEZONE="Europe/Paris")


@pytest.mark.parametrize(
    ("language", "title", "labels", "time"),
    [
        ("fr", "Température et Humidité au cours du temps", ["Température (°C)", "Humidité (%RH)"], "Heure"),
        ("en", "Temperature and humidity over time", ["Temperature (°C)", "Humidity (%RH)"], "Time"),
    ],
)
def test_title_and_labels_are_in_the_language_with_units(
    language: str, title: str, labels: list[str], time: str
) -> None:
    figure = figure_of(series(quantity="humidity"), series(), language=language)

    assert figure.get_suptitle() == title
    assert [panel.get_ylabel() for panel in figure.axes] == labels
    assert figure.axes[-1].get_xlabel() == f"{time} (Europe/Paris)"


def test_each_quantity_has_a_panel_and_other_quantities_come_after_temperature_and_humidity() -> None:
    figure = figure_of(*(series(quantity=name) for name in ("co2", "humidity", "soil", "temperature")))

    assert [panel.get_ylabel() for panel in figure.axes] == [
        "Temperature (°C)",
        "Humidity (%RH)",
        "CO₂ (ppm)",
        "soil",
    ]


def test_the_drawn_points_are_the_readings_at_their_times() -> None:
    line = series()

    (drawn,) = figure_of(line).axes[0].lines

    there = ~np.isnan(drawn.get_ydata())
    assert np.allclose(np.asarray(drawn.get_xdata())[there] * DAY_MS, line.times_ms, atol=1)
    assert np.array_equal(np.asarray(drawn.get_ydata())[there], line.values)


def test_the_time_axis_is_labelled_in_local_time() -> None:
    noon = int(datetime(2026, 7, 1, 12, tzinfo=PARIS).timestamp() * 1000)
    figure = figure_of(series(times_ms=[noon + 60_000 * minute for minute in range(-60, 61)]))
    figure.canvas.draw()

    axis = figure.axes[0].xaxis

    ticks = {label.get_text(): num2date(label.get_position()[0], PARIS) for label in axis.get_ticklabels()}
    assert "12:00" in ticks
    assert ticks["12:00"] == datetime(2026, 7, 1, 12, tzinfo=PARIS)


def test_each_node_has_a_line_of_its_own_colour_the_same_in_all_panels() -> None:
    figure = figure_of(*(series(node, quantity) for node in "ab" for quantity in ("temperature", "humidity")))

    colours = [[line.get_color() for line in panel.lines] for panel in figure.axes]

    assert colours[0] == colours[1]
    assert len(set(colours[0])) == 2


def test_two_sensors_of_one_node_are_two_lines() -> None:
    one = series()
    two = Series("kitchen", "shelf", "temperature", one.times_ms, one.values + 1)

    figure = figure_of(one, two)

    assert len(figure.axes[0].lines) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["kitchen · main", "kitchen · shelf"]


@pytest.mark.parametrize("nodes", [1, 7, 50])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_up_to_fifty_nodes_have_different_colours_and_a_legend_that_hides_no_data(nodes: int, theme: str) -> None:
    figure = figure_of(*(series(f"a-long-name-of-node-{number}") for number in range(nodes)), theme=theme)
    figure.canvas.draw()

    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len({line.get_color() for line in figure.axes[0].lines}) == nodes
    assert len(legend.get_texts()) == nodes
    assert not any(box.overlaps(panel.get_window_extent()) for panel in figure.axes)
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0


def test_a_gap_is_a_break_in_the_line() -> None:
    times = [EXAMPLE_TIME_MS + 5000 * number for number in range(50)]
    later = [time + 3_600_000 for time in times]

    (drawn,) = figure_of(series(times_ms=times + later)).axes[0].lines

    broken = np.flatnonzero(np.isnan(drawn.get_ydata()))
    assert broken.tolist() == [50, 101]


def test_a_reading_between_two_gaps_is_a_dot() -> None:
    times = [EXAMPLE_TIME_MS + 5000 * number for number in range(50)]

    _, dot = figure_of(series(times_ms=[*times, times[-1] + 3_600_000])).axes[0].lines

    assert dot.get_marker() == "o"
    assert len(dot.get_xdata()) == 1


def test_regular_readings_have_no_gaps_however_far_apart_they_are() -> None:
    times = np.arange(0, 100 * 3_600_000, 3_600_000, dtype=np.int64)

    assert gap_limit_ms(times) == 3 * 3_600_000


def test_thinning_keeps_peaks_and_ends_and_neither_hides_nor_makes_gaps() -> None:
    times = EXAMPLE_TIME_MS + 1000 * np.arange(200_000, dtype=np.int64)
    times[70_000:] += 4 * 3_600_000
    times[150_000:] += 7 * 3_600_000
    values = np.sin(np.arange(200_000) / 5000)
    values[[1234, 99_999]] = 50, -50
    line = Series("kitchen", "main", "temperature", times, values)

    drawn = outline(line, 2000, int(times[-1] - times[0]))

    breaks = np.flatnonzero(np.isnan(drawn.values))
    assert len(drawn.values) < 2100
    assert [int(drawn.times_ms[at - 1]) for at in breaks] == [times[69_999], times[149_999], times[-1]]
    assert [int(drawn.times_ms[at + 1]) for at in breaks[:-1]] == [times[70_000], times[150_000]]
    assert (np.nanmax(drawn.values), np.nanmin(drawn.values)) == (50, -50)


def test_a_million_points_are_drawn_by_some_thousand(tmp_path: Path) -> None:
    lines = [series(f"node-{number}", count=250_000) for number in range(4)]

    draw(lines, tmp_path / "million.png", language="en", timezone=PARIS)

    drawn = figure_of(*lines).axes[0].lines
    assert sum(len(line.get_xdata()) for line in drawn) < 20_000
    assert (tmp_path / "million.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_comes_out_in_the_format_of_its_name(tmp_path: Path, ending: str, start: bytes) -> None:
    output = tmp_path / f"x.{ending}"

    draw([series()], output, language="fr", timezone=PARIS)

    assert output.read_bytes().startswith(start)
    assert names(tmp_path) == [output.name]


def test_another_format_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PersonNeeded, match=r"'x\.bmp'; allowed are names that end with \.png, \.svg or \.pdf"):
        draw([series()], tmp_path / "x.bmp", language="fr", timezone=PARIS)


@pytest.mark.parametrize(
    ("times_ms", "values"),
    [
        ([0], [1.7e308]),
        ([0, 1, 2], [1.7e308, -1.7e308, 5e-324]),
        ([0, 0, 0], [1, 2, 3]),
        ([-62_135_596_800_000, 0, 1_795_552_265_123, 253_402_300_799_999], [1, 2, 3, 4]),
    ],
)
def test_values_and_clocks_that_no_axis_can_hold_break_nothing(
    tmp_path: Path, times_ms: list[int], values: list[float]
) -> None:
    line = Series("kitchen", "main", "temperature", np.array(times_ms, np.int64), np.array(values, np.float64))

    draw([line], tmp_path / "x.png", language="fr", timezone=PARIS)

    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_the_archives_of_the_folder_become_one_picture(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, count=30)
    archive(settings, store)

    output = plot_archives(settings)

    assert output == settings.archive_directory / COMBINED
    assert output.read_bytes().startswith(b"\x89PNG")
    assert [name for name in names(settings.archive_directory) if name.startswith(".")] == []


def test_nothing_to_plot_is_told_and_the_old_picture_stays(settings: BridgeSettings) -> None:
    settings.archive_directory.mkdir()
    old = settings.archive_directory / COMBINED
    old.write_bytes(b"old")

    with pytest.raises(NotFound, match=r"nothing to plot: '.*archives' holds no archive"):
        plot_archives(settings)

    assert old.read_bytes() == b"old"


def test_a_picture_that_cannot_be_written_is_one_line(
    settings: BridgeSettings, store: Store, stored_readings: StoredReadings
) -> None:
    stored_readings(store, count=3)
    archive(settings, store)
    (settings.archive_directory / COMBINED).mkdir()

    with pytest.raises(TryLater, match=r"^cannot draw to '.*archives': Is a directory$"):
        plot_archives(settings)

    assert [name for name in names(settings.archive_directory) if name.startswith(".")] == []


@pytest.mark.parametrize("form", ["standard", "excel-fr"])
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_series_are_read_back_from_csv_and_from_workbooks_as_they_were(
    bridge_settings: Callable[..., BridgeSettings],
    store: Store,
    stored_readings: StoredReadings,
    tmp_path: Path,
    form: str,
    ending: str,
) -> None:
    settings = bridge_settings(ARCHIVE_DIRECTORY=tmp_path / "a", ARCHIVE_CSV=form, TIMEZONE="Europe/Paris")
    stored_readings(store, "NA", 3, values={"temperature": -1.5, "co2": 400.0}, step_ms=12 * 3_600_000)
    stored_readings(store, "-1", 2)
    (made,) = archive(settings, store)
    (settings.archive_directory / (made.xlsx_name if ending == "csv" else made.csv_name)).unlink()

    found = {(line.node, line.quantity): line for line in read_series(settings.archive_directory, PARIS)}

    assert sorted(found) == [("-1", "humidity"), ("-1", "temperature"), ("NA", "co2"), ("NA", "temperature")]
    line = found["NA", "temperature"]
    assert line.sensor == "main"
    assert line.times_ms.tolist() == [EXAMPLE_TIME_MS + step * 12 * 3_600_000 for step in range(3)]
    assert line.values.tolist() == [-1.5] * 3


def test_archives_of_the_old_script_are_drawn_too(tmp_path: Path) -> None:
    (tmp_path / "archive_2025-01-01_00-00_heure_00h00.csv").write_text(
        "temperature,humidity,timestamp\n22.0,50.0,[01/Jan/2025 00:00:00]\n", encoding="utf-8"
    )

    found = read_series(tmp_path, PARIS)

    assert [(line.node, line.quantity, line.values.tolist()) for line in found] == [
        ("", "temperature", [22.0]),
        ("", "humidity", [50.0]),
    ]
    assert found[0].times_ms.tolist() == [int(datetime(2025, 1, 1, tzinfo=PARIS).timestamp() * 1000)]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "temperature,timestamp\nwarm,[01/Jan/2025 00:00:00]\n"])
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_a_file_that_is_no_archive_is_told_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, ending: str
) -> None:
    (tmp_path / f"x.{ending}").write_text(content, encoding="utf-8")

    found = read_series(tmp_path, PARIS)

    assert found == []
    assert f"x.{ending} is not drawn" in caplog.text
