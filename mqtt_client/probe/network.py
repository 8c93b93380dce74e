"""The way to the broker below MQTT: name, port, TLS, certificates. Each step that fails ends the way.

Asks with connections of its own that say nothing, so nobody is disturbed by it.
"""

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

from mqtt_client.broker import tls_context
from mqtt_client.errors import SettingsError
from mqtt_client.expiry import Expiry, not_after
from mqtt_client.probe.finding import FAIL, Finding, fail, ok, warn
from mqtt_client.settings import CommonSettings

TIMEOUT_S = 5.0

# OpenSSL's X509_V_ERR_ codes (x509_vfy.h)
_NOT_YET_VALID, _EXPIRED, _WRONG_NAME, _WRONG_ADDRESS = 9, 10, 62, 64
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}


def find(settings: CommonSettings) -> Iterator[Finding]:
    """Go the way to the broker; it is open when the last finding is not a failure."""
    try:
        yield _name(settings)
        with _connected(settings) as plain:
            yield ok("broker", f"{_where(settings)} answers")
            if settings.mqtt_tls_ca is None:
                yield from _without_tls(settings)
            else:
                yield from _tls(settings, plain)
    except socket.gaierror as exc:
        yield fail("name", f"{settings.mqtt_host!r} has no address ({exc.strerror})", "set MQTT_HOST, or the DNS")
    except OSError as exc:
        yield _unreachable(settings, exc)


def is_open(findings: list[Finding]) -> bool:
    """Tell whether the way is open."""
    return all(finding.result != FAIL for finding in findings)


def speaks_tls(settings: CommonSettings) -> bool:
    """Tell whether the port answers a TLS hello, whoever it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connected(settings) as plain, context.wrap_socket(plain, server_hostname=settings.mqtt_host):
            return True
    except OSError:
        return False


def is_loopback(host: str) -> bool:
    """Tell whether a name or address means this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _where(settings: CommonSettings) -> str:
    return f"{settings.mqtt_host}:{settings.broker_port}"


def _name(settings: CommonSettings) -> Finding:
    found = socket.getaddrinfo(settings.mqtt_host, settings.broker_port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return ok("name", f"{settings.mqtt_host} is {', '.join(addresses)}")


def _connected(settings: CommonSettings) -> socket.socket:
    return socket.create_connection((settings.mqtt_host, settings.broker_port), TIMEOUT_S)


def _unreachable(settings: CommonSettings, exc: OSError) -> Finding:
    if isinstance(exc, TimeoutError):
        return fail(
            "broker",
            f"{_where(settings)} does not answer within {TIMEOUT_S:g} s",
            "is the machine on, is a firewall in between? Else set MQTT_HOST and MQTT_PORT",
        )
    if isinstance(exc, ConnectionRefusedError):
        return fail(
            "broker",
            f"nobody listens at {_where(settings)}",
            "start the broker (`systemctl status mosquitto`), or set MQTT_HOST and MQTT_PORT",
        )
    return fail(
        "broker", f"{_where(settings)}: {exc.strerror or exc}", "look at the network, MQTT_HOST and MQTT_PORT"
    )


def _without_tls(settings: CommonSettings) -> Iterator[Finding]:
    if is_loopback(settings.mqtt_host):
        yield ok("tls", "none; it is not needed on this machine")
    elif speaks_tls(settings):
        yield fail("tls", f"{_where(settings)} speaks TLS, and MQTT_TLS_CA is not set", "set MQTT_TLS_CA")
    else:
        yield warn(
            "tls",
            "none: passwords and readings can be read on the way",
            "give the broker a certificate and set MQTT_TLS_CA",
        )


def _tls(settings: CommonSettings, plain: socket.socket) -> Iterator[Finding]:
    try:
        context = tls_context(settings)
    except SettingsError as exc:
        yield from (fail("tls", fault, "set them to matching files") for fault in exc.faults)
        return
    try:
        with context.wrap_socket(plain, server_hostname=settings.mqtt_host) as secured:
            yield ok("tls", f"{secured.version()}, the broker's certificate is for {settings.mqtt_host}")
            yield from _validity(settings, secured.getpeercert(binary_form=True))
    except ssl.SSLCertVerificationError as exc:
        yield _certificate_refused(settings, exc)
    except ssl.SSLError as exc:
        yield fail(
            "tls",
            f"{_where(settings)} does not speak TLS ({exc.reason or exc})",
            "set MQTT_PORT to the broker's TLS port, often 8883",
        )
    except ConnectionError as exc:
        yield fail(
            "tls",
            f"{_where(settings)} ends the connection at the TLS hello ({exc.strerror})",
            "does it speak TLS 1.2 or newer? Set MQTT_PORT to its TLS port, often 8883",
        )


def _validity(settings: CommonSettings, shown: bytes | None) -> Iterator[Finding]:
    """Tell when the broker's certificate (DER) ends, and the others that a connection depends on."""
    expiry = Expiry(settings)
    expiry.seen(shown)
    warnings = expiry.warnings(datetime.now(UTC))
    for warning in warnings:
        yield warn("certificate", warning, "renew it (`mqtt-bridge broker renew`): nobody can connect after it")
    end = not_after(shown) if shown else None
    if not warnings and end is not None:
        yield ok("certificate", f"valid until {end:%Y-%m-%d}")


def _certificate_refused(settings: CommonSettings, exc: ssl.SSLCertVerificationError) -> Finding:
    code, said = exc.verify_code, exc.verify_message
    if code == _EXPIRED:
        return fail("certificate", f"it has expired ({said})", "renew the broker's certificate, or set this clock")
    if code == _NOT_YET_VALID:
        return fail("certificate", f"{said}: this machine's clock is behind", "set this machine's clock")
    if code in (_WRONG_NAME, _WRONG_ADDRESS):
        return fail(
            "certificate",
            f"it is not for {settings.mqtt_host!r} ({said})",
            "set MQTT_HOST to a name that is in it, or make one with this name",
        )
    if code in _UNKNOWN_AUTHORITY:
        return fail(
            "certificate",
            f"it is of an authority that MQTT_TLS_CA does not hold ({said})",
            "copy the authority's certificate of this broker to MQTT_TLS_CA",
        )
    return fail("certificate", f"it is refused: {said}", "give the broker a certificate that is right")
