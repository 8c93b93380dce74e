"""What ``mqtt-bridge doctor`` looks at, in order: this machine, the store, the broker, the nodes' words, the server.

It works beside a running bridge and disturbs nothing of it: it reads the
store without a write, and speaks to the broker with client ids of its own.
Nothing is remembered.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from bridge.doctor import broker, machine, records, server
from bridge.settings import BridgeSettings
from mqtt_client.probe.finding import FAIL, Finding, worst
from mqtt_client.probe.finding import as_json as to_json


def examine(settings: BridgeSettings, env_file: Path | None = None) -> Iterator[Finding]:
    """Look at everything that breaks in real life, and tell each as soon as it is known."""
    yield from machine.find(settings, env_file or Path(".env"))
    known = records.read(settings)
    yield from known.findings
    yield from broker.find(settings, known.store_id)
    yield from server.find(settings, known.forward)


def report(settings: BridgeSettings, env_file: Path | None, write: Callable[[str], None], *, as_json: bool) -> bool:
    """Write each finding as it is found, or all as JSON at the end; return whether something fails."""
    found = []
    for finding in examine(settings, env_file):
        found.append(finding)
        if not as_json:
            write(str(finding))
    if as_json:
        write(to_json(found))
    return worst(found) == FAIL
