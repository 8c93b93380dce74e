"""Commands from an operator: ``read``, ``identify``, ``set-interval``; each gets one result.

A command that comes twice under one id, as QoS 1 may bring it, is not executed
again: its result is sent again. A retained command is stale, since nobody
knows when it was given, and is left alone. An interval that was set is kept by
the node with its state, so a power cut leaves it as it was last committed; all
else here is forgotten with the process.
"""

import logging
from collections.abc import Callable, Sequence

import msgspec

from mqtt_client.errors import InvalidReading
from mqtt_client.messages import Command, CommandId, CommandResult, decode
from mqtt_client.sensors.sampler import ReadOnRequest, Sampler
from mqtt_client.settings import NodeSettings, described

log = logging.getLogger("commands")

REMEMBERED = 100
"""Ids of so many commands are known as repeats."""
READ_WITHIN_S = 10.0
ALLOWED = '{"id":"…","name":"read"|"identify"|"set-interval","value":seconds or null}'
NO_LED = "this node has no LED; set NODE_LED_PIN"


class PendingRead(msgspec.Struct):
    """A ``read`` whose sensors have not all answered."""

    id: str
    until: float
    waiting: set[str]
    faults: list[str] = []


class Commands:
    """Judges commands, executes those about sensors and LED, and keeps the results until they can be sent."""

    def __init__(self, samplers: Sequence[Sampler], identify: Callable[[], None] | None) -> None:
        """Begin with no commands; ``identify`` makes the LED blink, None where there is none."""
        self._samplers = samplers
        self._identify = identify
        self._known: dict[str, CommandResult | None] = {}
        self._reads: dict[int, PendingRead] = {}
        self._number = 0
        self._results: list[CommandResult] = []

    def take(self, payload: bytes, *, is_retained: bool) -> Command | None:
        """Return a new and good command; what is refused or repeated has its result already."""
        if is_retained:
            if payload:
                log.warning("a retained command is stale and not executed; commands are published without retain")
            return None
        try:
            command = _good(payload)
        except InvalidReading as exc:
            log.warning("a command is refused: %s", exc)
            self._results.append(CommandResult(_id_of(payload), "error", str(exc)))
            return None
        if command.id in self._known:
            result = self._known[command.id]
            self._results += [result] if result else []
            return None
        self._known[command.id] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        value = "" if command.value is None else f" {command.value:g}"
        log.info("command %s%s (%s)", command.name, value, command.id)
        return command

    def finish(self, command_id: str, error: str | None = None) -> None:
        """Note what became of a command."""
        result = CommandResult(command_id, "error" if error else "ok", error)
        if command_id in self._known:
            self._known[command_id] = result
        self._results.append(result)

    def take_results(self) -> list[CommandResult]:
        """Return the results that were not sent yet, and forget them."""
        results, self._results = self._results[-REMEMBERED:], []
        return results

    def identify(self, command_id: str) -> None:
        """Let the LED blink, so that a person finds this node among others."""
        if self._identify is not None:
            self._identify()
        self.finish(command_id, None if self._identify else NO_LED)

    def read(self, command_id: str, now: float) -> None:
        """Ask every sensor for a reading now; the result comes when the last one has answered."""
        self._number += 1
        pending = PendingRead(command_id, now + READ_WITHIN_S, set())
        for sampler in self._samplers:
            if sampler.read_now(self._number):
                pending.waiting.add(sampler.name)
            else:
                pending.faults.append(f"{sampler.name}: it has no more values")
        self._reads[self._number] = pending
        self._end_reads(now)

    def answered(self, event: ReadOnRequest, now: float) -> None:
        """Note that a sensor was read for a command."""
        pending = self._reads.get(event.request)
        if pending is not None and event.sensor in pending.waiting:
            pending.waiting.discard(event.sensor)
            pending.faults += [f"{event.sensor}: {event.fault}"] if event.fault else []
        self._end_reads(now)

    @property
    def deadline(self) -> float | None:
        """When sensors that do not answer are given up, None where nothing waits."""
        return min((pending.until for pending in self._reads.values()), default=None)

    def tick(self, now: float) -> None:
        """Give up the sensors that have not answered in time."""
        for pending in self._reads.values():
            if now >= pending.until:
                pending.faults += [f"{name}: no answer in {READ_WITHIN_S:g} s" for name in sorted(pending.waiting)]
                pending.waiting.clear()
        self._end_reads(now)

    def _end_reads(self, now: float) -> None:
        for number, pending in list(self._reads.items()):
            if not pending.waiting:
                del self._reads[number]
                self.finish(pending.id, "; ".join(pending.faults) or None)


def _good(payload: bytes) -> Command:
    """Decode and check a command.

    Raises:
        InvalidReading: it is none, or its value is out of bounds; the message says what is allowed.
    """
    try:
        command = decode(Command, payload)
    except InvalidReading as exc:
        raise InvalidReading(f"{exc}; allowed is {ALLOWED}") from exc
    if command.value is None:
        return command
    given = f"{command.name} {command.value:g} was given"
    if command.name != "set-interval":
        raise InvalidReading(f"{given}; allowed is no value")
    setting = described(NodeSettings)["SAMPLE_INTERVAL"]
    try:
        setting.parse(repr(command.value))
    except ValueError as exc:
        raise InvalidReading(f"{given} ({exc}); allowed is {setting.allowed}, or null") from exc
    return command


def _id_of(payload: bytes) -> str:
    """Return the id of a command that is otherwise malformed, nothing where it cannot be read."""
    try:
        return decode(CommandId, payload).id
    except InvalidReading:
        return ""
