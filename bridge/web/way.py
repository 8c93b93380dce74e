"""The way of the readings, door by door: how much waits at each, how long, and why one stands still.

``/readyz`` and the page judge by the same facts; nothing is remembered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.settings import BridgeSettings
from bridge.status import NodeStatus, Status, is_silent
from bridge.store.jobs import JobState

KEPT_LONG_S = 300.0
"""A node that is online and still keeps readings this old gets no receipts."""
OVERDUE_S = 120.0
"""How late an archive may be: a run takes its time."""


class Flow(StrEnum):
    """How the readings pass a door."""

    OK = "ok"
    WAITING = "waiting"
    STILL = "still"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Why:
    """A reason as the key of a text (see texts.py) and what it names; ages in seconds end in ``_s``."""

    key: str
    named: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One door; counts are readings, ages seconds."""

    place: str
    flow: Flow
    count: int | None = None
    age_s: float | None = None
    why: Why | None = None


@dataclass(frozen=True)
class Totals:
    """What the status does not say."""

    received: int
    last_archive_ms: int | None
    first_seen_ms: int | None
    now_ms: int


def stages(settings: BridgeSettings, status: Status, totals: Totals) -> list[Stage]:
    """Return the five doors in the order in which a reading passes them."""
    return [
        _outbox(status.nodes),
        _broker(status, totals),
        _store(status, totals),
        _server(settings, status, totals),
        _archive(settings, status, totals),
    ]


def standing_still(found: list[Stage]) -> list[Stage]:
    """Return the doors of the bridge at which the readings stand still."""
    return [stage for stage in found if stage.flow is Flow.STILL and stage.place != "outbox"]


def _outbox(nodes: list[NodeStatus]) -> Stage:
    depths = [node.outbox_depth for node in nodes if node.outbox_depth is not None]
    ages = [node.outbox_oldest_age_s for node in nodes if node.outbox_oldest_age_s is not None]
    why, flow = None, Flow.OK if nodes else Flow.OFF
    keeping = [node for node in nodes if node.state == "online" and (node.outbox_oldest_age_s or 0) > KEPT_LONG_S]
    away = [node for node in nodes if node.state == "offline"]
    if keeping:
        flow, oldest = Flow.STILL, max(keeping, key=lambda node: node.outbox_oldest_age_s or 0)
        why = Why("why_outbox_old", {"node": oldest.node, "age_s": oldest.outbox_oldest_age_s})
    elif len(away) == 1:
        flow, why = Flow.WAITING, Why("why_outbox_offline_1", {"node": away[0].node})
    elif away:
        flow, why = Flow.WAITING, Why("why_outbox_offline", {"number": len(away)})
    return Stage("outbox", flow, sum(depths) if depths else None, max(ages, default=None), why)


def _broker(status: Status, totals: Totals) -> Stage:
    age_s = min((node.last_age_s for node in status.nodes if node.last_age_s is not None), default=None)
    job, fault = _job(status, "ingest", totals.now_ms)
    if job is None or fault:
        return Stage("broker", Flow.STILL, None, age_s, fault)
    if job.word == "waiting":
        return Stage("broker", Flow.STILL, None, age_s, Why("why_broker", {"reason": job.state.get("reason", "")}))
    return Stage("broker", Flow.OK, None, age_s)


def _store(status: Status, totals: Totals) -> Stage:
    job, fault = _job(status, "ingest", totals.now_ms)
    if job is None or fault:
        return Stage("store", Flow.UNKNOWN, totals.received)  # nobody has asked it; the door before says why
    if job.word == "full":
        reason = Why("why_full", {"reason": job.state.get("reason", "")})
        return Stage("store", Flow.STILL, totals.received, None, reason)
    return Stage("store", Flow.OK, totals.received)


def _server(settings: BridgeSettings, status: Status, totals: Totals) -> Stage:
    if not settings.server_url:
        return Stage("server", Flow.OFF, None, None, Why("why_server_none"))
    count = status.waiting.to_forward
    age_s = _since(status.waiting.oldest_to_forward_ms, totals.now_ms)
    job, fault = _job(status, "forward", totals.now_ms)
    if job is None or fault:
        return Stage("server", Flow.STILL, count, age_s, fault)
    reason = {"reason": str(job.state.get("reason", ""))}
    if job.word in ("paused", "down"):
        for prefix in ("the server is down: ", "the set-up is wrong: "):
            reason = {"reason": reason["reason"].removeprefix(prefix)}
        return Stage("server", Flow.STILL, count, age_s, Why(f"why_{job.word}", reason))
    if job.word == "waiting":
        return Stage("server", Flow.WAITING, count, age_s, Why("why_some", reason))
    return Stage("server", Flow.OK, count, age_s)


def _archive(settings: BridgeSettings, status: Status, totals: Totals) -> Stage:
    count = status.waiting.to_archive
    age_s = _since(totals.last_archive_ms, totals.now_ms)
    job, fault = _job(status, "schedule", totals.now_ms)
    if job is None or fault:
        return Stage("archive", Flow.STILL, count, age_s, fault)
    if job.word == "failing":
        return Stage("archive", Flow.STILL, count, age_s, Why("why_failing", {"reason": job.state.get("reason", "")}))
    if count and age_s is not None and age_s > settings.archive_interval + OVERDUE_S and job.word != "running":
        named = {"age_s": age_s, "interval_s": settings.archive_interval}
        return Stage("archive", Flow.STILL, count, age_s, Why("why_overdue", named))
    return Stage("archive", Flow.OK, count, age_s)


def _job(status: Status, name: str, now_ms: int) -> tuple[JobState | None, Why | None]:
    """Return what a job says, of several bridges the best; and why it says nothing where it does not."""
    said = [job for job in status.jobs.values() if job.name.partition("@")[0] == name and job.word != "stopped"]
    if not said:
        return None, Why("why_job_absent", {"job": name})
    best = min(said, key=lambda job: (is_silent(job, now_ms), job.word not in ("ok", "running"), -job.at_ms))
    if is_silent(best, now_ms):
        return best, Why("why_job_silent", {"job": best.name, "age_s": (now_ms - best.at_ms) / 1000})
    return best, None


def _since(at_ms: int | None, now_ms: int) -> float | None:
    return None if at_ms is None else max(0.0, (now_ms - at_ms) / 1000)
