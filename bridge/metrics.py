"""The bridge in Prometheus' terms, read from the store at each scrape: any process can tell it, none has to count.

Names and units follow https://prometheus.io/docs/practices/naming/: base
units, ``_total`` for what only grows. The one label with many values is the
node; past NODES_TOLD the rest is summed up under ``node="other"``.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry
from sqlalchemy import Connection, func, select

from bridge.local_times import parse_rfc3339
from bridge.settings import BridgeSettings
from bridge.status import NodeStatus, Status, is_silent, read_status
from bridge.store import rollups, schema
from bridge.store.counters import counted
from bridge.store.database import Store, now_ms, sqlite_path
from bridge.store.jobs import JobState
from bridge.store.outgoing import ANSWERED
from bridge.store.schema import RangeKind
from bridge.store.waiting import summed
from mqtt_client.version import own_version

CONTENT_TYPE = CONTENT_TYPE_LATEST
PREFIX = "sensor_bridge_"
NODES_TOLD = 1000
OTHER = "other"
NODE_STATES = ("online", "late", "offline", "unknown")
FORWARD_STATES = ("ok", "waiting", "paused", "down", "stopped")


def exposition(settings: BridgeSettings, store: Store) -> bytes:
    """Return all metrics as Prometheus reads them.

    Raises:
        StoreBusy, StoreUnusable: the store cannot be read.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BridgeCollector(settings, store))
    return generate_latest(registry)


@dataclass
class _Readings:
    """Numbers of one node's readings over all its epochs."""

    taken: int = 0
    received: int = 0
    lost: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class _Moment:
    status: Status
    readings: dict[str, _Readings]
    counters: dict[str, int]
    lags_s: dict[str, float]
    last_archive_ms: int | None
    rollups_queued: int
    alarms: int
    now_ms: int = field(default_factory=now_ms)


class BridgeCollector(Collector):
    """Reads the store once a scrape."""

    def __init__(self, settings: BridgeSettings, store: Store) -> None:
        self._settings = settings
        self._store = store

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the store is not read at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read the store and return all metrics."""
        moment = _read(self._settings, self._store)
        yield _gauge("build_info", "The release that answers; always 1.", [({"version": own_version()}, 1)])
        yield from _of_readings(moment)
        yield from _of_nodes(moment)
        yield from _of_jobs(moment)
        yield from _of_forwarding(moment)
        yield from _of_archives(moment, self._settings)
        yield from _of_store(moment)


def _read(settings: BridgeSettings, store: Store) -> _Moment:
    status = read_status(settings, store)
    with store.read() as connection:
        meta, alarms = schema.meta.c, schema.alarms.c
        last_archive = connection.scalar(select(meta.value).where(meta.key == "last_archive_ms"))
        return _Moment(
            status=status,
            readings=_readings(connection),
            lags_s=_lags_s(connection),
            last_archive_ms=int(last_archive) if last_archive else None,
            rollups_queued=rollups.queued(connection),
            alarms=connection.scalar(select(func.count()).where(alarms.raised_ms.is_not(None))) or 0,
            counters=counted(store),
        )


def _readings(connection: Connection) -> dict[str, _Readings]:
    """Count from the interval sets: they are kept for ever, so the numbers outlive every process."""
    nodes, sources, ranges = schema.nodes, schema.sources, schema.ranges
    numbers = summed(ranges.c.last - ranges.c.first + 1)
    counts = (
        select(nodes.c.name, ranges.c.kind, numbers)
        .join_from(ranges, sources)
        .join(nodes, nodes.c.id == sources.c.node_id)
        .group_by(nodes.c.name, ranges.c.kind)
    )
    highest = (
        select(sources.c.node_id, (func.max(ranges.c.last) - func.coalesce(sources.c.start, 1) + 1).label("taken"))
        .join_from(ranges, sources)
        .group_by(sources.c.id, sources.c.node_id, sources.c.start)
        .subquery()
    )
    taken = select(nodes.c.name, summed(highest.c.taken)).join_from(nodes, highest, nodes.c.id == highest.c.node_id)
    repeats = select(nodes.c.name, func.sum(sources.c.repeats)).join_from(sources, nodes)
    found: dict[str, _Readings] = {}
    for name, kind, number in connection.execute(counts):
        readings = found.setdefault(name, _Readings())
        if kind == RangeKind.COMMITTED:
            readings.received = int(number)
        else:
            readings.lost = int(number)
    for name, number in connection.execute(taken.group_by(nodes.c.name)):
        found.setdefault(name, _Readings()).taken = int(number)
    for name, number in connection.execute(repeats.group_by(nodes.c.name)):
        found.setdefault(name, _Readings()).repeated = int(number)
    return found


def _lags_s(connection: Connection) -> dict[str, float]:
    nodes = schema.nodes.c
    query = select(nodes.name, nodes.last_received_ms - nodes.last_time_ms).where(nodes.last_time_ms.is_not(None))
    return {name: lag_ms / 1000 for name, lag_ms in connection.execute(query)}


def _of_readings(moment: _Moment) -> Iterator[Metric]:
    told = _told(moment.readings)
    rest = [one for name, one in moment.readings.items() if name not in told]
    rows = [(name, moment.readings[name]) for name in told]
    if rest:
        rows.append((OTHER, _sum(rest)))
    for name, text in (
        ("taken", "Readings that the node has numbered, as far as the bridge knows."),
        ("received", "Readings committed to the store."),
        ("repeated", "Readings that came again and were dropped."),
    ):
        samples = [({"node": node}, float(getattr(readings, name))) for node, readings in rows]
        yield _counter(f"readings_{name}", text, samples)
    lost = [({"node": node}, float(readings.lost)) for node, readings in rows]
    yield _gauge("readings_lost", "Readings known as lost; one that arrives after all is taken off.", lost)
    yield _counter(
        "losses_unknown", "Losses of an unknown number of readings.", [({}, moment.status.waiting.lost_unknown)]
    )


def _of_nodes(moment: _Moment) -> Iterator[Metric]:
    told = _told(moment.readings.keys() | {node.node for node in moment.status.nodes})
    nodes = [node for node in moment.status.nodes if node.node in told]
    states = dict.fromkeys(NODE_STATES, 0)
    for node in moment.status.nodes:
        states[node.state] = states.get(node.state, 0) + 1
    yield _gauge("nodes", "Nodes by state.", [({"state": state}, number) for state, number in states.items()])
    online = [({"node": node.node}, float(node.state in ("online", "late"))) for node in nodes]
    yield _gauge("node_online", "Whether the node is connected to the broker.", online)
    late = [({"node": node.node}, float(node.state == "late")) for node in nodes]
    yield _gauge("node_late", "Whether the node is connected and sends no readings.", late)
    yield _gauge(
        "node_clock_unsynced",
        "Whether the node's clock is not set.",
        [({"node": node.node}, float(node.clock == "unsynced")) for node in nodes],
    )
    faults = [({"node": node.node}, float(len(node.sensor_faults))) for node in nodes]
    yield _gauge("node_sensor_faults", "Sensors of the node that fail.", faults)
    times = [(node.node, node.last_time) for node in nodes]
    yield _gauge(
        "node_last_reading_timestamp_seconds",
        "When the node's newest reading was measured.",
        [({"node": name}, parse_rfc3339(time) / 1000) for name, time in times if time is not None],
    )
    yield _gauge(
        "node_lag_seconds",
        "Time between measuring and committing of the node's newest reading.",
        [({"node": node.node}, moment.lags_s[node.node]) for node in nodes if node.node in moment.lags_s],
    )
    yield from _of_outboxes(nodes)


def _of_outboxes(nodes: list[NodeStatus]) -> Iterator[Metric]:
    depths = [(node.node, node.outbox_depth) for node in nodes]
    ages = [(node.node, node.outbox_oldest_age_s) for node in nodes]
    full = [(node.node, node.hours_until_full) for node in nodes]
    yield _gauge(
        "outbox_readings",
        "Readings in the node's outbox, as it last said.",
        [({"node": name}, float(depth)) for name, depth in depths if depth is not None],
    )
    yield _gauge(
        "outbox_oldest_age_seconds",
        "Age of the oldest reading in the node's outbox, as it last said.",
        [({"node": name}, age) for name, age in ages if age is not None],
    )
    yield _gauge(
        "outbox_full_in_seconds",
        "Time until the node's outbox is full at its rate.",
        [({"node": name}, hours * 3600) for name, hours in full if hours is not None],
    )


def _of_jobs(moment: _Moment) -> Iterator[Metric]:
    jobs = sorted(moment.status.jobs.values(), key=lambda job: job.name)
    yield _gauge(
        "job_up",
        "Whether the job runs and does its work.",
        [({"job": job.name}, float(_is_up(job, moment.now_ms))) for job in jobs],
    )
    yield _gauge(
        "job_report_age_seconds",
        "Time since the job last said how it is.",
        [({"job": job.name}, max(0.0, (moment.now_ms - job.at_ms) / 1000)) for job in jobs],
    )


def _is_up(job: JobState, now: int) -> bool:
    return job.word in ("ok", "idle", "running", "waiting") and not is_silent(job, now)


def _of_forwarding(moment: _Moment) -> Iterator[Metric]:
    waiting, counters = moment.status.waiting, moment.counters
    yield _gauge("forward_waiting_readings", "Readings that wait for the server.", [({}, waiting.to_forward)])
    yield _gauge(
        "forward_oldest_age_seconds",
        "How long the oldest reading that waits for the server has been in the store.",
        [({}, _age_s(waiting.oldest_to_forward_ms, moment.now_ms))],
    )
    answers = sorted(
        (name.removeprefix(ANSWERED), number) for name, number in counters.items() if name.startswith(ANSWERED)
    )
    yield _counter(
        "forward_tries",
        "Readings sent to the server, by HTTP status of the answer; none: no answer.",
        [({"status": status}, number) for status, number in answers],
    )
    jobs = [job for job in moment.status.jobs.values() if job.name.partition("@")[0] == "forward"]
    yield _gauge(
        "forward_state",
        "1 for the forwarder's state.",
        [
            ({"job": job.name, "state": state}, float(job.word == state))
            for job in jobs
            for state in (*FORWARD_STATES, *({job.word} - set(FORWARD_STATES)))
        ],
    )
    nexts = [(job.name, job.state.get("next_try_ms")) for job in jobs]
    yield _gauge(
        "forward_next_try_timestamp_seconds",
        "When the forwarder tries again.",
        [({"job": name}, at_ms / 1000) for name, at_ms in nexts if isinstance(at_ms, int | float)],
    )
    for name, text in (
        ("sent_again_unknown", "Readings sent again after a try of unknown outcome."),
        ("server_duplicates", "Readings that the server had already."),
    ):
        yield _counter(f"forward_{name}", text, [({}, counters.get(name, 0))])


def _of_archives(moment: _Moment, settings: BridgeSettings) -> Iterator[Metric]:
    waiting = moment.status.waiting
    yield _gauge("archive_waiting_readings", "Readings in no archive yet.", [({}, waiting.to_archive)])
    yield _gauge(
        "archive_last_run_timestamp_seconds",
        "When readings were last archived.",
        [({}, moment.last_archive_ms / 1000)] if moment.last_archive_ms else [],
    )
    yield _gauge(
        "archive_lag_seconds",
        "How much later than its interval the next archive is; 0 while it is not due or nothing waits.",
        [({}, _lateness_s(moment, settings))],
    )
    folders = [("archives", settings.archive_directory), ("backup", settings.backup_directory)]
    store_file = sqlite_path(settings.store_url)
    if store_file is not None:
        folders.append(("store", store_file.parent))
    free = [
        ({"folder": name}, free_bytes) for name, folder in folders if (free_bytes := _free_bytes(folder)) is not None
    ]
    yield _gauge("disk_free_bytes", "Free space of the disk under a folder.", free)


def _lateness_s(moment: _Moment, settings: BridgeSettings) -> float:
    if moment.last_archive_ms is None or not moment.status.waiting.to_archive:
        return 0.0
    return max(0.0, _age_s(moment.last_archive_ms, moment.now_ms) - settings.archive_interval)


def _of_store(moment: _Moment) -> Iterator[Metric]:
    yield _gauge("dead_letters", "Dead letters that wait for a decision.", [({}, moment.status.waiting.dead_letters)])
    yield _counter(
        "dead_letters_discarded",
        "Messages of strangers that were counted and not kept.",
        [({}, moment.counters.get("dead_letters_discarded", 0))],
    )
    yield _gauge("rollup_waiting_readings", "Readings in no roll-up yet.", [({}, moment.rollups_queued)])
    yield _gauge("alarms", "Alarms that are raised now.", [({}, moment.alarms)])


def _told(names: Iterable[str]) -> set[str]:
    return set(sorted(names)[:NODES_TOLD])


def _sum(readings: Iterable[_Readings]) -> _Readings:
    total = _Readings()
    for one in readings:
        total.taken += one.taken
        total.received += one.received
        total.lost += one.lost
        total.repeated += one.repeated
    return total


def _age_s(at_ms: int | None, now: int) -> float:
    return 0.0 if at_ms is None else max(0.0, (now - at_ms) / 1000)


def _free_bytes(folder: Path) -> int | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


Samples = Sequence[tuple[dict[str, str], float]]


def _gauge(name: str, text: str, samples: Samples) -> Metric:
    return _family(GaugeMetricFamily(PREFIX + name, text), samples)


def _counter(name: str, text: str, samples: Samples) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text)
    for labels, value in samples:
        family.add_sample(f"{PREFIX}{name}_total", labels, value)
    return family


def _family(family: Metric, samples: Samples) -> Metric:
    for labels, value in samples:
        family.add_sample(family.name, labels, value)
    return family
