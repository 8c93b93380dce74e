"""Whether the broker is there, told once for each change, and whether another node goes by our name.

A broker ends the older of two connections with one client id (MQTT 5.0,
section 3.1.4-3), so two nodes of one name would throw each other out all day.
Some brokers give the reason, some only close: then the sign is that each
connection ends soon after it began. The delay grows with it.
"""

import logging

log = logging.getLogger("publisher")

SOON_S = 10.0
SIGNS = 3
FIRST_DELAY_S = 5.0
LONGEST_DELAY_S = 300.0


class Presence:
    """What the connection has been doing."""

    def __init__(self, client_id: str, broker: str) -> None:
        """Begin unconnected."""
        self.is_connected = False
        self.connects = 0
        self.trouble: str | None = f"not yet connected to broker {broker}"
        self._client_id = client_id
        self._broker = broker
        self._since = 0.0
        self._signs = 0
        self._delay_s = 1.0

    @property
    def reconnects(self) -> int:
        """How often a connection was made after the first one."""
        return max(0, self.connects - 1)

    def connected(self, now: float) -> None:
        """Note a connection."""
        self.is_connected = True
        self.connects += 1
        self._since = now
        if self._signs < SIGNS:
            self.trouble = None
            log.info("connected to broker %s", self._broker)

    def unreachable(self, reason: str, is_refused: bool) -> None:
        """Note that no connection could be made, or that the broker refused it."""
        how = "refuses the connection" if is_refused else "cannot be reached"
        trouble = f"broker {self._broker} {how} ({reason})"
        if self.trouble != trouble:
            self.trouble = trouble
            log.warning("%s; readings wait in the outbox", trouble)

    def disconnected(self, reason: str, is_taken_over: bool, now: float) -> float:
        """Note the end of a connection; return the least delay before the next, in seconds."""
        self.is_connected = False
        lasted_s = now - self._since
        if is_taken_over or lasted_s < max(SOON_S, 3 * self._delay_s):
            self._signs = max(self._signs + 1, SIGNS if is_taken_over else 0)
        else:
            self._signs, self._delay_s = 0, 1.0
        if self._signs >= SIGNS:
            self._delay_s = min(max(2 * self._delay_s, FIRST_DELAY_S), LONGEST_DELAY_S)
            trouble = (
                f"broker {self._broker} ends each connection soon ({reason}): "
                f"is another node with this NODE_ID (client {self._client_id}) connected?"
            )
        else:
            trouble = f"broker {self._broker} ended the connection ({reason})"
        if self.trouble != trouble:
            self.trouble = trouble
            log.warning("%s", trouble)
        return self._delay_s
