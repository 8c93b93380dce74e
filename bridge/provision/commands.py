"""``mqtt-bridge broker`` and ``mqtt-bridge nodes``: a broker of one's own, and who may speak there."""

import json
import os
import pwd
import re
import socket
import sys
from pathlib import Path

import click

from bridge.command import FAILED, with_settings
from bridge.settings import BridgeSettings
from mqtt_client import logs
from mqtt_client.errors import SettingsError

BROKER_ACCOUNT = "mosquitto"
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,253}")


@click.group()
def broker() -> None:
    """Set up a broker with TLS, accounts and topic rights."""


@broker.command("init")
@click.option("--name", "names", multiple=True, help="Name or address by which nodes reach the broker; repeatable.")
@click.option("--services", metavar="HOST:PORT", help="Where bridge and operator connect [127.0.0.1:1883].")
@click.option("--node-port", type=click.IntRange(1, 65535), help="Nodes with a password [8883].")
@click.option("--certificate-port", type=click.IntRange(1, 65535), help="Nodes with a certificate [8884].")
@click.option("--persistence", type=click.Path(path_type=Path), help="Folder for what the broker keeps.")
@click.option("--owner", help="Account that the broker runs as [mosquitto, where this is root].")
@with_settings
def init(
    settings: BridgeSettings,
    names: tuple[str, ...],
    services: str | None,
    node_port: int | None,
    certificate_port: int | None,
    persistence: Path | None,
    owner: str | None,
) -> None:
    """Make authority, certificate, accounts and configuration; run again, what is missing or was changed."""
    from bridge.provision.directory import BrokerDirectory, Plan
    from bridge.provision.setup import set_up

    directory = BrokerDirectory(settings.broker_directory)
    before = directory.plan() if directory.has_plan() else None
    host, port = _address(services) if services else (None, None)
    plan = Plan(
        names=[_checked_name(name) for name in names] or (before.names if before else [socket.getfqdn()]),
        node_port=node_port or (before.node_port if before else 8883),
        certificate_port=certificate_port or (before.certificate_port if before else 8884),
        service_host=host or (before.service_host if before else "127.0.0.1"),
        service_port=port or (before.service_port if before else 1883),
        persistence=_folder(persistence) or (before.persistence if before else str(directory.path / "persistence")),
        owner=owner if owner is not None else before.owner if before else _default_owner(),
        prefix=settings.mqtt_topic_prefix,
    )
    for path in set_up(directory, plan):
        click.echo(f"made     {path}")
    click.echo(f"nodes    reach it as {', '.join(plan.names)}, ports {plan.node_port} and {plan.certificate_port}")
    click.echo(f"start    mosquitto -c {directory.configuration}")
    click.echo(f"bridge   add the lines of {directory.accounts / 'bridge.env'} to its .env")
    click.echo(f"backup   {directory.authority_key}: whoever has it can make nodes; without it nobody can")


@broker.command("renew")
@click.option("--days", type=click.IntRange(1, 7300), default=1825, show_default=True)
@with_settings
def renew_certificate(settings: BridgeSettings, days: int) -> None:
    """Make the broker's certificate anew, for the same key and names; nodes notice nothing."""
    from bridge.provision.accounts import open_provision
    from bridge.provision.directory import BrokerDirectory
    from bridge.provision.setup import renew

    directory = BrokerDirectory(settings.broker_directory)
    renew(directory, days)
    with directory.locked():
        password = open_provision(directory)
        click.echo(f"made     {directory.server}")
        sys.exit(FAILED if not _tell_broker(settings, directory.configuration, password) else 0)


@click.group()
def nodes() -> None:
    """Say who may speak at the broker: add, list and remove nodes."""


@nodes.command("add")
@click.argument("name")
@click.option("--mtls", is_flag=True, help="A certificate instead of a password.")
@click.option("--again", is_flag=True, help="Another account in the place of the one that the node has.")
@click.option("--output", type=click.Path(path_type=Path), help="The file to write [NAME.env in this folder].")
@click.option("--unpacked", is_flag=True, help="Certificates as files beside NAME.env, for a node on this machine.")
@with_settings
def add_node(
    settings: BridgeSettings, name: str, mtls: bool, again: bool, output: Path | None, unpacked: bool
) -> None:
    """Give node NAME an account, and write the one file to carry to it."""
    from bridge.provision import accounts, node_file
    from bridge.provision.directory import BrokerDirectory

    accounts.check_name(name)
    directory = BrokerDirectory(settings.broker_directory)
    target = output or Path(f"{name}.env")
    plan = directory.plan()
    with directory.locked():
        node_file.check_free(target, again=again)
        given = accounts.add(directory, name, by_certificate=mtls, again=again)
        if unpacked:
            node_file.write_unpacked(directory, plan, name, given, target)
        else:
            node_file.write_one_file(target, node_file.one_file(directory, plan, name, given))
        click.echo(f"wrote    {target}: carry it to the node, then delete it here; the secret is nowhere else")
        _tell_broker(settings, directory.configuration, accounts.open_provision(directory))


@nodes.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@with_settings
def list_nodes(settings: BridgeSettings, as_json: bool) -> None:
    """List the nodes: account, last seen, version, late, lost."""
    from bridge.errors import StoreUnusable
    from bridge.provision.accounts import accounts
    from bridge.provision.directory import BrokerDirectory
    from bridge.provision.listing import listed
    from bridge.status import read_status
    from bridge.store.database import open_store

    directory = BrokerDirectory(settings.broker_directory)
    known = accounts(directory) if directory.has_plan() else {}
    try:
        heard = read_status(settings, open_store(settings.store_url, create=False)).nodes
    except StoreUnusable as exc:
        heard = []
        click.echo(f"mqtt-bridge: {logs.escape(str(exc))}", err=True)
    found = listed(known, heard)
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found], ensure_ascii=False, indent=2))
        return
    for one in found:
        click.echo(logs.escape(str(one)))


@nodes.command("remove")
@click.argument("name")
@with_settings
def remove_node(settings: BridgeSettings, name: str) -> None:
    """Revoke node NAME's account, end its session, and clear its retained topics and its discovery."""
    from bridge.provision import accounts
    from bridge.provision.broker import Provision
    from bridge.provision.directory import BrokerDirectory

    accounts.check_name(name)
    directory = BrokerDirectory(settings.broker_directory)
    directory.plan()
    with directory.locked():
        had = accounts.remove(directory, name)
        click.echo(f"revoked  {name}" if had else f"revoked  nothing: {name} has no account")
        password = accounts.open_provision(directory)
        if not _tell_broker(settings, directory.configuration, password):
            click.echo("mqtt-bridge: run this again when it has, to end the session and clear its topics", err=True)
            sys.exit(FAILED)
        provision = Provision(settings, password)
        provision.end_session(name)
        click.echo(f"ended    the session of {name}")
        click.echo(f"cleared  {provision.clear(name)} retained topics")


def _tell_broker(settings: BridgeSettings, configuration: Path, password: str) -> bool:
    """Let the broker read its files, and say whether it has."""
    from bridge.provision.broker import Provision, Verdict

    where = f"{settings.mqtt_host}:{settings.broker_port}"
    verdict = Provision(settings, password).wait_until_read(configuration)
    if verdict is Verdict.READ:
        click.echo(f"broker   has taken it over ({where})")
        return True
    if verdict is Verdict.NOT_RUNNING:
        click.echo(f"broker   cannot be reached at {where}; it takes it over when it starts", err=True)
    elif verdict is Verdict.OPEN:
        click.echo(
            f"broker   at {where} lets anybody in: it is another one, or does not run with {configuration}", err=True
        )
    else:
        click.echo(
            f"broker   at {where} has not taken it over yet: `sudo systemctl reload mosquitto` lets it", err=True
        )
    return False


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise SettingsError([f"--name: {name!r} was given; allowed is a host name or an address alone"])
    return name


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not NAME.fullmatch(host) or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise SettingsError([f"--services: {text!r} was given; allowed is HOST:PORT, such as 127.0.0.1:1883"])
    return host, int(port)


def _folder(path: Path | None) -> str | None:
    if path is None:
        return None
    if not str(path).isprintable():
        raise SettingsError([f"--persistence: {str(path)!r} was given; allowed is a path of visible characters"])
    return str(path.absolute())


def _default_owner() -> str:
    """Return the account that Mosquitto's package makes, where this is root and may give it files."""
    if os.geteuid() != 0:
        return ""
    try:
        pwd.getpwnam(BROKER_ACCOUNT)
    except KeyError:
        return ""
    return BROKER_ACCOUNT
