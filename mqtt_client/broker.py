"""How everyone here talks to the broker: MQTT 5, a session that is never wiped by accident, TLS where it is set.

paho-mqtt begins a clean session on the first connect of a process unless told
otherwise, and an MQTT 5 session ends with the connection unless its expiry is
sent, so both are always said here (MQTT 5.0, sections 3.1.2.4 and 3.1.2.11.2).
"""

import ssl

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mqtt_client.errors import SettingsError
from mqtt_client.settings import CommonSettings

KEEPALIVE_S = 15
NO_SUBSCRIBER = 0x10
"""PUBACK reason: the broker took the message and nobody gets it; for us no delivery."""


def new_client(
    settings: CommonSettings, client_id: str, *, manual_ack: bool = False, kind: type[Client] = Client
) -> Client:
    """Return an MQTT 5 client with account and TLS set, not yet connected.

    Raises:
        SettingsError: a certificate or key cannot be used.
    """
    client = kind(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5, manual_ack=manual_ack)
    if settings.broker_username:
        password = settings.mqtt_password.reveal() if settings.mqtt_password else None
        client.username_pw_set(settings.broker_username, password)
    if settings.mqtt_tls_ca:
        client.tls_set_context(tls_context(settings))
    return client


def tls_context(settings: CommonSettings) -> ssl.SSLContext:
    """Return the TLS context of these settings: TLS 1.2 or newer, the broker's name and certificate checked.

    Raises:
        SettingsError: a certificate or key cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=str(settings.mqtt_tls_ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.mqtt_tls_cert:
            context.load_cert_chain(str(settings.mqtt_tls_cert), str(settings.mqtt_tls_key))
    except (ssl.SSLError, OSError) as exc:
        raise SettingsError(
            [f"MQTT_TLS_CA, MQTT_TLS_CERT, MQTT_TLS_KEY: cannot be used ({exc}); allowed are matching PEM files"]
        ) from exc
    return context


def shown_certificate(client: Client) -> bytes | None:
    """Return the certificate (DER) that the broker showed on this connection, None without TLS."""
    ask = getattr(client.socket(), "getpeercert", None)  # a TLS socket, or one of ours around it
    certificate: bytes | None = ask(binary_form=True) if ask else None
    return certificate


def why_not(error: BaseException | None) -> str:
    """Return in a few words why no connection could be made."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message.rstrip('.').lower()}"
        case ssl.SSLError():
            return f"TLS: {(error.reason or 'no agreement').replace('_', ' ').lower()}"
        case OSError():
            return (error.strerror or str(error) or "no connection").lower()
        case _:
            return "no connection"


def connect_properties(*, session_expiry_s: int, receive_maximum: int | None = None) -> Properties:
    """Return the properties of a CONNECT packet."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
    properties.SessionExpiryInterval = session_expiry_s
    if receive_maximum is not None:
        properties.ReceiveMaximum = receive_maximum
    return properties
