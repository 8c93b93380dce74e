"""How a command of the node begins and ends: with its settings; with one line for each error, and an exit status."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mqtt_client import logs
from mqtt_client.errors import SensorBridgeError, SettingsError
from mqtt_client.settings import NodeSettings, load, read_environment

FAILED = 1
USAGE_OR_SETTINGS = 2


@contextmanager
def told() -> Iterator[None]:
    """Turn our errors into one line each on standard error and an exit status."""
    try:
        yield
    except SettingsError as exc:
        sys.stderr.writelines(f"{fault}\n" for fault in exc.faults)
        sys.exit(USAGE_OR_SETTINGS)
    except SensorBridgeError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(FAILED)


def settings_from(file: Path | None) -> NodeSettings:
    """Read the settings and set up logging by them.

    Raises:
        SettingsError: with all faults.
    """
    settings = load(NodeSettings, read_environment(file))
    logs.set_up(settings.log_level, settings.log_format)
    return settings
