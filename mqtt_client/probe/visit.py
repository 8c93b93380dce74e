"""A visit to the broker: a connection with a client id of its own, on which questions are asked one after another.

It never takes over the session of a node or a bridge, and leaves none behind
unless it was asked to keep one; such a session ends at its expiry.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from mqtt_client.broker import KEEPALIVE_S, connect_properties, new_client
from mqtt_client.settings import CommonSettings

ANSWER_WITHIN_S = 5.0
REFUSED = 0x80
"""Reason codes from here on are failures (MQTT 5.0, section 2.4)."""


@dataclass(frozen=True)
class Heard:
    """A message that came."""

    topic: str
    payload: bytes
    retained: bool
    at_s: float
    """Wall clock, when it came."""


@dataclass(frozen=True)
class Answered:
    """The broker's word: a reason code and its name, or that no word came."""

    code: int | None
    told: str

    @property
    def refused(self) -> bool:
        """Whether it was a refusal, or none came."""
        return self.code is None or self.code >= REFUSED


NO_ANSWER = Answered(None, f"no answer within {ANSWER_WITHIN_S:g} s")


class Visit:
    """A connection, from ``with`` to its end; look at ``welcome`` first."""

    def __init__(
        self,
        settings: CommonSettings,
        client_id: str,
        *,
        session_expiry_s: int = 0,
        clean_start: bool = True,
        anonymous: bool = False,
    ) -> None:
        self._settings = settings
        self._expiry_s = session_expiry_s
        self._clean_start = clean_start
        self._client = client = new_client(settings, client_id)
        if anonymous:
            client.username_pw_set(None)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        self._changed = threading.Condition()
        self._answers: dict[int, list[Answered]] = {}
        self.heard: list[Heard] = []
        self.welcome: Answered = NO_ANSWER
        self.session_present = False
        self.limits: dict[str, int] = {}
        """What the broker told of itself with its welcome (MQTT 5.0, section 3.2.2.3)."""

    def __enter__(self) -> "Visit":
        try:
            self._client.connect(
                self._settings.mqtt_host,
                self._settings.broker_port,
                KEEPALIVE_S,
                clean_start=self._clean_start,
                properties=connect_properties(session_expiry_s=self._expiry_s),
            )
        except (OSError, ValueError) as exc:
            self.welcome = Answered(None, str(exc))
            return self
        self._client.loop_start()
        self.wait(lambda: self.welcome is not NO_ANSWER, ANSWER_WITHIN_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, *filters: str) -> list[Answered]:
        """Subscribe with QoS 1 and return what was granted, in the order of the filters."""
        _result, mid = self._client.subscribe([(one, 1) for one in filters])
        return self._answer(mid) or [NO_ANSWER] * len(filters)

    def publish(self, topic: str, payload: bytes = b"") -> Answered:
        """Publish with QoS 1, not retained, and return what the broker says."""
        found = self._answer(self._client.publish(topic, payload, qos=1).mid)
        return found[0] if found else NO_ANSWER

    def wait(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait until a condition on what was heard is true; return whether it is."""
        with self._changed:
            return self._changed.wait_for(condition, within_s)

    def of(self, topic: str) -> list[Heard]:
        """Return what came on a topic."""
        return [heard for heard in self.heard if heard.topic == topic]

    def _answer(self, mid: int | None) -> list[Answered] | None:
        if mid is None:
            return None
        self.wait(lambda: mid in self._answers or self.welcome.refused, ANSWER_WITHIN_S)
        return self._answers.pop(mid, None)

    def _on_connect(
        self, client: Client, _data: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            self.session_present = flags.session_present
            self.limits = {
                name: value
                for name, value in vars(properties or object).items()
                if isinstance(value, int) and name[:1].isupper()
            }
            self.welcome = Answered(reason.value, str(reason))
            self._changed.notify_all()
        if reason.is_failure:
            client.disconnect()

    def _on_disconnect(
        self, client: Client, _data: object, _flags: DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        with self._changed:
            if not self.welcome.refused or self.welcome is NO_ANSWER:
                self.welcome = Answered(None, f"the broker ended the connection ({reason})")
            self._changed.notify_all()
        client.disconnect()  # paho would connect again

    def _on_subscribe(
        self, _client: Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        self._note(mid, [Answered(reason.value, str(reason)) for reason in reasons])

    def _on_publish(self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: object) -> None:
        self._note(mid, [Answered(reason.value, str(reason))])

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        with self._changed:
            self.heard.append(Heard(message.topic, bytes(message.payload), message.retain, time.time()))
            self._changed.notify_all()

    def _note(self, mid: int, answers: list[Answered]) -> None:
        with self._changed:
            self._answers[mid] = answers
            self._changed.notify_all()
