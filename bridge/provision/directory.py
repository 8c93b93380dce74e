"""The broker's folder: what ``broker init`` was told, and every file of it with its mode and owner.

Each file is written beside, made durable and renamed, so a power cut leaves
the old one or the new one whole. Private keys and passwords are never
readable by others; what the broker reads belongs to its account, since newer
Mosquitto releases warn of password and topic right files of another owner.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from mqtt_client.errors import PersonNeeded
from mqtt_client.lock import locked

SECRET = 0o600
"""For the account that runs these commands alone."""
BROKER_READS = 0o640
PUBLIC = 0o644


class NoBroker(PersonNeeded):
    """The folder has no broker of ours, or cannot be used."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What ``broker init`` was told, kept so that all later commands know it."""

    names: list[str]
    """Names and addresses by which nodes reach the broker; the first goes into each node's file."""
    node_port: int = 8883
    """Nodes with a password."""
    certificate_port: int = 8884
    """Nodes with a certificate."""
    service_host: str = "127.0.0.1"
    service_port: int = 1883
    """Bridge, operator, Home Assistant."""
    persistence: str
    owner: str = ""
    """The account that the broker runs as; empty: the one that runs these commands."""
    prefix: str = "sensors"


class Issued(msgspec.Struct, frozen=True):
    """A certificate that a node was given."""

    node: str
    serial: str
    not_after: str
    state: Literal["valid", "revoked"] = "valid"


class BrokerDirectory:
    """The folder that BROKER_DIRECTORY names."""

    def __init__(self, path: Path, owner: str = "") -> None:
        self.path = path.absolute()
        self.owner = owner
        self.configuration = self.path / "mosquitto.conf"
        self.acl = self.path / "rights.acl"
        self.passwords = self.path / "accounts.passwords"
        self.authority = self.path / "ca.crt"
        self.authority_key = self.path / "ca.key"
        self.server = self.path / "server.crt"
        self.server_key = self.path / "server.key"
        self.revoked = self.path / "revoked.pem"
        self.accounts = self.path / "accounts"
        self._plan = self.path / "broker.json"
        self._issued = self.path / "issued.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one command at a time change the folder.

        Raises:
            NoBroker: the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = locked(self.path / ".lock", "changing the broker's accounts", wait=True)
            with lock:
                yield
        except PermissionError as exc:
            raise NoBroker(
                f"BROKER_DIRECTORY: {str(self.path)!r} cannot be changed ({exc.strerror}: {exc.filename}); "
                "run this with the rights that made it, such as sudo"
            ) from exc

    def plan(self) -> Plan:
        """Return what ``broker init`` was told.

        Raises:
            NoBroker: it was never run here, or its file is damaged.
        """
        try:
            plan = msgspec.json.decode(self._plan.read_bytes(), type=Plan)
        except OSError as exc:
            raise NoBroker(
                f"BROKER_DIRECTORY: no broker was set up in {str(self.path)!r} ({exc.strerror}); "
                "`mqtt-bridge broker init` does it"
            ) from exc
        except msgspec.MsgspecError as exc:
            raise NoBroker(f"{self._plan}: damaged ({exc}); run `mqtt-bridge broker init` again") from exc
        self.owner = plan.owner
        return plan

    def has_plan(self) -> bool:
        """Tell whether ``broker init`` was run here."""
        return self._plan.exists()

    def keep_plan(self, plan: Plan) -> None:
        """Keep what ``broker init`` was told."""
        self.write(self._plan, msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n", PUBLIC)

    def issued(self) -> list[Issued]:
        """Return all certificates that nodes were ever given."""
        if not self._issued.exists():
            return []
        return msgspec.json.decode(self._issued.read_bytes(), type=list[Issued])

    def keep_issued(self, issued: list[Issued]) -> None:
        """Keep the list of certificates."""
        self.write(self._issued, msgspec.json.format(msgspec.json.encode(issued), indent=2) + b"\n", SECRET)

    def write(self, path: Path, content: bytes, mode: int) -> None:
        """Write a file whole or not at all, with this mode from the first byte on."""
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        if mode == BROKER_READS:
            self.give(beside)
        beside.replace(path)
        _sync_folder(path.parent)

    def make_folder(self, path: Path, mode: int) -> None:
        """Make a folder where it is missing, with this mode."""
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)

    def give(self, path: Path) -> None:
        """Give a file or folder to the account that the broker runs as.

        Raises:
            NoBroker: there is no such account.
        """
        if not self.owner:
            return
        user, _, group = self.owner.partition(":")
        try:
            if user.isdigit():
                os.chown(path, int(user), int(group or user))
            else:
                shutil.chown(path, user, group or user)
        except (LookupError, ValueError) as exc:
            raise NoBroker(
                f"--owner: {self.owner!r} was given ({exc}); allowed is an account of this system"
            ) from exc


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
