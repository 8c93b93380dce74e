"""What came from the broker and waits for its acknowledgement."""

import sys
from array import array
from collections.abc import Iterable
from typing import NamedTuple


class Received(NamedTuple):
    """A message that is committed, then acknowledged, by the connection that it came on."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    """Packet identifier, 0 with QoS 0."""
    generation: int
    """Which connection it came on."""


def pubacks(received: Iterable[Received]) -> bytes:
    """Return one PUBACK packet for each message, in their order.

    Each is four bytes, with reason code 0, which is left out (MQTT 5.0, section 3.4.2.1).
    """
    mids = array("H", [message.mid for message in received])
    if sys.byteorder == "little":
        mids.byteswap()
    encoded = mids.tobytes()
    packets = bytearray(b"\x40\x02\0\0") * len(mids)
    packets[2::4] = encoded[::2]
    packets[3::4] = encoded[1::2]
    return bytes(packets)
