"""Plots of what is asked for: from the store and the archives together, each reading once."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import delete

from bridge.archive.archiver import archive
from bridge.archive.cleanup import cleanup
from bridge.errors import NotFound
from bridge.export.selection import Selection
from bridge.plot.plot import title_of
from bridge.plot.selected import plot_selected, selected_series
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import Store
from mqtt_client.errors import PersonNeeded
from tests.bridge.archives import names
from tests.bridge.conftest import EXAMPLE_TIME_MS, StoredReadings
from tests.processes import python


@pytest.fixture
def settings(bridge_settings: Callable[..., BridgeSettings], tmp_path: Path) -> BridgeSettings:
    """Settings with both folders."""
    return bridge_settings(ARCHIVE_DIRECTORY=tmp_path / "archives", BACKUP_DIRECTORY=tmp_path / "backup")


@pytest.fixture
def filled(settings: BridgeSettings, store: Store, stored_readings: StoredReadings) -> Store:
    """A store that has forgotten three archived readings of the kitchen, and holds three later ones."""
    stored_readings(store, "kitchen", 3)
    archive(settings, store)
    cleanup(settings, store)
    stored_readings(store, "kitchen", 3, epoch="second", time_ms=EXAMPLE_TIME_MS + 10_000)
    stored_readings(store, "attic", 1, values={"co2": 400.0})
    with store.write() as connection:
        connection.execute(delete(schema.readings).where(schema.readings.c.archive_id.is_not(None)))
    return store


def test_a_line_has_what_is_in_archives_and_what_is_in_the_store(settings: BridgeSettings, filled: Store) -> None:
    series, gaps = selected_series(settings, filled, Selection(quantities=("temperature",)))

    (line,) = series
    assert line.node == "kitchen"
    expected = [*range(0, 3000, 1000), *range(10_000, 13_000, 1000)]
    assert (line.times_ms - EXAMPLE_TIME_MS).tolist() == expected
    assert gaps == []


def test_range_nodes_and_quantities_are_chosen(settings: BridgeSettings, filled: Store) -> None:
    selection = Selection(EXAMPLE_TIME_MS + 1000, EXAMPLE_TIME_MS + 10_001, frozenset({"kitchen"}), ("humidity",))

    ((line,), _) = selected_series(settings, filled, selection)

    assert line.quantity == "humidity"
    assert (line.times_ms - EXAMPLE_TIME_MS).tolist() == [1000, 2000, 10_000]


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_comes_out_in_each_form_and_theme(
    settings: BridgeSettings, filled: Store, tmp_path: Path, suffix: str, magic: bytes
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()

    for theme in ("light", "dark"):
        plot_selected(settings, filled, Selection(), folder / f"{theme}.{suffix}", theme)

    assert names(folder) == [f"dark.{suffix}", f"light.{suffix}"]
    light, dark = ((folder / f"{theme}.{suffix}").read_bytes() for theme in ("light", "dark"))
    assert light.startswith(magic)
    assert dark.startswith(magic)
    assert light != dark


def test_nothing_to_plot_is_told(settings: BridgeSettings, filled: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing to plot"):
        plot_selected(settings, filled, Selection(nodes=frozenset({"nobody"})), tmp_path / "x.png")


def test_an_unknown_form_is_told(settings: BridgeSettings, filled: Store, tmp_path: Path) -> None:
    with pytest.raises(PersonNeeded, match=r"\.png, \.svg or \.pdf"):
        plot_selected(settings, filled, Selection(), tmp_path / "x.gif")


@pytest.mark.parametrize(
    ("quantities", "language", "title"),
    [
        ({"temperature"}, "fr", "Température au cours du temps"),
        ({"co2", "temperature"}, "fr", "Température et CO₂ au cours du temps"),
        ({"co2", "pressure", "soil"}, "en", "CO₂, Pressure and soil over time"),
    ],
)
def test_a_title_names_what_is_drawn(quantities: set[str], language: str, title: str) -> None:
    assert title_of(quantities, language) == title


def test_the_command_draws_what_is_asked_for(settings: BridgeSettings, filled: Store, tmp_path: Path) -> None:
    variables = {
        "STORE_URL": settings.store_url,
        "ARCHIVE_DIRECTORY": str(settings.archive_directory),
        "BACKUP_DIRECTORY": str(settings.backup_directory),
    }
    words = ["plot", "--from", "2026-11-24", "--node", "kitchen", "--output", "x.svg", "--theme", "dark"]

    done = subprocess.run(
        python("-m", "bridge", *words), env={**os.environ, **variables}, capture_output=True, text=True, timeout=120
    )

    assert (done.returncode, done.stdout) == (0, "x.svg\n"), done.stderr
    assert "kitchen" in (tmp_path / "x.svg").read_text(encoding="utf-8")
