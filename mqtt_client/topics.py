"""The topic tree: who writes what where (MQTT 5; prefix ``sensors`` unless MQTT_TOPIC_PREFIX says otherwise).

Node names and sensor names are ``[A-Za-z0-9_-]{1,64}``, so they can hold no
topic separator and no wildcard; ``bridge`` is reserved as a node's name.
"""

import re

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
RESERVED_NODE = "bridge"


def is_name(text: str) -> bool:
    """Tell whether text may name a sensor or a bridge."""
    return NAME.fullmatch(text) is not None


def is_node_name(text: str) -> bool:
    """Tell whether text may name a node."""
    return text != RESERVED_NODE and is_name(text)


class Topics:
    """Every topic under one prefix."""

    def __init__(self, prefix: str = "sensors") -> None:
        self.prefix = prefix

    def reading(self, node: str, sensor: str) -> str:
        """One reading, as it is taken (QoS 1)."""
        return f"{self.prefix}/{node}/reading/{sensor}"

    def backlog(self, node: str) -> str:
        """Readings that could not go at once, or are sent again (QoS 1)."""
        return f"{self.prefix}/{node}/backlog"

    def lost(self, node: str) -> str:
        """Sequence numbers that the node had to give up (QoS 1)."""
        return f"{self.prefix}/{node}/lost"

    def availability(self, node: str) -> str:
        """``online`` or ``offline`` (QoS 1, retained, last will)."""
        return f"{self.prefix}/{node}/availability"

    def info(self, node: str) -> str:
        """The node's birth message (QoS 1, retained)."""
        return f"{self.prefix}/{node}/info"

    def health(self, node: str) -> str:
        """The node's state, each minute (QoS 1, retained)."""
        return f"{self.prefix}/{node}/health"

    def receipt(self, node: str) -> str:
        """What the bridge has committed of this node's readings (QoS 1, retained)."""
        return f"{self.prefix}/{node}/receipt"

    def command(self, node: str) -> str:
        """A command to the node (QoS 1)."""
        return f"{self.prefix}/{node}/command"

    def command_result(self, node: str) -> str:
        """The result of a command (QoS 1)."""
        return f"{self.prefix}/{node}/command/result"

    def alarm(self, node: str) -> str:
        """What is out of bounds now (QoS 1, retained)."""
        return f"{self.prefix}/{node}/alarm"

    def bridge_availability(self, bridge_id: str) -> str:
        """``online`` or ``offline`` (QoS 1, retained, last will)."""
        return f"{self.prefix}/{RESERVED_NODE}/{bridge_id}/availability"

    def bridge_alarm(self, bridge_id: str) -> str:
        """What is out of bounds now of the bridge as a whole (QoS 1, retained)."""
        return f"{self.prefix}/{RESERVED_NODE}/{bridge_id}/alarm"

    def bridge_health(self, bridge_id: str) -> str:
        """The bridge's state with its store's id (QoS 1, retained)."""
        return f"{self.prefix}/{RESERVED_NODE}/{bridge_id}/health"

    def levels(self, topic: str) -> list[str] | None:
        """Split what follows the prefix into levels; None when the topic is not under the prefix."""
        head = self.prefix + "/"
        return topic[len(head) :].split("/") if topic.startswith(head) else None
