"""One request over a connection that is open already: a send, mostly one receive, and no more reading than it needs.

An HTTP library spends most of a small request's time on what is the same for
all of them. What is not plain in an answer (chunks, interim answers, old
versions, heads in pieces, large bodies) is left to the standard library.
Nothing is remembered; a kill leaves a request of unknown outcome.
"""

import http.client
import io
import re
import socket
from contextlib import suppress
from typing import NamedTuple, cast

from bridge.forward.answers import Answer

_RECEIVED_BYTES = 64 * 1024
_LONGEST_PLAIN = 64 * 1024
_HEAD = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [^\r\n]*)?\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)*)\r\n")
"""Status line and headers without obsolete folds (RFC 9112, sections 4 and 5)."""
_BODYLESS = (204, 304)


class _Plain(NamedTuple):
    """The head of an answer, and where its body begins and ends."""

    status: int
    headers: dict[str, str]
    begin: int
    end: int


def exchange(connection: socket.socket, request: bytes) -> tuple[Answer, bool] | http.client.HTTPResponse:
    """Send a request; return its answer and whether the connection can take another, or what is still to be read.

    Args:
        connection: with a timeout; nothing of an earlier answer is left in it.
        request: all of it.

    Raises:
        OSError, http.client.HTTPException: no answer came.
    """
    with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered early, that the body is too large
        connection.sendall(request)
    data = connection.recv(_RECEIVED_BYTES)
    plain = _plain(data)
    if plain is None:
        response = FinalResponse(cast(socket.socket, _Replay(connection, data)), method="POST")
        response.begin()
        return response
    with suppress(OSError):
        while len(data) < plain.end and (part := connection.recv(_RECEIVED_BYTES)):
            data += part
    headers = plain.headers
    answer = Answer(
        status=plain.status,
        body=data[plain.begin : plain.end],
        complete=len(data) >= plain.end,
        retry_after=headers.get("retry-after"),
        location=headers.get("location"),
        allow=headers.get("allow"),
        date=headers.get("date"),
    )
    return answer, len(data) == plain.end and "close" not in headers.get("connection", "").lower()


def _plain(data: bytes) -> _Plain | None:
    """Return the head that data begins with, None where that is not all of it or not plain."""
    match = _HEAD.match(data)
    if match is None:
        return None
    status = int(match[1])
    lines = match[2].split(b"\r\n")[:-1]
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()
    if len(headers) < len(lines) or "transfer-encoding" in headers:
        return None
    length = "0" if status in _BODYLESS else headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()) or len(length) > 9 or int(length) > _LONGEST_PLAIN:
        return None
    return _Plain(status, headers, match.end(), match.end() + int(length))


class FinalResponse(http.client.HTTPResponse):
    """The answer behind interim ones, of which the standard library passes over status 100 alone (RFC 9110 §15.2).

    Another one that counted as the answer would leave the real one to the next request.
    """

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]  # the types do not know it
            if found[1] >= http.client.OK:
                return found
            http.client.parse_headers(self.fp)


class _Replay(io.RawIOBase):
    """A connection from before what was received of it."""

    def __init__(self, connection: socket.socket, data: bytes) -> None:
        self._connection = connection
        self._data = data

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the stream that the standard library asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # it is called with nothing else
        """Give what was received, then what comes."""
        if not self._data:
            return self._connection.recv_into(buffer)
        size = min(len(buffer), len(self._data))
        buffer[:size] = self._data[:size]
        self._data = self._data[size:]
        return size
