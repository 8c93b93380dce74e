"""``mqtt-node``, which is ``python -m mqtt_client``: ``run`` goes straight to the node, all else to the commands.

A node runs for months, and what reads commands and writes their help would stay in memory with it for nothing
(click and inspect, 2 MiB). Where ``run`` is given anything but an env file, the commands say what is allowed.
"""

import sys
from pathlib import Path


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["run"]:
            _run(None)
        case ["run", "--env-file", file]:
            _run(Path(file))
        case _:
            from mqtt_client.cli import main as commands

            commands(prog_name="mqtt-node")


def _run(env_file: Path | None) -> None:
    from mqtt_client.service import run_from

    run_from(env_file)


if __name__ == "__main__":
    main()
