"""What a contestant is: a program that is started, killed and started again between a broker and a server."""

import platform
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.node_footprint import python_with
from tests.processes import Process

INSTALLED = Path(__file__).resolve().parents[1] / ".peers"
"""Where peers are installed, each in a folder of its own; never into the system."""
READINGS = "sensors/+/reading/+"


@dataclass(frozen=True)
class Way:
    """Where readings come from and go to."""

    folder: Path
    broker_port: int
    url: str


class Peer(ABC):
    """A contestant; its session at the broker is persistent and has QoS 1."""

    name: str
    client_id: str
    filters: Sequence[str] = (READINGS,)
    readings = 1.0
    """How many times the usual number it gets for throughput, for a rate that can be measured."""
    killed_readings = 1.0
    """The same for the kill."""

    @abstractmethod
    def install(self) -> str:
        """Install it where it is missing, and return its name with its version."""

    @abstractmethod
    def start(self, way: Way) -> Process:
        """Start it."""


class PythonPeer(Peer):
    """A contestant from PyPI, whose package has its name, in an environment of its own."""

    version: str

    def install(self) -> str:
        """Install it from PyPI."""
        self.program("python")
        return f"{self.name} {self.version}"

    def program(self, name: str) -> str:
        """Return the path of a program in its environment."""
        return str(environment(self.name, f"{self.name}=={self.version}") / name)


def environment(name: str, *packages: str) -> Path:
    """Return the folder of programs of a Python environment with these packages, made at first use.

    Raises:
        subprocess.CalledProcessError: it cannot be made; what was begun is taken away.
    """
    folder = INSTALLED / name
    INSTALLED.mkdir(exist_ok=True)
    try:
        return Path(python_with(folder, *packages)).parent
    except subprocess.CalledProcessError:
        shutil.rmtree(folder)
        raise


def npm(name: str, *packages: str) -> Path:
    """Return a folder's ``node_modules`` with these packages, made at first use; needs npm.

    Raises:
        subprocess.CalledProcessError: it cannot be made; what was begun is taken away.
    """
    folder = INSTALLED / name
    if not folder.exists():
        print(f"installing {', '.join(packages)} ...", file=sys.stderr)
        folder.mkdir(parents=True)
        quiet = ["--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts", "--loglevel=error"]
        try:
            subprocess.run(["npm", "install", "--prefix", str(folder), *quiet, *packages], check=True, stdout=2)
        except (subprocess.CalledProcessError, FileNotFoundError):
            shutil.rmtree(folder)
            raise
    return folder / "node_modules"


def node_package(major: int) -> str:
    """Return npm's package of a Node.js for this machine."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"node-linux-{machine}@{major}"
