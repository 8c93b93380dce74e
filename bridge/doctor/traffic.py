"""What can be heard at the broker: bridges, nodes, readings as they come, and what their times say of the clocks."""

import time
from collections.abc import Iterator
from datetime import datetime

from bridge.settings import BridgeSettings
from mqtt_client import messages, reading
from mqtt_client.errors import InvalidReading
from mqtt_client.messages import BridgeHealth, Info
from mqtt_client.probe.finding import Finding, fail, ok, warn
from mqtt_client.probe.visit import Heard, Visit
from mqtt_client.topics import RESERVED_NODE, Topics

RETAINED_WITHIN_S = 1.0
LISTEN_S = 6.0
"""At most; a node that reads each 5 s, the default, is heard by then."""
SKEW_S = 5.0
"""A live reading is at most 2 s old when it goes, so a larger difference is the clocks'."""


def filters(topics: Topics) -> list[str]:
    """Return what the bridge has to hear."""
    return [
        topics.reading("+", "+"),
        topics.backlog("+"),
        topics.lost("+"),
        topics.availability("+"),
        topics.info("+"),
        topics.health("+"),
        topics.bridge_availability("+"),
        topics.bridge_health("+"),
    ]


def listen(settings: BridgeSettings, visit: Visit, store_id: str | None) -> Iterator[Finding]:
    """Tell what is heard on a visit that has subscribed to :func:`filters`."""
    topics = Topics(settings.mqtt_topic_prefix)
    visit.wait(lambda: False, RETAINED_WITHIN_S)
    yield from _bridges(settings, topics, visit, store_id)
    online = {
        levels[0]
        for heard in visit.heard
        if (levels := topics.levels(heard.topic) or [""])[-1] == "availability" and len(levels) == 2
        if heard.payload == messages.ONLINE
    }
    if not online:
        yield warn("nodes", "no node is online", "run `mqtt-node check --connect` on a node: same MQTT_TOPIC_PREFIX?")
        return
    visit.wait(lambda: online <= _readings(topics, visit).keys(), LISTEN_S)
    heard_of = _readings(topics, visit)
    yield _heard(visit, topics, online, set(heard_of))
    for node, live in sorted(heard_of.items()):
        yield from _clock(node, live)


def _bridges(settings: BridgeSettings, topics: Topics, visit: Visit, store_id: str | None) -> Iterator[Finding]:
    for heard in visit.heard:
        levels = topics.levels(heard.topic) or []
        if levels[:1] != [RESERVED_NODE] or levels[2:] != ["health"]:
            continue
        try:
            health = messages.decode(BridgeHealth, heard.payload)
        except InvalidReading:
            continue
        said = [one.payload for one in visit.of(topics.bridge_availability(levels[1]))]
        same_group = settings.bridge_share_group and health.group == settings.bridge_share_group
        if said[-1:] == [messages.ONLINE] and store_id not in (None, health.store) and not same_group:
            yield fail(
                "bridges",
                f"bridge {levels[1]!r} with another store ({health.store}) is online on this broker",
                "stop one of the two: nodes take receipts of one store only",
            )


def _readings(topics: Topics, visit: Visit) -> dict[str, Heard]:
    """Return the first live reading of each node."""
    found: dict[str, Heard] = {}
    for heard in visit.heard:
        levels = topics.levels(heard.topic) or []
        if levels[1:2] == ["reading"] and not heard.retained:
            found.setdefault(levels[0], heard)
    return found


def _heard(visit: Visit, topics: Topics, online: set[str], speaking: set[str]) -> Finding:
    silent = sorted(online - speaking)
    told = f"{len(online)} online, readings of {len(speaking & online)} heard within {LISTEN_S:g} s"
    slow = [node for node in silent if _interval_s(visit, topics, node) >= LISTEN_S]
    if speaking or slow == silent:
        return ok("nodes", told + (f" (not of {', '.join(silent[:5])})" if silent else ""))
    return warn(
        "nodes", told, "let this account read readings (the broker's ACL); look at `mqtt-node status` on the nodes"
    )


def _interval_s(visit: Visit, topics: Topics, node: str) -> float:
    for heard in visit.of(topics.info(node)):
        try:
            return messages.decode(Info, heard.payload).interval
        except InvalidReading:
            continue
    return 0.0


def _clock(node: str, live: Heard) -> Iterator[Finding]:
    """Compare a node's clock with this one, by the time in a reading that was just taken."""
    try:
        taken = reading.decode(live.payload).time
    except InvalidReading as exc:
        yield warn(
            "nodes", f"node {node} sends what is no reading: {exc}", "`mqtt-bridge dead-letters list` shows it"
        )
        return
    ahead_s = _seconds(taken) - live.at_s
    if abs(ahead_s) <= SKEW_S:
        yield ok("clock", f"node {node} and this machine agree within {SKEW_S:g} s")
        return
    yield warn(
        "clock",
        f"the clock of node {node} is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's",
        f"set the one that is wrong (NTP); here it is {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(live.at_s))}",
    )


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
