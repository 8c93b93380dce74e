"""Node-RED (from npm), its core nodes ``mqtt in`` and ``http request``, on the Node.js that npm has for it.

Options: MQTT 5 with a client id, ``cleansession`` off, session expiry 1 h,
QoS 1, keep-alive 60 s; payload as text, not parsed; ``http request`` with kept
connections (``persist``), POST, Content-Type JSON; no editor, no telemetry, log
from warnings on. Every option that its core nodes have for keeping messages
is used: there is none that acknowledges after the POST.
"""

import json
import os

from benchmarks.peers.peer import READINGS, Peer, Way, node_package, npm
from tests.processes import Process, free_port

VERSION = "5.0.7"
NODE = node_package(22)
SETTINGS = """
module.exports = {
    uiHost: "127.0.0.1", uiPort: %d, httpAdminRoot: false, httpNodeRoot: false, flowFile: "flows.json",
    logging: { console: { level: "warn" } }, telemetry: { enabled: false }, credentialSecret: false,
}
"""


def flow(way: Way) -> list[dict[str, object]]:
    """Return the flow: a broker, the subscription and the POST."""
    broker = {
        "id": "broker",
        "type": "mqtt-broker",
        "broker": "127.0.0.1",
        "port": str(way.broker_port),
        "clientid": "node-red",
        "autoConnect": True,
        "usetls": False,
        "protocolVersion": "5",
        "keepalive": "60",
        "cleansession": False,
        "autoUnsubscribe": False,
        "sessionExpiry": "3600",
    }
    subscription = {
        "id": "subscription",
        "type": "mqtt in",
        "z": "flow",
        "broker": "broker",
        "topic": READINGS,
        "qos": "1",
        "datatype": "utf8",
        "inputs": 0,
        "wires": [["post"]],
    }
    post = {
        "id": "post",
        "type": "http request",
        "z": "flow",
        "method": "POST",
        "url": way.url,
        "ret": "txt",
        "paytoqs": "ignore",
        "persist": True,
        "headers": [{"keyType": "content-type", "valueType": "application/json"}],
        "wires": [[]],
    }
    return [{"id": "flow", "type": "tab", "label": "readings"}, broker, subscription, post]


class NodeRed(Peer):
    """Acknowledges what it has read, and has all of it posted at the same time."""

    name = "Node-RED"
    client_id = "node-red"

    def install(self) -> str:
        """Install it and its Node.js from npm."""
        modules = npm("node-red", f"node-red@{VERSION}", NODE)
        package = json.loads((modules / NODE.partition("@")[0] / "package.json").read_text(encoding="utf-8"))
        return f"Node-RED {VERSION} on Node.js {package['version']}"

    def start(self, way: Way) -> Process:
        """Write its flow and settings and start it."""
        folder = way.folder / "node-red"
        folder.mkdir()
        (folder / "flows.json").write_text(json.dumps(flow(way)), encoding="utf-8")
        (folder / "settings.js").write_text(SETTINGS % free_port(), encoding="utf-8")
        modules = npm("node-red", f"node-red@{VERSION}", NODE)
        node = modules / NODE.partition("@")[0] / "bin" / "node"
        command = [str(node), str(modules / "node-red" / "red.js"), "--userDir", str(folder)]
        return Process(command, way.folder / "node-red.log", {**os.environ, "HOME": str(folder)}, folder)
