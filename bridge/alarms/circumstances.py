"""Rules about everything but quantities: silence, loss, the server, the disk; looked at each second.

What they need is in the store or asked of the system at each look. A node's
silence is counted only while ingest listens: when the bridge or the broker
was away, every node is given its time again.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from bridge.alarms.rules import Kind, Rule
from bridge.alarms.watch import Case, Sight
from bridge.alarms.words import Words
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.database import Store, sqlite_path
from bridge.store.jobs import JobState, reported
from bridge.store.waiting import summed

SILENT_JOB_MS = 20_000
LOSSES_LOOKED_AT = 10_000
DISK_HYSTERESIS = 1.1
AWAY = ("down", "paused")
"""Words of the forwarder: the server takes nothing."""

Sights = Iterator[tuple[Case, Sight]]


class _Node(NamedTuple):
    id: int
    name: str
    received_ms: int


class Circumstances:
    """The rules, and since when ingest listens."""

    def __init__(self, settings: BridgeSettings, store: Store, rules: list[Rule], words: Words) -> None:
        self._store = store
        self._words = words
        self._rules = [rule for rule in rules if rule.kind is not Kind.QUANTITY]
        self._listening_ms: int | None = None
        store_file = sqlite_path(settings.store_url)
        folders = [
            settings.archive_directory,
            settings.backup_directory,
            *([store_file.parent] if store_file else []),
        ]
        self._folders = [folder.absolute() for folder in folders]

    def look(self, now_ms: int) -> Sights:
        """Return how everything is that the rules watch.

        Raises:
            StoreBusy, StorageFull: the store cannot be read now.
        """
        if not self._rules:
            return
        jobs = reported(self._store)
        self._note_listening(_alive(jobs, "ingest", now_ms), now_ms)
        with self._store.read() as connection:
            nodes = [_Node(*row) for row in connection.execute(_NODES)]
            for rule in self._rules:
                if rule.kind is Kind.NO_DATA:
                    yield from self._silence(rule, nodes, now_ms)
                elif rule.kind is Kind.LOSS:
                    yield from self._losses(rule, nodes, connection, now_ms)
                elif rule.kind is Kind.SERVER:
                    yield from self._server(rule, _alive(jobs, "forward", now_ms), now_ms)
                else:
                    yield from self._disks(rule, now_ms)

    def _note_listening(self, ingests: list[JobState], now_ms: int) -> None:
        if not any(ingest.word == "ok" for ingest in ingests):
            self._listening_ms = None
        elif self._listening_ms is None:
            self._listening_ms = now_ms

    def _silence(self, rule: Rule, nodes: list[_Node], now_ms: int) -> Sights:
        received = {node.name: node.received_ms for node in nodes}
        for name in sorted(rule.nodes or received):
            last_ms = received.get(name, 0)
            duration_ms = round(rule.duration_s * 1000)
            case = Case(rule.name, rule.severity, name)
            if now_ms - last_ms < duration_ms:
                yield case, Sight(now_ms, False, True, self._words.silence(name, rule, silent=False))
            elif self._listening_ms is not None and now_ms - self._listening_ms >= duration_ms:
                text = self._words.silence(name, rule, silent=True)
                yield case, Sight(now_ms, True, False, text, since_ms=last_ms or self._listening_ms)

    def _losses(self, rule: Rule, nodes: list[_Node], connection: Connection, now_ms: int) -> Sights:
        losses, sources = schema.losses.c, schema.sources.c
        newest = connection.scalar(select(func.max(losses.id))) or 0
        query = (
            select(
                sources.node_id,
                func.min(losses.at_ms),
                summed(losses.last - losses.first + 1),
                func.count() - func.count(losses.last),
            )
            .join_from(schema.losses, schema.sources)
            .where(losses.id > newest - LOSSES_LOOKED_AT, losses.at_ms > now_ms - round(rule.duration_s * 1000))
            .group_by(sources.node_id)
        )
        lost = {row[0]: row[1:] for row in connection.execute(query)}
        for node in nodes:
            if node.name not in (rule.nodes or (node.name,)):
                continue
            since_ms, number, unknown = lost.get(node.id, (None, 0, 0))
            text = self._words.loss(node.name, rule, None if unknown else int(number))
            told = since_ms is not None
            value = None if unknown else float(number)
            yield Case(rule.name, rule.severity, node.name), Sight(now_ms, told, not told, text, value, since_ms)

    def _server(self, rule: Rule, forwards: list[JobState], now_ms: int) -> Sights:
        if not forwards:
            return  # nobody knows how the server is
        away = all(forward.word in AWAY for forward in forwards)
        state = forwards[0].state
        text = self._words.server(str(state.get("reason") or forwards[0].word) if away else None)
        since = state.get("since_ms")
        case = Case(rule.name, rule.severity, delay_ms=round(rule.duration_s * 1000))
        yield case, Sight(now_ms, away, not away, text, since_ms=since if isinstance(since, int) else None)

    def _disks(self, rule: Rule, now_ms: int) -> Sights:
        seen: set[int] = set()
        for folder in map(_existing, self._folders):
            disk = folder.stat().st_dev
            if disk in seen:
                continue
            seen.add(disk)
            total, _, free = shutil.disk_usage(folder)
            limit = rule.free_bytes if rule.free_bytes is not None else (rule.free_share or 0) * total
            share = free / total if total else 0.0
            case = Case(rule.name, rule.severity, what=str(folder)[:200], delay_ms=round(rule.duration_s * 1000))
            text = self._words.disk(str(folder), free, share)
            yield case, Sight(now_ms, free < limit, free >= limit * DISK_HYSTERESIS, text, float(free))


_NODES = select(schema.nodes.c.id, schema.nodes.c.name, func.coalesce(schema.nodes.c.last_received_ms, 0)).order_by(
    schema.nodes.c.name
)


def _alive(jobs: dict[str, JobState], name: str, now_ms: int) -> list[JobState]:
    """Return what a job says of itself, on each bridge on which it runs."""
    return [
        job
        for job in jobs.values()
        if job.name.partition("@")[0] == name and job.word != "stopped" and now_ms - job.at_ms < SILENT_JOB_MS
    ]


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder
