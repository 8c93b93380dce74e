"""Ingest: from the broker into the store. Commit, then acknowledge, then receipt.

One thread owns the connection and the commit. It remembers nothing that is
not in the store or unacknowledged at the broker; a kill at any point is
followed by the same messages again, which the interval sets know as repeats.
"""

import logging
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from bridge.errors import ForeignBridge, StoreBusy
from bridge.ingest.lookout import Bridges, Look, look
from bridge.ingest.received import Received
from bridge.ingest.subscription import GROUP_SESSION_EXPIRY_S, SESSION_EXPIRY_S, Subscription
from bridge.settings import BridgeSettings
from bridge.store.database import Store
from bridge.store.intake import Intake
from bridge.store.jobs import job_name, report
from bridge.store.sources import Source
from bridge.store.waiting import bridge_health
from mqtt_client import messages
from mqtt_client.errors import StorageFull
from mqtt_client.expiry import Expiry
from mqtt_client.topics import RESERVED_NODE, Topics
from mqtt_client.version import own_version

log = logging.getLogger("ingest")

TURN_S = 0.25
RECEIPT_INTERVAL_S = 1.0
HEALTH_INTERVAL_S = 60.0
REPORT_INTERVAL_S = 5.0
RETRY_COMMIT_S = 1.0
GATHER_S = 0.004
"""From the begin of one commit to the next at least: a thousand readings a second need a quarter of the commits."""


def filters(topics: Topics, group: str | None) -> list[str]:
    """Return what the bridge subscribes to; in a share group the readings are shared, the states are not."""
    shared = f"$share/{group}/" if group else ""
    return [
        *(shared + one for one in (topics.reading("+", "+"), topics.backlog("+"), topics.lost("+"))),
        topics.availability("+"),
        topics.info("+"),
        topics.health("+"),
        topics.bridge_availability("+"),
        topics.bridge_health("+"),
    ]


class Receipts:
    """Receipts that are due: at most one a second for a node, and only the latest of an epoch.

    A node's own epoch is the one that its info names, else the one that this store met last: an older one may
    come later, from an outbox that was salvaged before this store was made.
    """

    def __init__(self, store_id: str, topics: Topics) -> None:
        self._store_id = store_id
        self._topics = topics
        self._due: dict[int, Source] = {}
        self._current: dict[str, Source] = {}
        self._sent_at: dict[int, float] = {}

    def note(self, sources: Iterable[Source]) -> None:
        """Take in sources that have changed, or of which a repeat came."""
        for source in sources:
            self._due[source.id] = source
            current = self._current.get(source.node, source)
            if (source.is_announced, source.id) >= (current.is_announced, current.id):
                self._current[source.node] = source

    def forget(self) -> None:
        """Forget all: the next connection begins with every source again."""
        self._due.clear()
        self._current.clear()
        self._sent_at.clear()

    def send(self, subscription: Subscription, now: float) -> None:
        """Publish what is due; receipts of a node's older epochs are not retained."""
        for number, source in list(self._due.items()):
            if now - self._sent_at.get(number, -RECEIPT_INTERVAL_S) < RECEIPT_INTERVAL_S:
                continue
            del self._due[number]
            self._sent_at[number] = now
            subscription.publish(
                self._topics.receipt(source.node),
                messages.encode(source.receipt(self._store_id)),
                retain=self._current[source.node].id == number,
            )


class Ingest:
    """The job as a whole; :func:`run_ingest` runs it until it is told to stop."""

    def __init__(self, settings: BridgeSettings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._topics = Topics(settings.mqtt_topic_prefix)
        self._intake = Intake(store, self._topics)
        self._receipts = Receipts(store.id, self._topics)
        self._bridges = Bridges(store.id, settings.bridge_share_group)
        self._of_bridges = f"{self._topics.prefix}/{RESERVED_NODE}/"
        self._availability = self._topics.bridge_availability(settings.bridge_id)
        self._subscription = Subscription(
            settings,
            f"mqtt-bridge-{settings.bridge_id}",
            filters(self._topics, settings.bridge_share_group),
            (self._availability, messages.OFFLINE),
            session_expiry_s=GROUP_SESSION_EXPIRY_S if settings.bridge_share_group else SESSION_EXPIRY_S,
        )
        self._expiry = Expiry(settings)
        self._unsaved: list[Received] = []
        self._has_left_out = False
        self._trouble = ""
        self._retry_at = 0.0
        self._commit_at = 0.0
        self._announced = -1
        self._health_at = -HEALTH_INTERVAL_S
        self._report_at = 0.0
        self._reported: tuple[bool, str] | None = None

    def run(self, stop: threading.Event) -> None:
        """Receive until told to stop.

        Raises:
            ForeignBridge: another store's bridge is online on this broker, or another client takes our session.
        """
        try:
            self._look_first(stop)
            while not stop.is_set():
                self._turn()
        finally:
            self._subscription.close((self._availability, messages.OFFLINE))
            self._report(time.monotonic(), state="stopped", reason="stopped")

    def _look_first(self, stop: threading.Event) -> None:
        wait_s = 0.5
        where = f"{self._settings.mqtt_host}:{self._settings.broker_port}"
        while not stop.is_set():
            found = look(self._settings, self._topics, self._bridges)
            if isinstance(found, Look):
                self._bridges.check()
                self._compare_receipts(found.receipts)
                return
            self._report(time.monotonic(), state="waiting", reason=f"the broker at {where} {found}")
            stop.wait(wait_s)
            wait_s = min(10.0, wait_s * 2)

    def _compare_receipts(self, receipts: dict[str, messages.Receipt]) -> None:
        """Tell where nodes were once receipted for more than this store holds: it is an older copy of itself."""
        through = {(source.node, source.epoch): source.through for source in self._intake.every_source()}
        behind = [
            node
            for node, receipt in receipts.items()
            if receipt.store == self._store.id and receipt.through > through.get((node, receipt.epoch), 0)
        ]
        if behind:
            log.error(
                "the store went back in time (a restored copy?): %d nodes were receipted for more than it holds, "
                "%s among them; what the nodes still have comes again, the rest will be told as lost",
                len(behind),
                behind[0],
            )

    def _turn(self) -> None:
        subscription = self._subscription
        self._gather()
        self._hold(subscription.receive(TURN_S if not self._unsaved else 0.05))
        now = time.monotonic()
        if subscription.taken_over:
            raise ForeignBridge(
                f"another client took over the session of BRIDGE_ID {self._settings.bridge_id!r}; "
                "two bridges on one broker need two names"
            )
        if subscription.ready and self._announced != subscription.generation and not self._trouble:
            self._announce()
        if self._unsaved and now >= self._retry_at:
            self._commit(now)
        self._receipts.send(subscription, now)
        if subscription.ready and now - self._health_at >= HEALTH_INTERVAL_S:
            self._health_at = now
            self._publish_health()
        self._report(now)

    def _gather(self) -> None:
        """Let more readings come where the last commit has just begun; a single one never waits here."""
        wait_s = self._commit_at + GATHER_S - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)

    def _hold(self, received: list[Received]) -> None:
        """Hold a burst until it is committed; while that cannot be, what comes on top is left to the broker."""
        if not self._unsaved:
            self._unsaved = received
        elif received:
            self._has_left_out = True

    def _announce(self) -> None:
        """On each connection: who we are, that we are here, and every receipt again."""
        self._announced = self._subscription.generation
        self._health_at = time.monotonic()
        self._publish_health()
        self._subscription.publish(self._availability, messages.ONLINE, retain=True)
        self._receipts.forget()
        self._receipts.note(self._intake.every_source())

    def _commit(self, now: float) -> None:
        burst = self._unsaved
        self._commit_at = now
        try:
            touched = self._intake.put(self._for_the_store(burst))
        except (StorageFull, StoreBusy) as exc:
            if not self._trouble:
                log.error("%s; nothing is acknowledged until there is room", exc)
                self._health_at = -HEALTH_INTERVAL_S
            self._trouble = str(exc)
            self._retry_at = now + RETRY_COMMIT_S
            self._announced = -1  # the sources are read again, so their receipts are due again
            self._receipts.forget()
            return
        if self._trouble:
            log.info("the store takes readings again")
            self._trouble = ""
        self._unsaved = []
        self._subscription.acknowledge(burst)
        self._receipts.note(touched)
        if self._has_left_out:
            self._has_left_out = False
            self._subscription.renew("what came while nothing could be committed is asked for again")

    def _for_the_store(self, burst: list[Received]) -> list[Received]:
        """Return what belongs into the store; what bridges say of themselves is judged at once."""
        of_bridges = [received for received in burst if received.topic.startswith(self._of_bridges)]
        if not of_bridges:
            return burst
        noted: set[Received] = set()
        for received in of_bridges:
            levels = self._topics.levels(received.topic) or []
            if len(levels) == 3 and levels[2] in ("availability", "health"):
                self._bridges.note(levels, received.payload)
                self._bridges.check()
                noted.add(received)
        return [received for received in burst if received not in noted]

    def _publish_health(self) -> None:
        health = bridge_health(self._store, self._settings.bridge_share_group, own_version())
        troubles = [self._trouble] if self._trouble else []
        health = msgspec.structs.replace(health, certificates=self._certificates, troubles=troubles)
        topic = self._topics.bridge_health(self._settings.bridge_id)
        self._subscription.publish(topic, messages.encode(health), retain=True)

    @property
    def _certificates(self) -> list[str]:
        self._expiry.seen(self._subscription.certificate)
        return self._expiry.warnings(datetime.now(UTC))

    def _report(self, now: float, *, state: str = "", reason: str = "") -> None:
        """Write the job's state at each change and every few seconds."""
        ready = self._subscription.ready and not self._trouble
        reason = reason or self._trouble or self._subscription.reason
        if (ready, reason) == self._reported and now - self._report_at < REPORT_INTERVAL_S:
            return
        self._reported = (ready, reason)
        self._report_at = now
        try:
            report(
                self._store,
                job_name("ingest", self._settings.bridge_id, self._settings.bridge_share_group),
                {
                    "state": state or ("ok" if ready else "full" if self._trouble else "waiting"),
                    "reason": reason,
                    "broker": f"{self._settings.mqtt_host}:{self._settings.broker_port}",
                    "received": self._intake.received,
                    "repeats": self._intake.repeats,
                    "certificates": self._certificates,
                },
            )
        except (StorageFull, StoreBusy) as exc:
            log.debug("cannot report: %s", exc)


def run_ingest(settings: BridgeSettings, store: Store, stop: threading.Event) -> None:
    """Receive, commit, acknowledge and receipt until told to stop; see :class:`Ingest`."""
    Ingest(settings, store).run(stop)
