"""What a node would send, made by hand."""

import json
from collections.abc import Iterable

EPOCH = "k3f9x2ab"


def reading(seq: int, node: str = "kitchen", **changes: object) -> bytes:
    """Return the payload of a good reading, with keys changed."""
    document: dict[str, object] = {
        "v": 1,
        "node": node,
        "sensor": "main",
        "epoch": EPOCH,
        "seq": seq,
        "time": f"2026-11-24T20:{seq // 60 % 60:02d}:{seq % 60:02d}.123Z",
        "clock": "synced",
        "values": {"temperature": 21.4, "humidity": 48.2},
    }
    document.update(changes)
    return json.dumps(document, separators=(",", ":")).encode()


def backlog(seqs: Iterable[int], node: str = "kitchen", floor: int = 1, epoch: str = EPOCH) -> bytes:
    """Return a backlog message of good readings."""
    readings = b",".join(reading(seq, node, epoch=epoch) for seq in seqs)
    return b'{"epoch":"%s","floor":%d,"readings":[%s]}' % (epoch.encode(), floor, readings)
