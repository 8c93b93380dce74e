"""The bridge's session, over the buffered socket and over paho's own."""

from collections.abc import Iterator

import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from bridge.ingest.received import Received
from bridge.ingest.subscription import TOO_SOON, BufferedClient, Subscription
from mqtt_client.settings import CommonSettings, load
from tests.processes import Mosquitto, eventually

WILL = ("sensors/bridge/main/availability", b"offline")
KINDS = pytest.mark.parametrize("kind", [BufferedClient, Client])


class Publisher:
    """Publishes and waits for the broker's word."""

    def __init__(self, port: int) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, *payloads: bytes, qos: int = 1) -> None:
        infos = [self._client.publish("sensors/a", payload, qos=qos) for payload in payloads]
        eventually(lambda: all(info.is_published() for info in infos))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def publisher(broker: Mosquitto) -> Iterator[Publisher]:
    connected = Publisher(broker.port)
    yield connected
    connected.close()


class Session:
    """A subscription with all that it has received."""

    def __init__(self, broker: Mosquitto, kind: type[Client]) -> None:
        settings = load(CommonSettings, {"MQTT_PORT": str(broker.port)})
        self.subscription = Subscription(settings, "tested", ["sensors/a"], WILL, client_kind=kind)
        self.received: list[Received] = []
        self.wait_ready()

    def turn(self) -> None:
        self.received += self.subscription.receive(0.02)

    def wait_ready(self) -> None:
        def is_ready() -> bool:
            self.turn()
            return self.subscription.ready

        eventually(is_ready)

    def wait_for(self, count: int) -> list[bytes]:
        def has_enough() -> bool:
            self.turn()
            return len(self.received) >= count

        eventually(has_enough, told=lambda: len(self.received))
        return [message.payload for message in self.received]

    def close(self) -> None:
        self.subscription.close(WILL)


@KINDS
def test_what_was_acknowledged_does_not_come_again_and_what_was_not_does(
    kind: type[Client], broker: Mosquitto, publisher: Publisher
) -> None:
    sent = [b"%d" % number for number in range(300)]
    first = Session(broker, kind)
    publisher.publish(*sent)
    first_payloads = first.wait_for(300)

    first.subscription.acknowledge(first.received[:200])
    first.close()
    second = Session(broker, kind)
    second_payloads = second.wait_for(100)

    second.close()
    assert first_payloads == sent
    assert second_payloads == sent[200:]


@KINDS
def test_acknowledgements_of_an_earlier_connection_are_dropped(
    kind: type[Client], broker: Mosquitto, publisher: Publisher
) -> None:
    session = Session(broker, kind)
    publisher.publish(b"old 1", b"old 2")
    session.wait_for(2)
    broker.kill()
    broker.restart(empty=True)
    eventually(lambda: session.turn() or not session.subscription.ready)
    session.wait_ready()
    other = Publisher(broker.port)
    other.publish(b"new 1", b"new 2")
    session.wait_for(4)

    session.subscription.acknowledge(session.received[:2])
    session.close()

    again = Session(broker, kind)
    payloads = again.wait_for(2)
    again.close()
    other.close()
    assert payloads == [b"new 1", b"new 2"]


@KINDS
def test_large_messages_and_qos_0_arrive_whole(kind: type[Client], broker: Mosquitto, publisher: Publisher) -> None:
    session = Session(broker, kind)

    publisher.publish(b"x" * 3_000_000, b"y")
    publisher.publish(b"at most once", qos=0)

    payloads = session.wait_for(3)
    session.close()
    assert payloads == [b"x" * 3_000_000, b"y", b"at most once"]


def test_two_clients_with_one_id_are_told(broker: Mosquitto) -> None:
    one, other = Session(broker, BufferedClient), Session(broker, BufferedClient)

    def is_told() -> bool:
        one.turn()
        other.turn()
        return any(TOO_SOON in session.subscription.reason for session in (one, other))

    eventually(is_told, within_s=60)
    one.close()
    other.close()
