"""The node's errors, and those that the bridge shares with it.

Each class says what the caller does next, and has the builtin parent that a
Python programmer would expect::

    Exception
     +-- SensorBridgeError
          +-- InvalidReading (ValueError)      never retry: refuse it, or make it a dead letter
          +-- TryLater (OSError)               wait with jitter, then try again
          |    +-- SensorFailed                this sensor, this beat; the others go on
          |    +-- StorageFull                 the disk is full: go on when there is room
          +-- PersonNeeded (RuntimeError)      stop and tell a person what to change
               +-- SettingsError (ValueError)  a setting is wrong; names it; exit status 2
               +-- LockHeld                    another process does this job; names it; exit status 1
"""

from collections.abc import Mapping


class SensorBridgeError(Exception):
    """Parent of every error that this project raises on purpose."""


class InvalidReading(SensorBridgeError, ValueError):
    """Something that claims to be a reading, or another message, is malformed; its text is the reason."""


class TryLater(SensorBridgeError, OSError):
    """The other side or the disk cannot take it now; nothing is lost by waiting."""


class SensorFailed(TryLater):
    """A sensor gave no value at this beat, or not all of them; ``values`` are those that it gave, by quantity."""

    def __init__(self, reason: str, values: Mapping[str, float] | None = None) -> None:
        super().__init__(reason)
        self.values = dict(values or {})


class StorageFull(TryLater):
    """The disk under a database is full; what was not committed was not taken."""


class PersonNeeded(SensorBridgeError, RuntimeError):
    """Going on would do harm or nothing at all; a person has to decide."""


class SettingsError(PersonNeeded, ValueError):
    """One or more settings are wrong; ``faults`` has one line for each, with the variable's name."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class LockHeld(PersonNeeded):
    """Another process holds the lock of this job; the message names it."""


class OutboxDamaged(PersonNeeded):
    """The outbox's file is corrupt; opened again, it is set aside and its readable rows are salvaged."""
