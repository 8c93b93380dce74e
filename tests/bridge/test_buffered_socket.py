"""The fast path between paho and the network: cut anywhere, it takes the same packets, and leaves the rest alone."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ingest.buffered_socket import BufferedSocket
from bridge.ingest.received import Received, pubacks

PINGRESP = b"\xd0\x00"
WHATEVER = (1000, 1_000_000, 3)
"""How many packets and bytes at most, and the generation."""


def publish(topic: str, payload: bytes, qos: int, mid: int, properties: bytes = b"\x00") -> bytes:
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + (mid.to_bytes(2, "big") if qos else b"") + properties + payload
    size = bytearray()
    left = len(body)
    while True:
        left, low = divmod(left, 128)
        size.append(low | (0x80 if left else 0))
        if not left:
            return bytes([0x30 | qos << 1]) + bytes(size) + body


@pytest.fixture
def pair() -> Iterator[tuple[BufferedSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield BufferedSocket(ours), theirs
    ours.close()
    theirs.close()


packets = st.lists(
    st.tuples(
        st.text(st.characters(min_codepoint=33, max_codepoint=1000), min_size=1, max_size=30),
        st.binary(max_size=300),
        st.sampled_from([0, 1]),
        st.integers(1, 65535),
        st.sampled_from([b"\x00", b"\x05\x02\x00\x00\x00\x3c", b"\x03\x03\x00\x00"]),
    ),
    max_size=12,
)


@given(packets, st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_packets_are_whole_wherever_the_network_cuts_the_stream(
    sent: list[tuple[str, bytes, int, int, bytes]], cuts: list[int]
) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    buffered = BufferedSocket(ours)
    stream = b"".join(publish(*packet) for packet in sent)
    found: list[Received] = []

    while stream:
        cut = cuts[len(found) % len(cuts)]
        theirs.sendall(stream[:cut])
        stream = stream[cut:]
        buffered.fill()
        found += buffered.publishes(*WHATEVER)

    ours.close()
    theirs.close()
    assert found == [(topic, payload, qos, mid if qos else 0, 3) for topic, payload, qos, mid, _ in sent]


def test_other_packets_are_left_for_paho_and_end_the_run(pair: tuple[BufferedSocket, socket.socket]) -> None:
    buffered, theirs = pair
    theirs.sendall(publish("a", b"1", 1, 7) + PINGRESP + publish("b", b"2", 1, 8))
    buffered.fill()

    first = buffered.publishes(*WHATEVER)
    waits = buffered.has_packet
    others = buffered.recv(1) + buffered.recv(1)
    second = buffered.publishes(*WHATEVER)

    assert (first, waits, others, second) == ([("a", b"1", 1, 7, 3)], True, PINGRESP, [("b", b"2", 1, 8, 3)])


def test_reading_without_data_would_block_and_the_end_is_told(pair: tuple[BufferedSocket, socket.socket]) -> None:
    buffered, theirs = pair

    with pytest.raises(BlockingIOError):
        buffered.recv(1)
    theirs.close()

    assert buffered.recv(1) == b""
    assert buffered.ended


def test_what_the_network_does_not_take_waits_and_keeps_its_order(
    pair: tuple[BufferedSocket, socket.socket],
) -> None:
    buffered, theirs = pair
    pieces = [bytes([number]) * 50_000 for number in range(20)]

    for piece in pieces:
        buffered.send(piece)
    waited = buffered.wants_write
    received = bytearray()
    while len(received) < 1_000_000:
        received += theirs.recv(65_536)
        buffered.flush()

    assert waited
    assert not buffered.wants_write
    assert bytes(received) == b"".join(pieces)


def test_a_burst_ends_at_its_most_packets_or_bytes_and_the_next_goes_on_there(
    pair: tuple[BufferedSocket, socket.socket],
) -> None:
    buffered, theirs = pair
    theirs.sendall(b"".join(publish("a", b"%d" % number, 1, number) for number in range(1, 10)))
    buffered.fill()

    few = buffered.publishes(2, 1000, 0)
    small = buffered.publishes(1000, 1, 0)
    rest = buffered.publishes(1000, 1000, 0)

    assert [[message.mid for message in burst] for burst in (few, small, rest)] == [[1, 2], [3], [4, 5, 6, 7, 8, 9]]


@given(st.lists(st.integers(1, 65535), max_size=20))
def test_acknowledgements_name_each_message_in_order(mids: list[int]) -> None:
    packets = pubacks([Received("a", b"", 1, mid, 1) for mid in mids])

    assert packets == b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids)
