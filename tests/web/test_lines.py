"""What charts and sparklines are made of: roll-ups read, thinned, and put on a local time axis."""

import base64
import math
from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert

from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import Store, now_ms
from bridge.store.rollups import HOUR_MS, MINUTE_MS
from bridge.web import charts, lines
from bridge.web.facts import Line
from bridge.web.lines import read_chart
from bridge.web.selection import select, zoom_of
from bridge.web.spark import spark_svg
from bridge.web.texts import WORDS, Texts

PARIS = ZoneInfo("Europe/Paris")
NOW_MS = 1_795_552_265_123  # 2026-11-24T20:31:05.123Z
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def keep(store: Store) -> Callable[..., list[Line]]:
    """Put roll-ups of this many minutes up to now into the store, for each node; return their lines."""

    def put(minutes: int, nodes: int = 1, end_ms: int = NOW_MS, without: range = range(0)) -> list[Line]:
        end_ms -= end_ms % MINUTE_MS
        found = []
        with store.write() as connection:
            for number in range(1, nodes + 1):
                connection.execute(insert(schema.nodes).values(id=number, name=f"node-{number}"))
                row = {"id": number, "node_id": number, "sensor": "main", "quantity": "temperature"}
                connection.execute(insert(schema.series).values(row))
                found.append(Line(number, f"node-{number}", "main", "temperature", None, None))
                for table, step_ms in ((schema.rollups_minute, MINUTE_MS), (schema.rollups_hour, HOUR_MS)):
                    rows = _rows(number, minutes, end_ms, step_ms, without)
                    connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES (?, ?, ?, ?, ?, ?)", rows)
        return found

    return put


def _rows(number: int, minutes: int, end_ms: int, step_ms: int, without: range) -> list[tuple[float, ...]]:
    sums: dict[int, list[float]] = {}
    for minute in range(minutes):
        if minute not in without:
            at_ms = end_ms - minute * MINUTE_MS
            value = 20 + math.sin(minute / 200)
            sums.setdefault(at_ms - at_ms % step_ms, []).append(value)
    return [(number, at, len(some), min(some), max(some), sum(some)) for at, some in sums.items()]


def test_a_short_range_is_read_by_minute_and_a_long_one_of_many_by_hour(
    store: Store, keep: Callable[..., list[Line]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "ROWS_AT_MOST", 3000)
    found = keep(2000, nodes=2)

    hour = read_chart(store, found, NOW_MS - HOUR_MS, NOW_MS, NOW_MS)
    days = read_chart(store, found, NOW_MS - 3 * DAY_MS, NOW_MS, NOW_MS)

    assert (hour.step_ms, days.step_ms) == (MINUTE_MS, HOUR_MS)
    assert [one.count for one in days.drawn] == [2000, 2000]
    assert len(hour.drawn[0].outline.times_ms) == pytest.approx(62, abs=2)


def test_the_figures_are_those_of_all_readings_in_the_range(store: Store, keep: Callable[..., list[Line]]) -> None:
    found = keep(100)

    one = read_chart(store, found, NOW_MS - DAY_MS, NOW_MS, NOW_MS).drawn[0]

    values = [20 + math.sin(minute / 200) for minute in range(100)]
    assert (one.count, one.low, one.high) == (100, min(values), max(values))
    assert one.mean == pytest.approx(sum(values) / 100)


def test_a_gap_is_drawn_as_a_gap(store: Store, keep: Callable[..., list[Line]]) -> None:
    found = keep(200, without=range(50, 100))

    outline = read_chart(store, found, NOW_MS - DAY_MS, NOW_MS, NOW_MS).drawn[0].outline

    assert np.isnan(outline.values).sum() == 2  # behind each of the two pieces


def test_lines_are_thinned_to_what_can_be_seen(store: Store, keep: Callable[..., list[Line]]) -> None:
    found = keep(4000)

    outline = read_chart(store, found, NOW_MS - 3 * DAY_MS, NOW_MS, NOW_MS).drawn[0].outline

    assert len(outline.times_ms) <= lines.POINTS_OF_A_LINE + 2


def test_the_newest_reading_ends_the_line_before_any_roll_up_has_it(
    store: Store, keep: Callable[..., list[Line]]
) -> None:
    found = keep(10, end_ms=NOW_MS - 2 * MINUTE_MS)

    one = read_chart(store, found, NOW_MS - HOUR_MS, NOW_MS, NOW_MS, {1: (NOW_MS, 99.0)}).drawn[0]

    assert (one.outline.times_ms[-2], one.outline.values[-2]) == (NOW_MS, 99.0)


def test_no_point_lies_in_the_future(store: Store, keep: Callable[..., list[Line]]) -> None:
    found = keep(10)

    one = read_chart(store, found, NOW_MS - HOUR_MS, NOW_MS, NOW_MS).drawn[0]

    assert one.outline.times_ms.max() <= NOW_MS


def test_the_time_axis_shows_what_a_clock_showed_across_a_change_of_summer_time(
    store: Store, keep: Callable[..., list[Line]]
) -> None:
    change_ms = 1_792_890_000_000  # 2026-10-25T01:00:00Z: from +02:00 to +01:00
    found = keep(120, end_ms=change_ms + HOUR_MS - MINUTE_MS)
    chart = read_chart(store, found, change_ms - HOUR_MS, change_ms + HOUR_MS, change_ms + DAY_MS)

    shown = charts.figure(
        chart, "temperature", {}, (change_ms - HOUR_MS, change_ms + HOUR_MS), Texts("fr", PARIS), ""
    )

    times = np.frombuffer(base64.b64decode(shown["data"][0]["x"]["bdata"]))  # type: ignore[index]
    assert times[0] == change_ms - HOUR_MS + 30_000 + 2 * HOUR_MS
    assert np.nanmax(times) <= change_ms + 2 * HOUR_MS


def test_a_sparkline_is_a_picture_of_the_last_hour_with_its_gaps(
    store: Store, keep: Callable[..., list[Line]]
) -> None:
    keep(60, without=range(20, 40))

    picture = spark_svg(store, 1, NOW_MS, Texts("en", PARIS))

    assert picture.count("M") == 2
    assert "<title>20 – 20.2" in picture
    assert spark_svg(store, 7, NOW_MS, Texts("en", PARIS)).count('d=""') == 1


@pytest.mark.parametrize(
    ("name", "first", "last", "hours"),
    [
        ("1h", None, None, 1),
        ("30d", None, None, 720),
        ("own", "2026-11-02", "2026-11-04", 72),
        ("own", "04/11/2026", "02/11/2026", 72),
        ("own", "2026-10-25", "2026-10-25", 25),
        ("nonsense", None, None, 24),
    ],
)
def test_a_selection_is_a_time(name: str, first: str | None, last: str | None, hours: int) -> None:
    chosen = select(name, first, last, None, NOW_MS, PARIS)

    assert (chosen.to_ms - chosen.from_ms) / HOUR_MS == hours


def test_own_dates_that_cannot_be_understood_are_the_last_week() -> None:
    chosen = select("own", "yesterday", "", None, NOW_MS, PARIS)

    assert chosen.is_live
    assert 6 < (chosen.to_ms - chosen.from_ms) / DAY_MS < 7


def test_a_zoom_is_a_part_of_local_time_and_nonsense_is_none() -> None:
    zoomed = select("24h", None, None, ["2026-11-24 20:00", "2026-11-24 21:00:00.1234"], NOW_MS, PARIS)

    assert zoomed.from_ms == 1_795_546_800_000
    assert zoomed.key != "24h"
    for nonsense in (["a", "b"], ["2026-11-24 21:00", "2026-11-24 20:00"]):
        assert select("24h", None, None, nonsense, NOW_MS, PARIS).key == "24h"


def test_what_a_chart_tells_of_its_axes_is_a_zoom_or_its_end_or_nothing() -> None:
    assert zoom_of({"xaxis.range[0]": "2026-11-24", "xaxis.range[1]": "2026-11-25"}) == ["2026-11-24", "2026-11-25"]
    assert zoom_of({"xaxis.autorange": True}) is None
    assert zoom_of({"autosize": True}) is False
    assert zoom_of(None) is False


def test_both_languages_say_everything_with_the_same_names_in_it() -> None:
    def names(text: str) -> set[str]:
        return {part.partition("}")[0] for part in text.split("{")[1:]}

    french, english = WORDS["fr"], WORDS["en"]

    assert french.keys() == english.keys()
    assert [key for key in french if names(french[key]) != names(english[key])] == []


def test_numbers_and_ages_are_written_as_each_language_does() -> None:
    french, english = Texts("fr", PARIS), Texts("en", PARIS)

    assert (french.number(21.45), english.number(21.45)) == ("21,45", "21.45")
    assert (french.count(12345), english.count(12345)) == ("12\N{NARROW NO-BREAK SPACE}345", "12,345")
    assert (french.age(3 * 86400), english.age(3 * 86400)) == ("3\N{NO-BREAK SPACE}j", "3\N{NO-BREAK SPACE}d")
    assert (french.time(NOW_MS), english.time(NOW_MS)) == ("24/11/2026 21:31", "2026-11-24 21:31")


@pytest.mark.parametrize(
    "name", ["../bridge.db", "..%2fbridge.db", "bridge.db", "archive_2026-11-24_20-31_heure_20h31.csv.part", ".env"]
)
def test_nothing_but_archives_can_be_downloaded(
    client: FlaskClient, store: Store, bridge_settings: Callable[..., BridgeSettings], name: str
) -> None:
    folder = bridge_settings().archive_directory
    folder.mkdir(parents=True)
    for secret in ("bridge.db", ".env", "archive_2026-11-24_20-31_heure_20h31.csv.part"):
        (folder / secret).write_text("secret", encoding="utf-8")
    (folder.parent / "bridge.db").write_text("secret", encoding="utf-8")

    answer = client.get(f"/archives/{name}")

    assert "Content-Disposition" not in answer.headers
    assert "secret" not in answer.text


def test_an_archive_is_downloaded_also_from_the_backup_folder(
    client: FlaskClient, bridge_settings: Callable[..., BridgeSettings]
) -> None:
    name, folder = "archive_2026-11-24_20-31_heure_20h31.csv", bridge_settings().backup_directory
    folder.mkdir(parents=True)
    (folder / name).write_text("temperature", encoding="utf-8")

    with client.get(f"/archives/{name}") as answer:  # it ends with the file closed
        assert answer.text == "temperature"
        assert answer.headers["Content-Disposition"].startswith("attachment")


def test_thirty_days_of_a_hundred_nodes_are_few_bytes(
    client: FlaskClient, store: Store, keep: Callable[..., list[Line]]
) -> None:
    found = keep(90, nodes=100, end_ms=now_ms())
    chart = read_chart(store, found, now_ms() - 30 * DAY_MS, now_ms(), now_ms())

    assert chart.step_ms == HOUR_MS
    assert len(chart.drawn) == 100
    assert client.get("/_dash-layout", headers={"Accept-Encoding": "gzip"}).headers["Content-Encoding"] == "gzip"
