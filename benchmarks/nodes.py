"""A share of a simulated fleet: thousands of nodes that speak MQTT 5 over bare sockets, in one process and thread.

Each connects by itself, tells its info, subscribes to its receipt, publishes a
reading in INTERVAL_S and its health each minute with QoS 1, and acknowledges
its receipts. They take turns, so that the load is even. A library would spend
more on ten thousand clients than two cores have.
"""

import json
import select
import socket
import time
from collections.abc import Callable, Sequence
from ctypes import c_int64
from multiprocessing.sharedctypes import RawArray, RawValue

INTERVAL_S = 5.0
HEALTH_EACH = 12  # readings
DRAIN_S = 30.0
QOS_1 = 0x32
RETAINED_QOS_1 = 0x33


class Tally:
    """Numbers that the processes of a fleet share; each process has a slot of its own."""

    def __init__(self, processes: int) -> None:
        self.connected = RawArray(c_int64, processes)
        self.published = RawArray(c_int64, processes)
        """Readings."""
        self.refused = RawArray(c_int64, processes)
        """Publishes that the broker did not take, or gave to nobody."""
        self.receipted = RawArray(c_int64, processes)
        """Readings that a receipt covers, at the end."""
        self.late_ms = RawArray(c_int64, processes)
        """How late the latest reading was published: what the load itself could not keep up with."""
        self.begin_ms = RawValue(c_int64, 0)
        """When the first reading is due; 0: wait for it."""


class Node:
    """One connection."""

    __slots__ = ("_rest", "connection", "name", "receipt", "seq", "unacknowledged")

    def __init__(self, port: int, name: str) -> None:
        self.name = name
        self.seq = 0
        self.unacknowledged = 0
        self.receipt = b""
        self._rest = b""
        self.connection = socket.create_connection(("127.0.0.1", port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client, topic = _text(name), _text(f"sensors/{name}/receipt")
        self.connection.sendall(
            _packet(0x10, _text("MQTT") + b"\x05\x02\x00\x00\x00" + client)
            + _packet(0x82, b"\x00\x01\x00" + topic + b"\x01")
        )
        quantities = {"temperature": "°C", "humidity": "%RH"}
        self.tell("info", {"sensors": {"main": {"driver": "simulated", "quantities": quantities}}, "interval": 5})

    def tell(self, kind: str, more: dict[str, object]) -> None:
        """Publish the node's info or health, retained."""
        self._publish(RETAINED_QOS_1, kind, json.dumps({"epoch": "fleet", "floor": 1, **more}).encode())

    def read(self, now_s: float) -> None:
        """Publish a reading, taken now."""
        self.seq += 1
        seconds, milliseconds = divmod(int(now_s * 1000), 1000)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        payload = (
            f'{{"v":1,"node":"{self.name}","sensor":"main","epoch":"fleet","seq":{self.seq},'
            f'"time":"{moment}.{milliseconds:03}Z","clock":"synced","values":{{"temperature":21.4,"humidity":48.2}}}}'
        )
        self._publish(QOS_1, "reading/main", payload.encode())

    def _publish(self, head: int, suffix: str, payload: bytes) -> None:
        self.unacknowledged += 1
        mid = (self.seq % 30_000 * 2 + (head == QOS_1) + 1).to_bytes(2, "big")
        self.connection.sendall(_packet(head, _text(f"sensors/{self.name}/{suffix}") + mid + b"\x00" + payload))

    def receive(self) -> int:
        """Take in what has come; return how many publishes the broker refused."""
        data = self.connection.recv(65_536, socket.MSG_DONTWAIT)
        if not data:
            raise ConnectionError(f"the broker has closed the connection of {self.name}")
        data = self._rest + data
        refused = at = 0
        while (end := _end_of_packet(data, at)) is not None:
            start, stop = end
            kind = data[at] >> 4
            if kind == 4:
                self.unacknowledged -= 1
                refused += stop - start > 2 and data[start + 2] != 0
            elif kind == 3:
                self._take_receipt(data[start:stop], qos=data[at] >> 1 & 3)
            at = stop
        self._rest = data[at:]
        return refused

    def _take_receipt(self, body: bytes, qos: int) -> None:
        at = 2 + int.from_bytes(body[:2], "big")
        if qos:
            self.connection.sendall(b"\x40\x02" + body[at : at + 2])
            at += 2
        self.receipt = body[at + 1 + body[at] :]

    @property
    def receipted(self) -> int:
        """How many of its readings are committed, by its last receipt."""
        return int(json.loads(self.receipt)["through"]) if self.receipt else 0


def run(port: int, names: Sequence[str], seconds: float, tally: Tally, slot: int) -> None:
    """Be these nodes for so long, from the moment on that the tally tells."""
    poll = select.epoll()
    nodes: list[Node] = []
    by_number: dict[int, Node] = {}

    def receive(timeout_s: float) -> None:
        for number, _ in poll.poll(timeout_s):
            tally.refused[slot] += by_number[number].receive()

    for name in names:
        node = Node(port, name)
        nodes.append(node)
        by_number[node.connection.fileno()] = node
        poll.register(node.connection, select.EPOLLIN)
        tally.connected[slot] += 1
        receive(0)
    while not tally.begin_ms.value:
        receive(0.05)
    begin, step = tally.begin_ms.value / 1000, INTERVAL_S / len(nodes)
    turns, turn = int(seconds / step), 0
    while turn < turns:
        due, now = begin + turn * step, time.time()
        if due > now:
            receive(due - now)
            continue
        number = turn % len(nodes)
        node = nodes[number]
        node.read(now)
        if (node.seq + number) % HEALTH_EACH == 0:
            node.tell("health", {"outbox_depth": 1, "clock": "synced"})
        tally.published[slot] += 1
        tally.late_ms[slot] = max(tally.late_ms[slot], int((now - due) * 1000))
        turn += 1
        if turn % 8 == 0:
            receive(0)
    _drain(nodes, receive, tally, slot)


def _drain(nodes: Sequence[Node], receive: Callable[[float], None], tally: Tally, slot: int) -> None:
    """Wait until everything is acknowledged and receipted, or for DRAIN_S."""
    deadline = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline:
        receive(0.1)
        if all(not node.unacknowledged and node.receipted == node.seq for node in nodes):
            break
    tally.receipted[slot] = sum(node.receipted for node in nodes)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _packet(head: int, body: bytes) -> bytes:
    size = len(body)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([head]) + length + body


def _end_of_packet(data: bytes, at: int) -> tuple[int, int] | None:
    """Return where the body of the packet begins and ends, None where it is not whole yet."""
    length = shift = 0
    for start in range(at + 1, min(at + 5, len(data))):
        length |= (data[start] & 127) << shift
        shift += 7
        if data[start] < 128:
            return (start + 1, start + 1 + length) if start + 1 + length <= len(data) else None
    return None
