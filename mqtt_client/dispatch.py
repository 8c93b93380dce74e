"""What an operator sends over the broker beside the running node: a command, or the end of an announcement.

Each goes over a short connection of its own, with the account of these
settings; nothing is remembered here.
"""

import secrets

from mqtt_client.errors import InvalidReading, PersonNeeded, TryLater
from mqtt_client.home_assistant import topic_of
from mqtt_client.messages import OFFLINE, Command, CommandResult, decode, encode
from mqtt_client.probe.visit import NO_ANSWER, Answered, Visit
from mqtt_client.settings import NodeSettings
from mqtt_client.status import is_running
from mqtt_client.topics import Topics

RETAINED_WITHIN_S = 1.0
"""Retained messages come right after the subscription."""
NO_SUBSCRIBER = 0x10


def send_command(settings: NodeSettings, node: str, command: Command, within_s: float) -> CommandResult:
    """Send a command to a node and return its result.

    Raises:
        TryLater: broker or node cannot be reached, or the node does not answer in time; the message says which.
        PersonNeeded: the account is that of a node that runs here.
    """
    topics = Topics(settings.mqtt_topic_prefix)
    with _visit(settings) as visit:
        for granted in visit.subscribe(topics.command_result(node), topics.availability(node)):
            _check(granted, f"the broker refuses to let this account hear node {node}")
        visit.wait(lambda: bool(visit.of(topics.availability(node))), RETAINED_WITHIN_S)
        said = [heard.payload for heard in visit.of(topics.availability(node))]
        if not said:
            raise TryLater(
                f"no node {node!r} has ever been online under {settings.mqtt_topic_prefix!r} on this broker, "
                "or this account may not hear it"
            )
        if said[-1] == OFFLINE:
            raise TryLater(f"node {node} is offline; the command was not sent")
        answer = visit.publish(topics.command(node), encode(command))
        _check(answer, "the broker refuses the command")
        if answer.code == NO_SUBSCRIBER:
            raise TryLater(f"node {node} does not listen to commands")
        found: list[CommandResult] = []
        visit.wait(lambda: _find(visit, topics.command_result(node), command.id, found), within_s)
    if not found:
        raise TryLater(f"node {node} has not answered within {within_s:g} s; it may still execute the command")
    return found[0]


def _find(visit: Visit, topic: str, command_id: str, found: list[CommandResult]) -> bool:
    for heard in visit.of(topic):
        try:
            result = decode(CommandResult, heard.payload)
        except InvalidReading:
            continue
        if result.id == command_id:
            found.append(result)
            return True
    return False


def new_command_id() -> str:
    """Return an id that no other command has."""
    return secrets.token_hex(8)


def remove_announcement(settings: NodeSettings, node: str) -> None:
    """Take the node off Home Assistant, by an empty retained message.

    Raises:
        TryLater: the broker cannot be reached, or refuses it.
        PersonNeeded: the account is that of a node that runs here.
    """
    with _visit(settings) as visit:
        _check(visit.clear(topic_of(node)), f"the broker refuses to clear {topic_of(node)}")


class _Reached(Visit):
    """A visit that has to succeed."""

    def __enter__(self) -> "_Reached":
        super().__enter__()
        if self.welcome.refused:
            super().__exit__(None, None, None)
            where = f"{self._settings.mqtt_host}:{self._settings.broker_port}"
            raise TryLater(f"broker {where} cannot be reached, or refuses this account: {self.welcome.told}")
        return self

    def clear(self, topic: str) -> Answered:
        """Take back what is retained on a topic, and return what the broker says."""
        found = self._answer(self._client.publish(topic, b"", qos=1, retain=True).mid)
        return found[0] if found else NO_ANSWER


def _visit(settings: NodeSettings) -> _Reached:
    has_account = settings.mqtt_password or settings.mqtt_tls_cert
    if has_account and not settings.mqtt_username and is_running(settings.outbox_path):
        raise PersonNeeded(
            "the node that runs here uses this account, and a broker may allow each account one connection; "
            "give an operator's: --env-file operator.env, or MQTT_USERNAME and MQTT_PASSWORD"
        )
    return _Reached(settings, f"mqtt-node-{secrets.token_hex(4)}")


def _check(answer: Answered, what: str) -> None:
    if answer.refused:
        raise TryLater(f"{what}: {answer.told.lower()}")
