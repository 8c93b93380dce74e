"""What others ask of the running node, and what it answers: an operator's commands, Home Assistant's start.

Results and announcements go out where the connection stands, and wait for it
otherwise; they are forgotten with the process, and so is a command that was
under way.
"""

from mqtt_client.commands import Commands
from mqtt_client.discovery import Discovery
from mqtt_client.home_assistant import STATUS_TOPIC
from mqtt_client.messages import ONLINE, Command, encode
from mqtt_client.publisher.connection import Arrived
from mqtt_client.publisher.delivery import Kind
from mqtt_client.publisher.publisher import Publisher
from mqtt_client.settings import NodeSettings
from mqtt_client.topics import Topics


class Conversation:
    """Takes messages to their ends, and answers to the broker."""

    def __init__(self, topics: Topics, publisher: Publisher, commands: Commands, discovery: Discovery) -> None:
        self._topics = topics
        self._publisher = publisher
        self._commands = commands
        self._discovery = discovery

    @property
    def deadline(self) -> float | None:
        """When something is due here, None when nothing is."""
        due = [self._commands.deadline, self._discovery.deadline if self._publisher.is_ready else None]
        return min((at for at in due if at is not None), default=None)

    def hear(self, message: Arrived, now: float) -> Command | None:
        """Do as a message says; return the command that the node as a whole has to execute: another interval."""
        if message.topic == STATUS_TOPIC:
            if message.payload == ONLINE and not message.is_retained:
                self._discovery.home_assistant_came(now)
            return None
        command = self._commands.take(message.payload, is_retained=message.is_retained)
        match command:
            case Command(name="read", id=command_id):
                self._commands.read(command_id, now)
            case Command(name="identify", id=command_id):
                self._commands.identify(command_id)
            case _:
                return command
        return None

    def speak(self, settings: NodeSettings, now: float) -> None:
        """Answer commands, and announce the node, each where it is due."""
        self._commands.tick(now)
        if not self._publisher.is_ready:
            return
        for result in self._commands.take_results():
            topic = self._topics.command_result(settings.node_id)
            self._publisher.publish_state(topic, encode(result), now, retain=False)
        self._discovery.connected(self._publisher.births, now)
        message = self._discovery.take_message(settings, now)
        if message is not None:
            self._publisher.publish_state(self._discovery.topic, message, now, kind=Kind.DISCOVERY)
