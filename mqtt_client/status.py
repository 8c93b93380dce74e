"""What ``mqtt-node status`` tells, from the disk alone, so it works beside a running node and after its end."""

import time
from pathlib import Path
from typing import TypedDict

from mqtt_client.expiry import Expiry
from mqtt_client.health import decode_state, hours_until_full
from mqtt_client.lock import is_held
from mqtt_client.logs import escape
from mqtt_client.outbox.peek import glance
from mqtt_client.outbox.schema import lock_of
from mqtt_client.reading import from_ms
from mqtt_client.settings import NodeSettings

NEVER_RECEIPTED = (
    "no receipt has ever come: readings are kept until the outbox is full. Is a bridge running on this broker "
    "with the same MQTT_TOPIC_PREFIX? (Without a bridge, set NODE_CONFIRM=broker.)"
)


class ReceiptStatus(TypedDict):
    """The last receipt."""

    store: str
    epoch: str
    through: int
    age_s: float | None


class Status(TypedDict):
    """The node's state, as ``status --json`` prints it."""

    node: str
    running: bool
    waiting: int
    oldest_age_s: float | None
    lost: int
    """Given up here since the outbox was made; what of that had gone out and arrives is not lost for the bridge."""
    lost_unknown: int
    capacity: int
    hours_until_full: float | None
    epoch: str
    next_seq: int
    connected: bool
    bridge_online: bool
    confirmed_by: str
    receipt: ReceiptStatus | None
    sample_interval: float
    commanded_interval: float | None
    clock: str
    sensor_faults: dict[str, str]
    certificates: list[str]
    troubles: list[str]
    told_age_s: float | None


def read_status(settings: NodeSettings) -> Status:
    """Read the state.

    Raises:
        PersonNeeded: there is no outbox, or it cannot be read.
    """
    now_ms = time.time_ns() // 1_000_000
    found = glance(settings.outbox_path)
    state = decode_state(found.state)
    running = is_running(settings.outbox_path)
    troubles = list(state.troubles) if running else []
    if state.receipt is None and settings.node_confirm == "bridge" and found.next_seq > 1:
        troubles.append(NEVER_RECEIPTED)
    return Status(
        node=found.node,
        running=running,
        waiting=found.waiting,
        oldest_age_s=_age_s(now_ms, found.oldest_ms),
        lost=found.lost,
        lost_unknown=found.lost_unknown,
        capacity=settings.outbox_max_readings,
        hours_until_full=hours_until_full(settings.outbox_max_readings - found.waiting, state.rate_per_s),
        epoch=found.epoch,
        next_seq=found.next_seq,
        connected=running and state.is_connected,
        bridge_online=running and state.bridge_online,
        confirmed_by=settings.node_confirm,
        receipt=None
        if state.receipt is None
        else ReceiptStatus(
            store=state.receipt.store,
            epoch=state.receipt.epoch,
            through=state.receipt.through,
            age_s=_age_s(now_ms, state.receipt_ms),
        ),
        sample_interval=state.interval or settings.sample_interval,
        commanded_interval=state.interval,
        clock=state.clock,
        sensor_faults=state.sensor_faults,
        certificates=state.certificates if running else Expiry(settings).warnings(from_ms(now_ms)),
        troubles=troubles,
        told_age_s=_age_s(now_ms, state.time_ms or None),
    )


def lines(status: Status) -> list[str]:
    """Return the state as lines for people; what others said steers no terminal."""
    receipt, waiting = status["receipt"], status["waiting"]
    age, hours = status["oldest_age_s"], status["hours_until_full"]
    unknown = f", and {status['lost_unknown']} times an unknown number" if status["lost_unknown"] else ""
    at_most = " given up here, at most: the bridge counts what never came" if status["lost"] or unknown else ""
    found = [
        f"node {status['node']}: {'running' if status['running'] else 'not running'}, "
        f"{'connected' if status['connected'] else 'not connected'}, "
        f"{'a bridge is online' if status['bridge_online'] else 'no bridge seen online'}",
        f"waiting: {waiting} of {status['capacity']} readings"
        + (f", the oldest {age:.0f} s old" if age is not None else "")
        + (f"; full in {hours:g} h at this rate" if hours is not None else ""),
        f"lost: {status['lost']}{unknown}{at_most}",
        f"epoch {status['epoch']}, next seq {status['next_seq']}; clock {status['clock'] or 'unknown'}",
    ]
    if receipt is not None:
        ago = "" if receipt["age_s"] is None else f", {receipt['age_s']:.0f} s ago"
        found.append(f"last receipt: store {receipt['store']}, {receipt['epoch']} through {receipt['through']}{ago}")
    if status["commanded_interval"] is not None:
        found.append(f"interval {status['sample_interval']:g} s, set by a command; null gives SAMPLE_INTERVAL back")
    found += [f"sensor {sensor}: {fault}" for sensor, fault in status["sensor_faults"].items()]
    return [escape(line) for line in found + status["certificates"] + status["troubles"]]


def is_running(path: Path) -> bool:
    """Tell whether a node has this outbox open now."""
    return is_held(lock_of(path))


def _age_s(now_ms: int, then_ms: int | None) -> float | None:
    return None if then_ms is None else round(max(0, now_ms - then_ms) / 1000, 3)
