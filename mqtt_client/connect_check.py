"""What ``mqtt-node check --connect`` finds at the broker, beside a running node or without one.

Brokers may give each account one connection (Mosquitto's
use_username_as_clientid), so where the node runs, nothing connects with its
account: the node's own state tells instead.
"""

import secrets
import time
from collections.abc import Iterator
from datetime import datetime

from mqtt_client import check, messages
from mqtt_client.errors import InvalidReading, PersonNeeded
from mqtt_client.health import decode_state
from mqtt_client.logs import escape
from mqtt_client.messages import BridgeHealth
from mqtt_client.outbox.peek import glance
from mqtt_client.probe import broker, network
from mqtt_client.probe.finding import FAIL, OK, WARN, Finding, fail, ok, warn
from mqtt_client.probe.visit import Visit
from mqtt_client.settings import NodeSettings
from mqtt_client.status import is_running
from mqtt_client.topics import RESERVED_NODE, Topics

RETAINED_WITHIN_S = 2.0
SKEW_S = 5.0
"""A clock that is ahead by more than this is told."""

_VERDICTS = {OK: "ok", WARN: "note", FAIL: "FAULT"}


def find(settings: NodeSettings) -> Iterator[Finding]:
    """Connect as the node would, and tell what is right and what is not."""
    way = list(network.find(settings))
    yield from way
    if not network.is_open(way):
        return
    if is_running(settings.outbox_path):
        yield from _of_running_node(settings)
        return
    client_id = f"node-check-{secrets.token_hex(6)}"
    with Visit(settings, client_id) as visit:
        yield broker.welcome(settings, visit)
        if visit.welcome.refused:
            return
        yield from broker.limits(visit)
        yield from _rights(settings, visit, client_id)
        yield from _bridge(settings, visit)


def as_verdict(finding: Finding) -> check.Finding:
    """Return a finding in the words of ``mqtt-node check``."""
    text = f"{finding.what}: {finding.told}" + (f" -> {finding.advice}" if finding.advice else "")
    return check.Finding(_VERDICTS[finding.result], escape(text))


def _of_running_node(settings: NodeSettings) -> Iterator[Finding]:
    """Tell what the running node says: with its account nobody else connects meanwhile."""
    try:
        state = decode_state(glance(settings.outbox_path).state)
    except PersonNeeded as exc:
        yield fail("node", str(exc), "look at OUTBOX_PATH")
        return
    if state.is_connected:
        yield ok("account", f"node {settings.node_id} is running and connected; stop it to test more")
    for trouble in state.troubles:
        yield fail("node", trouble, "stop the node and run this again to learn why")
    if not state.bridge_online:
        yield _no_bridge()


def _rights(settings: NodeSettings, visit: Visit, client_id: str) -> Iterator[Finding]:
    topics, node = Topics(settings.mqtt_topic_prefix), settings.node_id
    yield broker.grants(visit, [topics.receipt(node), topics.command(node), topics.bridge_availability("+")])
    result = messages.CommandResult(client_id, "ok")
    yield broker.own_topic(visit, topics.command_result(node), messages.encode(result))
    yield broker.forgery(settings, visit, broker.others_topics(topics), f"{client_id}-a")


def _bridge(settings: NodeSettings, visit: Visit) -> Iterator[Finding]:
    """Tell whether a bridge is online, and what its clock says."""
    topics = Topics(settings.mqtt_topic_prefix)
    prefix = f"{topics.prefix}/{RESERVED_NODE}/"
    visit.subscribe(topics.bridge_health("+"))  # a broker's rights may hide it: it is not needed
    online = visit.wait(
        lambda: any(heard.topic.startswith(prefix) and heard.payload == messages.ONLINE for heard in visit.heard),
        RETAINED_WITHIN_S,
    )
    yield ok("bridge", "a bridge is online") if online else _no_bridge()
    if online:
        visit.wait(lambda: any(_is_health(heard.topic, prefix) for heard in visit.heard), RETAINED_WITHIN_S)
    for heard in visit.heard:
        if _is_health(heard.topic, prefix):
            yield from _health(heard.payload)


def _is_health(topic: str, prefix: str) -> bool:
    return topic.startswith(prefix) and topic.endswith("/health")


def _health(payload: bytes) -> Iterator[Finding]:
    """Tell a bridge's troubles, and compare this clock with the time of its last word: none is from the future."""
    try:
        health = messages.decode(BridgeHealth, payload)
        said = health.time
        ahead_s = datetime.fromisoformat(said).timestamp() - time.time()
    except (InvalidReading, ValueError):
        return
    for trouble in health.troubles:
        yield warn("bridge", f"it takes no readings now: {trouble}", "look at `mqtt-bridge status` on the server")
    if ahead_s > SKEW_S:
        yield warn("clock", f"the bridge's clock is {ahead_s:.0f} s ahead of this one", "set this clock (NTP)")
    else:
        yield ok("clock", f"not behind the bridge's ({said})")


def _no_bridge() -> Finding:
    return warn(
        "bridge",
        "no bridge is online: readings are kept in the outbox",
        "start `mqtt-bridge run` with this broker and MQTT_TOPIC_PREFIX, or set NODE_CONFIRM=broker",
    )
