"""The version of this distribution, as installed."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def own_version() -> str:
    """Return the installed version, ``unknown`` where the package runs from a folder."""
    try:
        return version("mqtt-sensor-bridge")
    except PackageNotFoundError:
        return "unknown"
