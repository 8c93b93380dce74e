"""A real broker with TLS, accounts and topic rights, set up by the real commands, and clients that speak to it."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bridge.provision import accounts, node_file
from bridge.provision.broker import Provision, Verdict
from bridge.provision.directory import BrokerDirectory, Plan
from bridge.provision.setup import set_up
from bridge.settings import BridgeSettings
from mqtt_client.broker import connect_properties
from mqtt_client.settings import env_file_variables, load
from tests.processes import Process, eventually, free_port, python

ROOT = Path(__file__).parent.parent.parent
DENIED = 135
"""Not authorized (MQTT 5.0, section 3.4.2.1)."""


class SecuredBroker(Process):
    """mosquitto with what ``mqtt-bridge broker init`` writes, and nodes as ``mqtt-bridge nodes add`` adds them."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        assert program, "mosquitto is not installed; `make test` installs it where it may"
        folder.mkdir(parents=True)
        self.folder = folder
        self.directory = folder / "broker"
        self.port, self.node_port, self.certificate_port = free_port(), free_port(), free_port()
        self.variables = {
            "BROKER_DIRECTORY": str(self.directory),
            "STORE_URL": f"sqlite:///{folder / 'bridge.db'}",
            "MQTT_HOST": "127.0.0.1",
            "MQTT_PORT": str(self.port),
        }
        self._set_up()
        super().__init__([program, "-c", str(self.directory / "mosquitto.conf")], folder / "mosquitto.log")
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it accepts connections."""

        def accepts() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.certificate_port)) == 0

        eventually(accepts, told=self.output)

    def _set_up(self) -> None:
        """Do what ``broker init`` does; as root, mosquitto must stay root to enter the test's folder."""
        plan = Plan(
            names=["localhost"],
            node_port=self.node_port,
            certificate_port=self.certificate_port,
            service_port=self.port,
            persistence=str(self.directory / "persistence"),
        )
        set_up(BrokerDirectory(self.directory), plan)
        if os.geteuid() == 0:
            with (self.directory / "mosquitto.conf").open("a", encoding="utf-8") as configuration:
                configuration.write("user root\n")

    def bridge(self, *arguments: str, status: int = 0) -> str:
        """Run a command of ``mqtt-bridge`` and return what it says; its exit status has to be this."""
        done = subprocess.run(
            python("-m", "bridge", *arguments),
            capture_output=True,
            text=True,
            env=os.environ | self.variables | {"PYTHONPATH": str(ROOT)},
            cwd=self.folder,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def add(self, name: str, *, by_certificate: bool = False, again: bool = False) -> Path:
        """Do what ``nodes add --unpacked`` does; return the node's file, which has its certificates beside it."""
        target = self.folder / name / f"{name}.env"
        target.parent.mkdir(exist_ok=True)
        directory = BrokerDirectory(self.directory)
        plan = directory.plan()
        given = accounts.add(directory, name, by_certificate=by_certificate, again=again)
        node_file.write_unpacked(directory, plan, name, given, target)
        provision = Provision(load(BridgeSettings, self.variables), accounts.open_provision(directory))
        assert provision.wait_until_read(directory.configuration) is Verdict.READ
        return target

    def account(self, name: str) -> tuple[str, str]:
        """Return user name and password of an account that is not a node's."""
        return name, (self.directory / "accounts" / f"{name}.password").read_text("ascii").strip()


class Speaker:
    """A client that notes everything that it is told."""

    def __init__(
        self,
        host: str,
        port: int,
        account: tuple[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        client_id: str = "",
        clean_start: bool = True,
        session_expiry_s: int = 0,
    ) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.connects: list[str] = []
        self.ends: list[str] = []
        self._acknowledged: dict[int, int] = {}
        self._subscribed: list[int] = []
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
        if account:
            self.client.username_pw_set(*account)
        if context:
            self.client.tls_set_context(context)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_publish = self._on_publish
        self.client.on_subscribe = lambda _client, _data, mid, _codes, _properties: self._subscribed.append(mid)
        self.client.on_message = self._on_message
        self.client.connect(
            host,
            port,
            clean_start=clean_start,
            properties=connect_properties(session_expiry_s=session_expiry_s),
        )
        self.client.loop_start()
        eventually(lambda: self.connects or self.ends)

    @classmethod
    def of_node(cls, env_file: Path, **changes: str) -> "Speaker":
        """Connect as the node that this file is for, with settings changed."""
        variables = env_file_variables(env_file) | changes
        context = ssl.create_default_context(cafile=variables["MQTT_TLS_CA"])
        if "MQTT_TLS_CERT" in variables:
            context.load_cert_chain(variables["MQTT_TLS_CERT"], variables["MQTT_TLS_KEY"])
        password = variables.get("MQTT_PASSWORD")
        account = (variables["NODE_ID"], password) if password else None
        client_id = variables.get("CLIENT_ID", "")
        return cls(variables["MQTT_HOST"], int(variables["MQTT_PORT"]), account, context, client_id)

    @property
    def is_in(self) -> bool:
        """Whether the broker let it in and the connection stands."""
        return self.connects == ["Success"] and not self.ends

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> int:
        """Publish with QoS 1 and return the broker's reason code."""
        mid = self.client.publish(topic, payload, qos=1, retain=retain).mid
        return eventually(lambda: self._acknowledged.get(mid, -1) + 1) - 1

    def subscribe(self, *filters: str) -> None:
        """Subscribe and wait for the answer."""
        _result, mid = self.client.subscribe([(one, 1) for one in filters])
        eventually(lambda: mid in self._subscribed)

    def close(self) -> None:
        """Say goodbye."""
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(
        self, client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self.connects.append(str(reason))
        if reason.is_failure:
            client.disconnect()

    def _on_disconnect(
        self,
        client: Client,
        _data: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.ends.append(str(reason))
        client.disconnect()  # a test sees one connection, not paho's next one

    def _on_publish(
        self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._acknowledged[mid] = reason.value

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.received.append((message.topic, bytes(message.payload)))


def node(env_file: Path, folder: Path, **variables: str) -> Process:
    """Start a real node with the file that was carried to it."""
    folder.mkdir(exist_ok=True)
    settings = {
        "NODE_SENSORS": "main=fixed",
        "SAMPLE_INTERVAL": "0.2",
        "OUTBOX_PATH": str(folder / "outbox.db"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "mqtt_client", "run", "--env-file", str(env_file)]
    return Process(command, folder / "node.log", os.environ | settings | variables, cwd=folder)
