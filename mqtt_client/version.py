"""The version of this distribution, as installed.

It stands in the name of the folder with the distribution's metadata;
importlib.metadata would load a megabyte more to say the same.
"""

import sys
from functools import cache
from pathlib import Path

METADATA = "mqtt_sensor_bridge-*.dist-info"


@cache
def own_version() -> str:
    """Return the installed version, ``unknown`` where the package runs from a folder."""
    for entry in sys.path:
        for found in Path(entry).glob(METADATA):
            return found.name.removesuffix(".dist-info").partition("-")[2]
    return "unknown"
