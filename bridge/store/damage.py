"""A damaged store is set aside whole, and a new one begins in its place.

The file and its journal are renamed to ``bridge.db.corrupt-<time>`` while no
job has them open; nothing is deleted. The new store has another id, and begins
at the floor of each node: what nodes still hold comes again. What they had a
receipt for, and the old store had neither forwarded nor archived, is only in
the file that was set aside, so ``status`` names it until somebody has moved it
away. A kill between two renames leaves a journal without its store, or a store
as it was at its last checkpoint; the next start finds that as it finds any.
"""

import logging
import sqlite3
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path

from bridge.settings import BridgeSettings
from bridge.store import locks
from bridge.store.database import is_damage, sqlite_path
from mqtt_client.errors import LockHeld

log = logging.getLogger("store")

CHECKED_BYTES = 64 * 1024 * 1024
"""Up to this size the whole file is checked at each start; above, damage is met where it is read."""
WAIT_S = 10.0


def make_whole(settings: BridgeSettings, jobs: Iterable[str], *, is_known: bool = False) -> None:
    """Set the store aside if it is a damaged file; waits for those who have it open.

    Args:
        settings: the bridge's.
        jobs: the locks of all jobs that may have it open.
        is_known: a job has met the damage.

    Raises:
        LockHeld: one of these jobs runs.
    """
    file = sqlite_path(settings.store_url)
    if file is None or not (is_known or is_damaged(file)):
        return
    deadline = time.monotonic() + WAIT_S
    with ExitStack() as stack:
        for job in jobs:
            while True:
                try:
                    stack.enter_context(locks.held(settings, job))
                    break
                except LockHeld:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
        if file.exists():
            log.error(
                "STORE_URL: the store %s is damaged; it is set aside as %s and a new one begins: what the nodes "
                "still hold comes again, what the old one had neither forwarded nor archived is only in that file",
                file,
                set_aside(file),
            )


def is_damaged(file: Path) -> bool:
    """Tell whether SQLite finds damage; a file that cannot be opened for another reason is not called damaged."""
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(file, timeout=WAIT_S)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if file.stat().st_size > CHECKED_BYTES:
                return False
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.DatabaseError as exc:
        return is_damage(str(exc))


def set_aside(file: Path) -> Path:
    """Rename the store and its journal; return the store's new name."""
    aside = file.with_name(f"{file.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    number = 1
    while aside.exists():
        number += 1
        aside = aside.with_name(f"{aside.name.partition('_')[0]}_{number}")
    for ending in ("-wal", "-shm", ""):
        source = file.with_name(file.name + ending)
        if source.exists():
            source.rename(aside.with_name(aside.name + ending))
    return aside


def were_set_aside(store_url: str) -> list[Path]:
    """Return the damaged stores that lie beside this one."""
    file = sqlite_path(store_url)
    if file is None:
        return []
    found = file.parent.glob(f"{file.name}.corrupt-*")
    return sorted(path for path in found if not path.name.endswith(("-wal", "-shm")))
