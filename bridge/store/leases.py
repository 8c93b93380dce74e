"""Leases: who does a job, where several machines share a PostgreSQL store.

A lease is a row with a time that its holder keeps pushing on, by the
database's clock, and a token that grows with every holder. Each transaction
of the job checks the token last (fencing): a holder that was cut off for
longer than the lease, and finds another in its place, can commit nothing.
"""

import logging
import os
import platform
import threading

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from bridge.errors import LeaseLost
from bridge.store.database import translated
from mqtt_client.errors import LockHeld

log = logging.getLogger("store")

LEASE_S = 10.0
RENEW_S = 2.0

_NOW_MS = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
_TAKE = text(
    f"INSERT INTO leases (name, holder, token, expires_ms) VALUES (:name, :holder, 1, {_NOW_MS} + :lease_ms) "  # noqa: S608
    "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = leases.token + 1, "
    f"expires_ms = excluded.expires_ms WHERE leases.expires_ms < {_NOW_MS} RETURNING token"
)
_HOLDER = text("SELECT holder FROM leases WHERE name = :name")
_RENEW = text(
    f"UPDATE leases SET expires_ms = {_NOW_MS} + :lease_ms WHERE name = :name AND token = :token RETURNING token"  # noqa: S608
)
_CHECK = text("SELECT 1 FROM leases WHERE name = :name AND token = :token FOR SHARE")


class Lease:
    """A lease that is held, and renewed by a thread of its own, until :meth:`release` or the process ends."""

    def __init__(self, url: str, name: str, job: str) -> None:
        """Take the lease.

        Raises:
            LockHeld: another process holds it; the message says which.
        """
        self._name = name
        self._engine = create_engine(url, pool_size=1, isolation_level="AUTOCOMMIT")
        holder = f"{os.getpid()} on {platform.node()}"
        with translated(), self._engine.connect() as connection:
            values = {"name": name, "holder": holder, "lease_ms": int(LEASE_S * 1000)}
            token = connection.scalar(_TAKE, values)
            other = connection.scalar(_HOLDER, {"name": name})
        if token is None:
            self._engine.dispose()
            raise LockHeld(f"{job}: process {other} does this already (lease {name!r})")
        self._token = int(token)
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{name}", daemon=True)
        self._thread.start()

    def check(self, connection: Connection) -> None:
        """Make sure, within a transaction that is about to commit, that the lease is still ours.

        Raises:
            LeaseLost: another process has it.
        """
        if connection.scalar(_CHECK, {"name": self._name, "token": self._token}) is None:
            raise LeaseLost(f"the lease {self._name!r} went to another process; what it did not commit is done there")

    def release(self) -> None:
        """Let the lease go."""
        self._released.set()
        self._thread.join(RENEW_S)
        try:
            self._renew(0)
        except DBAPIError as exc:
            log.debug("the lease %s ends by itself: %s", self._name, exc.orig)
        self._engine.dispose()

    def _keep(self) -> None:
        while not self._released.wait(RENEW_S):
            try:
                if not self._renew(int(LEASE_S * 1000)):
                    log.error("the lease %s went to another process", self._name)
                    return
            except DBAPIError as exc:
                log.warning("cannot renew the lease %s: %s", self._name, exc.orig)

    def _renew(self, lease_ms: int) -> bool:
        with self._engine.connect() as connection:
            values = {"name": self._name, "token": self._token, "lease_ms": lease_ms}
            return connection.scalar(_RENEW, values) is not None
