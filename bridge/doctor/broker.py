"""The broker, asked with the bridge's account and client ids of its own: what it lets us do, keeps and drops."""

import secrets
from collections.abc import Iterator

from bridge.doctor import traffic
from bridge.ingest.subscription import SESSION_EXPIRY_S
from bridge.settings import BridgeSettings
from mqtt_client.probe import broker, network
from mqtt_client.probe.finding import Finding, fail, ok, warn
from mqtt_client.probe.visit import Visit
from mqtt_client.topics import RESERVED_NODE, Topics

SYSTEM_WITHIN_S = 1.0
QUEUED_WITHIN_S = 3.0
DROPPED = "$SYS/broker/publish/messages/dropped"
VERSION = "$SYS/broker/version"


def find(settings: BridgeSettings, store_id: str | None) -> Iterator[Finding]:
    """Go to the broker, and ask it all."""
    way = list(network.find(settings))
    yield from way
    if not network.is_open(way):
        return
    client_id = f"mqtt-bridge-doctor-{secrets.token_hex(6)}"
    topics = Topics(settings.mqtt_topic_prefix)
    with Visit(settings, client_id) as visit:
        yield broker.welcome(settings, visit)
        if visit.welcome.refused:
            return
        yield from broker.limits(visit)
        yield broker.grants(visit, traffic.filters(topics))
        yield broker.own_topic(visit, topics.receipt(broker.stranger()), b"")
        yield broker.forgery(settings, visit, [topics.command_result(broker.stranger())], f"{client_id}-a")
        yield from _system(visit)
        yield from traffic.listen(settings, visit, store_id)
    yield from _session(settings, f"{client_id}-s")


def _system(visit: Visit) -> Iterator[Finding]:
    """Read the broker's own counters, where it shows them."""
    visit.subscribe(DROPPED, VERSION)
    visit.wait(lambda: bool(visit.of(DROPPED) and visit.of(VERSION)), SYSTEM_WITHIN_S)
    for heard in visit.of(VERSION)[-1:]:
        yield ok("version", heard.payload.decode("utf-8", "replace"))
    dropped = [heard.payload for heard in visit.of(DROPPED)][-1:]
    if not dropped or not dropped[0].isdigit():
        yield ok("dropped", "the broker does not show this account what it dropped ($SYS)")
    elif int(dropped[0]):
        yield warn(
            "dropped",
            f"the broker has dropped {int(dropped[0])} messages since it started; the nodes send readings again",
            "raise max_queued_messages and max_queued_bytes if a client that is away is meant to get them",
        )
    else:
        yield ok("dropped", "the broker has dropped no message since it started")


def _session(settings: BridgeSettings, client_id: str) -> Iterator[Finding]:
    """Leave a session behind for a moment: is it kept, with what comes meanwhile? It is removed at the end."""
    topic = f"{settings.mqtt_topic_prefix}/{RESERVED_NODE}/lookout/{secrets.token_hex(8)}"
    advice = "allow persistent sessions at the broker (persistent_client_expiration, max_queued_messages)"
    with Visit(settings, client_id, session_expiry_s=SESSION_EXPIRY_S) as leaving:
        granted = not leaving.welcome.refused and not leaving.subscribe(topic)[0].refused
        expiry_s = leaving.limits.get("SessionExpiryInterval", SESSION_EXPIRY_S)
    try:
        with Visit(settings, f"{client_id}-other") as other:
            said = other.publish(topic, b"meanwhile") if granted else None
        with Visit(settings, client_id, session_expiry_s=60, clean_start=False) as back:
            queued = back.wait(lambda: bool(back.of(topic)), QUEUED_WITHIN_S) if back.session_present else False
            present = back.session_present
    finally:
        with Visit(settings, client_id):  # a clean start without expiry: nothing is left
            pass
    if not present:
        yield fail("session", "the broker does not keep the session of a client that is away", advice)
    elif said is not None and said.refused:
        yield fail("session", f"publishing to {topic} is refused: {said.told}", "let the bridge write its own topics")
    elif not queued:
        yield fail("session", "the broker does not keep messages for a client that is away", advice)
    else:
        yield ok(
            "session", "kept for a client that is away, with its messages; what a power cut costs, nodes send again"
        )
    if expiry_s < SESSION_EXPIRY_S:
        yield warn("session", f"the broker ends sessions after {expiry_s / 3600:.1f} h already", advice)
