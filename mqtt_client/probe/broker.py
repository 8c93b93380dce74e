"""What a broker says to an account: whether it lets it in, what it grants, what it bounds, and what it refuses.

Messages that could be mistaken for something are never sent: what is tried
goes to topics of a node that does not exist, which nobody stores.
"""

import secrets
from collections.abc import Iterator

from mqtt_client.probe import network
from mqtt_client.probe.finding import Finding, fail, ok, warn
from mqtt_client.probe.visit import Visit
from mqtt_client.settings import CommonSettings
from mqtt_client.topics import Topics

NOT_AUTHORIZED = 0x87
NO_SUBSCRIBER = 0x10
BAD_ACCOUNT = {0x86, NOT_AUTHORIZED, 0x8C}
UNSUPPORTED_PROTOCOL = {0x01, 0x84}
BAD_CLIENT_ID = {0x02, 0x85}
LARGEST_MESSAGE_BYTES = 48 * 1024 + 1024
"""A backlog message of 48 KiB, with its topic."""


def stranger() -> str:
    """Return the name of a node that does not exist."""
    return f"nobody-{secrets.token_hex(6)}"


def welcome(settings: CommonSettings, visit: Visit) -> Finding:
    """Tell whether the broker lets the account in, and speaks MQTT 5."""
    account = settings.broker_username
    shown = f"account {account!r}" if account else "no account"
    code, told = visit.welcome.code, visit.welcome.told
    if not visit.welcome.refused:
        return ok("account", f"{shown} is let in, with MQTT 5")
    if code in BAD_ACCOUNT:
        with_password = (
            "a wrong password, or none by that name" if settings.mqtt_password else "no MQTT_PASSWORD is set"
        )
        advice = "set MQTT_USERNAME and MQTT_PASSWORD to an account of the broker (`mqtt-bridge nodes add NAME`)"
        return fail("account", f"{shown} is refused: {told} ({with_password})", advice)
    if code in UNSUPPORTED_PROTOCOL:
        return fail("account", f"the broker does not speak MQTT 5 ({told})", "use Mosquitto 2.0 or newer")
    if code in BAD_CLIENT_ID:
        return fail("account", f"the broker refuses the client id ({told})", "allow client ids that clients choose")
    if code is None:
        if settings.mqtt_tls_ca is None and network.speaks_tls(settings):
            return fail("account", "the port speaks TLS, and MQTT_TLS_CA is not set", "set MQTT_TLS_CA")
        return fail(
            "account",
            f"no answer to a greeting in MQTT 5: {told}",
            "is it a broker that speaks MQTT 5, such as Mosquitto 2.0? Does it want a certificate (MQTT_TLS_CERT)?",
        )
    return fail("account", f"the broker refuses the connection: {told}", "look at the broker's log")


def limits(visit: Visit) -> Iterator[Finding]:
    """Tell what the broker told of its bounds, as far as they are in our way (MQTT 5.0, section 3.2.2.3)."""
    told = visit.limits
    largest = told.get("MaximumPacketSize")
    window = told.get("ReceiveMaximum", 65535)
    if largest is not None and largest < LARGEST_MESSAGE_BYTES:
        yield warn(
            "limits",
            f"the broker takes messages of {largest} bytes at most: a backlog goes in smaller parts",
            "set max_packet_size 65536 at the broker",
        )
    if told.get("MaximumQoS", 2) < 1:
        yield fail("limits", "the broker takes no QoS 1", "use a broker that does, such as Mosquitto")
    if not told.get("RetainAvailable", 1):
        yield fail("limits", "the broker retains nothing: receipts and states need it", "set retain_available true")
    if not told.get("WildcardSubscriptionAvailable", 1):
        yield fail("limits", "the broker takes no wildcard subscriptions", "use a broker that does")
    shown = f"messages of {largest} bytes" if largest else "messages of any size"
    yield ok("limits", f"{shown}, {window} at once without an answer, QoS 1, retained messages")


def grants(visit: Visit, filters: list[str]) -> Finding:
    """Subscribe, and tell what is granted."""
    answers = dict(zip(filters, visit.subscribe(*filters), strict=True))
    refused = [f"{one} ({answer.told})" for one, answer in answers.items() if answer.refused]
    lower = [one for one, answer in answers.items() if answer.code == 0]
    if refused:
        return fail(
            "subscribing", f"refused: {', '.join(refused)}", "let this account read these topics (the broker's ACL)"
        )
    if lower:
        return fail("subscribing", f"granted with QoS 0 only: {', '.join(lower)}", "let the broker grant QoS 1")
    return ok("subscribing", f"{len(filters)} subscriptions are granted with QoS 1")


def own_topic(visit: Visit, topic: str, payload: bytes) -> Finding:
    """Publish where this account must be able to, and tell what the broker says."""
    answer = visit.publish(topic, payload)
    if not answer.refused:
        return ok("own topics", f"publishing to {topic} is allowed")
    return fail(
        "own topics",
        f"publishing to {topic} is refused: {answer.told}",
        "let this account write it (the broker's ACL)",
    )


def forgery(settings: CommonSettings, visit: Visit, topics: list[str], client_id: str) -> Finding:
    """Publish what belongs to others: a broker with accounts must refuse it."""
    answers = {topic: visit.publish(topic) for topic in topics}
    taken = [topic for topic, answer in answers.items() if not answer.refused]
    silent = [topic for topic, answer in answers.items() if answer.code is None]
    if silent:
        return warn("forgery", f"no answer to publishing to {', '.join(silent)}", "look at the broker's log")
    if not taken:
        return ok("forgery", f"publishing to topics of others is refused ({len(topics)} tried)")
    if lets_anybody_in(settings, client_id):
        return warn(
            "forgery",
            "the broker lets anybody in: whoever reaches it can forge readings and receipts",
            "give it accounts and topic rights (`mqtt-bridge broker init`), or keep it on loopback",
        )
    return fail(
        "forgery",
        f"this account may write topics of others: {', '.join(_general(topic) for topic in taken)}",
        "give the broker topic rights (an acl_file; `mqtt-bridge broker init` writes one)",
    )


def lets_anybody_in(settings: CommonSettings, client_id: str) -> bool:
    """Tell whether the broker lets in who has no account."""
    if settings.broker_username is None:
        return True
    with Visit(settings, client_id, anonymous=True) as visit:
        return not visit.welcome.refused


def others_topics(topics: Topics) -> list[str]:
    """Return topics of a node that does not exist, on which nobody stores anything."""
    name = stranger()
    return [topics.command_result(name), topics.command(name), topics.receipt(name)]


def _general(topic: str) -> str:
    levels = topic.split("/")
    return "/".join("<another node>" if level.startswith("nobody-") else level for level in levels)
