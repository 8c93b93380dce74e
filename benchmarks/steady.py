"""Readings at a steady rate, and a server that notes how long each was on its way: two small processes.

Each reading carries, as its value ``handed_over``, the time at which it was
written to the broker's socket (CLOCK_MONOTONIC, which all processes of a
machine share), so that nothing has to be joined afterwards. Neither side uses
a library, since what is measured is the bridge and not they.
"""

import asyncio
import http.client
import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.load import mqtt_connect, mqtt_publish
from tests.processes import Process, eventually, free_port, python

NODES = 20
QUANTITY = "handed_over"
ROOT = Path(__file__).parents[1]


def publish(port: int, rate: int, count: int, epoch: str) -> None:
    """Publish count readings of NODES nodes, rate a second, QoS 1."""
    connection = mqtt_connect(port)
    connection.setblocking(False)
    begin = time.monotonic()
    for number in range(count):
        pause_s = begin + number / rate - time.monotonic()
        if pause_s > 0:
            time.sleep(pause_s)
        node = f"node{number % NODES}"
        reading = (
            f'{{"v":1,"node":"{node}","sensor":"main","epoch":"{epoch}","seq":{number // NODES + 1},'
            '"time":"2026-11-24T20:31:05.123Z","clock":"synced",'
            f'"values":{{"temperature":21.4,"{QUANTITY}":{time.monotonic():.6f}}}}}'
        )
        packet = mqtt_publish(f"sensors/{node}/reading/main", reading.encode(), number % 60_000 + 1)
        connection.setblocking(True)
        connection.sendall(packet)
        connection.setblocking(False)
        with suppress(BlockingIOError):
            connection.recv(65_536)  # acknowledgements
    connection.setblocking(True)
    connection.settimeout(1)
    time.sleep(0.5)  # the last acknowledgements
    connection.close()


class Sensors(Process):
    """Publishes in a process of its own."""

    def __init__(self, folder: Path, port: int, rate: int, count: int, epoch: str) -> None:
        command = python("-m", "benchmarks.steady", "publish", str(port), str(rate), str(count), epoch)
        super().__init__(command, folder / "sensors.log", {**os.environ, "PYTHONPATH": str(ROOT)})


class Arrivals(Process):
    """The server, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        command = python("-m", "benchmarks.steady", "serve", str(self.port))
        super().__init__(command, folder / "arrivals.log", {**os.environ, "PYTHONPATH": str(ROOT)})
        self.url = f"http://127.0.0.1:{self.port}/data"
        eventually(self._listens, told=self.output)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def count(self) -> int:
        """Return how many readings have come since the last :meth:`take`."""
        return int(self._get("/count"))

    def take(self) -> list[float]:
        """Return the delays of all that have come, in seconds, and forget them."""
        return [float(word) for word in self._get("/delays").split()]

    def _get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text


class Arriving(asyncio.Protocol):
    """HTTP/1.1 as little as a client needs: notes a POST's delay and answers 204, tells the delays at a GET."""

    delays_s: list[float] = []  # noqa: RUF012  # of all connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer every complete request in the buffer."""
        now = time.monotonic()
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            stop = end + 4 + (int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0)
            if len(self._buffer) < stop:
                return
            body, self._buffer = self._buffer[end + 4 : stop], self._buffer[stop:]
            if head.startswith(b"post"):
                document = json.loads(body)
                for reading in document if isinstance(document, list) else [document]:
                    self.delays_s.append(now - reading[QUANTITY])
                self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            else:
                self._tell(is_count=head.startswith(b"get /count"))

    def _tell(self, *, is_count: bool) -> None:
        text = str(len(self.delays_s)) if is_count else " ".join(map(repr, self.delays_s))
        if not is_count:
            self.delays_s.clear()
        self._transport.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Arriving, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(_serve(int(sys.argv[2])))
    else:
        publish(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
