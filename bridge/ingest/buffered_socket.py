"""A socket that reads and writes in large pieces, and takes PUBLISH packets out of the stream by itself.

paho-mqtt reads a packet with four calls of recv and builds a Properties
object for each; at a burst of readings that is most of the time spent. This
socket stands between paho and the network: PUBLISH packets are cut out of
the buffer here (MQTT 5.0, section 3.3), everything else is left for paho,
byte for byte. Nothing else of paho is replaced.
"""

import socket
import ssl

from bridge.ingest.received import Received

PUBLISH = 0x30
READ_BYTES = 256 * 1024
TOPICS_REMEMBERED = 100_000

_new = tuple.__new__


class BufferedSocket:
    """What paho needs of a socket, over a non-blocking one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._incoming = b""
        self._position = 0
        self._outgoing = bytearray()
        self._ended = False
        self._topics: dict[bytes, str] = {}

    def fill(self) -> bool:
        """Read what has arrived, at most READ_BYTES; return whether there was anything, the end included."""
        try:
            data = self._connection.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:  # reset by the other side, say: the end, as paho has to see it
            data = b""
        self._ended = not data
        self._incoming = self._incoming[self._position :] + data
        self._position = 0
        return True

    def publishes(self, most: int, most_bytes: int, generation: int) -> list[Received]:
        """Take complete PUBLISH packets from the front of the buffer, up to the first other or incomplete packet.

        Args:
            most: packets at most.
            most_bytes: after these no further packet is begun.
            generation: the connection's.
        """
        data, position = self._incoming, self._position
        end = len(data)
        last = min(end - 1, position + most_bytes)  # a packet that begins before this is taken
        topics = self._topics
        found: list[Received] = []
        while position < last and data[position] & 0xF0 == PUBLISH and len(found) < most:
            size = data[position + 1]
            body = position + 2
            if size >= 0x80:
                if body < end and data[body] < 0x80:  # two bytes, as nearly every reading has
                    size = size & 0x7F | data[body] << 7
                    body += 1
                else:
                    size, body = _variable_integer(data, position + 1, end)
                    if body < 0:
                        break
            stop = body + size
            if stop > end:
                break
            cursor = body + 2 + (data[body] << 8 | data[body + 1])
            encoded = data[body + 2 : cursor]
            qos = data[position] >> 1 & 3
            packet_id = 0
            if qos:
                packet_id = data[cursor] << 8 | data[cursor + 1]
                cursor += 2
            if data[cursor]:
                properties, cursor = _variable_integer(data, cursor, end)
                cursor += properties
            else:
                cursor += 1
            topic = topics.get(encoded)
            if topic is None:
                topic = self._topic(encoded)
            # A named tuple's own constructor takes twice as long as all of the above.
            found.append(_new(Received, (topic, data[cursor:stop], qos, packet_id, generation)))
            position = stop
        self._position = position
        return found

    @property
    def has_packet(self) -> bool:
        """Whether the buffer begins with a complete packet that is not for :meth:`publishes`."""
        data, start, end = self._incoming, self._position, len(self._incoming)
        if start + 2 > end:
            return False
        size, body = _variable_integer(data, start + 1, end)
        return body >= 0 and body + size <= end

    @property
    def ended(self) -> bool:
        """Whether the other side has closed the connection."""
        return self._ended

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait that the network did not take yet."""
        return bool(self._outgoing)

    def flush(self) -> None:
        """Write what the network takes now."""
        while self._outgoing:
            try:
                sent = self._connection.send(self._outgoing)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:  # the connection is gone; reading tells it
                self._outgoing.clear()
                return
            del self._outgoing[:sent]

    def _topic(self, encoded: bytes) -> str:
        if len(self._topics) >= TOPICS_REMEMBERED:
            self._topics.clear()
        topic = self._topics[encoded] = encoded.decode("utf-8", "replace")
        return topic

    # What paho calls ----------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """Return bytes from the buffer.

        Raises:
            BlockingIOError: there are none now.
        """
        if self._position == len(self._incoming) and not self.fill():
            raise BlockingIOError
        data = self._incoming[self._position : self._position + size]
        self._position += len(data)
        return data

    def send(self, data: bytes | bytearray) -> int:
        """Take all of data for writing, and write what the network takes now."""
        self._outgoing += data
        self.flush()
        return len(data)

    def setblocking(self, flag: bool) -> None:
        """Set whether the network socket blocks."""
        self._connection.setblocking(flag)

    def getpeercert(self, *, binary_form: bool) -> bytes | None:
        """Return the certificate (DER) that the other side showed, None without TLS."""
        assert binary_form
        return self._connection.getpeercert(True) if isinstance(self._connection, ssl.SSLSocket) else None

    def fileno(self) -> int:
        """Return the descriptor, for selectors."""
        return self._connection.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _variable_integer(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return a variable byte integer (MQTT 5.0, section 1.5.5) and the position behind it, -1 when incomplete."""
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 21:
            break
    return 0, -1
