"""A fresh broker: authority, broker's certificate, accounts, configuration; run again it makes only what is missing.

Keys, the authority and passwords that are there stay as they are, whatever is
asked; a power cut leaves some of them made, and the next run makes the rest.
"""

from ipaddress import ip_address
from pathlib import Path

from bridge.provision import passwords
from bridge.provision.certificates import (
    LEAF_DAYS,
    Authority,
    BadCertificate,
    names_of,
    new_authority,
    new_key,
)
from bridge.provision.configuration import SERVICES, write_configuration
from bridge.provision.directory import BROKER_READS, PUBLIC, SECRET, BrokerDirectory, Plan
from bridge.settings import is_loopback

ALWAYS = ("localhost", "127.0.0.1", "::1")
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # compared with, never bound here


def set_up(directory: BrokerDirectory, plan: Plan) -> list[Path]:
    """Make what is missing; return the files that were made or changed.

    Raises:
        BadCertificate: half of an authority is there.
        NoBroker: the folder cannot be written.
    """
    with directory.locked():
        directory.owner = plan.owner
        directory.make_folder(directory.path, 0o755)
        directory.make_folder(directory.accounts, 0o700)
        persistence = Path(plan.persistence)
        if not persistence.exists():
            directory.make_folder(persistence, 0o700)
            directory.give(persistence)
        made = _make_authority(directory, plan)
        made += _make_server(directory, plan)
        made += _make_accounts(directory, plan)
        made += write_configuration(plan, directory)
        directory.keep_plan(plan)
        return made


def renew(directory: BrokerDirectory, days: int = LEAF_DAYS) -> None:
    """Make the broker's certificate anew, for the same key and names.

    Raises:
        NoBroker: no broker was set up here.
        BadCertificate: the authority's key is not here.
    """
    with directory.locked():
        _sign_server(directory, directory.plan(), days)


def service_address(plan: Plan) -> str:
    """Return where bridge, operator and Home Assistant reach the broker."""
    return plan.names[0] if plan.service_host in ANY_ADDRESS else plan.service_host


def server_names(plan: Plan) -> list[str]:
    """Return all names and addresses of the broker's certificate."""
    service = [] if plan.service_host in ANY_ADDRESS else [plan.service_host]
    return list(dict.fromkeys([*plan.names, *service, *ALWAYS]))


def _make_authority(directory: BrokerDirectory, plan: Plan) -> list[Path]:
    certificate, key = directory.authority, directory.authority_key
    if certificate.exists():
        return []
    if key.exists():
        raise BadCertificate(f"{key} is there without {certificate.name}: restore it, or move the key away")
    secret = new_key()
    directory.write(key, secret, SECRET)
    directory.write(certificate, new_authority(secret, f"mqtt-sensor-bridge {plan.names[0]}"), PUBLIC)
    return [certificate, key]


def _make_server(directory: BrokerDirectory, plan: Plan) -> list[Path]:
    made = []
    if not directory.server_key.exists():
        directory.write(directory.server_key, new_key(), BROKER_READS)
        made.append(directory.server_key)
    wanted = {_normal(name) for name in server_names(plan)}
    if made or not directory.server.exists() or not wanted <= names_of(directory.server.read_bytes()):
        _sign_server(directory, plan, LEAF_DAYS)
        made.append(directory.server)
    if not directory.revoked.exists():
        write_revocations(directory, Authority.read(directory.authority, directory.authority_key))
        made.append(directory.revoked)
    return made


def _sign_server(directory: BrokerDirectory, plan: Plan, days: int) -> None:
    authority = Authority.read(directory.authority, directory.authority_key)
    certificate = authority.server(server_names(plan), directory.server_key.read_bytes(), days)
    directory.write(directory.server, certificate, PUBLIC)


def write_revocations(directory: BrokerDirectory, authority: Authority) -> None:
    """Write the revocation list from the list of certificates that were issued."""
    revoked = [int(one.serial) for one in directory.issued() if one.state == "revoked"]
    directory.write(directory.revoked, authority.revocations(revoked), PUBLIC)


def _make_accounts(directory: BrokerDirectory, plan: Plan) -> list[Path]:
    known = _read_passwords(directory.passwords)
    made = []
    for account in SERVICES:
        secret = directory.accounts / f"{account}.password"
        if account not in known or not secret.exists():
            directory.write(secret, f"{passwords.new_password()}\n".encode(), SECRET)
            known[account] = passwords.hashed(secret.read_text("ascii").strip())
            made.append(secret)
        lines = directory.accounts / f"{account}.env"
        text = _account_lines(directory, plan, account, secret.read_text("ascii").strip())
        if not lines.exists() or lines.read_text("utf-8") != text:
            directory.write(lines, text.encode(), SECRET)
            made.append(lines)
    if made or not directory.passwords.exists():
        directory.write(directory.passwords, passwords.render(known), BROKER_READS)
    return made


def _account_lines(directory: BrokerDirectory, plan: Plan, account: str, password: str) -> str:
    tls = "" if is_loopback(plan.service_host) else f"MQTT_TLS_CA={directory.authority}\n"
    return (
        f"MQTT_HOST={service_address(plan)}\nMQTT_PORT={plan.service_port}\n"
        f"MQTT_USERNAME={account}\nMQTT_PASSWORD={password}\n{tls}"
    )


def _read_passwords(path: Path) -> dict[str, str]:
    return passwords.parse(path.read_text("utf-8")) if path.exists() else {}


def _normal(name: str) -> str:
    try:
        return str(ip_address(name))
    except ValueError:
        return name
