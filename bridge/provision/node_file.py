"""NAME.env: the one file to carry to a node, with all that it needs to reach the broker.

Lines ``NAME=value`` as in .env, then the certificates as comments, so that
one file is enough: a line ``#file NAME`` begins one, each further line of it
begins with ``#``, up to the next ``#file`` or the end. The settings name them
without a folder; who installs puts them where it likes and completes the
paths (deploy/install-node.sh), or by hand::

    awk '/^#file /{f=$2; next} f && /^#/{print substr($0,2) > f}' kitchen.env
"""

import os
from pathlib import Path

from bridge.provision.accounts import Credentials
from bridge.provision.directory import BrokerDirectory, Plan
from mqtt_client.errors import PersonNeeded


class FileThere(PersonNeeded):
    """A file of this name is there, and may hold a secret that is nowhere else."""


def settings_lines(plan: Plan, name: str, given: Credentials, folder: str = "") -> list[str]:
    """Return the node's settings; certificates are named within this folder."""
    lines = [f"NODE_ID={name}", f"MQTT_HOST={plan.names[0]}"]
    if given.password:
        lines += [f"MQTT_PORT={plan.node_port}", f"MQTT_PASSWORD={given.password}"]
    else:
        lines += [f"MQTT_PORT={plan.certificate_port}"]
    lines += [f"MQTT_TLS_CA={folder}ca.crt"]
    if given.certificate:
        lines += [f"MQTT_TLS_CERT={folder}{name}.crt", f"MQTT_TLS_KEY={folder}{name}.key"]
    if plan.prefix != "sensors":
        lines += [f"MQTT_TOPIC_PREFIX={plan.prefix}"]
    return lines


def pem_files(directory: BrokerDirectory, name: str, given: Credentials) -> dict[str, str]:
    """Return the certificates and the key that the settings name."""
    files = {"ca.crt": directory.authority.read_text("ascii")}
    if given.certificate and given.key:
        files |= {f"{name}.crt": given.certificate.decode("ascii"), f"{name}.key": given.key.decode("ascii")}
    return files


def one_file(directory: BrokerDirectory, plan: Plan, name: str, given: Credentials) -> str:
    """Return NAME.env with everything in it."""
    embedded = "".join(
        f"#file {file}\n" + "".join(f"#{line}\n" for line in text.splitlines())
        for file, text in pem_files(directory, name, given).items()
    )
    head = f"# All that node {name} needs to reach the broker. Secret: carry it there, then delete it here.\n"
    return head + "\n".join(settings_lines(plan, name, given)) + "\n" + embedded


def check_free(target: Path, *, again: bool) -> None:
    """Look whether NAME.env can be written.

    Raises:
        FileThere: there is one, and ``again`` is not set.
    """
    if target.exists() and not again:
        raise FileThere(f"{target} is there already; move it away, or give --again or another --output")
    if not target.parent.is_dir():
        raise FileThere(f"--output: {str(target)!r} was given, and {str(target.parent)!r} is no folder")


def write_one_file(target: Path, text: str) -> None:
    """Write NAME.env, for this account alone, durably."""
    _write_secret(target, text)


def write_unpacked(directory: BrokerDirectory, plan: Plan, name: str, given: Credentials, target: Path) -> None:
    """Write NAME.env and its certificates beside it, by full paths: for a node on this machine or in a container."""
    folder = f"{target.parent.absolute()}/"
    for file, text in pem_files(directory, name, given).items():
        _write_secret(target.parent / file, text)
    _write_secret(target, "\n".join(settings_lines(plan, name, given, folder)) + "\n")


def _write_secret(target: Path, text: str) -> None:
    beside = target.with_name(f".{target.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
    beside.replace(target)
