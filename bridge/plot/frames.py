"""Series read back from the archives that lie in a folder, from CSV or, where there is none, from the workbook.

Archives of the script that this replaces (temperature, humidity, timestamp)
are read too; their lines have no name.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from bridge.archive import workbook
from bridge.archive.csv_file import OTHER_COLUMNS, NoArchive, dialect, original
from bridge.plot.series import Series

log = logging.getLogger("plot")

SCRIPT_TIME = "[%d/%b/%Y %H:%M:%S]"


def archive_files(folder: Path) -> list[Path]:
    """Return the CSV files and workbooks in a folder, by name; lock files of office programs are none."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in (".csv", ".xlsx") and not path.name.startswith((".", "~$")) and path.is_file()
    )


def read_series(folder: Path, zone: ZoneInfo) -> list[Series]:
    """Read all archives in a folder; a file that is none is told and passed over.

    Raises:
        OSError: the folder or a file cannot be read.
    """
    files = archive_files(folder)
    frames: list[pd.DataFrame] = []
    for path in files:
        if path.suffix.lower() == ".xlsx" and path.with_suffix(".csv") in files:
            continue
        try:
            frames.append(_read(path, zone))
        except (NoArchive, ValueError) as exc:
            log.warning("%s is not drawn: %s", path, exc)
    return list(_series(pd.concat(frames, ignore_index=True))) if frames else []


def read_file(path: Path, zone: ZoneInfo) -> list[Series]:
    """Read one archive.

    Raises:
        NoArchive: it is none.
        OSError: it cannot be read.
    """
    try:
        return list(_series(_read(path, zone)))
    except ValueError as exc:
        raise NoArchive(f"{path}: {exc}") from exc


def _read(path: Path, zone: ZoneInfo) -> pd.DataFrame:
    frame = _read_csv(path) if path.suffix.lower() == ".csv" else _read_workbook(path)
    frame["time_ms"] = _times_ms(frame, zone)
    for column in ("node", "sensor"):
        names = frame[column].astype("category") if column in frame else pd.Categorical([""] * len(frame))
        frame[column] = pd.Series(names, index=frame.index).cat.rename_categories(lambda name: original(str(name)))
    quantities = [column for column in frame.columns if column not in (*OTHER_COLUMNS, "time_ms")]
    frame[quantities] = frame[quantities].astype("float64")
    return frame.dropna(subset="time_ms")[["time_ms", "node", "sensor", *quantities]].astype({"time_ms": "int64"})


def _read_csv(path: Path) -> pd.DataFrame:
    delimiter, columns = dialect(path)
    times = ["time"] if "time" in columns else ["timestamp"]
    wanted = [*times, *(column for column in columns if column not in ("id", "clock", "time", "timestamp"))]
    texts = {column: "category" for column in ("node", "sensor") if column in columns}
    return pd.read_csv(
        path,
        sep=delimiter,
        decimal="," if delimiter == ";" else ".",
        encoding="utf-8-sig",
        usecols=wanted,
        dtype=texts | dict.fromkeys(times, "str"),
        keep_default_na=False,
        na_values={column: [""] for column in wanted if column not in texts},
    )


def _read_workbook(path: Path) -> pd.DataFrame:
    rows = workbook.rows_of(path)
    columns = [str(cell) for cell in next(rows, ())]
    if "timestamp" not in columns:
        raise NoArchive("its first sheet has no column timestamp")
    return pd.DataFrame(list(rows), columns=columns)


def _times_ms(frame: pd.DataFrame, zone: ZoneInfo) -> "pd.Series[float]":
    """Return milliseconds since 1970-01-01T00:00:00Z, NaN where there is no readable time."""
    if "time" in frame and frame["time"].dtype.kind != "M":
        times = pd.to_datetime(frame["time"].astype(str), format="ISO8601", utc=True, errors="coerce")
    elif "time" in frame:
        times = _in_utc(frame["time"], zone)
    else:
        times = _in_utc(pd.to_datetime(frame["timestamp"], format=SCRIPT_TIME, errors="coerce"), zone)
    milliseconds = times.dt.as_unit("ms").astype("int64").astype("float64")
    return milliseconds.mask(times.isna())


def _in_utc(local: "pd.Series[pd.Timestamp]", zone: ZoneInfo) -> "pd.Series[pd.Timestamp]":
    """Read times of the zone's clocks; the hour that they show twice is taken as the later one."""
    later = np.zeros(len(local), dtype=bool)
    return local.dt.tz_localize(zone, ambiguous=later, nonexistent="shift_forward").dt.tz_convert("UTC")


def _series(frame: pd.DataFrame) -> Iterator[Series]:
    quantities = [column for column in frame.columns if column not in ("time_ms", "node", "sensor")]
    frame = frame.sort_values("time_ms", kind="stable")
    for (node, sensor), lines in frame.groupby(["node", "sensor"], observed=True):
        times_ms = lines["time_ms"].to_numpy(np.int64)
        for quantity in quantities:
            values = lines[quantity].to_numpy(np.float64)
            there = ~np.isnan(values)
            if there.any():
                yield Series(str(node), str(sensor), quantity, times_ms[there], values[there])
