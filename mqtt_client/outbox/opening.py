"""Opening the outbox: one process, one node, and a damaged file set aside instead of in the way.

A damaged file is renamed to ``outbox.db.corrupt-<time>`` with its journal; what
can be read of it goes into a new file under its old identity, the rest is told
as lost, and new readings begin a new epoch (salvage.py).
"""

import logging
from pathlib import Path

from mqtt_client.errors import OutboxDamaged, PersonNeeded
from mqtt_client.lock import FileLock
from mqtt_client.outbox.outbox import Outbox
from mqtt_client.outbox.salvage import finish_replacing, replace_damaged, salvaged_name
from mqtt_client.outbox.schema import TABLES, VERSION, connect, lock_of, transaction, translated

log = logging.getLogger("outbox")

CHECKED_BYTES = 64 * 1024 * 1024
"""Up to this size the whole file is checked at each start; above, damage is met where it is read."""


def open_outbox(path: Path, node: str, boot: str, max_readings: int, *, is_damaged: bool = False) -> Outbox:
    """Open the node's outbox, making it where it is missing.

    Args:
        path: the file; its lock is beside it.
        node: NODE_ID; a full outbox of another node is refused.
        boot: what tells this uptime of the machine from others.
        max_readings: how many it holds before it gives up the oldest.
        is_damaged: the file was found damaged while it was in use.

    Raises:
        LockHeld: another process has it open.
        PersonNeeded: it cannot be used, or belongs to another node.
        StorageFull: there is no room for it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_of(path), "outbox")
    except OSError as exc:
        raise PersonNeeded(f"OUTBOX_PATH: {str(path)!r} cannot be used ({exc})") from exc
    try:
        if salvaged_name(path).exists():
            finish_replacing(path)
        try:
            if is_damaged:
                raise OutboxDamaged(f"OUTBOX_PATH: {str(path)!r} is damaged")
            return _open(path, node, boot, max_readings, lock)
        except OutboxDamaged as exc:
            log.error("%s; salvaging what can be read", exc)
            log.error("the damaged outbox is set aside as %s", replace_damaged(path, node))
            return _open(path, node, boot, max_readings, lock)
    except BaseException:
        lock.release()
        raise


def _open(path: Path, node: str, boot: str, max_readings: int, lock: FileLock) -> Outbox:
    connection = connect(path)
    try:
        with translated(path):
            if path.stat().st_size <= CHECKED_BYTES:
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if verdict != "ok":
                    raise OutboxDamaged(f"OUTBOX_PATH: {str(path)!r} is damaged ({verdict})")
            connection.executescript(TABLES)
            meta = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('node', 'version')").fetchall())
            query = "SELECT EXISTS (SELECT 1 FROM readings) OR EXISTS (SELECT 1 FROM losses)"
            _check_owner(path, meta, node, bool(connection.execute(query).fetchone()[0]))
            if meta.get("node") != node:
                with transaction(connection):
                    connection.execute("DELETE FROM epochs")
                    connection.execute("DELETE FROM meta WHERE key = 'state'")
                    connection.execute("INSERT OR REPLACE INTO meta VALUES ('node', ?)", (node,))
                    connection.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (VERSION,))
        return Outbox(connection, path, node, boot, max_readings, lock.release)
    except BaseException:
        connection.close()
        raise


def _check_owner(path: Path, meta: dict[str, object], node: str, is_full: bool) -> None:
    version = meta.get("version", VERSION)
    if isinstance(version, int) and version > VERSION:
        raise PersonNeeded(f"OUTBOX_PATH: {str(path)!r} is of a newer release; install that release")
    owner = meta.get("node", node)
    if owner != node and is_full:
        raise PersonNeeded(
            f"NODE_ID: {node!r} was given, but the outbox {str(path)!r} still holds readings of {owner!r}; "
            f"run it as {owner!r} until it is empty, or set another OUTBOX_PATH"
        )
