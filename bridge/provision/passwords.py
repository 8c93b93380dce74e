"""Mosquitto's password files: one line ``name:$7$iterations$salt$hash`` for each account.

The hash is PBKDF2-HMAC-SHA512 (RFC 8018), as mosquitto_passwd of Mosquitto
2.0 writes it. Passwords are made here, 190 random bits each, so its 101
iterations are enough: nobody guesses such a password, and the broker, which
hashes in its only thread, lets a fleet of hundreds return without delay.
"""

import hashlib
import os
import secrets
import string
from base64 import b64encode
from collections.abc import Mapping

ITERATIONS = 101
SALT_BYTES = 12
"""The length that Mosquitto 2.0 expects."""
SIGNS = string.ascii_letters + string.digits
LENGTH = 32


def new_password() -> str:
    """Return a new random password of letters and digits, which no shell or file format takes for something else."""
    return "".join(secrets.choice(SIGNS) for _ in range(LENGTH))


def hashed(password: str) -> str:
    """Return what the file keeps of a password."""
    salt = os.urandom(SALT_BYTES)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${b64encode(salt).decode()}${b64encode(key).decode()}"


def parse(content: str) -> dict[str, str]:
    """Return the hashes of a password file, by account."""
    pairs = (line.partition(":") for line in content.splitlines() if line.strip() and not line.startswith("#"))
    return {name: digest for name, _, digest in pairs}


def render(hashes: Mapping[str, str]) -> bytes:
    """Return a password file."""
    return "".join(f"{name}:{digest}\n" for name, digest in sorted(hashes.items())).encode()
