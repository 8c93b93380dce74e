"""The other messages between node, bridge and operator, as JSON (topics.py says which goes where)."""

from collections.abc import Sequence as Items
from functools import cache
from typing import Annotated, Literal, TypeVar

import msgspec

from mqtt_client.errors import InvalidReading
from mqtt_client.reading import MAX_SEQ, Reading, Sequence, ShortText
from mqtt_client.topics import is_name

ONLINE = b"online"
OFFLINE = b"offline"

BACKLOG_MAX_READINGS = 200
BACKLOG_MAX_BYTES = 48 * 1024

NO_NUL = r"\A[^\0]*\Z"
"""Of texts that go into the store: not every database takes a NUL."""

Through = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]


class Backlog(msgspec.Struct, frozen=True):
    """Readings that could not go at once or are sent again, oldest first; each is judged alone.

    ``floor`` is the lowest seq that the node still holds in this epoch.
    """

    epoch: ShortText
    floor: Sequence
    readings: list[msgspec.Raw]


class SoundBacklog(msgspec.Struct, frozen=True):
    """A backlog message of which every reading has the types that it must have; it decodes twice as fast."""

    epoch: ShortText
    floor: Sequence
    readings: list[Reading]


class Lost(msgspec.Struct, frozen=True, rename={"first": "from", "last": "to"}):
    """Sequence numbers that the node had to give up; ``last`` None means an unknown number from ``first`` on."""

    epoch: ShortText
    first: Sequence
    last: Sequence | None
    reason: Annotated[str, msgspec.Meta(max_length=200, pattern=NO_NUL)] = ""


class Receipt(msgspec.Struct, frozen=True):
    """What the bridge has committed, or knows as lost, of one epoch.

    ``through`` is the highest seq up to which all is committed or lost;
    ``beyond`` are committed ranges above it (selective acknowledgement, RFC 2018).
    """

    store: ShortText
    epoch: ShortText
    through: Through
    beyond: list[tuple[Sequence, Sequence]] = []


class SensorInfo(msgspec.Struct, frozen=True):
    """A sensor in the birth message: its driver, and its quantities with their units (None where fixed to none)."""

    driver: str = ""
    quantities: dict[str, str | None] = {}


class Info(msgspec.Struct, frozen=True):
    """The node's birth message. A stranger's may lack any key but the first two."""

    epoch: ShortText
    floor: Sequence
    version: str = ""
    sensors: dict[str, SensorInfo] = {}
    interval: float = 0.0
    """Seconds between two readings of one sensor."""
    model: str = ""


class Health(msgspec.Struct, frozen=True):
    """The node's state, each minute."""

    epoch: ShortText
    floor: Sequence
    time: str = ""
    outbox_depth: int = 0
    oldest_age_s: float | None = None
    hours_until_full: float | None = None
    lost: int = 0
    reconnects: int = 0
    sensor_faults: dict[str, str] = {}
    clock: str = ""
    disk_free_bytes: int | None = None
    cpu_temperature: float | None = None
    troubles: list[str] = []
    """What keeps readings from going out, one sentence each."""
    certificates: list[str] = []
    """Which certificates end within thirty days, one sentence each."""


class BridgeHealth(msgspec.Struct, frozen=True):
    """A bridge's state; ``store`` is the id of the store that it commits to."""

    store: ShortText
    group: str | None = None
    version: str = ""
    time: str = ""
    waiting_to_forward: int = 0
    waiting_to_archive: int = 0
    dead_letters: int = 0
    lost: int = 0
    certificates: list[str] = []
    """Which certificates end within thirty days, one sentence each."""
    troubles: list[str] = []
    """What keeps readings from being committed, one sentence each."""


class Command(msgspec.Struct, frozen=True):
    """A command from an operator; ``value`` belongs to ``set-interval`` (seconds, or null for the setting's own)."""

    id: ShortText
    name: Literal["read", "identify", "set-interval"]
    value: float | None = None


class CommandId(msgspec.Struct, frozen=True):
    """What of a malformed command can still be answered."""

    id: ShortText


class CommandResult(msgspec.Struct, frozen=True):
    """What became of a command."""

    id: str
    status: Literal["ok", "error"]
    error: str | None = None


Message = TypeVar(
    "Message", Backlog, SoundBacklog, Lost, Receipt, Info, Health, BridgeHealth, Command, CommandId, CommandResult
)


@cache
def _decoder(kind: type[Message]) -> msgspec.json.Decoder[Message]:
    return msgspec.json.Decoder(kind)


def decode(kind: type[Message], payload: bytes) -> Message:
    """Decode a message of this kind.

    Raises:
        InvalidReading: the payload is no such message; the message says why.
    """
    try:
        message: Message = _decoder(kind).decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidReading(str(exc)) from exc
    except RecursionError as exc:
        raise InvalidReading("nested too deeply") from exc
    if isinstance(message, Backlog | Lost | Receipt | Info | Health) and not is_name(message.epoch):
        raise InvalidReading(f"epoch is {message.epoch!r}; allowed are 1 to 64 of letters, digits, - and _")
    if isinstance(message, Lost) and message.last is not None and message.last < message.first:
        raise InvalidReading(f"from {message.first} is above to {message.last}")
    if isinstance(message, Receipt) and any(first > last for first, last in message.beyond):
        raise InvalidReading("a range of beyond ends before it begins")
    return message


def encode(message: msgspec.Struct | dict[str, object]) -> bytes:
    """Encode a message as it goes over the wire."""
    return msgspec.json.encode(message)


def encode_backlog(epoch: str, floor: int, readings: Items[bytes]) -> bytes:
    """Join readings that are already encoded into one backlog message."""
    return b'{"epoch":%s,"floor":%d,"readings":[%s]}' % (
        msgspec.json.encode(epoch),
        floor,
        b",".join(readings),
    )
