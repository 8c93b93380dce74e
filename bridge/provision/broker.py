"""The running broker: lets it read its files again, ends a node's session, and clears what it retains of a node.

Mosquitto reads passwords, topic rights and the revocation list again on
SIGHUP. Whether it has done so is proved, not assumed: each change gives the
account ``provision`` a new password that only this process knows, and when
the broker takes it, it has read everything. A session that was let in by a
certificate outlives its revocation in Mosquitto, so it is taken over by its
client id, after which the node's next connect is refused.
"""

import os
import secrets
import signal
import threading
import time
from enum import Enum, auto
from pathlib import Path

import msgspec
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bridge.provision.configuration import DISCOVERY, PROVISION
from bridge.settings import BridgeSettings
from mqtt_client.broker import KEEPALIVE_S, connect_properties, new_client
from mqtt_client.errors import TryLater
from mqtt_client.setting_values import Secret
from mqtt_client.topics import RESERVED_NODE

READ_WITHIN_S = 10.0
AGAIN_S = 0.1
ANSWER_S = 5.0


class Verdict(Enum):
    """What became of a change at the broker."""

    READ = auto()
    """The broker works with the files as they are now."""
    NOT_RUNNING = auto()
    """Nobody listens there; the broker reads its files when it starts."""
    NOT_YET = auto()
    """The broker runs, with the files as they were before."""
    OPEN = auto()
    """The broker there lets anybody in: it is another one, or runs with another configuration."""


class BrokerSilent(TryLater):
    """The broker did not answer in time."""


def signal_reload(configuration: Path) -> None:
    """Send SIGHUP to each mosquitto of this machine that runs with this configuration, as far as we may."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            if Path(arguments[0]).name == "mosquitto" and _names(arguments, configuration, process):
                os.kill(int(process.name), signal.SIGHUP)
        except OSError:
            continue  # it has ended, or is another account's: then somebody else has to tell it


def _names(arguments: list[str], configuration: Path, process: Path) -> bool:
    """Tell whether a mosquitto was started with this file, a link to it, or a copy of it."""
    if "-c" not in arguments[:-1]:
        return False
    given = Path(arguments[arguments.index("-c") + 1])
    named = given if given.is_absolute() else Path(os.readlink(process / "cwd")) / given
    return named.samefile(configuration) or named.read_bytes() == configuration.read_bytes()


class Provision:
    """Connections with the account ``provision`` and the password of one change."""

    def __init__(self, settings: BridgeSettings, password: str) -> None:
        self._settings = msgspec.structs.replace(
            settings, mqtt_username=PROVISION, mqtt_password=Secret(password), mqtt_tls_cert=None, mqtt_tls_key=None
        )
        self._nobody = msgspec.structs.replace(self._settings, mqtt_password=Secret(secrets.token_hex(16)))

    def wait_until_read(self, configuration: Path, within_s: float = READ_WITHIN_S) -> Verdict:
        """Let the broker read its files, and wait until it has."""
        signal_reload(configuration)
        deadline = time.monotonic() + within_s
        try:
            if self._is_let_in(self._nobody):
                return Verdict.OPEN
            while not self._is_let_in(self._settings):
                if time.monotonic() > deadline:
                    return Verdict.NOT_YET
                time.sleep(AGAIN_S)
        except OSError:
            return Verdict.NOT_RUNNING
        return Verdict.READ

    def _is_let_in(self, settings: BridgeSettings) -> bool:
        client, reason = _connect(settings, f"{PROVISION}-{secrets.token_hex(6)}")
        _end(client)
        return reason is not None and not reason.is_failure

    def end_session(self, node: str) -> None:
        """End a node's session, with what the broker keeps for it, by taking it over.

        Raises:
            OSError: the broker cannot be reached.
        """
        for client_id in (node, f"node-{node}"):  # at the nodes' listeners, and at others
            client, _reason = _connect(self._settings, client_id)
            _end(client)

    def clear(self, node: str) -> int:
        """Clear what the broker retains of a node, discovery included; return the number of topics.

        Raises:
            BrokerSilent: the broker did not answer in time.
            OSError: the broker cannot be reached.
        """
        prefix = self._settings.mqtt_topic_prefix
        client, reason = _connect(self._settings, f"{PROVISION}-{secrets.token_hex(6)}")
        try:
            if reason is None or reason.is_failure:
                raise BrokerSilent(f"the broker does not let {PROVISION} in: {reason or 'no answer'}")
            retained = _retained(client, [f"{prefix}/{node}/#", DISCOVERY.format(node)], prefix)
            for topic in retained:
                cleared = client.publish(topic, b"", qos=1, retain=True)
                cleared.wait_for_publish(ANSWER_S)
                if not cleared.is_published():
                    raise BrokerSilent(f"the broker did not acknowledge that {topic} is cleared")
            return len(retained)
        finally:
            _end(client)


def _connect(settings: BridgeSettings, client_id: str) -> tuple[Client, ReasonCode | None]:
    """Connect; return the broker's answer, None where none came in time."""
    answered = threading.Event()
    answers: list[ReasonCode] = []

    def on_connect(
        client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        answers.append(reason)
        answered.set()
        if reason.is_failure:
            client.disconnect()  # or paho's thread would try again

    client = new_client(settings, client_id)
    client.on_connect = on_connect
    client.connect(
        settings.mqtt_host,
        settings.broker_port,
        KEEPALIVE_S,
        clean_start=True,
        properties=connect_properties(session_expiry_s=0),
    )
    client.loop_start()
    answered.wait(ANSWER_S)
    return client, answers[0] if answers else None


def _retained(client: Client, filters: list[str], prefix: str) -> list[str]:
    """Return the topics under these filters that have a retained message."""
    found: list[str] = []
    seen_all = threading.Event()
    marker = f"{prefix}/{RESERVED_NODE}/{PROVISION}/{secrets.token_hex(8)}"

    def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
        if message.topic == marker:
            seen_all.set()
        elif message.retain:
            found.append(message.topic)

    client.on_message = on_message
    client.subscribe([(one, 0) for one in [*filters, marker]])
    client.publish(marker, b"seen all before this")
    if not seen_all.wait(ANSWER_S):
        raise BrokerSilent("the broker did not tell in time what it retains")
    return found


def _end(client: Client) -> None:
    client.disconnect()
    client.loop_stop()
