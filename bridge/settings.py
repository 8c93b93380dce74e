"""The bridge's settings; mqtt_client/settings.py has the loader and what node and bridge share."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from mqtt_client.setting_values import (
    Secret,
    existing_file,
    name,
    number,
    one_of,
    optional,
    path,
    text,
    whole_number,
)
from mqtt_client.settings import CommonSettings, Setting

__all__ = ["BridgeSettings"]

INTERVAL = "seconds from 1 to 31536000"
parse_interval = number(1, 31_536_000)


def http_url(text: str) -> str:
    """Parse an address of a server."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    _ = parts.port  # raises ValueError when it is no port
    return text


def token(text: str) -> Secret:
    """Parse a token that a header can carry: visible ASCII (RFC 9110, section 5.5)."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError
    return Secret(text)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a server that listens on this host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def store_url(text: str) -> str:
    """Parse the address of a store: a SQLite file or a PostgreSQL database."""
    if text.startswith("sqlite:///") and len(text) > len("sqlite:///") and ":memory:" not in text:
        return text
    if text.startswith("postgresql+psycopg://") and len(text) > len("postgresql+psycopg://"):
        return text
    raise ValueError


class BridgeSettings(CommonSettings, frozen=True, kw_only=True):
    """What the bridge reads."""

    server_url: Annotated[
        str | None,
        Setting(
            "http://localhost:5000/data",
            optional(http_url),
            "an http:// or https:// address, or nothing for archives only",
            "where readings are posted; set to nothing: archive only",
            empty_means_none=True,
        ),
    ]
    server_token: Annotated[
        Secret | None,
        Setting(
            "",
            optional(token),
            "a token of visible ASCII characters",
            "sent as Authorization: Bearer",
            secret=True,
        ),
    ]
    server_expect: Annotated[
        str | None,
        Setting(
            "", optional(text), "a text", "a 2xx answer counts only when its body contains this (captive portals)"
        ),
    ]
    server_timeout: Annotated[
        float, Setting("10", number(0.1, 600), "seconds from 0.1 to 600", "s to wait for the server's answer")
    ]
    server_batch_size: Annotated[
        int, Setting("1", whole_number(1, 10_000), "1 to 10000", "readings in one POST; more than 1: as an array")
    ]
    server_concurrency: Annotated[
        int, Setting("4", whole_number(1, 64), "1 to 64", "nodes whose readings are posted at the same time")
    ]
    server_max_tries: Annotated[
        int,
        Setting(
            "20", whole_number(1, 10**6), "1 to 1000000", "tries of a node's first reading before the next one probes"
        ),
    ]
    send_interval: Annotated[
        float,
        Setting(
            "0",
            number(0, 86400),
            "seconds from 0 to 86400",
            "s between bursts of sending; 0: at once",
            aliases=("ENVOI_INTERVALLE",),
        ),
    ]
    store_url: Annotated[
        str,
        Setting(
            "sqlite:///data/bridge.db",
            store_url,
            "sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE",
            "the store",
        ),
    ]
    store_keep_days: Annotated[
        float,
        Setting("30", number(0, 36500), "days from 0 to 36500", "days that settled and archived readings stay in it"),
    ]
    archive_interval: Annotated[
        float, Setting("3600", parse_interval, INTERVAL, "s between two archives", aliases=("ARCHIVE_INTERVALLE",))
    ]
    archive_directory: Annotated[Path, Setting("data/archives", path, "a path", "folder of archives and plot")]
    backup_directory: Annotated[
        Path, Setting("data/backup", path, "a path", "folder that clean-up moves archives to")
    ]
    archive_csv: Annotated[
        str,
        Setting(
            "standard",
            one_of("standard", "excel-fr"),
            "standard or excel-fr",
            "form of CSV; excel-fr: ; and decimal comma",
        ),
    ]
    cleanup_interval: Annotated[
        float,
        Setting("86400", parse_interval, INTERVAL, "s between two clean-ups", aliases=("NETTOYAGE_INTERVALLE",)),
    ]
    backup_keep_days: Annotated[
        float, Setting("0", number(0, 36500), "days from 0 to 36500", "days that backups are kept; 0: for ever")
    ]
    ui_language: Annotated[str, Setting("fr", one_of("fr", "en"), "fr or en", "language of plots and page")]
    web_host: Annotated[str, Setting("127.0.0.1", text, "a host name or address", "where the live page listens")]
    web_port: Annotated[int, Setting("8080", whole_number(1, 65535), "1 to 65535", "port of the live page")]
    web_password: Annotated[
        Secret | None,
        Setting("", optional(Secret), "a password", "needed to listen beyond loopback", secret=True),
    ]
    alarm_rules: Annotated[
        Path | None, Setting("", optional(existing_file), "a readable TOML file", "rules of the alarms")
    ]
    bridge_id: Annotated[str, Setting("main", name, "1 to 64 of letters, digits, - and _", "name of this bridge")]
    bridge_share_group: Annotated[
        str | None,
        Setting("", optional(name), "1 to 64 of letters, digits, - and _", "group of bridges that share the load"),
    ]
    broker_directory: Annotated[
        Path,
        Setting("data/broker", path, "a path", "configuration, accounts and certificates of our broker"),
    ]

    def faults(self) -> list[str]:
        """Return what is wrong between settings that are each right alone."""
        found = super().faults()
        if self.bridge_share_group and self.store_url.startswith("sqlite"):
            found.append(
                f"BRIDGE_SHARE_GROUP: {self.bridge_share_group!r} was given with a SQLite STORE_URL; "
                "allowed is a group over one PostgreSQL store"
            )
        if self.archive_directory.absolute() == self.backup_directory.absolute():
            found.append(
                f"BACKUP_DIRECTORY: {str(self.backup_directory)!r} is ARCHIVE_DIRECTORY too; allowed are two folders"
            )
        if not is_loopback(self.web_host) and not self.web_password:
            found.append(
                f"WEB_HOST: {self.web_host!r} was given without a WEB_PASSWORD; "
                "allowed without one is loopback, such as 127.0.0.1"
            )
        return found
