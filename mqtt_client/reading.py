"""A reading: what a sensor measured, when, and its identity for ever.

On the wire a JSON object, UTF-8::

    {"v":1,"node":"kitchen","sensor":"main","epoch":"k3f9x2ab","seq":1234,
     "time":"2026-11-24T20:31:05.123Z","clock":"synced","values":{"temperature":21.4,"humidity":48.2}}

The identity is (node, epoch, seq): the epoch is made with the node's outbox,
and seq counts from 1 without gaps in it. A reading never changes once it was
published, so whoever has seen an identity has seen all of it.
"""

import re
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from math import isfinite
from typing import Annotated, Literal

import msgspec

from mqtt_client.errors import InvalidReading
from mqtt_client.topics import is_name, is_node_name

Clock = Literal["synced", "unsynced", "corrected"]

UNITS = {
    "temperature": "°C",
    "humidity": "%RH",
    "pressure": "hPa",
    "illuminance": "lx",
    "co2": "ppm",
    "voltage": "V",
    "cpu_temperature": "°C",
}
"""Units are fixed by the quantity's name; other quantities have none."""

RESERVED_QUANTITIES = frozenset({"node", "sensor", "id", "time", "timestamp", "clock"})
QUANTITY = re.compile(r"[a-z][a-z0-9_]{0,31}")
MAX_QUANTITIES = 32
MAX_SEQ = 2**62

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
_MEMO_SIZE = 100_000  # names seen and found good; cleared when full, so strangers cannot fill the memory

ShortText = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Sequence = Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQ)]


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One reading; unknown keys of its JSON are ignored. Use :func:`decode`, which also checks the names."""

    v: Literal[1]
    node: ShortText
    sensor: ShortText
    epoch: ShortText
    seq: Sequence
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    clock: Clock
    values: Annotated[dict[str, float], msgspec.Meta(min_length=1, max_length=MAX_QUANTITIES)]

    @property
    def id(self) -> str:
        """The identity as text, which is also the idempotency key at the server."""
        return reading_id(self.node, self.epoch, self.seq)

    @property
    def time_ms(self) -> int:
        """When it was measured, in milliseconds since 1970-01-01T00:00:00Z."""
        return to_ms(self.time)


_decoder = msgspec.json.Decoder(Reading)
_good_names: set[tuple[str, str, str]] = set()
_good_quantities: set[str] = set()


def decode(payload: bytes | bytearray | memoryview | msgspec.Raw) -> Reading:
    """Decode and check one reading.

    Raises:
        InvalidReading: the payload is no reading; the message says why.
    """
    try:
        reading = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidReading(str(exc)) from exc
    except RecursionError as exc:
        raise InvalidReading("nested too deeply") from exc
    check(reading)
    return reading


def check(reading: Reading) -> None:
    """Check what a decoded reading's types alone do not: its names, and that its time is one in UTC.

    Raises:
        InvalidReading: a node, sensor, epoch or quantity is not named as it must be, or the year is beyond UTC's.
    """
    names = (reading.node, reading.sensor, reading.epoch)
    if names not in _good_names:
        _check_identity(*names)
        if len(_good_names) >= _MEMO_SIZE:
            _good_names.clear()
        _good_names.add(names)
    for quantity in reading.values:
        if quantity not in _good_quantities:
            check_quantity(quantity)
            if len(_good_quantities) >= _MEMO_SIZE:
                _good_quantities.clear()
            _good_quantities.add(quantity)
    if reading.time.year in (MINYEAR, MAXYEAR):
        _check_time(reading.time)


def _check_time(time: datetime) -> None:
    try:
        time.astimezone(UTC)
    except OverflowError as exc:
        raise InvalidReading(f"time is {time.isoformat()}; allowed are the years 1 to 9999 in UTC") from exc


def _check_identity(node: str, sensor: str, epoch: str) -> None:
    if not is_node_name(node):
        raise InvalidReading(f"node is {node!r}; allowed are 1 to 64 of letters, digits, - and _, but not 'bridge'")
    for what, name in (("sensor", sensor), ("epoch", epoch)):
        if not is_name(name):
            raise InvalidReading(f"{what} is {name!r}; allowed are 1 to 64 of letters, digits, - and _")


def check_quantity(quantity: str) -> None:
    """Check the name of a quantity.

    Raises:
        InvalidReading: the name is reserved or malformed.
    """
    if quantity in RESERVED_QUANTITIES:
        raise InvalidReading(f"quantity {quantity!r} is a reserved name")
    if not QUANTITY.fullmatch(quantity):
        raise InvalidReading(
            f"quantity {quantity!r} is not a name; allowed are a lower-case letter, then at most 31 of a-z, 0-9 and _"
        )


def check_values(values: dict[str, float]) -> None:
    """Check what a sensor measured before it is committed.

    Raises:
        InvalidReading: none or too many quantities, a bad name, or a value that is not a finite number.
    """
    if not 1 <= len(values) <= MAX_QUANTITIES:
        raise InvalidReading(f"a reading has {len(values)} quantities; allowed are 1 to {MAX_QUANTITIES}")
    for quantity, value in values.items():
        check_quantity(quantity)
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise InvalidReading(f"{quantity} is {value!r}; allowed are finite numbers")


def encode(reading: Reading) -> bytes:
    """Encode a reading as it goes over the wire, its time in whole milliseconds."""
    return msgspec.json.encode(
        {
            "v": reading.v,
            "node": reading.node,
            "sensor": reading.sensor,
            "epoch": reading.epoch,
            "seq": reading.seq,
            "time": format_time(reading.time),
            "clock": reading.clock,
            "values": reading.values,
        }
    )


def reading_id(node: str, epoch: str, seq: int) -> str:
    """Return the identity as text, such as ``kitchen-k3f9x2ab-1234``."""
    return f"{node}-{epoch}-{seq}"


def to_ms(time: datetime) -> int:
    """Return an aware time as whole milliseconds since 1970-01-01T00:00:00Z."""
    return (time - UNIX_EPOCH) // MILLISECOND


def from_ms(time_ms: int) -> datetime:
    """Return milliseconds since 1970-01-01T00:00:00Z as an aware time in UTC."""
    return UNIX_EPOCH + timedelta(milliseconds=time_ms)


def format_time(time: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC with milliseconds, such as ``2026-11-24T20:31:05.123Z``."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
