"""From an empty folder to a broker, and nodes that come and go without a restart of it."""

import json
import re
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.provision import passwords
from bridge.provision.accounts import check_name
from bridge.provision.directory import BrokerDirectory
from mqtt_client.errors import SettingsError
from mqtt_client.settings import NodeSettings, env_file_variables, load
from tests.processes import Mosquitto, Process, eventually, python
from tests.security.secured import ROOT, SecuredBroker, Speaker, node

Keep = Callable[[Speaker], Speaker]
Run = Callable[[Process], Process]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def watcher(broker: SecuredBroker) -> Speaker:
    operator = Speaker("127.0.0.1", broker.port, broker.account("operator"))
    operator.subscribe("sensors/#", "homeassistant/#")
    return operator


def test_secrets_can_be_read_by_nobody_else(shared: SecuredBroker) -> None:
    directory = shared.directory

    others = {
        str(path.relative_to(directory)): mode(path)
        for path in directory.rglob("*")
        if path.is_file() and mode(path) & 0o007
    }

    assert others == {"ca.crt": 0o644, "server.crt": 0o644, "revoked.pem": 0o644, "broker.json": 0o644}
    carried = [*(shared.folder / "kitchen").iterdir(), *(shared.folder / "attic").iterdir()]
    assert {mode(path) for path in carried} == {mode(directory / "ca.key")} == {0o600}
    assert mode(directory / "server.key") == mode(directory / "accounts.passwords") == 0o640
    assert {mode(path) for path in (directory / "accounts").iterdir()} == {0o600}
    assert mode(directory / "accounts") == 0o700


def test_what_is_there_is_kept_when_it_is_set_up_again(secured: SecuredBroker) -> None:
    secured.add("kitchen")
    kept = {path: path.read_bytes() for path in secured.directory.rglob("*") if path.is_file()}
    for changed in ("mosquitto.conf", ".lock"):  # the test's own line is in the one, the process in the other
        kept.pop(secured.directory / changed)

    secured.bridge("broker", "init")

    now = {path: path.read_bytes() for path in secured.directory.rglob("*") if path.is_file()}
    assert {str(path) for path, content in kept.items() if now[path] != content} == set()


def test_a_new_name_gives_the_same_key_another_certificate(secured: SecuredBroker) -> None:
    key, authority = secured.directory / "server.key", secured.directory / "ca.crt"
    before = key.read_bytes(), authority.read_bytes()

    secured.bridge("broker", "init", "--name", "broker.example", "--name", "192.0.2.10")

    told = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", secured.directory / "server.crt"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (key.read_bytes(), authority.read_bytes()) == before
    assert {"DNS:broker.example", "IP Address:192.0.2.10", "DNS:localhost"} <= set(
        re.split(r",\s*|\s{2,}", told.strip())
    )


def test_half_an_authority_is_told_and_nothing_is_made_over_it(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "ca.key").write_text("precious")

    done = subprocess.run(
        python("-m", "bridge", "broker", "init"),
        capture_output=True,
        text=True,
        env={"BROKER_DIRECTORY": str(tmp_path / "broker"), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )

    assert done.returncode == 1
    assert "ca.key is there without ca.crt" in done.stderr
    assert (tmp_path / "broker" / "ca.key").read_text() == "precious"


def test_mosquitto_s_own_program_reads_and_changes_the_password_file(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_bytes(passwords.render({"kitchen": passwords.hashed("secret"), "attic": passwords.hashed("other")}))

    subprocess.run(["mosquitto_passwd", "-D", file, "attic"], check=True)

    assert list(passwords.parse(file.read_text("utf-8"))) == ["kitchen"]


def test_a_node_joins_with_the_one_file_that_was_carried_to_it(
    secured: SecuredBroker, tmp_path: Path, processes: Run
) -> None:
    carried = tmp_path / "pi"
    carried.mkdir()
    secured.bridge("nodes", "add", "kitchen", "--output", str(carried / "kitchen.env"))
    unpack = "/^#file /{f=$2; next} f && /^#/{print substr($0,2) > f}"
    subprocess.run(["awk", unpack, "kitchen.env"], cwd=carried, check=True)
    operator = watcher(secured)

    running = processes(node(carried / "kitchen.env", carried))

    eventually(
        lambda: any(topic == "sensors/kitchen/reading/main" for topic, _ in operator.received), told=running.output
    )
    assert running.stop() == 0
    operator.close()


@pytest.mark.parametrize("by_certificate", [False, True], ids=["password", "certificate"])
def test_readings_reach_the_store_and_receipts_the_node(
    secured: SecuredBroker, tmp_path: Path, by_certificate: bool, processes: Run
) -> None:
    env_file = secured.add("kitchen", by_certificate=by_certificate)
    account = env_file_variables(secured.directory / "accounts" / "bridge.env")
    environment = secured.variables | account | {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    ingest = python("-m", "bridge", "run", "--only", "ingest")
    bridge = processes(Process(ingest, tmp_path / "bridge.log", environment, tmp_path))
    running = processes(node(env_file, tmp_path / "pi"))

    def receipted() -> bool:
        told = subprocess.run(
            python("-m", "mqtt_client", "status", "--json", "--env-file", str(env_file)),
            capture_output=True,
            text=True,
            env=environment | {"OUTBOX_PATH": str(tmp_path / "pi" / "outbox.db")},
        ).stdout
        return bool(told and json.loads(told)["receipt"])

    eventually(receipted, told=lambda: running.output() + bridge.output())
    assert running.stop() == 0
    assert bridge.stop() == 0
    assert "refuses" not in bridge.output() + running.output()


def test_a_node_that_is_added_again_has_another_password_and_its_old_session_ends(
    secured: SecuredBroker, speakers: Keep
) -> None:
    first = speakers(Speaker.of_node(secured.add("kitchen")))
    old = env_file_variables(secured.folder / "kitchen" / "kitchen.env")["MQTT_PASSWORD"]

    refusal = secured.bridge("nodes", "add", "kitchen", "--output", "elsewhere.env", status=1)
    secured.bridge("nodes", "add", "kitchen", "--output", "kitchen/kitchen.env", "--unpacked", "--again")
    env_file = secured.folder / "kitchen" / "kitchen.env"

    eventually(lambda: first.ends)
    assert "--again" in refusal
    assert not (secured.folder / "elsewhere.env").exists()
    assert speakers(Speaker.of_node(env_file)).is_in
    assert speakers(Speaker.of_node(env_file, MQTT_PASSWORD=old)).connects == ["Not authorized"]


@pytest.mark.parametrize("by_certificate", [False, True], ids=["password", "certificate"])
def test_a_removed_node_is_thrown_out_and_leaves_nothing_behind(
    secured: SecuredBroker, speakers: Keep, by_certificate: bool
) -> None:
    env_file = secured.add("kitchen", by_certificate=by_certificate)
    attic = speakers(Speaker.of_node(secured.add("attic", by_certificate=by_certificate)))
    kitchen = speakers(Speaker.of_node(env_file))
    left = ["sensors/kitchen/availability", "sensors/kitchen/info", "homeassistant/device/kitchen/config"]
    for topic in (*left, "sensors/kitchen/reading/retained-by-mistake"):
        kitchen.publish(topic, retain=True)
    attic.publish("sensors/attic/info", retain=True)

    told = secured.bridge("nodes", "remove", "kitchen")

    eventually(lambda: kitchen.ends)
    assert "cleared  4 retained topics" in told
    assert [topic for topic, _ in speakers(watcher(secured)).received if "kitchen" in topic] == []
    assert attic.is_in
    assert not speakers(Speaker.of_node(env_file)).is_in


def test_a_real_node_that_was_removed_cannot_come_back(
    secured: SecuredBroker, tmp_path: Path, processes: Run
) -> None:
    env_file = secured.add("kitchen", by_certificate=True)
    running = processes(node(env_file, tmp_path / "pi"))
    eventually(lambda: "connected to broker" in running.output(), told=running.output)

    secured.bridge("nodes", "remove", "kitchen")

    eventually(lambda: "cannot be reached" in running.output() or "ended the connection" in running.output())
    operator = watcher(secured)
    retained = [topic for topic, _ in operator.received if "kitchen" in topic]
    operator.close()
    assert retained == []
    assert running.stop() == 0


def test_removal_without_a_running_broker_says_what_is_left_to_do(secured: SecuredBroker, speakers: Keep) -> None:
    env_file = secured.add("kitchen")
    secured.kill()

    told = secured.bridge("nodes", "remove", "kitchen", status=1)
    secured.start()
    secured.wait_ready()

    assert "run this again" in told
    assert speakers(Speaker.of_node(env_file)).connects == ["Not authorized"]
    assert "cleared" in secured.bridge("nodes", "remove", "kitchen")


def test_the_broker_s_certificate_is_renewed_under_running_nodes(secured: SecuredBroker, speakers: Keep) -> None:
    env_file = secured.add("kitchen")
    kitchen = speakers(Speaker.of_node(env_file))

    def seen() -> bytes:
        with socket.create_connection(("127.0.0.1", secured.node_port)) as plain:
            context = ssl.create_default_context(cafile=str(secured.directory / "ca.crt"))
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                certificate = connection.getpeercert(binary_form=True)
                assert certificate
                return certificate

    before = seen()
    secured.bridge("broker", "renew", "--days", "90")

    assert seen() != before
    assert kitchen.is_in


def test_the_list_tells_accounts_and_what_was_heard(shared: SecuredBroker) -> None:
    listed = json.loads(shared.bridge("nodes", "list", "--json").partition("]")[0] + "]")
    text = shared.bridge("nodes", "list")

    assert [(one["node"], one["account"]) for one in listed] == [("attic", "certificate"), ("kitchen", "password")]
    assert re.search(r"^attic +certificate until 20\d\d-\d\d-\d\d", text, re.MULTILINE)
    assert re.search(r"^kitchen +password .*last seen never", text, re.MULTILINE)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../etc/passwd", "a/b", "a b", "a\nuser root", "a:b", "+", "#", "$SYS", "é", "x" * 65),
        *("bridge", "operator", "homeassistant", "health", "provision", "mqtt-bridge-main"),
    ],
)
def test_a_name_that_is_no_name_or_somebody_else_s_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="NAME"):
        check_name(name)


def test_the_repository_s_copies_are_what_the_command_writes() -> None:
    from bridge.provision.configuration import configuration, rights
    from bridge.provision.directory import Plan

    plan = Plan(names=["broker.example"], persistence="/var/lib/mosquitto", owner="mosquitto")
    directory = BrokerDirectory(Path("/etc/mosquitto/bridge"))

    assert (ROOT / "mosquitto" / "secured.conf").read_text("utf-8") == configuration(plan, directory)
    assert (ROOT / "mosquitto" / "secured.acl").read_text("utf-8") == rights("sensors")


def test_a_node_s_file_is_read_as_settings_whole(shared: SecuredBroker) -> None:
    settings = load(NodeSettings, env_file_variables(shared.folder / "attic" / "attic.env"))

    assert (settings.node_id, settings.mqtt_host, settings.broker_port) == (
        "attic",
        "localhost",
        shared.certificate_port,
    )
    assert settings.mqtt_tls_cert
    assert settings.mqtt_tls_cert.name == "attic.crt"


def test_a_broker_that_lets_anybody_in_is_not_taken_for_ours(secured: SecuredBroker, broker: Mosquitto) -> None:
    secured.variables["MQTT_PORT"] = str(broker.port)

    told = secured.bridge("nodes", "remove", "kitchen", status=1)

    assert "lets anybody in" in told
