"""paho's own socket with the doors of :class:`bridge.ingest.buffered_socket.BufferedSocket`: the fall-back.

Used where paho has no longer the one hook that the buffered socket needs.
Every packet then goes through paho: slower, and just as safe.
"""

import select
import socket
import ssl

from bridge.ingest.received import Received


class StockSocket:
    """A view of paho's socket; reading and writing stay paho's."""

    ended = False
    """paho sees the end itself, when it reads."""
    wants_write = False
    """paho keeps what the network did not take."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def fill(self) -> bool:
        """Return whether there is something to read."""
        return self.has_packet

    def publishes(self, _most: int, _most_bytes: int, _generation: int) -> list[Received]:
        """Take nothing: paho hands messages to its callback."""
        return []

    @property
    def has_packet(self) -> bool:
        """Whether paho has something to read."""
        if isinstance(self._connection, ssl.SSLSocket) and self._connection.pending():
            return True
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(0))

    def flush(self) -> None:
        """Do nothing: paho writes."""

    def fileno(self) -> int:
        """Return the descriptor, for selectors."""
        return self._connection.fileno()
