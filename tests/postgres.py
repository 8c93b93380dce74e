"""A real PostgreSQL server for the tests, on a free loopback port, gone with the test."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.processes import Process, eventually, free_port


def programs() -> Path:
    """Return the folder of PostgreSQL's programs, which Debian keeps out of PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    assert found, "PostgreSQL is not installed; `make test` installs it where it may"
    return Path(found).resolve().parent


class PostgreSQL(Process):
    """A server with one empty database, run by another user where the tests run as root."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        data = folder / "data"
        self.port = free_port()
        self._user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._user:
            shutil.chown(folder, "postgres")
            for parent in folder.parents:
                if parent.stat().st_uid == 0 and parent.stat().st_mode & 0o1 == 0:
                    parent.chmod(parent.stat().st_mode | 0o1)
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [*self._user, str(programs() / "initdb"), "-D", str(data), *options],
            check=True,
            capture_output=True,
            cwd="/",
        )
        command = [str(programs() / "postgres"), "-D", str(data), "-p", str(self.port)]
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "60"}
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        super().__init__([*self._user, *command, *flags], folder / "server.log", cwd=Path("/"))
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"
        eventually(self._is_ready, told=self.output)

    def _is_ready(self) -> bool:
        ready = [str(programs() / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        return subprocess.run(ready, check=False).returncode == 0
