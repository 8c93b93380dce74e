"""The end of certificates, read without a library on the node, and told thirty days ahead wherever people look."""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from bridge.provision.certificates import Authority, new_authority, new_key
from mqtt_client.expiry import Expiry, latest_end, not_after
from mqtt_client.settings import NodeSettings, env_file_variables, load
from tests.processes import Process, eventually, python
from tests.security.secured import ROOT, SecuredBroker, Speaker, node

Run = Callable[[Process], Process]
NOW = datetime(2026, 11, 24, 20, 31, 5, tzinfo=UTC)
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 60)])


def made(end: datetime, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """Return a certificate (DER) that ends then."""
    return (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(1960, 1, 1, tzinfo=UTC))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 2099, 9999])
def test_the_end_is_read_as_the_library_reads_it(year: int) -> None:
    end = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    keys = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)

    assert [not_after(made(end, key)) for key in keys] == [end, end]


@given(st.binary(max_size=300))
def test_what_is_no_certificate_has_no_end(content: bytes) -> None:
    assert not_after(content) is None


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_certificate_never_raises(position: int, value: int) -> None:
    certificate = bytearray(CERTIFICATE)
    certificate[position % len(certificate)] = value

    end = not_after(bytes(certificate))

    assert end is None or end.tzinfo is UTC


CERTIFICATE = made(NOW, ec.generate_private_key(ec.SECP256R1()))


def test_a_file_of_several_ends_with_its_last(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    ends = [NOW + timedelta(days=days) for days in (-5, 900, 10)]
    certificates = [x509.load_der_x509_certificate(made(end, key)) for end in ends]
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates))

    assert latest_end(bundle) == ends[1]


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (31, []),
        (12, ["the broker's certificate expires in 12 days (2026-12-06)"]),
        (-1, ["the broker's certificate has expired (2026-11-23)"]),
    ],
)
def test_it_is_told_thirty_days_ahead(days: int, told: list[str]) -> None:
    expiry = Expiry(load(NodeSettings, {"NODE_ID": "kitchen"}))

    expiry.seen(made(NOW + timedelta(days=days), ec.generate_private_key(ec.SECP256R1())))

    assert expiry.warnings(NOW) == told


def soon(broker: SecuredBroker, env_file: Path) -> None:
    """Give the broker and the node certificates that end within days."""
    authority = Authority.read(broker.directory / "ca.crt", broker.directory / "ca.key")
    folder, name = env_file.parent, env_file.stem
    (folder / f"{name}.crt").write_bytes(authority.client(name, (folder / f"{name}.key").read_bytes(), days=9))
    broker.bridge("broker", "renew", "--days", "5")


def test_the_node_tells_it_in_its_health_and_its_status(
    secured: SecuredBroker, tmp_path: Path, processes: Run
) -> None:
    env_file = secured.add("kitchen", by_certificate=True)
    soon(secured, env_file)
    running = processes(node(env_file, tmp_path / "pi"))
    operator = Speaker("127.0.0.1", secured.port, secured.account("operator"))
    operator.subscribe("sensors/kitchen/health")

    health = json.loads(eventually(lambda: operator.received, told=running.output)[0][1])
    told = subprocess.run(
        python("-m", "mqtt_client", "status", "--env-file", str(env_file)),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OUTBOX_PATH": str(tmp_path / "pi" / "outbox.db"), "PYTHONPATH": str(ROOT)},
    ).stdout
    operator.close()

    assert running.stop() == 0
    assert [one.partition(" expires in ")[0] for one in health["certificates"]] == [
        "the broker's certificate",
        "the own certificate (MQTT_TLS_CERT)",
    ]
    assert "the own certificate (MQTT_TLS_CERT) expires in 8 days" in told


def test_the_bridge_tells_its_own_and_the_nodes_in_health_and_status(
    secured: SecuredBroker, tmp_path: Path, speakers: Callable[[Speaker], Speaker], processes: Run
) -> None:
    tls_port = serve_services_over_tls(secured)
    env_file = secured.add("kitchen", by_certificate=True)
    soon(secured, env_file)
    secured.variables |= {
        "MQTT_HOST": "localhost",
        "MQTT_TLS_CA": str(secured.directory / "ca.crt"),
        "MQTT_USERNAME": "bridge",
        "MQTT_PASSWORD": secured.account("bridge")[1],
        "MQTT_PORT": str(tls_port),
        "SERVER_URL": "",
    }
    environment = os.environ | secured.variables | {"PYTHONPATH": str(ROOT)}
    operator = speakers(Speaker("127.0.0.1", secured.port, secured.account("operator")))
    operator.subscribe("sensors/bridge/main/health")
    bridge = processes(
        Process(python("-m", "bridge", "run", "--only", "ingest"), tmp_path / "bridge.log", environment)
    )
    running = processes(node(env_file, tmp_path / "pi"))

    health = json.loads(eventually(lambda: operator.received, told=bridge.output)[0][1])

    def problems() -> list[str]:
        told: list[str] = json.loads(secured.bridge("status", "--json"))["problems"]
        return told if any("kitchen: the own certificate" in one for one in told) else []

    assert any(one.startswith("the broker's certificate expires in 4 days") for one in eventually(problems))
    assert health["certificates"][0].startswith("the broker's certificate expires in 4 days")
    assert running.stop() == 0
    assert bridge.stop() == 0


def serve_services_over_tls(broker: SecuredBroker) -> int:
    """Restart the broker with one more listener, as where bridge and broker are two machines; return its port."""
    from tests.processes import free_port

    port, folder = free_port(), broker.directory
    broker.stop()
    with (folder / "mosquitto.conf").open("a", encoding="utf-8") as configuration:
        configuration.write(
            f"listener {port} 127.0.0.1\ncafile {folder}/ca.crt\ncertfile {folder}/server.crt\n"
            f"keyfile {folder}/server.key\ntls_version tlsv1.2\n"
        )
    broker.start()
    broker.wait_ready()
    return port


def test_a_node_says_why_when_the_broker_s_certificate_has_expired(
    secured: SecuredBroker, tmp_path: Path, processes: Run
) -> None:
    env_file = secured.add("kitchen")
    authority = Authority.read(secured.directory / "ca.crt", secured.directory / "ca.key")
    expired = authority.server(["localhost"], (secured.directory / "server.key").read_bytes(), days=-1)
    (secured.directory / "server.crt").write_bytes(expired)
    secured.stop()
    secured.start()
    secured.wait_ready()

    running = processes(node(env_file, tmp_path / "pi"))

    eventually(lambda: "certificate has expired" in running.output(), told=running.output)
    assert running.stop() == 0
    assert "connected to broker" not in running.output()


def test_a_node_refuses_a_broker_of_another_name_and_of_another_authority(
    secured: SecuredBroker, tmp_path: Path, processes: Run
) -> None:
    env_file = secured.add("kitchen")
    stranger = tmp_path / "stranger.crt"
    stranger.write_bytes(new_authority(new_key(), "a stranger"))
    variables = env_file_variables(env_file)
    password = variables["MQTT_PASSWORD"]

    by_address = processes(node(env_file, tmp_path / "one", MQTT_HOST="127.0.0.2"))
    by_stranger = processes(node(env_file, tmp_path / "two", MQTT_TLS_CA=str(stranger)))

    eventually(lambda: "certificate is not accepted: ip address mismatch" in by_address.output())
    eventually(lambda: "certificate is not accepted: self-signed certificate in" in by_stranger.output())
    assert by_address.stop() == by_stranger.stop() == 0
    assert password not in by_address.output() + by_stranger.output() + secured.output()
