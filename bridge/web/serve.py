"""The job ``web``: serves the page until told to stop. It keeps nothing on disk; a kill loses nothing."""

import logging
import threading

from waitress.server import create_server

from bridge.errors import AddressTaken
from bridge.settings import BridgeSettings, is_loopback
from bridge.store.database import Store
from bridge.web.app import make_app

log = logging.getLogger("web")

THREADS = 8
LOOK_S = 1.0
END_WITHIN_S = 3.0


def run_web(settings: BridgeSettings, store: Store, stop: threading.Event) -> None:
    """Serve page, health and metrics until told to stop.

    Raises:
        AddressTaken: another program listens there, or the address is not this machine's.
    """
    where = f"{settings.web_host}:{settings.web_port}"
    try:
        server = create_server(
            make_app(settings, store),
            host=settings.web_host,
            port=settings.web_port,
            threads=THREADS,
            ident="mqtt-sensor-bridge",
            clear_untrusted_proxy_headers=True,
        )
    except OSError as exc:
        raise AddressTaken(f"WEB_HOST, WEB_PORT: cannot listen on {where}: {exc}") from exc
    if not is_loopback(settings.web_host):
        log.warning("the page listens beyond this machine, without TLS: put a proxy with TLS before it")
    thread = threading.Thread(target=server.run, name="waitress", daemon=True)
    thread.start()
    log.info("the live page is at http://%s/", where)
    while not stop.is_set() and thread.is_alive():
        stop.wait(LOOK_S)
    server.close()
    thread.join(END_WITHIN_S)
