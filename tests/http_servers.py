"""Real HTTP servers for the tests: the example receiver, and one that answers as a test says."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests
import waitress

from examples.receiver import create_app
from tests.processes import free_port


class Receiver:
    """The example receiver, served as it serves its users, in a thread."""

    def __init__(self, database: Path, token: str | None = None, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/data"
        self._server = waitress.create_server(
            create_app(database, token), host="127.0.0.1", port=self.port, threads=4
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    def readings(self) -> list[dict[str, Any]]:
        """Return what it has, in the order of arrival."""
        found: list[dict[str, Any]] = requests.get(self.url, timeout=10).json()
        return found

    def ids(self) -> list[str]:
        """Return the ids of what it has, in the order of arrival."""
        return [reading["id"] for reading in self.readings()]

    def stop(self) -> None:
        """End it."""
        self._server.task_dispatcher.shutdown()  # first: a worker that ends later would wake a closed server
        self._server.trigger.pull_trigger(self._close)  # in its own thread, which then ends
        self._thread.join(5)

    def _close(self) -> None:
        self._server.close()
        for channel in list(self._server.active_channels.values()):
            channel.close()


@dataclass(frozen=True)
class Received:
    """One request as it came in."""

    headers: dict[str, str]
    body: Any

    @property
    def ids(self) -> list[str]:
        """The ids of its readings."""
        return [reading["id"] for reading in (self.body if isinstance(self.body, list) else [self.body])]


@dataclass(frozen=True)
class Reply:
    """What to answer; ``send`` instead writes to the socket itself, and the connection is closed."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    send: Callable[[socket.socket, threading.Event], None] | None = None


def reset(connection: socket.socket, _ended: threading.Event) -> None:
    """Close without an answer."""
    connection.shutdown(socket.SHUT_RDWR)


def silence(_connection: socket.socket, ended: threading.Event) -> None:
    """Never answer."""
    ended.wait()


class ScriptedServer:
    """Answers each request with what ``script`` returns for it, and remembers all of them in order."""

    def __init__(self, script: Callable[[Received], Reply] = lambda _request: Reply()) -> None:
        self.script = script
        self.received: list[Received] = []
        self.ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # an answer in one piece

            def do_POST(self) -> None:  # the library's name
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                request = Received({name.lower(): value for name, value in self.headers.items()}, body)
                outer.received.append(request)
                reply = outer.script(request)
                with suppress(OSError):
                    if reply.send is not None:
                        self.close_connection = True
                        reply.send(self.connection, outer.ended)
                        return
                    self.send_response(reply.status)
                    for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(reply.body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/data"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def ids(self) -> list[str]:
        """Return the ids of all readings that came in, repeats too."""
        return [id_ for request in list(self.received) for id_ in request.ids]

    def stop(self) -> None:
        """End it and whatever it holds open."""
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
