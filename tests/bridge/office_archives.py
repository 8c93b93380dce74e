"""Archives in a real LibreOffice: it opens workbooks and CSV, and sees in each cell what we wrote.

Not among the tests that `make test` runs, since LibreOffice is 300 MB: `make test-office` runs this file.
"""

import csv
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zipfile import ZipFile

import openpyxl
import pytest

from bridge.archive.archiver import archive
from bridge.settings import BridgeSettings
from bridge.store.database import Store
from bridge.store.shelf import Archive
from tests.bridge.conftest import EXAMPLE_TIME_MS, StoredReadings

NAMES = ("kitchen", "-1+2", "e-mail_3")
FRENCH_CSV = "59,34,UTF-8,1,,1036,false,true"
"""LibreOffice's filter options: semicolons, quotation marks, UTF-8, from line 1, in French, special numbers seen."""


@pytest.fixture
def made(
    bridge_settings: Callable[..., BridgeSettings], store: Store, stored_readings: StoredReadings, tmp_path: Path
) -> tuple[BridgeSettings, Archive]:
    """An archive in French with nodes whose names look like formulas, over two days."""
    settings = bridge_settings(
        ARCHIVE_DIRECTORY=tmp_path / "archives", TIMEZONE="Europe/Paris", ARCHIVE_CSV="excel-fr", UI_LANGUAGE="fr"
    )
    for number, name in enumerate(NAMES):
        values = {"temperature": 21.4 + number, "humidity": 48.25, "co2": 1e-7}
        stored_readings(store, name, 40, values=values, time_ms=EXAMPLE_TIME_MS + number, step_ms=600_000)
    (one,) = archive(settings, store)
    return settings, one


def convert(source: Path, form: str, folder: Path, *options: str) -> Path:
    """Let LibreOffice open a file and save it in another form; what it complains about fails the test."""
    program = shutil.which("soffice")
    assert program, "LibreOffice is not installed; `make test-office` installs it where it may"
    profile = f"-env:UserInstallation=file://{folder}/profile"
    done = subprocess.run(
        [program, profile, "--headless", *options, "--convert-to", form, "--outdir", str(folder), str(source)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if line and "javaldx" not in line and "Java" not in line]
    assert complaints == []
    return folder / f"{source.stem}.{form.partition(':')[0]}"


def cells(path: Path, sheet: int) -> list[list[object]]:
    book = openpyxl.load_workbook(path, read_only=True)
    try:
        return [list(map(_comparable, row)) for row in book.worksheets[sheet].iter_rows(values_only=True)]
    finally:
        book.close()


def charts(path: Path) -> int:
    with ZipFile(path) as parts:
        return sum(name.startswith("xl/charts/chart") for name in parts.namelist())


def _comparable(value: object) -> object:
    """Bring dates to whole milliseconds, and numbers to the digits that both programs keep."""
    if isinstance(value, datetime):
        return (value + timedelta(microseconds=500)).isoformat(timespec="milliseconds")
    return float(f"{value:.12g}") if isinstance(value, int | float) else value


def test_a_workbook_keeps_every_cell_of_every_sheet(made: tuple[BridgeSettings, Archive], tmp_path: Path) -> None:
    settings, one = made
    ours = settings.archive_directory / one.xlsx_name

    theirs = convert(ours, "xlsx", tmp_path / "saved")

    for sheet in range(3):
        assert cells(theirs, sheet) == cells(ours, sheet)


@pytest.mark.filterwarnings(
    "ignore:Unable to read chart"
)  # openpyxl does not know how LibreOffice writes dates there
def test_a_workbook_keeps_filter_widths_formats_and_charts(
    made: tuple[BridgeSettings, Archive], tmp_path: Path
) -> None:
    settings, one = made
    written = settings.archive_directory / one.xlsx_name
    ours = openpyxl.load_workbook(written)

    saved = convert(written, "xlsx", tmp_path / "saved")

    theirs = openpyxl.load_workbook(saved)
    for sheet in (0, 1):
        assert theirs.worksheets[sheet].auto_filter.ref == ours.worksheets[sheet].auto_filter.ref
    time = [cell.value for cell in ours.worksheets[0][1]].index("time") + 1
    assert isinstance(theirs.worksheets[0].cell(2, time).value, datetime)
    assert theirs.worksheets[0].cell(2, 1).number_format == ours.worksheets[0].cell(2, 1).number_format
    assert charts(saved) == charts(written) == 3
    assert theirs.worksheets[0].column_dimensions["D"].width == pytest.approx(
        ours.worksheets[0].column_dimensions["D"].width, abs=1
    )


def test_the_french_csv_opens_with_numbers_and_without_formulas(
    made: tuple[BridgeSettings, Archive], tmp_path: Path
) -> None:
    settings, one = made
    ours = settings.archive_directory / one.csv_name

    theirs = convert(ours, "xlsx", tmp_path / "saved", f"--infilter=CSV:{FRENCH_CSV}")

    with ours.open(encoding="utf-8-sig", newline="") as stream:
        written = list(csv.reader(stream, delimiter=";"))
    opened = cells(theirs, 0)
    assert len(opened) == len(written) == 121
    for text, cell in zip(written[1:], opened[1:], strict=True):
        assert cell[:3] == [float(number.replace(",", ".")) for number in text[:3]]
        assert cell[4:7] == text[4:7]
    assert not any(str(cell).startswith("=") for row in opened for cell in row)
