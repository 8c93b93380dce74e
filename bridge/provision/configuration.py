"""The broker's configuration and topic rights, written from the plan; Mosquitto 2.0 and 2.1 read them.

Two kinds of accounts, which all listeners share, and two kinds of listeners:

- *services* (bridge, operator, Home Assistant): each account has its rights by
  name. Their listener is on loopback unless told otherwise; nodes should not
  reach it, since there a client chooses its client id.
- *nodes*: rights by pattern (``%u`` is the account, which is the node's name).
  At their listeners, with TLS, the client id is always the account's name, so
  no node can take over the session of another or of the bridge.

Accounts and rights of their own for each listener (``per_listener_settings``)
would separate the two kinds further, and must not be used: Mosquitto 2.0.21
then finds no rights for a client that is away, and drops what it should queue
for it, while it acknowledges every message as taken.
"""

from pathlib import Path

from bridge.provision.directory import BROKER_READS, BrokerDirectory, Plan
from bridge.settings import is_loopback
from mqtt_client.topics import Topics

PROVISION = "provision"
"""Account of these commands: its password is made anew for each change, and kept nowhere."""
SERVICES = ("bridge", "operator", "homeassistant", "health")
SYSTEM = "$SYS/#"
DISCOVERY = "homeassistant/device/{}/config"
BIRTH_OF_HOME_ASSISTANT = "homeassistant/status"

_HEAD = """\
# Written by `mqtt-bridge broker init`, which writes it anew when it is run again (the one before: *.before).
# Mosquitto 2.0 and 2.1. In 2.1 password_file and acl_file still work and are deprecated: their successors are
# plugins (mosquitto_password_file.so, mosquitto_acl_file.so).

# Must stay false: with true, Mosquitto 2.0.21 drops what it should queue for a client that is away, in silence.
per_listener_settings false
allow_anonymous false
password_file {passwords}
acl_file {acl}

# What waits for a bridge that is away, and its session, outlive an orderly restart; a power cut costs up to a
# minute of them, which the nodes send again: they keep each reading until the bridge has committed it.
# autosave_on_changes stays off: it rewrites the whole file for each message.
persistence true
persistence_location {persistence}/
autosave_interval 60

# Sessions that nobody came back for. Longer than the longest time that a bridge may be away.
persistent_client_expiration 30d

# For each client that is away. The default of 1000 messages drops what exceeds it in silence, and 0 (no limit)
# makes Mosquitto 2.0.11 drop clients. The bytes bound the broker's memory; what exceeds them the nodes send again.
max_queued_messages 1000000
max_queued_bytes 268435456

# Unacknowledged at once; also told to MQTT 5 clients as Receive Maximum. The default of 20 slows a bridge that
# commits many readings together.
max_inflight_messages 1000

# A backlog message of a node holds up to 48 KiB; who sends more is disconnected.
max_packet_size 65536
max_keepalive 600
set_tcp_nodelay true

# To the journal under systemd, to the terminal otherwise. Passwords and payloads are never logged.
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages true
"""

_NODES = """\
# The client id is the account's name, whatever a node sends, so that none takes over another's session.
use_username_as_clientid true
# Room for a large fleet; a stranger who opens connections takes no more than these, and none of the services'.
max_connections 2000
"""


def configuration(plan: Plan, directory: BrokerDirectory) -> str:
    """Return mosquitto.conf."""
    tls = (
        f"cafile {directory.authority}\n"
        f"certfile {directory.server}\n"
        f"keyfile {directory.server_key}\n"
        "tls_version tlsv1.2\n"
    )
    service_tls = "" if is_loopback(plan.service_host) else tls
    return (
        _HEAD.format(persistence=plan.persistence.rstrip("/"), passwords=directory.passwords, acl=directory.acl)
        + "\n# Services: bridge, operator, Home Assistant."
        + (" Loopback alone, so without TLS.\n" if not service_tls else " Beyond loopback, so with TLS.\n")
        + f"listener {plan.service_port} {plan.service_host}\n{service_tls}"
        + "\n# Nodes with a password. TLS 1.2 is the least; 1.3 is agreed on where both know it.\n"
        f"listener {plan.node_port}\n{tls}{_NODES}"
        "\n# Nodes with a certificate; its common name is the account. Who was removed is in the revocation list.\n"
        f"listener {plan.certificate_port}\n{tls}"
        + f"require_certificate true\nuse_identity_as_username true\ncrlfile {directory.revoked}\n{_NODES}"
    )


def rights(prefix: str) -> str:
    """Return the topic rights of all accounts."""
    return _service_rights(prefix) + "\n" + _node_rights(prefix)


def _service_rights(prefix: str) -> str:
    topics = Topics(prefix)
    states = [topics.availability("+"), topics.info("+"), topics.health("+"), topics.alarm("+")]
    readings = topics.reading("+", "+")
    bridges = f"{prefix}/bridge/#"
    sections = {
        "bridge": {
            "read": [readings, topics.backlog("+"), topics.lost("+"), *states, SYSTEM],
            "write": [topics.alarm("+")],
            "readwrite": [topics.receipt("+"), bridges],
        },
        "operator": {
            "read": [f"{prefix}/#", "homeassistant/#", SYSTEM],
            "write": [topics.command("+")],
        },
        "homeassistant": {
            "read": [readings, *states, bridges, DISCOVERY.format("+")],
            "readwrite": [BIRTH_OF_HOME_ASSISTANT],
        },
        "health": {"read": ["$SYS/broker/uptime"]},
        PROVISION: {"readwrite": [f"{prefix}/#", "homeassistant/#"]},
    }
    text = "# Written by `mqtt-bridge broker init`. Rights of the accounts that are not nodes.\n"
    for account, allowed in sections.items():
        text += f"\nuser {account}\n"
        if account in SERVICES[1:]:  # not what the patterns for nodes would give it, as if it were one
            text += f"topic deny {prefix}/{account}/#\ntopic deny {DISCOVERY.format(account)}\n"
        text += "".join(f"topic {right} {topic}\n" for right, found in allowed.items() for topic in found)
    return text


def _node_rights(prefix: str) -> str:
    topics = Topics(prefix)
    writes = [
        topics.reading("%u", "+"),
        topics.backlog("%u"),
        topics.lost("%u"),
        topics.availability("%u"),
        topics.info("%u"),
        topics.health("%u"),
        topics.command_result("%u"),
        DISCOVERY.format("%u"),
    ]
    reads = [topics.receipt("%u"), topics.command("%u")]
    shared = [topics.bridge_availability("+"), BIRTH_OF_HOME_ASSISTANT]
    return (
        "# Rights of every node; %u is its account, which is its name.\n\n"
        + "".join(f"pattern write {topic}\n" for topic in writes)
        + "\n"
        + "".join(f"pattern read {topic}\n" for topic in reads)
        + "\n# The same for all nodes, so without %u, of which Mosquitto warns when it starts: this is meant.\n"
        + "".join(f"pattern read {topic}\n" for topic in shared)
    )


def write_configuration(plan: Plan, directory: BrokerDirectory) -> list[Path]:
    """Write configuration and topic rights; return the files that changed. One that was there is kept beside."""
    wanted = {
        directory.configuration: configuration(plan, directory),
        directory.acl: rights(plan.prefix),
    }
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in changed:
        if path.exists():
            directory.write(path.with_name(path.name + ".before"), path.read_bytes(), BROKER_READS)
        directory.write(path, wanted[path].encode(), BROKER_READS)
    return changed
