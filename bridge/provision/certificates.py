"""Certificates: an authority of our own, the broker's certificate, those of nodes, and the revocation list.

Keys are on the curve P-256. Validity begins in the past, since a Pi without
a clock chip boots there, and has to connect before it knows the time. A node's
certificate is good for clients alone, the broker's for servers alone, so a
stolen node cannot pose as the broker (RFC 5280, section 4.2.1.12).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mqtt_client.errors import PersonNeeded

NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
AUTHORITY_DAYS = 7300
LEAF_DAYS = 1825


class BadCertificate(PersonNeeded):
    """A certificate or key of the broker's folder cannot be read."""


class Authority:
    """Who signs: its certificate and private key."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Read both from PEM.

        Raises:
            BadCertificate: they cannot be read, or do not belong together.
        """
        try:
            self.certificate = x509.load_pem_x509_certificate(certificate)
            self._key = serialization.load_pem_private_key(key, password=None)
        except (ValueError, TypeError) as exc:
            raise BadCertificate(f"ca.crt, ca.key: cannot be read ({exc}); restore them from your backup") from exc
        if self._key.public_key() != self.certificate.public_key():
            raise BadCertificate("ca.crt, ca.key: they do not belong together; restore them from your backup")

    @classmethod
    def read(cls, certificate: Path, key: Path) -> "Authority":
        """Read both files.

        Raises:
            BadCertificate: they cannot be read.
        """
        try:
            return cls(certificate.read_bytes(), key.read_bytes())
        except OSError as exc:
            raise BadCertificate(f"{exc.filename}: {exc.strerror}; only with it can certificates be made") from exc

    def server(self, names: Sequence[str], key: bytes, days: int = LEAF_DAYS) -> bytes:
        """Return the broker's certificate for these names and addresses, as PEM."""
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        return self._leaf(names[0], key, ExtendedKeyUsageOID.SERVER_AUTH, days, alternatives)

    def client(self, name: str, key: bytes, days: int = LEAF_DAYS) -> bytes:
        """Return a node's certificate, as PEM; its common name is the account at the broker."""
        return self._leaf(name, key, ExtendedKeyUsageOID.CLIENT_AUTH, days, None)

    def revocations(self, serials: Iterable[int]) -> bytes:
        """Return the revocation list, as PEM; it is valid as long as the authority, since nobody fetches it anew."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now)
            .next_update(self.certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
            .add_extension(_issued_by(self.certificate), critical=False)
        )
        for serial in serials:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            )
        return builder.sign(_signing(self._key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _leaf(
        self, name: str, key: bytes, use: x509.ObjectIdentifier, days: int, names: x509.SubjectAlternativeName | None
    ) -> bytes:
        public = serialization.load_pem_private_key(key, password=None).public_key()
        latest = self.certificate.not_valid_after_utc
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(name))
            .issuer_name(self.certificate.subject)
            .public_key(_certified(public))
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOT_BEFORE)
            .not_valid_after(min(latest, datetime.now(UTC) + timedelta(days=days)))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(_certified(public)), critical=False)
            .add_extension(_issued_by(self.certificate), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(_signing(self._key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def new_key() -> bytes:
    """Return a new private key, as PEM without a passphrase."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_authority(key: bytes, name: str, days: int = AUTHORITY_DAYS) -> bytes:
    """Return the certificate of a new authority, as PEM, signed by itself."""
    signing = _signing(serialization.load_pem_private_key(key, password=None))
    identifier = x509.SubjectKeyIdentifier.from_public_key(signing.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(_subject(name))
        .public_key(signing.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(datetime.now(UTC) + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
    )
    return builder.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def serial_and_end(certificate: bytes) -> tuple[int, datetime]:
    """Return a certificate's serial number and the end of its validity."""
    found = x509.load_pem_x509_certificate(certificate)
    return found.serial_number, found.not_valid_after_utc


def names_of(certificate: bytes) -> set[str]:
    """Return the names and addresses that a broker's certificate is good for."""
    found = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return {str(name.value) for name in found.value}


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _issued_by(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _signing(key: object) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadCertificate("ca.key: is not a key on an elliptic curve; `mqtt-bridge broker init` makes such keys")
    return key


def _certified(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadCertificate(
            "server.key: is not a key on an elliptic curve; `mqtt-bridge broker init` makes such keys"
        )
    return key
