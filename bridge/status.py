"""What a person asks first: how much waits where and how long, what was lost, how each node is, and what is wrong.

Reads the store only, so it answers beside a running bridge and after it has ended.
"""

import json
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, select

from bridge.alarms import board
from bridge.alarms.board import Alarm
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.counters import counted
from bridge.store.damage import were_set_aside
from bridge.store.database import Store, now_ms
from bridge.store.jobs import JobState, reported
from bridge.store.schema import RangeKind
from bridge.store.waiting import Waiting, summed, waiting
from mqtt_client.reading import UNITS, format_time, from_ms

SILENT_AFTER_S = 20.0
"""A job that has not reported for this long does not run."""
SILENT_WHILE_RUNNING_S = 1800.0
"""A job that has said that it is at a long piece of work (a large archive) may say nothing for this long."""
LATE_INTERVALS = 3.0
LATE_AT_LEAST_S = 30.0
COUNTERS = ("sent_again_unknown", "server_duplicates", "dead_letters_discarded")


@dataclass(frozen=True)
class NodeStatus:
    """One node as the bridge knows it; ages in seconds."""

    node: str
    state: str
    """online, offline, late (online, and no reading for three intervals) or unknown."""
    last_time: str | None
    last_age_s: float | None
    last_sensor: str | None
    last_values: dict[str, float]
    outbox_depth: int | None
    outbox_oldest_age_s: float | None
    hours_until_full: float | None
    lost: int
    clock: str | None
    sensor_faults: dict[str, str]
    version: str | None
    certificates: list[str]
    """Which certificates end within thirty days, one sentence each."""


@dataclass(frozen=True)
class Status:
    """All that ``mqtt-bridge status`` shows."""

    store: str
    waiting: Waiting
    counters: dict[str, int]
    jobs: dict[str, JobState]
    nodes: list[NodeStatus]
    problems: list[str]
    alarms: list[Alarm]
    """What is raised now by ALARM_RULES."""

    def as_json(self) -> str:
        """Return it for programs; ``lost`` and ``dead_letters`` are numbers at the top level."""
        now = now_ms()
        document = {
            "store": self.store,
            "lost": self.waiting.lost,
            "lost_unknown": self.waiting.lost_unknown,
            "dead_letters": self.waiting.dead_letters,
            "repeats": self.waiting.repeats,
            **self.counters,
            "waiting": {
                "forward": {
                    "readings": self.waiting.to_forward,
                    "oldest_age_s": _age_s(self.waiting.oldest_to_forward_ms, now),
                },
                "archive": {
                    "readings": self.waiting.to_archive,
                    "oldest_age_s": _age_s(self.waiting.oldest_to_archive_ms, now),
                },
            },
            "jobs": {name: {**job.state, "age_s": _age_s(job.at_ms, now)} for name, job in sorted(self.jobs.items())},
            "nodes": [asdict(node) for node in self.nodes],
            "problems": self.problems,
            "alarms": [asdict(alarm) for alarm in self.alarms],
        }
        return json.dumps(document, ensure_ascii=False, indent=2)


def read_status(settings: BridgeSettings, store: Store) -> Status:
    """Read everything, and say what is wrong and what to do."""
    now = now_ms()
    with store.read() as connection:
        numbers = waiting(connection)
        if not settings.server_url:  # archive only: nothing waits for a server
            numbers = replace(numbers, to_forward=0, oldest_to_forward_ms=None)
        nodes = _nodes(connection, now)
    jobs = reported(store)
    counters = counted(store)
    return Status(
        store=store.id,
        waiting=numbers,
        counters={name: counters.get(name, 0) for name in COUNTERS},
        jobs=jobs,
        nodes=nodes,
        problems=_problems(settings, numbers, jobs, nodes, now),
        alarms=board.raised(store),
    )


def is_silent(job: JobState, now: int) -> bool:
    """Tell whether a job has not been heard of for so long that it does not run."""
    allowed_s = SILENT_WHILE_RUNNING_S if job.word == "running" else SILENT_AFTER_S
    return now - job.at_ms > allowed_s * 1000


def format_values(values: dict[str, float]) -> str:
    """Return values with their units, such as ``temperature 21.4 °C, humidity 48.2 %RH``."""
    return ", ".join(f"{name} {value:g} {UNITS.get(name, '')}".rstrip() for name, value in values.items())


def format_age(age_s: float | None) -> str:
    """Return an age as a person would say it."""
    if age_s is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= 2 * size:
            return f"{age_s / size:.0f} {unit}"
    return f"{age_s:.0f} s"


def _age_s(at_ms: int | None, now: int) -> float | None:
    return None if at_ms is None else round((now - at_ms) / 1000, 1)


def _nodes(connection: Connection, now: int) -> list[NodeStatus]:
    ranges, sources = schema.ranges, schema.sources
    lost = {
        row.node_id: int(row.lost)
        for row in connection.execute(
            select(sources.c.node_id, summed(ranges.c.last - ranges.c.first + 1).label("lost"))
            .join_from(ranges, sources)
            .where(ranges.c.kind == RangeKind.LOST)
            .group_by(sources.c.node_id)
        )
    }
    found: list[NodeStatus] = []
    for row in connection.execute(select(schema.nodes).order_by(schema.nodes.c.name)).mappings():
        info = json.loads(row["info"] or "{}")
        health = json.loads(row["health"] or "{}")
        age_s = _age_s(row["last_received_ms"], now)
        late_after_s = max(LATE_AT_LEAST_S, LATE_INTERVALS * float(info.get("interval") or 0))
        state = row["availability"] or "unknown"
        if state == "online" and (age_s is None or age_s > late_after_s):
            state = "late"
        found.append(
            NodeStatus(
                node=row["name"],
                state=state,
                last_time=None if row["last_time_ms"] is None else format_time(from_ms(row["last_time_ms"])),
                last_age_s=age_s,
                last_sensor=row["last_sensor"],
                last_values=json.loads(row["last_values"] or "{}"),
                outbox_depth=health.get("outbox_depth"),
                outbox_oldest_age_s=health.get("oldest_age_s"),
                hours_until_full=health.get("hours_until_full"),
                lost=lost.get(row["id"], 0),
                clock=health.get("clock") or None,
                sensor_faults=health.get("sensor_faults") or {},
                version=info.get("version") or None,
                certificates=health.get("certificates") or [],
            )
        )
    return found


def _problems_of_jobs(settings: BridgeSettings, jobs: dict[str, JobState], now: int) -> list[str]:
    found: list[str] = []
    for job in ["ingest", "schedule"] + (["forward"] if settings.server_url else []):
        running = [one for one in jobs.values() if one.name.partition("@")[0] == job and one.word != "stopped"]
        if not running:
            found.append(f"{job} is not running: start `mqtt-bridge run`")
        for one in running:
            if is_silent(one, now):
                age = format_age(_age_s(one.at_ms, now))
                found.append(f"{one.name} has not been heard of for {age}: look at its log, or start it again")
            elif one.word not in ("ok", "idle", "running") and one.state.get("reason"):
                found.append(f"{one.name} {one.word}: {one.state['reason']}")
            ending = one.state.get("certificates")
            found += ending if isinstance(ending, list) else []
    return found


def _doubt_of_cleanup(jobs: dict[str, JobState]) -> list[str]:
    told = jobs["cleanup"].state.get("doubt") if "cleanup" in jobs else None
    return [f"no backup is deleted, whatever BACKUP_KEEP_DAYS says: {told}"] if told else []


def _problems(
    settings: BridgeSettings, numbers: Waiting, jobs: dict[str, JobState], nodes: list[NodeStatus], now: int
) -> list[str]:
    found = _problems_of_jobs(settings, jobs, now) + _doubt_of_cleanup(jobs)
    found += [
        f"the store was damaged, and the damaged one set aside as {file}: readings that it had neither forwarded nor "
        "archived are only there; move it away when you have looked at it"
        for file in were_set_aside(settings.store_url)
    ]
    if not nodes:
        found.append(
            "no node was ever heard: have nodes and bridge the same broker and MQTT_TOPIC_PREFIX? "
            f"`mosquitto_sub -h {settings.mqtt_host} -p {settings.broker_port} "
            f"-t '{settings.mqtt_topic_prefix}/#' -v` shows what arrives; "
            "`mqtt-node status` on the Pi says why it does not send"
        )
    for node in nodes:
        if node.state in ("offline", "late"):
            found.append(f"node {node.node} is {node.state}: last reading {format_age(node.last_age_s)} ago")
        found += [f"node {node.node}: sensor {sensor}: {fault}" for sensor, fault in node.sensor_faults.items()]
        found += [f"node {node.node}: {warning}" for warning in node.certificates]
    if numbers.dead_letters:
        found.append(f"{numbers.dead_letters} dead letters wait for a decision: `mqtt-bridge dead-letters list`")
    if numbers.lost or numbers.lost_unknown:
        unknown = f" and {numbers.lost_unknown} times an unknown number" if numbers.lost_unknown else ""
        found.append(f"{numbers.lost} readings are lost{unknown}; each node's share is in the table")
    return found
