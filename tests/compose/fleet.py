"""compose.yaml in a fresh copy of this repository, under a project name and on ports of its own."""

import json
import os
import secrets
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import requests

from tests.processes import free_port

ROOT = Path(__file__).parents[2]
NO_ENGINE = (
    "no Docker engine answers ({reason}). Start one, or set DOCKER_HOST to where it listens; "
    "Docker Compose is needed too (`docker compose`, or docker-compose 1.29)"
)


class NoEngine(Exception):
    """There is no Docker engine, or no Compose."""


def find_compose() -> list[str]:
    """Return the command of Docker Compose, version 2 or 1.29.

    Raises:
        NoEngine: there is none, or no engine answers.
    """
    if not shutil.which("docker"):
        raise NoEngine(NO_ENGINE.format(reason="the program docker is not installed"))
    info = subprocess.run(["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, text=True)
    if info.returncode != 0:
        raise NoEngine(NO_ENGINE.format(reason=(info.stderr.strip().splitlines() or ["no answer"])[0]))
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    raise NoEngine(NO_ENGINE.format(reason="Docker Compose is not installed"))


class Fleet:
    """The containers of one ``up``."""

    def __init__(self, folder: Path) -> None:
        self._compose = find_compose()
        self.folder = folder / "clone"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.folder / name)
        self._receiver = free_port()
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": f"sensor-bridge-test-{secrets.token_hex(4)}",
            "RECEIVER_PORT": str(self._receiver),
            "BROKER_PORT": str(free_port()),
            "WEB_PORT": str(free_port()),
        }

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Docker Compose."""
        done = subprocess.run(
            [*self._compose, *arguments], cwd=self.folder, env=self._environment, capture_output=True, text=True
        )
        assert not check or done.returncode == 0, (
            f"{' '.join(arguments)}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
        return done

    def run(self, service: str, *command: str, check: bool = True) -> str:
        """Run a command in a running container; return what it prints on both streams."""
        done = self.compose("exec", "-T", service, *command, check=check)
        return done.stdout + done.stderr

    def health(self) -> dict[str, str]:
        """Return the health of each container, by service."""
        found = {}
        for identity in self.compose("ps", "--quiet").stdout.split():
            inspected = subprocess.run(["docker", "inspect", identity], capture_output=True, text=True, check=True)
            container = json.loads(inspected.stdout)[0]
            service = container["Config"]["Labels"]["com.docker.compose.service"]
            found[service] = container["State"].get("Health", {}).get("Status", container["State"]["Status"])
        return found

    def received(self) -> list[dict[str, Any]]:
        """Return what the server holds; nothing while it does not answer."""
        try:
            found: list[dict[str, Any]] = requests.get(f"http://127.0.0.1:{self._receiver}/data", timeout=10).json()
        except requests.RequestException:
            return []
        return found

    def received_seqs(self) -> dict[tuple[str, str], list[int]]:
        """Return the numbers of what the server holds, by node and epoch."""
        found = defaultdict(list)
        for reading in self.received():
            node, epoch, seq = reading["id"].rsplit("-", 2)
            found[node, epoch].append(int(seq))
        return dict(found)

    def logs(self) -> str:
        """Return the last lines of every container."""
        return self.compose("logs", "--tail", "20", check=False).stdout

    def end(self) -> None:
        """End everything, with its volumes and images."""
        self.compose("down", "--volumes", "--rmi", "local", "--timeout", "10", check=False)
