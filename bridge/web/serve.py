"""The job ``web``: serves the page until told to stop. It keeps nothing on disk; a kill loses nothing.

The thread that the service feels (pulse.py) asks the page itself from time to
time, and waits for the answer: a page that answers nobody is missed, and begun
anew.
"""

import logging
import socket
import threading
import time
from contextlib import closing
from errno import EADDRINUSE
from http.client import HTTPConnection, HTTPException

from waitress.server import create_server

from bridge.errors import AddressTaken
from bridge.settings import BridgeSettings, is_loopback
from bridge.store.database import Store
from bridge.web.app import make_app

log = logging.getLogger("web")

THREADS = 8
LOOK_S = 1.0
ASK_S = 15.0
ANSWER_WITHIN_S = 600.0
"""The service's patience ends before."""
END_WITHIN_S = 3.0


def run_web(settings: BridgeSettings, store: Store, stop: threading.Event) -> None:
    """Serve page, health and metrics until told to stop.

    Raises:
        AddressTaken: another program listens there, or the address is not this machine's.
    """
    sockets = _listen(settings.web_host, settings.web_port)
    server = create_server(
        make_app(settings, store),
        sockets=sockets,
        threads=THREADS,
        ident="mqtt-sensor-bridge",
        clear_untrusted_proxy_headers=False,  # the guard has to see that a proxy is between
    )
    if not is_loopback(settings.web_host):
        log.warning("the page listens beyond this machine, without TLS: put a proxy with TLS before it")
    thread = threading.Thread(target=server.run, name="waitress", daemon=True)
    thread.start()
    log.info("the live page is at http://%s:%d/", settings.web_host, settings.web_port)
    host, port = sockets[0].getsockname()[:2]
    with closing(HTTPConnection(host, port, timeout=ANSWER_WITHIN_S)) as ours:
        ask_at = 0.0
        while not stop.is_set() and thread.is_alive():
            if time.monotonic() >= ask_at:
                _ask(ours)
                ask_at = time.monotonic() + ASK_S
            stop.wait(LOOK_S)
    server.close()
    thread.join(END_WITHIN_S)


def _ask(connection: HTTPConnection) -> None:
    """Wait until the page answers; a refusal is an answer too. The connection is kept, however many others come."""
    try:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    except (OSError, HTTPException):
        connection.close()  # the next question opens it again


def _listen(host: str, port: int) -> list[socket.socket]:
    """Listen at every address that a host name has: localhost may have one of IPv4 and one of IPv6."""
    listening: list[socket.socket] = []
    fault: OSError | None = None
    try:
        found = {(one[0], one[4][:2]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as exc:
        raise AddressTaken(f"WEB_HOST: {host!r} has no address: {exc}") from exc
    for family, address in sorted(found):
        try:
            listening.append(socket.create_server(address, family=family))
        except OSError as exc:
            fault = exc
    if not listening or (fault is not None and fault.errno == EADDRINUSE):
        for one in listening:
            one.close()
        raise AddressTaken(f"WEB_HOST, WEB_PORT: cannot listen at {host}:{port}: {fault}") from fault
    return listening
