"""TLS as it is agreed on: no older version, no other name, no certificate for another purpose, no plain text."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mqtt_client.settings import env_file_variables
from tests.processes import Process, eventually, free_port
from tests.security.secured import SecuredBroker, Speaker, node

Run = Callable[[Process], Process]
OLD = ["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]
OPENSSL = shutil.which("openssl") or "openssl"


def handshake(broker: SecuredBroker, port: int, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [OPENSSL, "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", broker.directory / "ca.crt", *options],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_the_broker_agrees_on_versions_that_are_good(shared: SecuredBroker, version: str) -> None:
    for port in (shared.node_port, shared.certificate_port):
        assert "Verify return code: 0 (ok)" in handshake(shared, port, version).stdout


def test_the_broker_refuses_older_versions(shared: SecuredBroker) -> None:
    for port in (shared.node_port, shared.certificate_port):
        told = handshake(shared, port, *OLD)

        assert told.returncode != 0
        assert "protocol version" in told.stderr


def test_a_node_refuses_a_server_that_offers_an_older_version_alone(
    shared: SecuredBroker, tmp_path: Path, processes: Run
) -> None:
    port = free_port()
    certificate = ["-cert", str(shared.directory / "server.crt"), "-key", str(shared.directory / "server.key")]
    command = [OPENSSL, "s_server", "-www", "-accept", f"127.0.0.1:{port}", *certificate, *OLD]
    downgraded = processes(Process(command, tmp_path / "server.log"))
    eventually(lambda: "ACCEPT" in downgraded.output(), told=downgraded.output)

    running = processes(node(shared.folder / "kitchen" / "kitchen.env", tmp_path / "pi", MQTT_PORT=str(port)))

    eventually(lambda: "cannot be reached (" in running.output(), told=running.output)
    eventually(lambda: "unsupported protocol" in downgraded.output(), told=downgraded.output)
    assert "connected to broker" not in running.output()


def test_a_node_s_certificate_is_no_server_s_and_the_broker_s_no_node_s(shared: SecuredBroker) -> None:
    def is_good(certificate: Path, purpose: str) -> bool:
        command = [OPENSSL, "verify", "-purpose", purpose, "-CAfile", shared.directory / "ca.crt", certificate]
        return subprocess.run(command, capture_output=True).returncode == 0

    of_node, of_broker = shared.folder / "attic" / "attic.crt", shared.directory / "server.crt"

    assert [is_good(of_node, purpose) for purpose in ("sslserver", "sslclient")] == [False, True]
    assert [is_good(of_broker, purpose) for purpose in ("sslserver", "sslclient")] == [True, False]


def test_the_broker_refuses_certificates_of_strangers_and_none_at_all(
    shared: SecuredBroker, tmp_path: Path, speakers: Callable[[Speaker], Speaker]
) -> None:
    stranger = SecuredBrokerFiles(tmp_path)
    attic = shared.folder / "attic" / "attic.env"

    forged = speakers(Speaker.of_node(attic, MQTT_TLS_CERT=str(stranger.certificate), MQTT_TLS_KEY=str(stranger.key)))
    without = speakers(
        Speaker.of_node(shared.folder / "kitchen" / "kitchen.env", MQTT_PORT=str(shared.certificate_port))
    )

    assert not forged.is_in
    assert not without.is_in


class SecuredBrokerFiles:
    """A certificate for attic that another authority of the same name has signed."""

    def __init__(self, folder: Path) -> None:
        from bridge.provision.certificates import Authority, new_authority, new_key

        key = new_key()
        authority = Authority(new_authority(key, "mqtt-sensor-bridge localhost"), key)
        self.key, self.certificate = folder / "forged.key", folder / "forged.crt"
        self.key.write_bytes(new_key())
        self.certificate.write_bytes(authority.client("attic", self.key.read_bytes()))


def test_a_node_without_tls_gets_nothing_from_the_nodes_listener_and_tells_its_password_to_nobody(
    shared: SecuredBroker, tmp_path: Path, processes: Run
) -> None:
    env_file = shared.folder / "kitchen" / "kitchen.env"

    running = processes(
        node(env_file, tmp_path / "pi", MQTT_TLS_CA="", MQTT_PORT=str(shared.node_port), LOG_LEVEL="debug")
    )

    eventually(lambda: "is MQTT_TLS_CA set" in running.output(), told=running.output)
    assert env_file_variables(env_file)["MQTT_PASSWORD"] not in running.output() + shared.output()
    assert os.environ.get("MQTT_PASSWORD") is None
