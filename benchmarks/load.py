"""Load for the benchmarks: readings published as fast as a broker takes them, and a server that answers at once."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from mqtt_client.broker import connect_properties
from tests.processes import Process, eventually, free_port, python

WINDOW = 500
NODES = 50


def payload(epoch: str, number: int, nodes: int = NODES) -> tuple[str, bytes]:
    """Return topic and payload of the number-th reading, spread over nodes; 144 bytes as the peers had."""
    node = f"node{number % nodes}"
    reading = {
        "v": 1,
        "node": node,
        "sensor": "main",
        "epoch": epoch,
        "seq": number // nodes + 1,
        "time": "2026-11-24T20:31:05.123Z",
        "clock": "synced",
        "values": {"temperature": 21.4, "humidity": 48.2},
    }
    return f"sensors/{node}/reading/main", json.dumps(reading, separators=(",", ":")).encode()


def backlog(epoch: str, first: int, count: int, node: str = "node0") -> bytes:
    """Return a backlog message of one node with readings from first on."""
    head = f'{{"v":1,"node":"{node}","sensor":"main","epoch":"{epoch}","seq":'
    tail = ',"time":"2026-11-24T20:31:05.123Z","clock":"synced","values":{"temperature":21.4,"humidity":48.2}}'
    readings = ",".join(f"{head}{seq}{tail}" for seq in range(first, first + count))
    return f'{{"epoch":"{epoch}","floor":1,"readings":[{readings}]}}'.encode()


def publish_all(port: int, messages: Iterable[tuple[str, bytes]]) -> int:
    """Publish with QoS 1 over a bare socket, far faster than a library does; return how many."""
    connection = mqtt_connect(port)
    sent = acknowledged = 0
    rest = b""
    source = iter(messages)
    more = True
    while more or acknowledged < sent:
        out = bytearray()
        while more and sent - acknowledged < WINDOW:
            item = next(source, None)
            if item is None:
                more = False
                break
            out += mqtt_publish(item[0], item[1], sent % 60_000 + 1)
            sent += 1
        if out:
            connection.sendall(out)
        if acknowledged < sent:
            rest += connection.recv(65_536)
            position = 0
            while position + 2 <= len(rest) and position + 2 + rest[position + 1] <= len(rest):
                acknowledged += 1
                position += 2 + rest[position + 1]
            rest = rest[position:]
    connection.close()
    return sent


def mqtt_connect(port: int) -> socket.socket:
    """Return a socket with an MQTT 5 session on it that ends with the connection."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connect = b"\x00\x04MQTT\x05\x02\x00\x3c\x00" + b"\x00\x05bench"
    connection.sendall(b"\x10" + _length(len(connect)) + connect)
    connection.recv(1024)
    return connection


def mqtt_publish(topic: str, payload: bytes, mid: int) -> bytes:
    """Return a PUBLISH packet with QoS 1."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + mid.to_bytes(2, "big") + b"\x00" + payload
    return b"\x32" + _length(len(body)) + body


def _length(number: int) -> bytes:
    encoded = bytearray()
    while True:
        number, low = divmod(number, 128)
        encoded.append(low | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def make_session(port: int, client_id: str, filters: Iterable[str]) -> None:
    """Leave a persistent session behind that queues what these filters match."""
    granted: list[int] = []
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5)

    def subscribe(*_: object) -> None:
        client.subscribe([(one, SubscribeOptions(qos=1)) for one in filters])

    client.on_connect = subscribe
    client.on_subscribe = lambda *_: granted.append(1)
    client.connect("127.0.0.1", port, clean_start=False, properties=connect_properties(session_expiry_s=3600))
    client.loop_start()
    eventually(lambda: granted)
    client.disconnect()
    client.loop_stop()


class FastServer(Process):
    """Answers every POST with 204 at once, on one thread of a process of its own."""

    MODULE = "benchmarks.load"
    """The program: takes its port as argument."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        root = Path(__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        command = python("-m", self.MODULE, str(self.port))
        super().__init__(command, folder / "fast-server.log", environment)
        self.url = f"http://127.0.0.1:{self.port}/data"
        eventually(self._answers, told=self.output)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Answering(asyncio.Protocol):
    """HTTP/1.1 as little as a client needs: reads a request by its Content-Length, answers 204."""

    ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        """Answer every complete request in the buffer."""
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            self._transport.write(self.answer(head, body))

    def answer(self, head: bytes, body: bytes) -> bytes:
        """Return the answer to a request, whose head comes in small letters."""
        return self.ANSWER


async def serve(protocol: type[Answering], port: int) -> None:
    """Serve for ever; a burst of connections waits rather than being refused."""
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Answering, int(sys.argv[1])))
