"""Settings: read once, from the environment and .env, into a frozen struct.

Every setting is a field that carries its default, its parser and its help,
so that the loader, ``check``, ``.env.example`` and the README's table all
say the same. A variable of the environment wins over the same one in .env;
one that is set to nothing has its default. ``NAME_FILE`` reads a secret from
a file.
"""

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args, get_type_hints
from zoneinfo import ZoneInfo

import msgspec

from mqtt_client.errors import SettingsError
from mqtt_client.setting_values import (
    Secret,
    SensorSpec,
    by_quantity,
    existing_file,
    host,
    number,
    on_off,
    one_of,
    optional,
    own_name_or_host,
    path,
    sensor_specs,
    text,
    time_zone,
    tolerance_by_quantity,
    topic_prefix,
    whole_number,
    without_password,
)

T = TypeVar("T")


class Setting(msgspec.Struct, Generic[T], frozen=True):
    """What the loader knows of one variable; its name is the field's, in capitals."""

    default: str
    """As a person would write it; empty: none."""
    parse: Callable[[str], T]
    """Returns the value; raises ValueError when the text is not allowed."""
    allowed: str
    """What is allowed, to complete the sentence 'allowed is …'."""
    help: str
    aliases: tuple[str, ...] = ()
    """Further names, such as those of the script that this replaces."""
    empty_means_none: bool = False
    """Set to nothing, the variable means none, where others then mean their default."""
    secret: bool = False
    """Never shown; ``NAME_FILE`` reads it from a file."""


class CommonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What node and bridge both read."""

    mqtt_host: Annotated[str, Setting("localhost", host, "a host name or address alone", "MQTT broker")]
    mqtt_port: Annotated[
        int | None,
        Setting("", optional(whole_number(1, 65535)), "1 to 65535", "MQTT port; 1883, with TLS 8883 unless set"),
    ]
    mqtt_username: Annotated[
        str | None,
        Setting("", optional(text), "a name", "account at the broker; the node's is NODE_ID unless set"),
    ]
    mqtt_password: Annotated[Secret | None, Setting("", optional(Secret), "a password", "its password", secret=True)]
    mqtt_tls_ca: Annotated[
        Path | None,
        Setting(
            "",
            optional(existing_file),
            "a readable PEM file",
            "authority of the broker's certificate; set: TLS",
        ),
    ]
    mqtt_tls_cert: Annotated[
        Path | None,
        Setting("", optional(existing_file), "a readable PEM file", "own certificate, for mutual TLS"),
    ]
    mqtt_tls_key: Annotated[
        Path | None, Setting("", optional(existing_file), "a readable PEM file", "its private key")
    ]
    mqtt_topic_prefix: Annotated[
        str,
        Setting(
            "sensors",
            topic_prefix,
            "levels with / between them, without + # $ or blanks",
            "first level of all topics",
        ),
    ]
    timezone: Annotated[
        ZoneInfo,
        Setting(
            "",
            time_zone,
            "a zone's name such as Europe/Paris",
            "time zone of texts and files; the system's unless set",
        ),
    ]
    log_level: Annotated[
        str,
        Setting(
            "info",
            one_of("debug", "info", "warning", "error"),
            "debug, info, warning or error",
            "least level logged",
        ),
    ]
    log_format: Annotated[str, Setting("text", one_of("text", "json"), "text or json", "form of a log line")]

    @property
    def broker_port(self) -> int:
        """The port to connect to."""
        return self.mqtt_port or (8883 if self.mqtt_tls_ca else 1883)

    @property
    def broker_username(self) -> str | None:
        """The account at the broker."""
        return self.mqtt_username

    def __repr__(self) -> str:
        values = (f"{field}={getattr(self, field)!r}" for field in self.__struct_fields__)
        return without_password(f"{type(self).__name__}({', '.join(values)})")

    def faults(self) -> list[str]:
        """Return what is wrong between settings that are each right alone."""
        if (self.mqtt_tls_cert is None) != (self.mqtt_tls_key is None):
            return ["MQTT_TLS_CERT, MQTT_TLS_KEY: only one of the two is set; allowed is both or neither"]
        if self.mqtt_tls_cert and not self.mqtt_tls_ca:
            return ["MQTT_TLS_CERT: set without MQTT_TLS_CA; allowed is a certificate with the authority's beside it"]
        return []

    def doubts(self) -> list[str]:
        """Return what is right and yet of no use as it stands: it is told, and stops nothing."""
        if self.mqtt_password and not self.broker_username:
            return [
                "MQTT_PASSWORD: *** was given without MQTT_USERNAME, and is not sent; "
                "allowed is a password with its account's name"
            ]
        return []


class NodeSettings(CommonSettings, frozen=True, kw_only=True):
    """What the node reads."""

    node_id: Annotated[
        str,
        Setting(
            "",
            own_name_or_host,
            "1 to 64 of letters, digits, - and _, not 'bridge'",
            "the node's name; the host's unless set",
        ),
    ]
    node_sensors: Annotated[
        tuple[SensorSpec, ...],
        Setting("main=simulated", sensor_specs, "name=driver[:argument], comma-separated", "sensors to read"),
    ]
    sample_interval: Annotated[
        float,
        Setting("5", number(0.001, 86400), "seconds from 0.001 to 86400", "s between two readings of a sensor"),
    ]
    node_deadband: Annotated[
        dict[str, float],
        Setting(
            "",
            tolerance_by_quantity,
            "quantity:number, comma-separated, from 0 on",
            "report a quantity only when it moved by this much",
        ),
    ]
    node_heartbeat: Annotated[
        float,
        Setting(
            "300",
            number(1, 86400),
            "seconds from 1 to 86400",
            "s after which a reading goes out all the same",
        ),
    ]
    node_calibration: Annotated[
        dict[str, float],
        Setting(
            "",
            by_quantity,
            "quantity:number, comma-separated",
            "added to what a sensor measures, in its unit",
        ),
    ]
    node_confirm: Annotated[
        str,
        Setting(
            "bridge",
            one_of("bridge", "broker"),
            "bridge or broker",
            "whose word lets the node forget a reading; broker: for use without a bridge",
        ),
    ]
    node_clock_wait: Annotated[
        float,
        Setting(
            "600",
            number(0, 86400),
            "seconds from 0 to 86400",
            "s that readings wait for an implausible clock to be set",
        ),
    ]
    outbox_path: Annotated[Path, Setting("data/outbox.db", path, "a path", "the node's outbox")]
    outbox_max_readings: Annotated[
        int,
        Setting(
            "1000000",
            whole_number(100, 10**9),
            "100 to 1000000000",
            "readings it holds before it gives up the oldest",
        ),
    ]
    outbox_commit_interval: Annotated[
        float,
        Setting(
            "0",
            number(0, 3600),
            "seconds from 0 to 3600",
            "s between commits; > 0 spares the card, that much is at risk",
        ),
    ]
    node_led_pin: Annotated[
        int | None,
        Setting("", optional(whole_number(0, 27)), "a BCM pin from 0 to 27", "LED that shows the node's state"),
    ]
    node_discovery: Annotated[bool, Setting("on", on_off, "on or off", "announce the node to Home Assistant")]

    @property
    def broker_username(self) -> str | None:
        """The account at the broker: the node's name unless another is set."""
        return self.mqtt_username or self.node_id

    def every(self, seconds: float) -> "NodeSettings":
        """Return these settings with another interval."""
        return msgspec.structs.replace(self, sample_interval=seconds)


Settings = TypeVar("Settings", bound=CommonSettings)


@cache
def described(kind: type[CommonSettings]) -> dict[str, Setting[Any]]:
    """Return the variables that this struct reads, by name, in their order."""
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, Setting[Any]] = {}
    for field in kind.__struct_fields__:
        (setting,) = (extra for extra in get_args(hints[field])[1:] if isinstance(extra, Setting))
        found[field.upper()] = setting
    return found


def read_environment(env_file: Path | None = None) -> dict[str, str]:
    """Return the environment's variables over those of the env file (.env in this folder unless given).

    Raises:
        SettingsError: the file was given and cannot be read, or has lines that are not ``NAME=value``.
    """
    return env_file_variables(env_file) | dict(os.environ)


def env_file_variables(env_file: Path | None = None) -> dict[str, str]:
    """Return the variables of the env file alone, none where none was given and there is no .env.

    Their values are taken as they are written: a ``$`` in a password is a dollar sign.

    Raises:
        SettingsError: the file was given and cannot be read, or has lines that are not ``NAME=value``.
    """
    source = env_file or Path(".env")
    if env_file is None and not source.is_file():
        return {}
    from dotenv.parser import parse_stream  # its parents load much that a node without an env file spares

    try:
        with source.open(encoding="utf-8-sig") as stream:
            lines = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(
            [f"--env-file: cannot read {str(source)!r} ({_why(exc)}); allowed is a UTF-8 file"]
        ) from exc
    unreadable = [line for line in lines if line.error or (line.key and line.value is None)]
    if unreadable:
        numbers = ", ".join(str(line.original.line) for line in unreadable)
        raise SettingsError([f"{source}: line {numbers} cannot be understood; allowed are lines NAME=value"])
    return {line.key: line.value or "" for line in lines if line.key}


def load(kind: type[Settings], variables: Mapping[str, str]) -> Settings:
    """Turn variables into settings.

    Raises:
        SettingsError: with a line for every fault, not only the first.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for variable, setting in described(kind).items():
        try:
            values[variable.lower()] = _value(variable, setting, variables)
        except SettingsError as exc:
            faults += exc.faults
            wrong.append(variable)
            values[variable.lower()] = _stand_in(setting)
    settings = kind(**values)
    faults += [fault for fault in settings.faults() if not any(variable in fault for variable in wrong)]
    if faults:
        raise SettingsError(faults)
    return settings


def _stand_in(setting: Setting[T]) -> T | None:
    """Return the default in place of a faulty value, so that what is wrong between the others is found too."""
    try:
        return setting.parse(setting.default)
    except (ValueError, OSError):
        return None  # a host's name that is no NODE_ID, say


def _value(variable: str, setting: Setting[T], variables: Mapping[str, str]) -> T:
    """Return one setting's value; raises SettingsError with its fault."""
    name, given = _given(variable, setting, variables)
    explicitly_none = setting.empty_means_none and variable in variables
    try:
        return setting.parse(given if given or explicitly_none else setting.default)
    except (ValueError, OSError) as exc:
        shown = "***" if setting.secret else without_password(repr(given))
        reason = f" ({_why(exc)})" if str(exc) else ""
        raise SettingsError([f"{name}: {shown} was given{reason}; allowed is {setting.allowed}"]) from None


def _given(variable: str, setting: Setting[T], variables: Mapping[str, str]) -> tuple[str, str]:
    """Return the name under which a setting was given, and its text, empty when it was not."""
    names = [variable, *setting.aliases, *([f"{variable}_FILE"] if setting.secret else [])]
    given = {name: variables[name].strip() for name in names if variables.get(name, "").strip()}
    if len(set(given.values())) > 1:
        raise SettingsError([f"{', '.join(given)}: these set one thing differently; allowed is one of them"])
    name, text = next(iter(given.items()), (variable, ""))
    if setting.secret and name == f"{variable}_FILE":
        return name, _secret_in(name, text)
    return name, text


def _why(exc: Exception) -> str:
    """Return an error's words; of the system's without number and path, which are told already."""
    return getattr(exc, "strerror", None) or str(exc)


def _secret_in(name: str, source: str) -> str:
    try:
        found = path(source).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as exc:
        reason = "not UTF-8" if isinstance(exc, UnicodeDecodeError) else _why(exc)
        raise SettingsError([f"{name}: {source!r} was given ({reason}); allowed is a readable UTF-8 file"]) from None
    if not found:
        raise SettingsError([f"{name}: {source!r} was given, and is empty; allowed is a file with the secret in it"])
    return found
