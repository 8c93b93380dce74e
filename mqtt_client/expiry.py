"""When certificates end, told thirty days ahead: the broker's as it was shown, the authority's and one's own.

A certificate that has ended stops a whole fleet at once, so the end is read
from the certificates themselves: DER is walked as far as the validity (RFC
5280, section 4.1), which needs no library on the node. It remembers nothing.
"""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mqtt_client.settings import CommonSettings

WARN = timedelta(days=30)
SEQUENCE, EXPLICIT_VERSION, UTC_TIME = 0x30, 0xA0, 0x17
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class Expiry:
    """The certificates that one connection to the broker depends on."""

    def __init__(self, settings: CommonSettings) -> None:
        self._authority = settings.mqtt_tls_ca
        self._own = settings.mqtt_tls_cert
        self._broker_end: datetime | None = None

    def seen(self, certificate: bytes | None) -> None:
        """Note the certificate (DER) that the broker showed when the connection was made."""
        self._broker_end = None if certificate is None else not_after(certificate)

    def warnings(self, now: datetime) -> list[str]:
        """Return a sentence for each certificate that ends within thirty days, or has ended."""
        ends = {
            "the broker's certificate": self._broker_end,
            "the certificate of the broker's authority (MQTT_TLS_CA)": latest_end(self._authority),
            "the own certificate (MQTT_TLS_CERT)": latest_end(self._own),
        }
        return [_sentence(what, end, now) for what, end in ends.items() if end is not None and end - now < WARN]


def latest_end(pem: Path | None) -> datetime | None:
    """Return when the last certificate of a PEM file ends; None where there is none to read."""
    try:
        ends = [] if pem is None else [not_after(der) for der in _certificates(pem.read_text("ascii", "replace"))]
    except (OSError, ValueError):
        return None
    return max((end for end in ends if end is not None), default=None)


def not_after(certificate: bytes) -> datetime | None:
    """Return when a certificate (DER) ends, None where it cannot be understood."""
    try:
        _, start, _ = _element(certificate, 0)  # Certificate
        _, position, _ = _element(certificate, start)  # TBSCertificate
        tag, _, end = _element(certificate, position)
        fields_before = 4 if tag == EXPLICIT_VERSION else 3  # (version), serial number, signature, issuer
        for _ in range(fields_before):
            _, _, position = _element(certificate, position)
        _, position, _ = _element(certificate, position)  # Validity
        _, _, position = _element(certificate, position)  # notBefore
        tag, start, end = _element(certificate, position)
        text = certificate[start:end].decode("ascii")
        if tag == UTC_TIME:  # two digits of the year, 1950 to 2049
            text = ("19" if text >= "50" else "20") + text
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except (IndexError, ValueError):
        return None


def _element(der: bytes, position: int) -> tuple[int, int, int]:
    """Return tag, start and end of the content of the element at this position (X.690, section 8.1)."""
    tag, size = der[position], der[position + 1]
    start = position + 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[position + 2 : start], "big")
    if start + size > len(der):
        raise ValueError("an element ends behind the data")
    return tag, start, start + size


def _certificates(text: str) -> Iterator[bytes]:
    for part in text.split(_BEGIN)[1:]:
        yield ssl.PEM_cert_to_DER_cert(_BEGIN + part.partition(_END)[0] + _END)


def _sentence(what: str, end: datetime, now: datetime) -> str:
    if end <= now:
        return f"{what} has expired ({end:%Y-%m-%d})"
    return f"{what} expires in {(end - now).days} days ({end:%Y-%m-%d})"
