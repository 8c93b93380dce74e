"""Readings that were never published may still change: a corrected time, or a new identity.

A payload that is damaged stays as it is; it is found when it is to be sent.
"""

import sqlite3

from mqtt_client.errors import InvalidReading
from mqtt_client.intervals import Interval
from mqtt_client.outbox.epoch import Epoch
from mqtt_client.reading import Clock, Reading, decode, encode, from_ms

AT_ONCE = 1000


def release(
    connection: sqlite3.Connection, epoch: Epoch, part: Interval, boot_id: int, own: bool, offset_ms: int | None
) -> int:
    """Let held readings go within the caller's transaction; return how many.

    Args:
        connection: the outbox.
        epoch: theirs.
        part: their seqs.
        boot_id: row id of this boot.
        own: whether those of this boot go as well as those of earlier ones.
        offset_ms: wall clock minus monotonic clock of this boot, where it is known.
    """
    rows = connection.execute(
        "SELECT seq, payload, time_ms, boot_id, monotonic_ms FROM readings "
        "WHERE epoch_id = ? AND seq BETWEEN ? AND ?",
        (epoch.id, *part),
    ).fetchall()
    changes: list[tuple[bytes, int, int, int]] = []
    for seq, payload, time_ms, boot, monotonic_ms in rows:
        if boot == boot_id and not own:
            continue
        if boot == boot_id and offset_ms is not None:
            time_ms = monotonic_ms + offset_ms
            payload = _changed(payload, epoch.name, seq, time_ms, "corrected")
        changes.append((payload, time_ms, epoch.id, seq))
    connection.executemany(
        "UPDATE readings SET held = 0, payload = ?, time_ms = ? WHERE epoch_id = ? AND seq = ?", changes
    )
    return len(changes)


def move(connection: sqlite3.Connection, old: Epoch, new: Epoch, part: Interval) -> None:
    """Give readings to the new epoch, in their order, within the caller's transaction."""
    first, last = part
    while first <= last:
        rows = connection.execute(
            "SELECT seq, payload, held FROM readings WHERE epoch_id = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
            (old.id, first, last, AT_ONCE),
        ).fetchall()
        if not rows:
            return
        for seq, payload, held in rows:
            connection.execute(
                "UPDATE readings SET epoch_id = ?, seq = ?, payload = ? WHERE epoch_id = ? AND seq = ?",
                (new.id, new.next_seq, _changed(payload, new.name, new.next_seq), old.id, seq),
            )
            new.rows.add(new.next_seq, new.next_seq)
            if held:
                new.held.add(new.next_seq, new.next_seq)
            new.next_seq += 1
        first = rows[-1][0] + 1


def _changed(payload: bytes, epoch: str, seq: int, time_ms: int | None = None, clock: Clock | None = None) -> bytes:
    try:
        old = decode(payload)
    except InvalidReading:
        return payload
    time = old.time if time_ms is None else from_ms(time_ms)
    return encode(Reading(1, old.node, old.sensor, epoch, seq, time, clock or old.clock, old.values))
