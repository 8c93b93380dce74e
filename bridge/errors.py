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
      +-- StoreUnusable    the store cannot be opened or is damaged
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


class NotFound(PersonNeeded, LookupError):
    """There is no such reading, dead letter or archive."""
