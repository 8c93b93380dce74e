"""A server in front of the real receiver that behaves as badly as servers do, in the mood that it is put in."""

import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

MOODS = ("500", "503", "429", "404", "picky", "poison", "slow", "reset", "conflict")
"""``picky`` answers 400 to chosen readings, ``poison`` 500 to them always; ``reset`` stores, and then resets the
connection; ``conflict`` does that and answers 409 to the repeat; the others say what they answer."""

CHOSEN = 41
"""Chosen are the readings whose number this divides."""


class Answer(NamedTuple):
    """What the client gets."""

    status: int
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()


class BadServer:
    """Passes requests on to the receiver, or does what its mood says; half of the time, chosen ones always."""

    def __init__(self, receiver_port: int, seed: int) -> None:
        self.mood = ""
        self.answers: dict[int, int] = {}
        """How often each status was answered; 0 is a reset."""
        self._receiver_port = receiver_port
        self._random = random.Random(seed)
        self._stored: set[str] = set()
        self._turn = threading.Lock()
        self._local = threading.local()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536
            disable_nagle_algorithm = True

            def do_POST(self) -> None:  # the library's name
                with suppress(OSError):
                    outer._serve(self, self.rfile.read(int(self.headers["Content-Length"])))

            def handle(self) -> None:
                try:
                    with suppress(OSError):
                        super().handle()
                finally:
                    outer._let_receiver_go()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # the end waits for them: they end with their clients
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="bad server", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        ids = _ids(json.loads(body))
        mood, is_bad, is_chosen = self.mood, self._random.random() < 0.5, any(_is_chosen(one) for one in ids)
        if mood == "picky" and is_chosen:
            self._answer(handler, Answer(400, b"I do not like this one"))
        elif mood == "poison" and is_chosen:
            self._answer(handler, Answer(500, b"I fall over this one, each time"))
        elif mood in REFUSALS and is_bad:
            self._answer(handler, REFUSALS[mood](self._random))
        elif mood == "conflict" and self._stored.issuperset(ids):
            self._answer(handler, Answer(409, b"I have had that"))
        else:
            answer = self._pass_on(handler, body)
            if 200 <= answer.status < 300:
                self._stored.update(ids)
            if mood in ("reset", "conflict") and is_bad and answer.status < 300:
                self._reset(handler)
            else:
                self._answer(handler, answer, is_slow=mood == "slow" and is_bad)

    def _pass_on(self, handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Let the receiver answer; when it is not there, 502 as a gateway says it."""
        headers = {
            name: handler.headers[name]
            for name in ("Content-Type", "Idempotency-Key", "Authorization")
            if name in handler.headers
        }
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._receiver_port, timeout=60)
            self._local.connection = connection
        try:
            connection.request("POST", "/data", body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            return Answer(504 if isinstance(connection.sock, socket.socket) else 502, b"no receiver behind me")

    def _let_receiver_go(self) -> None:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()

    def _answer(self, handler: BaseHTTPRequestHandler, answer: Answer, *, is_slow: bool = False) -> None:
        self._count(answer.status)
        handler.send_response(answer.status)
        handler.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers:
            handler.send_header(name, value)
        handler.end_headers()
        if is_slow:
            for part in range(0, len(answer.body), max(1, len(answer.body) // 4)):
                handler.wfile.write(answer.body[part : part + max(1, len(answer.body) // 4)])
                handler.wfile.flush()
                time.sleep(0.2)
        else:
            handler.wfile.write(answer.body)

    def _reset(self, handler: BaseHTTPRequestHandler) -> None:
        self._count(0)
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    def _count(self, status: int) -> None:
        with self._turn:
            self.answers[status] = self.answers.get(status, 0) + 1


REFUSALS: dict[str, Callable[[random.Random], Answer]] = {
    "500": lambda _random: Answer(500, b"<h1>Internal Server Error</h1>"),
    "503": lambda choose: Answer(
        503, headers=(("Retry-After", choose.choice(("1", formatdate(time.time() + 1, usegmt=True)))),)
    ),
    "429": lambda _random: Answer(429, headers=(("Retry-After", "1"),)),
    "404": lambda _random: Answer(404, b"not found"),
}


def _ids(body: Any) -> list[str]:
    return [str(reading["id"]) for reading in (body if isinstance(body, list) else [body])]


def _is_chosen(reading_id: str) -> bool:
    return int(reading_id.rpartition("-")[2]) % CHOSEN == 0
