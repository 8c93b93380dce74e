"""The names of archives: ``archive_2026-11-24_20-31_heure_20h31.csv``, and the same with ``.xlsx``.

A name says when its archive was begun, in local time. One that is taken, in
the archive folder, in the backup folder or in the store, gets ``_2``, then
``_3``; nothing here is remembered.
"""

import re
from collections.abc import Callable
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple

OURS = re.compile(r"archive_(\d{4}-\d\d-\d\d_\d\d-\d\d)_heure_\d\dh\d\d(_[1-9]\d*)?\.(csv|xlsx)")


class Names(NamedTuple):
    """The two files of one archive."""

    csv: str
    xlsx: str


def is_ours(name: str) -> bool:
    """Tell whether a file is named as our archives are."""
    return OURS.fullmatch(name) is not None


def free_names(local: datetime, folders: tuple[Path, ...], is_known: Callable[[Names], bool]) -> Names:
    """Return the first names for an archive begun at this local time that nobody has."""
    stem = f"archive_{local:%Y-%m-%d_%H-%M}_heure_{local:%H}h{local:%M}"
    for number in count(1):
        suffix = "" if number == 1 else f"_{number}"
        names = Names(f"{stem}{suffix}.csv", f"{stem}{suffix}.xlsx")
        if not are_taken(names, folders) and not is_known(names):
            return names
    raise AssertionError("count() ends")


def are_taken(names: Names, folders: tuple[Path, ...]) -> bool:
    """Tell whether one of the names is there in one of the folders."""
    return any((folder / name).exists() for folder in folders for name in names)


def written_at(name: str) -> datetime | None:
    """Return the local time in an archive's name, without a zone; None when the name is not ours."""
    match = OURS.fullmatch(name)
    return datetime.strptime(match[1], "%Y-%m-%d_%H-%M") if match else None  # noqa: DTZ007  local by its nature
