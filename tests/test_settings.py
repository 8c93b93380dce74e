"""Settings: each fault told by name, secrets never shown, the environment over .env."""

import traceback
from pathlib import Path

import msgspec
import pytest

from bridge.settings import BridgeSettings
from mqtt_client.errors import SettingsError
from mqtt_client.setting_values import Secret, SensorSpec, host_name, sensor_specs, system_time_zone, without_password
from mqtt_client.settings import CommonSettings, NodeSettings, described, load, read_environment

FAULTS = {
    NodeSettings: {
        "MQTT_HOST": "mqtt://broker",
        "MQTT_PORT": "65536",
        "MQTT_TLS_CA": "no-such-file.pem",
        "MQTT_TOPIC_PREFIX": "home/#",
        "TIMEZONE": "Europe/Atlantis",
        "LOG_LEVEL": "loud",
        "LOG_FORMAT": "xml",
        "NODE_ID": "bridge",
        "NODE_SENSORS": "main",
        "SAMPLE_INTERVAL": "0",
        "NODE_DEADBAND": "temperature:-1",
        "NODE_HEARTBEAT": "soon",
        "NODE_CALIBRATION": "Temperature:1",
        "NODE_CONFIRM": "nobody",
        "NODE_CLOCK_WAIT": "-1",
        "OUTBOX_PATH": "~no-such-user-here/outbox.db",
        "OUTBOX_MAX_READINGS": "1e6",
        "OUTBOX_COMMIT_INTERVAL": "nan",
        "NODE_LED_PIN": "28",
        "NODE_DISCOVERY": "maybe",
    },
    BridgeSettings: {
        "SERVER_URL": "localhost:5000/data",
        "SERVER_TOKEN": "two words",
        "SERVER_TIMEOUT": "0",
        "SERVER_BATCH_SIZE": "0",
        "SERVER_CONCURRENCY": "65",
        "SERVER_MAX_TRIES": "-1",
        "SEND_INTERVAL": "inf",
        "STORE_URL": "mysql://store",
        "STORE_KEEP_DAYS": "-1",
        "ARCHIVE_INTERVAL": "0.5",
        "ARCHIVE_CSV": "excel",
        "CLEANUP_INTERVAL": "daily",
        "BACKUP_KEEP_DAYS": "-1",
        "UI_LANGUAGE": "de",
        "WEB_PORT": "http",
        "ALARM_RULES": "no-such-rules.toml",
        "BRIDGE_ID": "a/b",
        "BRIDGE_SHARE_GROUP": "a+b",
    },
}


def faults_of(kind: type[CommonSettings], variables: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(kind, variables)
    return caught.value.faults


@pytest.mark.parametrize("kind", FAULTS)
def test_every_wrong_setting_is_told_at_once_with_its_name_what_was_given_and_what_is_allowed(
    kind: type[CommonSettings],
) -> None:
    wrong = FAULTS[kind]

    faults = faults_of(kind, wrong)

    assert [fault.partition(":")[0] for fault in faults] == list(wrong)
    for fault, (variable, given) in zip(faults, wrong.items(), strict=True):
        shown = "***" if described(kind)[variable].secret else repr(given)
        assert f"{shown} was given" in fault
        assert fault.endswith(f"; allowed is {described(kind)[variable].allowed}")


@pytest.mark.parametrize("kind", [NodeSettings, BridgeSettings])
def test_with_nothing_set_every_setting_has_its_default(kind: type[CommonSettings]) -> None:
    settings = load(kind, {})
    from_defaults = load(kind, {name: setting.default for name, setting in described(kind).items()})

    assert settings == load(kind, dict.fromkeys(described(kind), " ") | {"SERVER_URL": "http://localhost:5000/data"})
    assert settings == from_defaults


def test_the_defaults_are_those_that_the_design_promises() -> None:
    node, bridge = load(NodeSettings, {}), load(BridgeSettings, {})

    assert (node.mqtt_host, node.broker_port, node.node_id) == ("localhost", 1883, host_name())
    assert node.broker_username == host_name()
    assert (node.sample_interval, node.outbox_max_readings, node.node_discovery) == (5.0, 1_000_000, True)
    assert node.node_sensors == (SensorSpec("main", "simulated", ""),)
    assert (bridge.server_url, bridge.server_batch_size) == ("http://localhost:5000/data", 1)
    assert (bridge.archive_interval, bridge.cleanup_interval, bridge.send_interval) == (3600.0, 86400.0, 0.0)
    assert (bridge.ui_language, bridge.web_host, bridge.web_port) == ("fr", "127.0.0.1", 8080)
    assert bridge.broker_username is None


def test_with_tls_the_port_is_8883_unless_another_is_set(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("x", encoding="ascii")

    default = load(NodeSettings, {"MQTT_TLS_CA": str(authority)})
    chosen = load(NodeSettings, {"MQTT_TLS_CA": str(authority), "MQTT_PORT": "8884"})

    assert (default.broker_port, chosen.broker_port) == (8883, 8884)


def test_settings_that_contradict_each_other_are_told(tmp_path: Path) -> None:
    certificate = tmp_path / "node.pem"
    certificate.write_text("x", encoding="ascii")

    faults = faults_of(
        BridgeSettings,
        {
            "MQTT_TLS_CERT": str(certificate),
            "BRIDGE_SHARE_GROUP": "group",
            "ARCHIVE_DIRECTORY": "data",
            "BACKUP_DIRECTORY": str(Path("data").absolute()),
            "WEB_HOST": "0.0.0.0",
        },
    )

    named = ["MQTT_TLS_CERT, MQTT_TLS_KEY", "BRIDGE_SHARE_GROUP", "BACKUP_DIRECTORY", "WEB_HOST"]
    assert [fault.partition(":")[0] for fault in faults] == named


def test_contradictions_are_told_beside_wrong_settings_unless_these_cause_them() -> None:
    wrong = {"SERVER_BATCH_SIZE": "0", "WEB_HOST": "0.0.0.0", "MQTT_TLS_CERT": "/no-such.pem", "MQTT_TLS_KEY": ""}

    faults = faults_of(BridgeSettings, wrong)

    assert [fault.partition(":")[0] for fault in faults] == ["MQTT_TLS_CERT", "SERVER_BATCH_SIZE", "WEB_HOST"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_the_page_listens_on_loopback_without_a_password(host: str) -> None:
    assert load(BridgeSettings, {"WEB_HOST": host}).web_password is None


def test_the_page_listens_beyond_loopback_with_a_password() -> None:
    settings = load(BridgeSettings, {"WEB_HOST": "0.0.0.0", "WEB_PASSWORD": "sesame"})

    assert settings.web_password == Secret("sesame")


@pytest.mark.parametrize("given", ["broker:1883", "mqtt://broker", "broker/sensors", "my broker"])
def test_an_address_where_a_host_belongs_is_refused(given: str) -> None:
    (fault,) = faults_of(NodeSettings, {"MQTT_HOST": given})

    assert fault.startswith(f"MQTT_HOST: {given!r} was given")


@pytest.mark.parametrize("given", ["::1", "192.0.2.7", "broker.example.org"])
def test_a_host_is_a_name_or_an_address_of_either_family(given: str) -> None:
    assert load(NodeSettings, {"MQTT_HOST": given}).mqtt_host == given


def test_a_number_may_have_a_decimal_comma() -> None:
    assert load(NodeSettings, {"SAMPLE_INTERVAL": "0,5"}).sample_interval == 0.5


def test_calibration_and_deadband_are_numbers_by_quantity() -> None:
    settings = load(NodeSettings, {"NODE_CALIBRATION": "temperature:-0.4, humidity:2", "NODE_DEADBAND": "co2:5"})

    assert settings.node_calibration == {"temperature": -0.4, "humidity": 2.0}
    assert settings.node_deadband == {"co2": 5.0}


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        (BridgeSettings, {"MQTT_PASSWORD": "sesame"}, 1),
        (BridgeSettings, {"MQTT_PASSWORD": "sesame", "MQTT_USERNAME": "bridge"}, 0),
        (BridgeSettings, {"MQTT_USERNAME": "bridge"}, 0),
        (NodeSettings, {"MQTT_PASSWORD": "sesame", "NODE_ID": "kitchen"}, 0),
    ],
)
def test_a_password_that_belongs_to_no_account_is_told(
    kind: type[CommonSettings], given: dict[str, str], told: int
) -> None:
    doubts = load(kind, given).doubts()

    assert len(doubts) == told
    assert all("MQTT_PASSWORD: *** was given without MQTT_USERNAME" in doubt for doubt in doubts)


class TestSecrets:
    SECRETS = ("broker-secret", "server-secret", "page-secret", "store-secret")

    @pytest.fixture
    def variables(self) -> dict[str, str]:
        return {
            "MQTT_PASSWORD": "broker-secret",
            "SERVER_TOKEN": "server-secret",
            "WEB_PASSWORD": "page-secret",
            "STORE_URL": "postgresql+psycopg://bridge:store-secret@db/sensors",
        }

    def test_show_neither_in_repr_nor_str_of_the_settings(self, variables: dict[str, str]) -> None:
        settings = load(BridgeSettings, variables)

        for shown in (repr(settings), str(settings), f"{settings}", repr(msgspec.structs.asdict(settings))):
            assert not any(secret in without_password(shown) for secret in self.SECRETS)
        assert "store-secret" not in repr(settings)
        assert "web_port=8080" in repr(settings)
        assert settings.server_token is not None
        assert settings.server_token.reveal() == "server-secret"
        assert settings.store_url == variables["STORE_URL"]

    def test_show_in_no_traceback_of_a_fault(self, variables: dict[str, str]) -> None:
        wrong = {
            "SERVER_TOKEN": "server-secret with a blank",
            "STORE_URL": "mysql://bridge:store-secret@db/sensors",
            "MQTT_PASSWORD_FILE": "also.txt",
        }

        with pytest.raises(SettingsError) as caught:
            load(BridgeSettings, variables | wrong)

        told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.faults)
        assert not any(secret in told for secret in self.SECRETS)
        assert "'mysql://bridge:***@db/sensors' was given" in told

    def test_are_equal_by_what_they_hold_and_usable_as_keys(self) -> None:
        assert Secret("a") == Secret("a") != Secret("b")
        assert {Secret("a"): 1}[Secret("a")] == 1

    @pytest.mark.parametrize("variable", ["MQTT_PASSWORD", "SERVER_TOKEN", "WEB_PASSWORD"])
    def test_can_be_read_from_a_file(self, variable: str, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("from-a-file\n", encoding="utf-8")

        settings = load(BridgeSettings, {f"{variable}_FILE": "secret"})

        assert getattr(settings, variable.lower()) == Secret("from-a-file")

    def test_a_file_that_cannot_be_read_or_is_empty_is_a_fault(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text("\n", encoding="utf-8")
        (tmp_path / "latin-1").write_bytes(b"\xe9t\xe9")

        faults = faults_of(
            BridgeSettings,
            {"MQTT_PASSWORD_FILE": "missing", "SERVER_TOKEN_FILE": "empty", "WEB_PASSWORD_FILE": "latin-1"},
        )

        assert faults[0].startswith("MQTT_PASSWORD_FILE: 'missing' was given (No such file or directory)")
        assert faults[1].startswith("SERVER_TOKEN_FILE: 'empty' was given, and is empty")
        assert faults[2] == "WEB_PASSWORD_FILE: 'latin-1' was given (not UTF-8); allowed is a readable UTF-8 file"

    def test_what_is_no_secret_is_not_read_from_a_file(self) -> None:
        assert load(NodeSettings, {"MQTT_HOST_FILE": "missing"}).mqtt_host == "localhost"


class TestFrenchNames:
    NAMES = {  # noqa: RUF012  # a table of the tests
        "ENVOI_INTERVALLE": "send_interval",
        "ARCHIVE_INTERVALLE": "archive_interval",
        "NETTOYAGE_INTERVALLE": "cleanup_interval",
    }

    @pytest.mark.parametrize("name", NAMES)
    def test_are_accepted_too(self, name: str) -> None:
        assert getattr(load(BridgeSettings, {name: "42"}), self.NAMES[name]) == 42.0

    def test_are_named_in_a_fault_where_they_were_used(self) -> None:
        (fault,) = faults_of(BridgeSettings, {"ARCHIVE_INTERVALLE": "demain"})

        assert fault.startswith("ARCHIVE_INTERVALLE: 'demain' was given")

    def test_beside_the_english_name_must_say_the_same(self) -> None:
        both = {"ARCHIVE_INTERVAL": "60", "ARCHIVE_INTERVALLE": "30"}

        (fault,) = faults_of(BridgeSettings, both)

        assert fault.startswith("ARCHIVE_INTERVAL, ARCHIVE_INTERVALLE: ")
        assert load(BridgeSettings, both | {"ARCHIVE_INTERVALLE": "60"}).archive_interval == 60.0


class TestNodeSensors:
    @pytest.mark.parametrize(
        ("text", "specs"),
        [
            ("main=simulated", [("main", "simulated", "")]),
            (" a = fixed , b=cpu,", [("a", "fixed", ""), ("b", "cpu", "")]),
            ("r=replay:data/a,b.csv:once", [("r", "replay", "data/a,b.csv:once")]),
            ("r=replay:/x/k=1,v=2.csv,s=fixed", [("r", "replay", "/x/k=1,v=2.csv"), ("s", "fixed", "")]),
            (
                "adc=mcp3008:temperature=0/tmp36,humidity=1/hih4030,out=w1:28-0316a2",
                [("adc", "mcp3008", "temperature=0/tmp36,humidity=1/hih4030"), ("out", "w1", "28-0316a2")],
            ),
            ("i=iio:bme280@76,w=w1", [("i", "iio", "bme280@76"), ("w", "w1", "")]),
        ],
    )
    def test_a_comma_in_an_argument_belongs_to_it(self, text: str, specs: list[tuple[str, str, str]]) -> None:
        assert sensor_specs(text) == tuple(SensorSpec(*spec) for spec in specs)

    @pytest.mark.parametrize(
        "text",
        ["main", "=fixed", "a b=fixed", "a/b=fixed", "main=", "main=:x", ",a=fixed", "a=fixed,b", "a=fixed,,b=cpu"],
    )
    def test_what_is_no_sensor_is_refused_as_it_was_given(self, text: str) -> None:
        (fault,) = faults_of(NodeSettings, {"NODE_SENSORS": text})

        assert fault.startswith(f"NODE_SENSORS: {text!r} was given ('")
        assert "is not name=driver[:argument]);" in fault

    def test_two_sensors_of_one_name_are_refused(self) -> None:
        (fault,) = faults_of(NodeSettings, {"NODE_SENSORS": "a=fixed,a=cpu"})

        assert "two sensors have one name" in fault


class TestServerUrl:
    def test_set_to_nothing_means_archives_only(self) -> None:
        assert load(BridgeSettings, {"SERVER_URL": ""}).server_url is None

    @pytest.mark.parametrize("url", ["ftp://server/", "http://", "http://server:port/", "http://[::1/", "server"])
    def test_is_an_address_of_http(self, url: str) -> None:
        (fault,) = faults_of(BridgeSettings, {"SERVER_URL": url})

        assert fault.startswith(f"SERVER_URL: {url!r} was given")


class TestEnvFile:
    def test_the_environment_wins_over_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / ".env").write_text("MQTT_HOST=from-file\nMQTT_PORT=1884\n", encoding="utf-8")
        monkeypatch.setenv("MQTT_HOST", "from-environment")

        settings = load(NodeSettings, read_environment())

        assert (settings.mqtt_host, settings.mqtt_port) == ("from-environment", 1884)

    def test_an_environment_variable_set_to_nothing_brings_the_default_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".env").write_text("MQTT_HOST=from-file\nSERVER_URL=http://server/\n", encoding="utf-8")
        monkeypatch.setenv("MQTT_HOST", "")
        monkeypatch.setenv("SERVER_URL", "")

        settings = load(BridgeSettings, read_environment())

        assert (settings.mqtt_host, settings.server_url) == ("localhost", None)

    def test_another_can_be_named(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("MQTT_HOST=this-one-not\n", encoding="utf-8")
        named = tmp_path / "kitchen.env"
        named.write_text("\ufeff# the kitchen\nexport MQTT_HOST='broker' # comment\n", encoding="utf-8")

        assert load(NodeSettings, read_environment(named)).mqtt_host == "broker"

    def test_none_is_needed(self) -> None:
        assert load(NodeSettings, read_environment()).mqtt_host == "localhost"

    def test_one_that_was_named_must_be_readable(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"--env-file: cannot read .*missing\.env"):
            read_environment(tmp_path / "missing.env")

    def test_values_are_taken_as_they_are_written(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("MQTT_PASSWORD='a${HOME}$b#c'\n", encoding="utf-8")

        assert load(NodeSettings, read_environment()).mqtt_password == Secret("a${HOME}$b#c")

    def test_lines_that_set_nothing_are_told_by_number_and_never_shown(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text('MQTT_HOST=broker\nMQTT_PORT\nMQTT_PASSWORD="sesame\n', encoding="utf-8")

        with pytest.raises(SettingsError) as caught:
            read_environment()

        assert caught.value.faults == [".env: line 2, 3 cannot be understood; allowed are lines NAME=value"]


class TestTimeZone:
    def test_is_a_name_of_the_zone_database(self) -> None:
        assert load(NodeSettings, {"TIMEZONE": "Europe/Paris"}).timezone.key == "Europe/Paris"

    def test_is_the_systems_unless_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", ":Asia/Kathmandu")

        assert load(NodeSettings, {}).timezone.key == "Asia/Kathmandu"

    def test_of_the_system_falls_back_to_one_that_exists(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "Nowhere/Land")

        assert system_time_zone().key

    @pytest.mark.parametrize("given", ["Europe", "../../etc/passwd", "CET+1"])
    def test_that_does_not_exist_is_refused(self, given: str) -> None:
        (fault,) = faults_of(NodeSettings, {"TIMEZONE": given})

        assert fault.startswith(f"TIMEZONE: {given!r} was given")


def test_a_host_called_bridge_needs_a_node_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "bridge.example.org")

    (fault,) = faults_of(NodeSettings, {})

    assert fault.startswith("NODE_ID: '' was given (and the host's name 'bridge' is reserved)")


def test_a_host_name_becomes_a_node_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "küche.example.org")

    assert load(NodeSettings, {}).node_id == "k-che"
