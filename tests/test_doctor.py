"""The doctor before set-ups that are broken for real, and beside a bridge that it must not disturb."""

import json
import sqlite3
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bridge.doctor import broker as doctor_of_brokers
from bridge.doctor import machine, records, server
from bridge.doctor.doctor import examine
from bridge.forward.answers import Answer
from bridge.provision.certificates import Authority, new_authority, new_key
from bridge.settings import BridgeSettings
from bridge.store.database import open_store
from mqtt_client.probe.finding import Finding
from mqtt_client.settings import load
from tests.http_servers import Receiver
from tests.processes import Mosquitto, Process, eventually, free_port, python
from tests.security.secured import SecuredBroker

ROOT = Path(__file__).parent.parent


def settings_of(**variables: object) -> BridgeSettings:
    return load(BridgeSettings, {"TIMEZONE": "UTC"} | {name: str(value) for name, value in variables.items()})


def by_what(findings: Iterator[Finding]) -> dict[str, list[Finding]]:
    found = defaultdict(list)
    for finding in findings:
        found[finding.what].append(finding)
    return dict(found)


def at_broker(**variables: object) -> dict[str, list[Finding]]:
    return by_what(doctor_of_brokers.find(settings_of(**variables), "ours"))


def one(found: dict[str, list[Finding]], what: str) -> Finding:
    (finding,) = found[what]
    return finding


def publish(broker: Mosquitto, topic: str, payload: str, *options: str) -> None:
    command = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-t", topic, "-m", payload, *options]
    subprocess.run(command, check=True)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredBroker]:
    process = SecuredBroker(tmp_path / "secured")
    yield process
    process.kill()


# --- the broker ----------------------------------------------------------------------------------------------------


def test_a_broker_that_does_not_run_is_told_with_what_to_do() -> None:
    port = free_port()

    found = at_broker(MQTT_PORT=port)

    assert one(found, "broker").result == "fail"
    assert one(found, "broker").told == f"nobody listens at localhost:{port}"
    assert "systemctl status mosquitto" in one(found, "broker").advice
    assert "account" not in found


def test_a_name_without_an_address_is_told() -> None:
    found = at_broker(MQTT_HOST="no-such-host.invalid")

    assert one(found, "name").result == "fail"
    assert "'no-such-host.invalid' has no address" in one(found, "name").told


def test_a_wrong_password_is_told(secured: SecuredBroker) -> None:
    found = at_broker(MQTT_PORT=secured.port, MQTT_USERNAME="bridge", MQTT_PASSWORD="wrong")

    assert one(found, "account").result == "fail"
    assert one(found, "account").told.startswith("account 'bridge' is refused: Not authorized (a wrong password")


def test_nothing_is_wrong_with_the_broker_that_broker_init_makes(secured: SecuredBroker) -> None:
    name, password = secured.account("bridge")

    found = at_broker(MQTT_PORT=secured.port, MQTT_USERNAME=name, MQTT_PASSWORD=password)

    assert {what: one.result for what, all_ in found.items() for one in all_ if one.result != "ok"} == {
        "nodes": "warn"
    }
    assert one(found, "forgery").told.startswith("publishing to topics of others is refused")
    assert "kept for a client that is away" in one(found, "session").told


def test_an_expired_certificate_is_told(secured: SecuredBroker) -> None:
    authority = Authority.read(secured.directory / "ca.crt", secured.directory / "ca.key")
    expired = authority.server(["localhost"], (secured.directory / "server.key").read_bytes(), days=-1)
    (secured.directory / "server.crt").write_bytes(expired)
    secured.stop()
    secured.start()
    secured.wait_ready()

    found = at_broker(MQTT_PORT=secured.node_port, MQTT_TLS_CA=secured.directory / "ca.crt")

    assert one(found, "certificate").told == "it has expired (certificate has expired)"
    assert "account" not in found


def test_a_certificate_of_another_name_or_authority_is_told(secured: SecuredBroker, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.crt"
    stranger.write_bytes(new_authority(new_key(), "a stranger"))

    by_address = at_broker(
        MQTT_HOST="127.0.0.2", MQTT_PORT=secured.node_port, MQTT_TLS_CA=secured.directory / "ca.crt"
    )
    by_stranger = at_broker(MQTT_PORT=secured.node_port, MQTT_TLS_CA=stranger)

    assert one(by_address, "certificate").told.startswith("it is not for '127.0.0.2'")
    assert "an authority that MQTT_TLS_CA does not hold" in one(by_stranger, "certificate").told


def test_tls_on_one_side_only_is_told(secured: SecuredBroker) -> None:
    without = at_broker(MQTT_PORT=secured.node_port)
    with_it = at_broker(MQTT_PORT=secured.port, MQTT_TLS_CA=secured.directory / "ca.crt")

    assert one(without, "account").told == "the port speaks TLS, and MQTT_TLS_CA is not set"
    assert one(with_it, "tls").result == "fail"
    assert "et MQTT_PORT to its TLS port" in one(with_it, "tls").advice


def test_what_is_no_broker_is_told(tmp_path: Path) -> None:
    web = Receiver(tmp_path / "receiver.db")

    found = at_broker(MQTT_PORT=web.port)

    web.stop()
    assert one(found, "account").result == "fail"
    assert "no answer to a greeting in MQTT 5" in one(found, "account").told


def test_a_broker_without_accounts_is_a_warning_and_one_without_topic_rights_a_failure(
    broker: Mosquitto, tmp_path: Path
) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "bridge", "secret"], check=True)
    passwords.chmod(0o644)
    configuration = f"per_listener_settings false\nallow_anonymous false\npassword_file {passwords}\n"
    without_rights = Mosquitto(tmp_path / "without-rights", configuration)

    anonymous = at_broker(MQTT_PORT=broker.port)
    found = at_broker(MQTT_PORT=without_rights.port, MQTT_USERNAME="bridge", MQTT_PASSWORD="secret")

    without_rights.kill()
    assert one(anonymous, "forgery").result == "warn"
    assert one(found, "forgery").result == "fail"
    assert one(found, "forgery").told.endswith("sensors/<another node>/command/result")


def test_what_the_broker_does_not_grant_or_bounds_too_low_is_told(tmp_path: Path) -> None:
    rights = tmp_path / "rights"
    rights.write_text("topic read #\n", encoding="utf-8")
    narrow = Mosquitto(tmp_path / "narrow", f"acl_file {rights}\nmax_packet_size 2000\n")

    found = at_broker(MQTT_PORT=narrow.port)

    narrow.kill()
    assert one(found, "own topics").told.endswith("is refused: Not authorized")
    assert [finding.result for finding in found["limits"]] == ["warn", "ok"]
    assert found["session"][0].result == "fail"


def test_another_store_s_bridge_and_a_node_s_wrong_clock_are_told(broker: Mosquitto) -> None:
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    reading = {"v": 1, "node": "attic", "sensor": "main", "epoch": "k3f9x2ab", "seq": 1, "time": an_hour_ago}
    publish(broker, "sensors/bridge/other/availability", "online", "-r")
    publish(broker, "sensors/bridge/other/health", json.dumps({"store": "theirs"}), "-r")
    publish(broker, "sensors/attic/availability", "online", "-r")
    payload = json.dumps(reading | {"clock": "synced", "values": {"temperature": 21.4}})
    repeat = ["--repeat", "40", "--repeat-delay", "0.2"]
    node = Process(
        [
            "mosquitto_pub",
            "-p",
            str(broker.port),
            "-q",
            "1",
            "-t",
            "sensors/attic/reading/main",
            "-m",
            payload,
            *repeat,
        ],
        broker.folder / "node.log",
    )

    found = at_broker(MQTT_PORT=broker.port)

    node.kill()
    assert one(found, "bridges").told == "bridge 'other' with another store (theirs) is online on this broker"
    assert one(found, "nodes").result == "ok"
    assert "the clock of node attic is 3600 s behind this machine's" in one(found, "clock").told


# --- the server ----------------------------------------------------------------------------------------------------


class Redirecting(BaseHTTPRequestHandler):
    """Answers every OPTIONS with a redirect, an hour ahead."""

    def do_OPTIONS(self) -> None:  # the library's name
        self.send_response_only(301)
        self.send_header("Location", "https://example.org/data")
        self.send_header("Date", (datetime.now(UTC) + timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def at_server(url: str, **variables: object) -> dict[str, list[Finding]]:
    return by_what(server.find(settings_of(SERVER_URL=url, **variables), None))


def test_a_server_is_asked_without_a_reading_and_told_by_what_it_answers(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "receiver.db", token="right")
    base = receiver.url.removesuffix("/data")

    right = at_server(receiver.url, SERVER_TOKEN="right")
    told = {
        "token": at_server(receiver.url),
        "path": at_server(f"{base}/nowhere", SERVER_TOKEN="right"),
        "method": at_server(f"{base}/data/count", SERVER_TOKEN="right"),
        "port": at_server(f"http://127.0.0.1:{free_port()}/data"),
    }

    held = sqlite3.connect(tmp_path / "receiver.db").execute("SELECT count(*) FROM readings").fetchone()
    receiver.stop()
    assert {one.result for findings in right.values() for one in findings} == {"ok"}
    assert one(right, "server").told == f"{receiver.url} takes POST"
    assert {name: one(found, "server").result for name, found in told.items()} == dict.fromkeys(told, "fail")
    assert "refuses access (401)" in one(told["token"], "server").told
    assert "SERVER_TOKEN" in one(told["token"], "server").advice
    assert "404" in one(told["path"], "server").told
    assert "not POST: it would answer 405" in one(told["method"], "server").told
    assert "onnection refused" in one(told["port"], "server").told
    assert held == (0,)


def test_a_redirect_and_a_server_s_wrong_clock_are_told() -> None:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    thread = Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    found = at_server(f"http://127.0.0.1:{httpd.server_port}/data")

    httpd.shutdown()
    httpd.server_close()
    thread.join()
    assert "redirects (301) to https://example.org/data" in one(found, "server").told
    assert "s ahead of this machine's" in one(found, "clock").told


@pytest.mark.parametrize(
    ("answer", "takes_readings", "result"),
    [
        (Answer(status=405, allow="POST"), False, "ok"),
        (Answer(status=501), False, "ok"),
        (Answer(status=404), True, "ok"),  # the page of a server that knows POST only
        (Answer(status=404), False, "fail"),
        (Answer(status=503), True, "fail"),
        (Answer(trouble="connection refused", sent=False), True, "fail"),
    ],
)
def test_what_the_server_took_lately_outweighs_an_answer_to_a_mere_question(
    answer: Answer, takes_readings: bool, result: str
) -> None:
    assert server.judge(answer, "http://example.org/data", takes_readings).result == result


# --- this machine and the store ------------------------------------------------------------------------------------


def test_folders_and_secrets_that_cannot_be_right_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / ".env").write_text("MQTT_PASSWORD=secret\n", encoding="utf-8")
    (tmp_path / ".env").chmod(0o644)

    found = by_what(machine.find(settings_of(ARCHIVE_DIRECTORY=tmp_path / "file" / "archives"), Path(".env")))

    assert one(found, "secrets").advice == "chmod 600 .env"
    assert [finding.told for finding in found["folder"] if finding.result == "fail"] == [
        f"ARCHIVE_DIRECTORY: {tmp_path / 'file'} is no folder"
    ]
    assert one(found, "time zone").result == "warn"


def test_a_password_without_its_account_s_name_is_told(tmp_path: Path) -> None:
    found = by_what(machine.find(settings_of(MQTT_PASSWORD="sesame"), tmp_path / ".env"))

    assert one(found, "settings").result == "warn"
    assert "MQTT_PASSWORD: *** was given without MQTT_USERNAME" in one(found, "settings").told


def test_a_backup_folder_on_another_file_system_is_told(tmp_path: Path) -> None:
    found = by_what(machine.find(settings_of(BACKUP_DIRECTORY="/dev/shm/backup"), tmp_path / ".env"))

    assert any("BACKUP_DIRECTORY is on another file system (tmpfs)" in one.told for one in found["folder"])


def test_a_store_of_a_newer_release_is_told_and_not_touched(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/bridge.db").close()
    connection = sqlite3.connect(tmp_path / "bridge.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = (tmp_path / "bridge.db").read_bytes()

    (finding,) = records.read(settings_of(STORE_URL=f"sqlite:///{tmp_path}/bridge.db")).findings

    assert finding.result == "fail"
    assert "the tables of another release (9999" in finding.told
    assert (tmp_path / "bridge.db").read_bytes() == before


# --- as a whole ----------------------------------------------------------------------------------------------------


def test_the_doctor_disturbs_neither_the_session_nor_the_store_of_a_running_bridge(
    broker: Mosquitto, tmp_path: Path
) -> None:
    receiver = Receiver(tmp_path / "receiver.db")
    variables = {"MQTT_PORT": str(broker.port), "SERVER_URL": receiver.url, "TIMEZONE": "UTC"}
    env_file = tmp_path / "bridge.env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()), encoding="utf-8")
    bridge = Process(python("-m", "bridge", "run", "--env-file", str(env_file)), tmp_path / "log", cwd=tmp_path)
    eventually(lambda: "connected to the broker" in bridge.output(), told=bridge.output)
    settings = load(BridgeSettings, variables)
    eventually(lambda: records.read(settings).findings[-1].told.startswith("it runs"))

    found = by_what(examine(settings, env_file))

    def rows(table: str) -> int:
        connection = sqlite3.connect(tmp_path / "data" / "bridge.db")
        (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        connection.close()
        return int(number)

    assert one(found, "bridge").told == "it runs, with its session at the broker"
    assert {one.result for findings in found.values() for one in findings} <= {"ok", "warn"}
    assert [rows(table) for table in ("nodes", "sources", "readings", "dead_letters")] == [0, 0, 0, 0]
    assert bridge.output().count("connected to the broker") == 1
    assert bridge.stop() == 0
    assert "trying again" not in bridge.output()
    receiver.stop()


def test_the_command_prints_a_line_for_each_thing_and_json_and_fails_where_something_fails(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin", "MQTT_PORT": str(free_port()), "SERVER_URL": "", "PYTHONPATH": str(ROOT)}

    def doctor(*options: str) -> "subprocess.CompletedProcess[str]":
        command = python("-m", "bridge", "doctor", *options)
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    lines, as_json = doctor(), doctor("--json")

    assert lines.returncode == as_json.returncode == 1
    assert "fail  broker        nobody listens at localhost:" in lines.stdout
    assert json.loads(as_json.stdout)["result"] == "fail"
    assert set(json.loads(as_json.stdout)["findings"][0]) == {"what", "result", "told", "advice"}
