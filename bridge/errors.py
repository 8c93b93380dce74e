"""The bridge's errors; their parents, which say what to do, are in mqtt_client/errors.py::

SensorBridgeError
 +-- InvalidReading        dead letter
 +-- TryLater
 |    +-- StorageFull      stop acknowledging, say so, go on when there is room
 |    +-- StoreBusy        another process writes; try again
 +-- PersonNeeded
      +-- SettingsError    exit status 2
      +-- LockHeld         exit status 1
      +-- ForeignBridge    another store's bridge serves these nodes; exit status 2
      +-- StoreUnusable    the store cannot be opened
      |    +-- StoreDamaged the service sets it aside and begins a new one
      +-- AddressTaken      the page cannot listen where it is to; exit status 1
      +-- NotFound (LookupError)  no such reading, dead letter or file; exit status 1
"""

from mqtt_client.errors import PersonNeeded, TryLater


class StoreBusy(TryLater):
    """Another process holds the store's write lock for longer than we wait."""


class LeaseLost(PersonNeeded):
    """Another process does this job now; nothing of the transaction was committed."""


class ForeignBridge(PersonNeeded):
    """Another bridge with another store is online on this broker; two would tell the nodes two truths."""


class StoreUnusable(PersonNeeded):
    """The store cannot be opened, or is damaged, or belongs to a newer release."""


class StoreDamaged(StoreUnusable):
    """The store's file is corrupt."""


class AddressTaken(PersonNeeded):
    """Another program listens at this address, or it is not this machine's."""


class NotFound(PersonNeeded, LookupError):
    """There is no such reading, dead letter or archive."""
