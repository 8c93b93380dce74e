"""The nodes' accounts: a password or a certificate each, made and revoked in the broker's files.

The broker knows of a change when it has read its files again
(bridge/provision/broker.py). The files are written in an order in which a
power cut leaves an account that nobody can use, never one that nobody knows.
"""

from typing import NamedTuple

import msgspec

from bridge.provision import passwords
from bridge.provision.certificates import Authority, new_key, serial_and_end
from bridge.provision.configuration import PROVISION, SERVICES
from bridge.provision.directory import BROKER_READS, BrokerDirectory, Issued
from bridge.provision.setup import write_revocations
from mqtt_client.errors import PersonNeeded, SettingsError
from mqtt_client.topics import is_node_name

RESERVED = {*SERVICES, PROVISION}
RESERVED_PREFIX = "mqtt-bridge"
"""Client ids of the bridge begin so, and a node's client id at this broker is its name."""


class NodeKnown(PersonNeeded):
    """The node has an account already."""


class Credentials(NamedTuple):
    """What a node proves itself with: a password, or a certificate with its key."""

    password: str | None
    certificate: bytes | None
    key: bytes | None


class Account(NamedTuple):
    """A node's account as the broker's files have it."""

    kind: str
    """``password`` or ``certificate``."""
    not_after: str | None


def check_name(name: str) -> None:
    """Look whether a node may have this name.

    Raises:
        SettingsError: it may not.
    """
    if not is_node_name(name) or name in RESERVED or name.startswith(RESERVED_PREFIX):
        reserved = ", ".join(sorted(RESERVED))
        raise SettingsError(
            [
                f"NAME: {name!r} was given; allowed are 1 to 64 of letters, digits, - and _, but for {reserved} "
                f"and what begins with {RESERVED_PREFIX}"
            ]
        )


def accounts(directory: BrokerDirectory) -> dict[str, Account]:
    """Return the accounts of all nodes, by name."""
    known = passwords.parse(directory.passwords.read_text("utf-8")).keys() - RESERVED
    found = {name: Account("password", None) for name in sorted(known)}
    for one in directory.issued():
        if one.state == "valid":
            found[one.node] = Account("certificate", one.not_after)
    return found


def add(directory: BrokerDirectory, name: str, *, by_certificate: bool, again: bool) -> Credentials:
    """Make an account; with ``again`` in the place of the one that the node has.

    Raises:
        NodeKnown: the node has an account, and ``again`` is not set.
        BadCertificate: the authority's key is not here.
    """
    if name in accounts(directory) and not again:
        raise NodeKnown(
            f"node {name} has an account already; --again makes another one in its place, "
            f"`mqtt-bridge nodes remove {name}` takes it away"
        )
    _revoke_certificates(directory, name)
    hashes = passwords.parse(directory.passwords.read_text("utf-8"))
    hashes.pop(name, None)
    password = None if by_certificate else passwords.new_password()
    if password:
        hashes[name] = passwords.hashed(password)
    directory.write(directory.passwords, passwords.render(hashes), BROKER_READS)
    if password:
        return Credentials(password, None, None)
    return _issue(directory, name)


def remove(directory: BrokerDirectory, name: str) -> bool:
    """Revoke a node's account; return whether it had one."""
    had = name in accounts(directory)
    hashes = passwords.parse(directory.passwords.read_text("utf-8"))
    if hashes.pop(name, None):
        directory.write(directory.passwords, passwords.render(hashes), BROKER_READS)
    _revoke_certificates(directory, name)
    return had


def open_provision(directory: BrokerDirectory) -> str:
    """Give the account of these commands a new password and return it; that it works proves that the broker read."""
    hashes = passwords.parse(directory.passwords.read_text("utf-8"))
    password = passwords.new_password()
    hashes[PROVISION] = passwords.hashed(password)
    directory.write(directory.passwords, passwords.render(hashes), BROKER_READS)
    return password


def _issue(directory: BrokerDirectory, name: str) -> Credentials:
    authority = Authority.read(directory.authority, directory.authority_key)
    key = new_key()
    certificate = authority.client(name, key)
    serial, end = serial_and_end(certificate)
    directory.keep_issued([*directory.issued(), Issued(name, str(serial), end.isoformat())])
    return Credentials(None, certificate, key)


def _revoke_certificates(directory: BrokerDirectory, name: str) -> None:
    issued = directory.issued()
    if not any(one.node == name and one.state == "valid" for one in issued):
        return
    authority = Authority.read(directory.authority, directory.authority_key)
    directory.keep_issued(
        [msgspec.structs.replace(one, state="revoked") if one.node == name else one for one in issued]
    )
    write_revocations(directory, authority)
