"""Secrets stay secret: in logs at their most talkative, in `ps`, in what commands print, in reprs and tracebacks."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.settings import BridgeSettings
from mqtt_client.settings import NodeSettings, env_file_variables, load
from mqtt_client.status import lines, read_status
from tests.processes import Process, eventually, python
from tests.security.secured import ROOT, SecuredBroker, node

Run = Callable[[Process], Process]
SECRETS = {
    "MQTT_PASSWORD": "broker-secret-1",
    "SERVER_TOKEN": "server-secret-2",
    "WEB_PASSWORD": "page-secret-3",
    "STORE_URL": "postgresql+psycopg://bridge:store-secret-4@127.0.0.1:1/nowhere",
}
HIDDEN = [value.rpartition("@")[0].rpartition(":")[2] or value for value in SECRETS.values()]


def leaked(text: str) -> list[str]:
    return [secret for secret in HIDDEN if secret in text]


def command_lines() -> str:
    """Return what `ps` shows of all processes of this account."""
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_no_repr_and_no_fault_shows_a_secret() -> None:
    settings = load(BridgeSettings, SECRETS)
    node_settings = load(NodeSettings, {"MQTT_PASSWORD": "broker-secret-1"})

    shown = [repr(settings), str(settings), f"{settings.mqtt_password}", repr(node_settings)]

    assert leaked(" ".join(shown)) == []


@pytest.mark.parametrize("command", [["check"], ["status"], ["run"], ["run", "--only", "ingest"], ["doctor"]])
def test_no_command_prints_a_secret_even_when_everything_is_wrong(tmp_path: Path, command: list[str]) -> None:
    env_file = tmp_path / "bridge.env"
    faulty = SECRETS | {"SERVER_URL": "http://me:server-secret-2@localhost:1/data", "LOG_LEVEL": "debug"}
    env_file.write_text("".join(f"{name}={value}\n" for name, value in faulty.items()), encoding="utf-8")

    done = subprocess.run(
        python("-m", "bridge", *command, "--env-file", str(env_file)),
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        timeout=60,
    )

    assert done.returncode != 0
    assert leaked(done.stdout + done.stderr) == []


def test_a_whole_running_pair_tells_its_secrets_nowhere(
    secured: SecuredBroker, tmp_path: Path, processes: Run
) -> None:
    node_file = secured.add("kitchen")
    bridge_file = tmp_path / "bridge.env"
    account = (secured.directory / "accounts" / "bridge.env").read_text("utf-8")
    more = f"STORE_URL=sqlite:///{tmp_path / 'bridge.db'}\nSERVER_TOKEN=server-secret-2\nSERVER_URL=http://localhost:1/\n"
    bridge_file.write_text(account + more, encoding="utf-8")
    quiet = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "LOG_LEVEL": "debug"}
    command = python("-m", "bridge", "run", "--env-file", str(bridge_file))

    bridge = processes(Process(command, tmp_path / "bridge.log", quiet, tmp_path))
    running = processes(node(node_file, tmp_path / "pi", LOG_LEVEL="debug", LOG_FORMAT="json"))
    settings = load(NodeSettings, env_file_variables(node_file) | {"OUTBOX_PATH": str(tmp_path / "pi" / "outbox.db")})
    eventually(lambda: "connected to broker" in running.output(), told=running.output)
    eventually(lambda: read_status(settings)["receipt"], told=bridge.output)
    listed = command_lines()
    told = subprocess.run(
        python("-m", "bridge", "status", "--env-file", str(bridge_file)), capture_output=True, text=True, env=quiet
    )

    everything = [bridge.output(), running.output(), secured.output(), listed, told.stdout, told.stderr]
    everything += lines(read_status(settings))
    passwords = [env_file_variables(file)["MQTT_PASSWORD"] for file in (node_file, bridge_file)]
    assert [secret for secret in [*passwords, "server-secret-2"] if secret in "\n".join(everything)] == []
    assert "bridge run" in listed


def test_a_crash_shows_no_secret(tmp_path: Path) -> None:
    program = (
        "from bridge.settings import BridgeSettings; from mqtt_client.settings import load; import os\n"
        "def fail(settings, password): raise RuntimeError(f'{settings} {password!r}')\n"
        "settings = load(BridgeSettings, os.environ); fail(settings, settings.mqtt_password)"
    )

    crashed = subprocess.run(
        python("-c", program),
        capture_output=True,
        text=True,
        env=SECRETS | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
    )

    assert "RuntimeError" in crashed.stderr
    assert leaked(crashed.stderr) == []


def test_the_broker_s_folder_keeps_of_a_node_s_password_its_hash_alone(shared: SecuredBroker) -> None:
    password = env_file_variables(shared.folder / "kitchen" / "kitchen.env")["MQTT_PASSWORD"]

    kept = [path for path in shared.directory.rglob("*") if path.is_file() and password in path.read_text("latin-1")]

    assert kept == []
