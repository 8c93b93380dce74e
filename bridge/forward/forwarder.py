"""Forwards the store's readings to the user's server, each until it is settled or refused.

One thread owns the store: it settles what came back and claims what goes next in
one transaction, so that a fast server costs few commits. The poster's threads
post. A kill leaves what was claimed and not settled; at the next start that is
sent again under the same keys and counted as of unknown outcome. A thread gets
about 50 ms of posting at a time, which bounds how much that can be.
"""

import logging
import math
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import groupby

from sqlalchemy import Connection

from bridge.forward.answers import Kind, body_text
from bridge.forward.pace import Health, Pace, Stage
from bridge.forward.poster import Done, Form, Job, Posted, Poster
from bridge.forward.state import ForwardState
from bridge.forward.transport import Server
from bridge.settings import BridgeSettings
from bridge.store import jobs
from bridge.store.changes import Changes
from bridge.store.database import Store
from bridge.store.outgoing import (
    Outcome,
    OutgoingReading,
    claim,
    dead_claimants,
    recover,
    settle,
    waiting_nodes,
)
from bridge.store.schema import Forward
from mqtt_client.errors import TryLater

log = logging.getLogger("forwarder")

JOB = "forward"
_LOOK_S = 0.004
_IDLE_LOOK_S = 0.02
_LIVELY_S = 1.0
"""After a change in the store the next one is looked for every _LOOK_S, for so long."""
_SETTLE_WITHIN_S = 0.05
_JOB_S = 0.05
_MOST_REQUESTS = 256
_WORTH_A_THREAD_S = 0.003
"""What posts in less than that is not shared out among threads, since waking them costs more."""
_FINISH_S = 2.5
_STORE_WAIT_S = 1.0
_RECOVER_EACH_S = 5.0
_KEPT_BODY = 2000


def run_forwarder(settings: BridgeSettings, store: Store, stop: threading.Event) -> None:
    """Forward until ``stop`` is set; return within 4 s of it.

    A request that is not answered by then stays claimed: its outcome is unknown, and the next start sends it again.

    Raises:
        SettingsError: SERVER_URL or SERVER_TOKEN cannot be used.
        StoreUnusable: the store is damaged.
    """
    if settings.server_url is None:
        jobs.report(store, JOB, {"state": "ok", "reason": "SERVER_URL is set to nothing: archive only"})
        stop.wait()
        return
    forwarder = Forwarder(settings, settings.server_url, store)
    try:
        forwarder.run(stop)
    finally:
        forwarder.close()


class Forwarder:
    """The thread that owns the store."""

    def __init__(self, settings: BridgeSettings, url: str, store: Store) -> None:
        server = Server(url, settings.server_token, settings.server_timeout)
        self._store = store
        self._owner = settings.bridge_id
        self._job = jobs.job_name(JOB, settings.bridge_id, settings.bridge_share_group)
        self._batch_size = settings.server_batch_size
        self._threads = settings.server_concurrency
        self._wake = threading.Event()
        form = Form(settings.timezone, self._batch_size > 1, settings.server_expect)
        self._poster = Poster(server, form, self._threads, self._wake)
        self._pace = Pace(server.shown, settings.server_max_tries)
        self._state = ForwardState(self._pace)
        self._changes = Changes(store)
        self._interval_s = settings.send_interval
        self._next_burst = 0.0
        self._request_s = _JOB_S  # what one request takes: follows the server's speed
        self._changed_at = 0.0
        self._waiting: dict[int, None] = {}  # nodes that may have something to post, in the order of their turns
        self._busy: set[int] = set()
        self._alone = 0  # jobs of nodes that fail
        self._unsettled: list[Outcome] = []
        self._unsettled_since = 0.0
        self._store_again = 0.0
        self._recover_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Forward until ``stop`` is set, then end what is under way."""
        while not stop.is_set():
            self._poster.abort_overdue()
            self._take()
            if time.monotonic() >= self._store_again:
                self._use_store()
            self._rest()
        self._end()

    def _rest(self) -> None:
        look_s = _LOOK_S if time.monotonic() < self._changed_at + _LIVELY_S else _IDLE_LOOK_S
        if self._poster.idle == self._threads:  # nothing can come back, and a sleep costs half of a wait
            time.sleep(look_s)
        else:
            self._wake.wait(look_s)
            self._wake.clear()

    def close(self) -> None:
        """Let the threads and the connection go."""
        self._poster.finish()
        self._poster.abandon()
        self._changes.close()

    def _use_store(self) -> None:
        try:
            self._recover()
            if self._is_time_to_look():
                self._waiting |= dict.fromkeys(waiting_nodes(self._store))
            self._turn()
        except TryLater as exc:
            if not self._store_again:
                log.warning("%s; nothing is forwarded until it takes writes again", exc)
            self._store_again = time.monotonic() + _STORE_WAIT_S
            self._changes.forget()
            return
        if self._store_again:
            log.info("the store takes writes again")
            self._store_again = 0.0

    def _recover(self) -> None:
        """Give back what dead processes had claimed: once, or now and then where other bridges share the store."""
        if time.monotonic() < self._recover_at:
            return
        first = not self._recover_at
        self._recover_at = math.inf if self._store.is_sqlite else time.monotonic() + _RECOVER_EACH_S
        for owner in dead_claimants(self._store, self._owner if first else None):
            unknown = recover(self._store, owner)
            log.warning("%d readings were under way when bridge %s ended; they are sent again", unknown, owner)

    def _is_time_to_look(self) -> bool:
        now = time.monotonic()
        if not self._interval_s:
            if not self._changes.seen():
                return False
            self._changed_at = now
            return True
        if now < self._next_burst:
            return False
        self._next_burst += self._interval_s
        if self._next_burst <= now:  # the first burst, or one that took longer than the interval
            self._next_burst = now + self._interval_s
        return True

    def _turn(self) -> None:
        """Settle, claim and report in one transaction, where there is anything to do."""
        idle = self._poster.idle
        goes = self._pace.may_go(self._waiting, self._busy, idle=idle == self._threads) if idle else []
        aged = self._unsettled and time.monotonic() >= self._unsettled_since + _SETTLE_WITHIN_S
        report = self._state.due(self._waiting)
        if not (goes or aged or report):
            return
        with self._store.write() as connection:
            settle(connection, self._owner, self._unsettled)
            new = self._claim_alone(connection, goes)
            new += self._claim_sound(
                connection, [node for node in goes if not self._pace.is_alone(node)], idle - len(new)
            )
            if report:
                jobs.put(connection, self._job, report)
        self._unsettled.clear()
        for job in new:
            self._busy |= job.nodes
            self._alone += job.alone
            self._poster.start(job)

    def _claim_alone(self, connection: Connection, goes: Iterable[int]) -> list[Job]:
        """Claim for nodes that fail: each in a job of its own, and never in more than half of the threads."""
        room = min(self._poster.idle, max(1, self._threads // 2) - self._alone)
        found: list[Job] = []
        for node_id in [node_id for node_id in goes if self._pace.is_alone(node_id)][: max(0, room)]:
            readings, stage = self._claim_stage(connection, node_id)
            if readings:
                found.append(Job([readings], stage, alone=True))
            else:
                self._waiting.pop(node_id, None)
        return found

    def _claim_stage(self, connection: Connection, node_id: int) -> tuple[list[OutgoingReading], Stage]:
        node = self._pace.node(node_id)
        if node.stage is Stage.PROBE:
            later = claim(connection, self._owner, [node_id], 1, skip=1)
            if later:
                return later, Stage.PROBE
            self._pace.without_probe(node_id)
        whole = node.stage is Stage.HEAD and self._pace.health is Health.OK
        limit = min(node.batch_size or self._batch_size, self._array_size) if whole else 1
        return claim(connection, self._owner, [node_id], limit), node.stage

    def _claim_sound(self, connection: Connection, nodes: Sequence[int], threads: int) -> list[Job]:
        """Claim for nodes that do not fail; several share a job where each has little."""
        if not nodes or threads <= 0:
            return []
        one_job = min(_MOST_REQUESTS, self._requests_in(_JOB_S)) * self._array_size
        nodes = nodes[: threads * one_job]
        limit = min(one_job, threads * one_job // len(nodes))
        full: list[int] = []
        claimed = claim(connection, self._owner, nodes, limit)
        share = self._requests_in(_WORTH_A_THREAD_S) * self._array_size
        piles: list[list[OutgoingReading]] = [[] for _ in range(min(threads, -(-len(claimed) // share)))]
        for node_id, readings in groupby(claimed, lambda reading: reading.node_id):
            pile = min(piles, key=len)
            before = len(pile)
            pile.extend(readings)
            if len(pile) - before == limit:
                full.append(node_id)
        for node_id in nodes:
            self._waiting.pop(node_id, None)
        self._waiting |= dict.fromkeys(full)  # now behind the others
        size = self._array_size
        return [Job([pile[start : start + size] for start in range(0, len(pile), size)]) for pile in piles if pile]

    def _requests_in(self, time_s: float) -> int:
        return max(1, int(time_s / self._request_s))

    @property
    def _array_size(self) -> int:
        return min(self._batch_size, self._poster.largest_array or self._batch_size)

    def _take(self) -> None:
        """Take what came back."""
        if self._poster.failure is not None:
            raise RuntimeError("a thread of the poster has ended") from self._poster.failure
        for item in self._poster.take():
            if isinstance(item, Posted):
                if not self._unsettled:
                    self._unsettled_since = time.monotonic()
                self._unsettled.append(self._outcome(item))
            else:
                self._close_job(item)

    def _close_job(self, done: Done) -> None:
        self._busy -= done.job.nodes
        if done.job.alone:
            self._alone -= 1
        else:
            self._request_s += (done.took_s / len(done.job.requests) - self._request_s) / 4

    def _outcome(self, posted: Posted) -> Outcome:
        """Note what came back with the node's and the server's pace; return what the store is to remember."""
        readings, verdict, answer = posted.readings, posted.verdict, posted.answer
        names = {reading.node_id: reading.node for reading in readings}
        if verdict is None or answer is None:
            self._waiting |= dict.fromkeys(names)
            return Outcome(readings, Forward.PENDING, tried=False)
        becomes, told, body = self._becomes(posted), verdict.told, ""
        self._state.note(answer.status, len(readings) if becomes in (Forward.SETTLED, Forward.DUPLICATE) else 0)
        if becomes is Forward.PENDING:
            self._waiting |= dict.fromkeys(names)
            for node_id, name in names.items():
                self._pace.node(node_id).name = name
                self._pace.failed(node_id, verdict, posted.job.stage, self._waiting, size=len(readings))
        elif verdict.kind is Kind.AGAIN:
            told, body = (
                f"failed again and again while a later one passed: {told}",
                body_text(answer.body, _KEPT_BODY),
            )
            for node_id in names:
                self._pace.gave_up(node_id)
        else:
            if verdict.kind is Kind.REFUSED:
                told, body = f"refused: {told}", body_text(answer.body, _KEPT_BODY)
            for node_id in names:
                self._pace.passed(node_id, posted.job.stage, batch_size=self._batch_size)
        if becomes is Forward.DEAD:
            log.warning("%s is a dead letter: %s", readings[0].key, told)
        return Outcome(readings, becomes, told, answer.status, verdict.unknown, body=body)

    @staticmethod
    def _becomes(posted: Posted) -> Forward:
        verdict = posted.verdict
        assert verdict is not None
        if verdict.kind is Kind.SETTLED:
            return Forward.SETTLED
        if verdict.kind is Kind.DUPLICATE:
            return Forward.DUPLICATE
        lost_its_last_chance = (
            verdict.kind is Kind.AGAIN and posted.job.stage is Stage.LAST_CHANCE and not verdict.down
        )
        return Forward.DEAD if verdict.kind is Kind.REFUSED or lost_its_last_chance else Forward.PENDING

    def _end(self) -> None:
        """Wait a little for the answers to what is under way, settle them, and give back what was not sent."""
        self._poster.finish()
        deadline = time.monotonic() + _FINISH_S
        while self._poster.idle < self._threads and time.monotonic() < deadline:
            self._wake.wait(_LOOK_S)
            self._wake.clear()
            self._poster.abort_overdue()
            self._take()
        try:
            with self._store.write() as connection:
                settle(connection, self._owner, self._unsettled)
                jobs.put(connection, self._job, {"state": "stopped", "reason": "stopped"})
        except TryLater as exc:
            log.warning("%s; the last %d answers are lost, and sent again", exc, len(self._unsettled))
        under_way = self._threads - self._poster.idle
        if under_way:
            log.warning("%d requests under way were not answered in time; they are sent again", under_way)
