"""A look at the broker before the session is taken: is another store's bridge online, is our store an old copy?

Uses a connection of its own, so a second bridge that is started by mistake
never disturbs the first one's session.
"""

import logging
import secrets
import threading
import time
from dataclasses import dataclass, field

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bridge.errors import ForeignBridge
from mqtt_client import messages
from mqtt_client.broker import KEEPALIVE_S, connect_properties, new_client, why_not
from mqtt_client.errors import InvalidReading
from mqtt_client.messages import BridgeHealth, Receipt
from mqtt_client.settings import CommonSettings
from mqtt_client.topics import RESERVED_NODE, Topics

LOOK_S = 5.0
QUIET_S = 0.2


@dataclass
class Bridges:
    """What the bridges of this broker say of themselves; ours is told from others by the store's id."""

    store_id: str
    group: str | None
    _online: dict[str, bool] = field(default_factory=dict)
    _health: dict[str, BridgeHealth] = field(default_factory=dict)

    def note(self, levels: list[str], payload: bytes) -> None:
        """Take in a message of ``bridge/<BRIDGE_ID>/availability`` or ``…/health``."""
        _, bridge_id, kind = levels
        if kind == "availability":
            self._online[bridge_id] = payload == messages.ONLINE
        elif kind == "health" and payload:
            try:
                self._health[bridge_id] = messages.decode(BridgeHealth, payload)
            except InvalidReading as exc:
                logging.getLogger("ingest").warning("no health of bridge %r: %s", bridge_id, exc)

    def check(self) -> None:
        """Look for a bridge that serves the same nodes from another store.

        Raises:
            ForeignBridge: there is one; two would tell the nodes two truths.
        """
        for bridge_id, health in self._health.items():
            same_group = self.group is not None and health.group == self.group
            if self._online.get(bridge_id) and health.store != self.store_id and not same_group:
                raise ForeignBridge(
                    f"bridge {bridge_id!r} with another store ({health.store}) is online on this broker; "
                    f"this one's store is {self.store_id}. Stop one of them. If that one has just died, "
                    "the broker notices within half a minute: start again then"
                )


@dataclass
class Look:
    """What the retained messages said."""

    bridges: Bridges
    receipts: dict[str, Receipt] = field(default_factory=dict)
    """The newest receipt that each node was ever sent on this broker."""


def look(settings: CommonSettings, topics: Topics, bridges: Bridges) -> Look | str:
    """Read what is retained of bridges and receipts; a few words when the broker cannot be asked now."""
    found = Look(bridges)
    done = threading.Event()
    refused: list[str] = []
    heard_at = [0.0]
    subscribed = [0]
    client = new_client(settings, f"mqtt-bridge-lookout-{secrets.token_hex(6)}")

    def on_connect(
        client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            refused.append(f"refuses the connection: {str(reason).lower()}")
            done.set()
        else:
            client.subscribe(
                [
                    (f"{topics.prefix}/{RESERVED_NODE}/+/availability", 0),
                    (f"{topics.prefix}/{RESERVED_NODE}/+/health", 0),
                    (topics.receipt("+"), 0),
                ]
            )

    def on_subscribe(client: Client, *_: object) -> None:
        """Subscribe once more: its answer comes behind what was retained under the first."""
        subscribed[0] += 1
        if subscribed[0] == 1:
            client.subscribe(f"{topics.prefix}/{RESERVED_NODE}/+/availability", 0)
        else:
            heard_at[0] = time.monotonic()
            done.set()

    def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
        heard_at[0] = time.monotonic()
        levels = topics.levels(message.topic) or []
        payload = bytes(message.payload)
        if levels[0] == RESERVED_NODE:
            bridges.note(levels, payload)
        elif payload:
            try:
                found.receipts[levels[0]] = messages.decode(Receipt, payload)
            except InvalidReading:
                return  # no receipt of ours; the node ignores it too

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    try:
        client.connect(
            settings.mqtt_host,
            settings.broker_port,
            KEEPALIVE_S,
            clean_start=True,
            properties=connect_properties(session_expiry_s=0),
        )
    except (OSError, ValueError) as exc:
        return f"cannot be reached: {why_not(exc)}"
    client.loop_start()
    deadline = time.monotonic() + LOOK_S
    seen_all = done.wait(LOOK_S)
    while seen_all and not refused and (quiet_at := heard_at[0] + QUIET_S) > time.monotonic() < deadline:
        time.sleep(max(0.0, quiet_at - time.monotonic()))  # a broker that hands retained messages over later
    client.disconnect()
    client.loop_stop()
    if refused:
        return refused[0]
    return found if seen_all else "does not answer"
