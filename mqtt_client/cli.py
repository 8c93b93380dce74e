"""``mqtt-node``: exit status 0 done, 1 failed, 2 usage or settings."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mqtt_client import logs
from mqtt_client.errors import SensorBridgeError, SettingsError
from mqtt_client.settings import NodeSettings, load, read_environment
from mqtt_client.version import own_version

env_file = click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with settings instead of .env in this folder; the environment wins over it.",
)


@contextmanager
def told() -> Iterator[None]:
    """Turn our errors into one line each on standard error and an exit status."""
    try:
        yield
    except SettingsError as exc:
        for fault in exc.faults:
            click.echo(fault, err=True)
        sys.exit(2)
    except SensorBridgeError as exc:
        click.echo(str(exc), err=True)
        sys.exit(1)


def settings_from(file: Path | None) -> NodeSettings:
    """Read the settings and set up logging by them.

    Raises:
        SettingsError: with all faults.
    """
    settings = load(NodeSettings, read_environment(file))
    logs.set_up(settings.log_level, settings.log_format)
    return settings


@click.group()
@click.version_option(own_version(), prog_name="mqtt-node")
def main() -> None:
    """Take readings from sensors and bring each of them to the bridge, once."""
    logs.set_up()


@main.command()
@env_file
def run(env_file: Path | None) -> None:
    """Run the node until it is told to stop."""
    from mqtt_client.service import run_node

    with told():
        run_node(settings_from(env_file))
