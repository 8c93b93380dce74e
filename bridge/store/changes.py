"""Whether another process has committed to the store since the last look, at the price of a look."""

import sqlite3
import time

from bridge.store.database import Store

_ELSEWHERE_S = 0.2
"""On PostgreSQL a look is a query, so it is assumed this often instead."""


class Changes:
    """Sees commits of all connections but its own; for one thread."""

    def __init__(self, store: Store) -> None:
        self._connection = store.engine.raw_connection() if store.is_sqlite else None
        self._version: object = None
        self._assumed_at = 0.0

    def seen(self) -> bool:
        """Tell whether something may have changed since the last call; the first call says yes."""
        if self._connection is None:
            changed = time.monotonic() >= self._assumed_at + _ELSEWHERE_S
            self._assumed_at = time.monotonic() if changed else self._assumed_at
            return changed
        cursor = self._connection.cursor()
        try:
            cursor.execute("PRAGMA data_version")
            version = cursor.fetchone()
        except sqlite3.Error:
            return True  # the query that follows will tell what is wrong
        finally:
            cursor.close()
        changed = version != self._version
        self._version = version
        return changed

    def forget(self) -> None:
        """Make the next call say yes."""
        self._version = None
        self._assumed_at = 0.0

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
