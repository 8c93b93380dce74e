"""What every command of ``mqtt-bridge`` shares: ``--env-file``, settings, errors as one line and an exit status."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

import click

from bridge.errors import ForeignBridge
from bridge.settings import BridgeSettings
from mqtt_client import logs
from mqtt_client.errors import SensorBridgeError, SettingsError
from mqtt_client.settings import load, read_environment

P = ParamSpec("P")
FAILED = 1
USAGE_OR_SETTINGS = 2


def with_settings(command: Callable[Concatenate[BridgeSettings, P], None]) -> Callable[P, None]:
    """Give a command ``--env-file`` and its settings; our errors become one line and an exit status."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        env_file: Path | None = click.get_current_context().obj
        try:
            settings = load(BridgeSettings, read_environment(env_file))
            logs.set_up(settings.log_level, settings.log_format)
            command(settings, *args, **kwargs)
        except (SettingsError, ForeignBridge) as exc:
            for line in str(exc).splitlines():
                click.echo(f"mqtt-bridge: {logs.escape(line)}", err=True)
            sys.exit(USAGE_OR_SETTINGS)
        except BrokenPipeError:
            raise  # whoever read has enough, as head does: click ends without a word
        except (SensorBridgeError, OSError) as exc:
            click.echo(f"mqtt-bridge: {logs.escape(str(exc))}", err=True)
            sys.exit(FAILED)

    return click.option(
        "--env-file",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_note_env_file,
        help="Read settings from this file instead of .env; variables of the environment win.",
    )(run)


def _note_env_file(context: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    context.obj = value
