"""The broker's configuration for a server on loopback, read by the real mosquitto."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mqtt_client.broker import connect_properties
from mqtt_client.messages import BACKLOG_MAX_BYTES
from tests.processes import Mosquitto, Process, eventually, free_port

CONFIGURATION = Path(__file__).parent.parent / "mosquitto" / "mosquitto.conf"
LISTENING = "0A"  # state of a socket in /proc/net/tcp
LOOPBACK = "0100007F"


class ConfiguredMosquitto(Mosquitto):
    """A real broker with the repository's configuration; only its port, folder and user are the test's."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        assert program
        self.port = free_port()
        self.folder = folder
        folder.mkdir()
        text = CONFIGURATION.read_text(encoding="utf-8")
        text = text.replace("listener 1883 ", f"listener {self.port} ").replace("/var/lib/mosquitto/", f"{folder}/")
        adjusted = folder / "mosquitto.conf"
        adjusted.write_text(text + ("user root\n" if os.geteuid() == 0 else ""), encoding="utf-8")
        Process.__init__(self, [program, "-c", str(adjusted)], folder / "mosquitto.log")
        self.wait_ready()


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[ConfiguredMosquitto]:
    broker = ConfiguredMosquitto(tmp_path / "configured")
    yield broker
    broker.kill()


def connected(broker: Mosquitto, client_id: str, *, session_expiry_s: int = 0) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect(
        "127.0.0.1",
        broker.port,
        clean_start=False,
        properties=connect_properties(session_expiry_s=session_expiry_s, receive_maximum=500),
    )
    client.loop_start()
    eventually(client.is_connected)
    return client


def end(client: Client) -> None:
    client.disconnect()
    client.loop_stop()


def listening_addresses(process_id: int) -> set[str]:
    """Return the local addresses, in hexadecimal as the kernel tells them, on which a process listens."""
    links = (os.readlink(link) for link in Path(f"/proc/{process_id}/fd").iterdir() if link.is_symlink())
    inodes = {match[1] for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if row[3] == LISTENING and row[9] in inodes}


def test_it_listens_on_loopback_alone(configured: ConfiguredMosquitto) -> None:
    assert listening_addresses(configured.process.pid) == {LOOPBACK}


def test_it_complains_of_nothing(configured: ConfiguredMosquitto) -> None:
    told = [line for line in configured.output().splitlines() if "should not be run as root" not in line]

    assert not [line for line in told if "Error" in line or "Warning" in line]


def test_more_than_a_thousand_readings_wait_for_a_bridge_that_is_away_also_across_a_restart(
    configured: ConfiguredMosquitto,
) -> None:
    bridge = connected(configured, "bridge", session_expiry_s=3600)
    granted: list[object] = []
    bridge.on_subscribe = lambda *arguments: granted.append(arguments)
    bridge.subscribe("sensors/+/reading/+", qos=1)
    eventually(lambda: granted)
    end(bridge)

    node = connected(configured, "node")
    sent = [node.publish("sensors/kitchen/reading/main", str(number), qos=1) for number in range(1500)]
    for info in sent:
        info.wait_for_publish(30)
    end(node)
    configured.stop()
    configured.restart()

    received: list[int] = []

    def note(_client: Client, _userdata: object, message: MQTTMessage) -> None:
        received.append(int(message.payload))

    bridge = Client(CallbackAPIVersion.VERSION2, client_id="bridge", protocol=MQTTProtocolVersion.MQTTv5)
    bridge.on_message = note
    bridge.connect(
        "127.0.0.1", configured.port, clean_start=False, properties=connect_properties(session_expiry_s=3600)
    )
    bridge.loop_start()
    eventually(lambda: len(received) >= 1500, told=lambda: len(received))
    end(bridge)
    assert received == list(range(1500))


def test_the_largest_backlog_message_passes_and_a_flood_does_not(configured: ConfiguredMosquitto) -> None:
    limits: list[Properties] = []
    client = Client(CallbackAPIVersion.VERSION2, client_id="node", protocol=MQTTProtocolVersion.MQTTv5)
    client.on_connect = lambda _client, _userdata, _flags, _code, properties: limits.append(properties)
    client.connect("127.0.0.1", configured.port, properties=Properties(PacketTypes.CONNECT))
    client.loop_start()
    eventually(lambda: limits)

    info = client.publish("sensors/kitchen/backlog", b"x" * BACKLOG_MAX_BYTES, qos=1)
    info.wait_for_publish(10)

    assert info.is_published()
    assert BACKLOG_MAX_BYTES < limits[0].MaximumPacketSize == 65536
    end(client)
