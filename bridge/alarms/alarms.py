"""The job that raises and clears alarms, beside ingest and without its help.

It looks four times a second at what was committed since its last look, judges
each reading, and looks at everything else each second. What changed is
committed, then published; where the store is full it is published all the
same and committed later. After a restart it goes on from the store.
"""

import logging
import threading
import time
from contextlib import suppress

from sqlalchemy import select

from bridge.alarms import board
from bridge.alarms.arrivals import Arrivals
from bridge.alarms.board import RAISED
from bridge.alarms.circumstances import Circumstances
from bridge.alarms.notices import Notices
from bridge.alarms.readings import QuantityRules
from bridge.alarms.rules import Rule, read_rules
from bridge.alarms.watch import Changes as AlarmChanges
from bridge.alarms.watch import Watch
from bridge.alarms.words import Words
from bridge.archive.lock import shared_lock
from bridge.settings import BridgeSettings
from bridge.store import schema
from bridge.store.changes import Changes
from bridge.store.database import Store, now_ms
from bridge.store.jobs import report
from bridge.store.shelf import Abandoned
from mqtt_client.errors import TryLater

log = logging.getLogger("alarms")

TURN_S = 0.25
LOOK_AROUND_S = 1.0
REPORT_S = 5.0
EVENTS_READ = 1000


class Alarms:
    """The job as a whole; :func:`run_alarms` runs it until it is told to stop."""

    def __init__(self, settings: BridgeSettings, store: Store, rules: list[Rule]) -> None:
        self._store = store
        self._rules = rules
        self._words = Words(settings.ui_language)
        self._watch = Watch(board.load(store))
        events = board.events(store, EVENTS_READ)
        self._quantities = QuantityRules(rules, self._watch, self._words, events)
        self._circumstances = Circumstances(settings, store, rules, self._words)
        self._arrivals = Arrivals(store)
        self._commits = Changes(store)
        self._notices = Notices(settings)
        self._shown: set[str] = {""}
        self._look_around_at = 0.0
        self._report_at = 0.0
        self._said: tuple[object, ...] = ()
        self._trouble = ""

    def run(self, stop: threading.Event) -> None:
        """Judge until told to stop."""
        try:
            self._end_removed(now_ms())
            while not stop.is_set():
                self._turn(time.monotonic(), stop)
                stop.wait(TURN_S)
        finally:
            self._notices.close()
            self._commits.close()
            self._report(time.monotonic(), "stopped")

    def _turn(self, now: float, stop: threading.Event) -> None:
        try:
            if self._quantities and self._commits.seen():
                for page in self._arrivals.new(self._quantities.oldest_ms(now_ms())):
                    self._quantities.judge(page, now_ms())
                    if stop.is_set():
                        return
            if now >= self._look_around_at:
                self._look_around_at = now + LOOK_AROUND_S
                for case, sight in self._circumstances.look(now_ms()):
                    self._watch.see(case, sight)
                self._shown |= self._nodes()
            self._save()
            self._trouble = ""
        except TryLater as exc:
            self._commits.forget()
            self._note_trouble(str(exc))
        raised = self._watch.raised()
        for node in self._shown | raised.keys():
            self._notices.show(node, raised.get(node, []))
        self._notices.publish()
        self._report(now)

    def _save(self) -> None:
        changes = self._watch.changes(now_ms())
        if changes:
            board.save(self._store, changes.changed, changes.removed, changes.events)
            self._watch.saved(changes)
            _log(changes)

    def _note_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.error("%s; alarms are published, and kept when the store takes them", trouble)
        self._trouble = trouble

    def _end_removed(self, at_ms: int) -> None:
        """End alarms of rules that are no more."""
        names = {rule.name for rule in self._rules}
        for alarm in self._watch.alarms:
            if alarm.rule not in names:
                self._watch.end(alarm.key, at_ms, self._words.removed(alarm.rule))

    def _nodes(self) -> set[str]:
        with self._store.read() as connection:
            return set(connection.scalars(select(schema.nodes.c.name)))

    def _report(self, now: float, state: str = "") -> None:
        raised = sum(map(len, self._watch.raised().values()))
        reason = self._trouble or self._notices.reason
        says = (state or ("waiting" if reason else "ok"), reason, raised)
        if says == self._said and now < self._report_at + REPORT_S:
            return
        self._said, self._report_at = says, now
        try:
            report(
                self._store,
                "alarms",
                {"state": says[0], "reason": reason, "raised": raised, "rules": len(self._rules)},
            )
        except TryLater as exc:
            log.debug("cannot report: %s", exc)


def _log(changes: AlarmChanges) -> None:
    for event in changes.events:
        level = logging.WARNING if event.event == RAISED else logging.INFO
        log.log(level, "%s %s: %s", event.event, event.rule, event.text)


def run_alarms(settings: BridgeSettings, store: Store, stop: threading.Event) -> None:
    """Raise and clear alarms until told to stop; see :class:`Alarms`. Waits while another bridge does it.

    Raises:
        SettingsError: the file of rules is wrong.
    """
    rules = read_rules(settings.alarm_rules) if settings.alarm_rules else []
    with suppress(Abandoned), shared_lock(settings, "alarms", stop) as lock:
        Alarms(settings, store.fenced(lock.check), rules).run(stop)
