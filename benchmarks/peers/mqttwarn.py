"""mqttwarn (Python, from PyPI) with its ``http`` service.

Options: MQTT 3.1.1 (it knows no 5), ``cleansession = False`` with a client
id, ``qos = 1``, keep-alive 60 s (fixed), ``num_workers = 1`` (its default;
4 are no faster, measured: they share one interpreter), the payload
passed on as JSON, log from WARNING on. Its service has no kept connections.
"""

import os

from benchmarks.peers.peer import READINGS, PythonPeer, Way
from tests.processes import Process

CONFIGURATION = """
[defaults]
hostname = '127.0.0.1'
port = {port}
clientid = 'mqttwarn'
protocol = 4
cleansession = False
loglevel = WARNING
logfile = 'stream://sys.stderr'
num_workers = 1
launch = http

[config:http]
timeout = 60
targets = {{'receiver': ['post', '{url}', None, None, True]}}

[readings]
topic = {readings}
qos = 1
targets = http:receiver
"""


class Mqttwarn(PythonPeer):
    """Acknowledges what it has read, then posts from a queue in memory."""

    name = "mqttwarn"
    version = "0.36.1"
    client_id = "mqttwarn"

    def start(self, way: Way) -> Process:
        """Write its configuration and start it."""
        file = way.folder / "mqttwarn.ini"
        text = CONFIGURATION.format(port=way.broker_port, url=way.url, readings=READINGS)
        file.write_text(text, encoding="utf-8")
        program = self.program("mqttwarn")
        variables = {**os.environ, "MQTTWARNINI": str(file)}
        return Process([program], way.folder / "mqttwarn.log", variables, way.folder)
