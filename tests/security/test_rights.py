"""Who may say and hear what at the secured broker: real TLS, real accounts, real refusals."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import eventually
from tests.security.secured import DENIED, SecuredBroker, Speaker

Keep = Callable[[Speaker], Speaker]

OF_KITCHEN = [
    "sensors/kitchen/reading/main",
    "sensors/kitchen/backlog",
    "sensors/kitchen/lost",
    "sensors/kitchen/availability",
    "sensors/kitchen/info",
    "sensors/kitchen/health",
    "sensors/kitchen/command/result",
    "homeassistant/device/kitchen/config",
]
NOT_OF_KITCHEN = [
    *(topic.replace("kitchen", "attic") for topic in OF_KITCHEN),
    "sensors/kitchen/receipt",
    "sensors/kitchen/alarm",
    "sensors/kitchen/command",
    "sensors/attic/command",
    "sensors/attic/receipt",
    "sensors/bridge/main/availability",
    "sensors/bridge/main/health",
    "sensors/bridge/reading/main",
    "sensors/kitchen/reading/main/deeper",
    "sensors/kitchen",
    "sensors/kitchen/../attic/reading/main",
    "homeassistant/status",
    "$SYS/broker/uptime",
    "other/kitchen/reading/main",
]


def env_of(broker: SecuredBroker, name: str) -> Path:
    return broker.folder / name / f"{name}.env"


def service(broker: SecuredBroker, name: str, **more: object) -> Speaker:
    return Speaker("127.0.0.1", broker.port, broker.account(name), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["kitchen", "attic"], ids=["password", "certificate"])
def test_a_node_may_write_its_own_topics_and_no_others(shared: SecuredBroker, speakers: Keep, name: str) -> None:
    other = {"kitchen": "attic", "attic": "kitchen"}[name]
    swapped = [topic.replace("kitchen", "?").replace("attic", other).replace("?", name) for topic in NOT_OF_KITCHEN]
    own = [topic.replace("kitchen", name) for topic in OF_KITCHEN]
    node = speakers(Speaker.of_node(env_of(shared, name)))

    allowed = {topic: node.publish(topic) for topic in own}
    forged = {topic: node.publish(topic) for topic in swapped}

    assert DENIED not in allowed.values()
    assert set(forged.values()) == {DENIED}, forged


def test_a_node_hears_its_own_receipt_and_commands_and_what_is_meant_for_all(
    shared: SecuredBroker, speakers: Keep
) -> None:
    node = speakers(Speaker.of_node(env_of(shared, "kitchen")))
    bridge, operator = speakers(service(shared, "bridge")), speakers(service(shared, "operator"))
    home = speakers(service(shared, "homeassistant"))
    attic = speakers(Speaker.of_node(env_of(shared, "attic")))
    node.subscribe("#", "$SYS/#")

    attic.publish("sensors/attic/reading/main")
    for name in ("attic", "kitchen"):
        bridge.publish(f"sensors/{name}/receipt")
        operator.publish(f"sensors/{name}/command")
        bridge.publish(f"sensors/{name}/alarm")
    bridge.publish("sensors/bridge/main/health")
    home.publish("homeassistant/status", b"online")
    bridge.publish("sensors/bridge/main/availability", b"online")

    eventually(lambda: ("sensors/bridge/main/availability", b"online") in node.received)
    assert {topic for topic, _ in node.received} == {
        "sensors/kitchen/receipt",
        "sensors/kitchen/command",
        "homeassistant/status",
        "sensors/bridge/main/availability",
    }


def test_the_services_have_the_rights_that_they_need_and_no_more(shared: SecuredBroker, speakers: Keep) -> None:
    def allowed(name: str) -> set[str]:
        speaker = speakers(service(shared, name))
        topics = [*OF_KITCHEN, *NOT_OF_KITCHEN]
        return {topic for topic in topics if speaker.publish(topic) != DENIED and not topic.startswith("$SYS")}

    bridges = {"sensors/bridge/main/availability", "sensors/bridge/main/health", "sensors/bridge/reading/main"}

    assert allowed("bridge") == bridges | {
        "sensors/kitchen/receipt",
        "sensors/attic/receipt",
        "sensors/kitchen/alarm",
    }
    assert allowed("operator") == {"sensors/kitchen/command", "sensors/attic/command"}
    assert allowed("homeassistant") == {"homeassistant/status"}
    assert allowed("health") == set()


def test_nobody_is_let_in_without_the_account_s_own_secret(shared: SecuredBroker, speakers: Keep) -> None:
    kitchen, attic = env_of(shared, "kitchen"), env_of(shared, "attic")
    context = ssl.create_default_context(cafile=str(shared.directory / "ca.crt"))

    refused = [
        Speaker("127.0.0.1", shared.port),
        Speaker("127.0.0.1", shared.port, ("bridge", "wrong")),
        Speaker("localhost", shared.node_port, None, context),
        Speaker.of_node(kitchen, MQTT_PASSWORD="wrong"),
        Speaker.of_node(kitchen, NODE_ID="attic"),
        Speaker.of_node(attic, MQTT_PORT=str(shared.node_port)),
    ]

    assert [speakers(one).connects for one in refused] == [["Not authorized"]] * len(refused)


def test_no_node_can_take_over_the_session_of_the_bridge_or_of_another_node(
    shared: SecuredBroker, speakers: Keep
) -> None:
    bridge = speakers(
        service(shared, "bridge", client_id="mqtt-bridge-main", clean_start=False, session_expiry_s=3600)
    )
    attic = speakers(Speaker.of_node(env_of(shared, "attic")))

    rogues = [
        speakers(Speaker.of_node(env_of(shared, "kitchen"), CLIENT_ID=client_id))
        for client_id in ("mqtt-bridge-main", "attic", "node-attic")
    ]

    assert rogues[-1].is_in
    assert bridge.publish("sensors/kitchen/receipt") != DENIED
    assert attic.publish("sensors/attic/lost") != DENIED
    assert bridge.is_in
    assert attic.is_in


def test_what_a_node_says_while_the_bridge_is_away_waits_for_it(shared: SecuredBroker, speakers: Keep) -> None:
    session = {"client_id": "mqtt-bridge-away", "clean_start": False, "session_expiry_s": 60}
    bridge = service(shared, "bridge", **session)
    bridge.subscribe("sensors/+/lost")
    bridge.close()
    kitchen = speakers(Speaker.of_node(env_of(shared, "kitchen")))
    operator = speakers(service(shared, "operator"))

    said = [b"%d" % number for number in range(20)]
    answers = {kitchen.publish("sensors/kitchen/lost", one) for one in said}
    operator.publish("sensors/kitchen/lost", b"forged")
    back = speakers(service(shared, "bridge", **session))

    eventually(lambda: len(back.received) >= len(said), told=lambda: back.received)
    assert answers == {0}
    assert [payload for _topic, payload in back.received] == said


def test_who_sends_more_than_the_largest_message_is_disconnected_and_the_others_notice_nothing(
    shared: SecuredBroker, speakers: Keep
) -> None:
    rogue = speakers(Speaker.of_node(env_of(shared, "kitchen")))
    attic = speakers(Speaker.of_node(env_of(shared, "attic")))

    rogue.client.publish("sensors/kitchen/backlog", b"x" * 70_000, qos=1)

    eventually(lambda: rogue.ends)
    assert attic.publish("sensors/attic/backlog", b"x" * 49_152) != DENIED
    assert attic.is_in
