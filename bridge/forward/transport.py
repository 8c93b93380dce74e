"""HTTP to the user's server: one kept connection for each worker.

requests reads the address and the environment (proxies, certificates) once;
its adapter's urllib3 pool connects, and carries the first POST of each
connection. The next ones say what that one said and go straight over its
socket (exchange.py), for a fraction of the CPU; behind a proxy the pool carries
all. Redirects are never followed and nothing is retried here.
A request ends at its deadline whatever the server does: :meth:`Connection.abort_overdue`
shuts the socket under it from another thread, which also ends answers that trickle.
Nothing is remembered; a kill leaves requests of unknown outcome.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError

from bridge.forward.answers import Answer
from bridge.forward.exchange import FinalResponse, exchange
from mqtt_client.errors import SettingsError
from mqtt_client.setting_values import Secret

LONGEST_BODY = 64 * 1024
"""Bytes of an answer that are read at most."""
_NO_RETRIES = urllib3.Retry(total=False, redirect=False)
_OF_ONE_REQUEST = (b"content-length:", b"idempotency-key:")
_NOT_SENT = (NewConnectionError, ConnectTimeoutError, ProxyError)


@dataclass(frozen=True)
class Server:
    """The user's server, as the settings give it."""

    url: str
    token: Secret | None
    timeout_s: float

    @property
    def shown(self) -> str:
        """The address without what may be secret in it."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def headers(self) -> dict[str, str]:
        """Return what every request says.

        Raises:
            SettingsError: the token cannot be a header.
        """
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "mqtt-sensor-bridge",
        }
        parts = urlsplit(self.url)
        if self.token is not None:
            token = self.token.reveal()
            if not (token.isascii() and token.isprintable()):
                raise SettingsError(["SERVER_TOKEN: *** was given; allowed are printable ASCII signs"])
            headers["Authorization"] = f"Bearer {token}"
        elif parts.username:
            account = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers.update(urllib3.make_headers(basic_auth=account))
        return headers


class Connection:
    """A kept connection to the server, for one thread; the two aborts are for other threads."""

    def __init__(self, server: Server) -> None:
        """Prepare without connecting.

        Raises:
            SettingsError: SERVER_URL or SERVER_TOKEN cannot be used.
        """
        self._server = server
        self._headers = server.headers()
        self._timeout = urllib3.Timeout(total=server.timeout_s)
        self._pool, self._target = _pool(server.url)
        self._kept: HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._head = b""
        """What every POST begins with, as the library has written it for the first one."""
        self._adapt()
        self._is_under_way = False
        """Whether a request has begun to go to the server."""
        self._deadline: float | None = None
        self._guard = threading.Lock()

    def post(self, body: str, key: str | None) -> Answer:
        """Post a body under this idempotency key and return what came back; a failing network is an answer too."""
        headers = self._headers if key is None else {**self._headers, "Idempotency-Key": f'"{key}"'}
        content = body.encode()
        return self._on_time(
            lambda deadline: (
                self._straight(content, key, deadline) or self._through_pool("POST", content, headers, deadline)
            )
        )

    def ask(self, method: str) -> Answer:
        """Send a request without a body that changes nothing at the server, such as OPTIONS or HEAD."""
        return self._on_time(lambda deadline: self._through_pool(method, None, self._headers, deadline))

    def _on_time(self, ask: Callable[[float], Answer]) -> Answer:
        """Ask with a deadline, at which another thread may end it."""
        self._is_under_way = False
        deadline = time.monotonic() + self._server.timeout_s
        with self._guard:
            self._deadline = deadline
        try:
            return ask(deadline)
        except (HTTPError, OSError, http.client.HTTPException) as exc:
            return self._no_answer(exc, late=time.monotonic() >= deadline)
        finally:
            with self._guard:
                self._deadline = None

    def _through_pool(self, method: str, body: bytes | None, headers: dict[str, str], deadline: float) -> Answer:
        response = self._pool.urlopen(
            method,
            self._target,
            body=body,
            headers=headers,
            retries=_NO_RETRIES,
            redirect=False,
            assert_same_host=False,
            timeout=self._timeout,
            preload_content=False,
            decode_content=False,
        )
        answer = _answer(response, deadline)
        response.release_conn()
        return answer

    def _straight(self, body: bytes, key: str | None, deadline: float) -> Answer | None:
        """Post over the kept connection; return None where there is none that can be used."""
        kept = self._kept
        if kept is None or not self._head or self._pool.proxy is not None or not kept.is_connected:
            return None
        assert kept.sock is not None
        kept.sock.settimeout(self._server.timeout_s)  # the pool left what the first request had of it
        lines = b"Content-Length: %d\r\n" % len(body)
        if key is not None:
            lines += b'Idempotency-Key: "%b"\r\n' % key.encode()
        is_kept = False
        self._is_under_way = True
        try:
            found = exchange(kept.sock, b"%b%b\r\n%b" % (self._head, lines, body))
            if isinstance(found, http.client.HTTPResponse):
                answer, is_kept = _read_out(found, deadline)
            else:
                answer, is_kept = found
        finally:
            if not is_kept:
                kept.close()
        return answer

    def abort_overdue(self) -> None:
        """Shut the request under way when its time is over; its thread then gets no answer."""
        with self._guard:
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._shut()

    def abort(self) -> None:
        """Shut the request under way."""
        with self._guard:
            if self._deadline is not None:
                self._shut()

    def close(self) -> None:
        """Close the kept connection."""
        self._pool.close()

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # it may be closed already
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # also for TLS: no goodbye that could block

    def _adapt(self) -> None:
        """Make the pool's connections note their socket, so that it can be shut, and send a request in one piece."""
        plain = self._pool.ConnectionCls
        noting = self

        class AdaptedConnection(plain):  # type: ignore[valid-type, misc]  # of HTTP or HTTPS
            head = b""
            response_class = FinalResponse

            def connect(self) -> None:
                super().connect()
                noting._kept, noting._socket = self, self.sock

            def send(self, data: bytes) -> None:
                if data.startswith(b"POST "):  # its body comes with the next call
                    self.head = data
                    noting._head = _lasting(data)
                    noting._is_under_way = self.sock is not None  # with TLS: that stands, so the request goes
                else:
                    data, self.head = self.head + data, b""
                    super().send(data)

        self._pool.ConnectionCls = AdaptedConnection

    def _no_answer(self, exc: Exception, *, late: bool) -> Answer:
        sent = not isinstance(exc, _NOT_SENT) and not _is_without_tls(exc, is_under_way=self._is_under_way)
        reason = f"no answer within {self._server.timeout_s:g} s" if late and sent else _reason(exc)
        return Answer(trouble=reason, sent=sent)


def _pool(url: str) -> tuple[urllib3.HTTPConnectionPool, str]:
    """Return a pool of one connection, and what to ask for in it."""
    try:
        request = requests.Request("POST", url).prepare()
        with requests.Session() as session:
            found = session.merge_environment_settings(request.url or url, {}, False, None, None)
        proxies = {} if _is_loopback(url) else found["proxies"]  # no proxy stands before this machine
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1)
        pool = adapter.get_connection_with_tls_context(request, found["verify"], proxies=proxies)
        return cast(urllib3.HTTPConnectionPool, pool), adapter.request_url(request, proxies)
    except (requests.RequestException, OSError, ValueError) as exc:
        raise SettingsError(
            [f"SERVER_URL: {url!r} was given ({exc}); allowed is an address that can be used"]
        ) from exc


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _lasting(head: bytes) -> bytes:
    """Return a request's first lines without those that differ from one to the next, and without the empty one."""
    lines = head.split(b"\r\n")[:-2]
    return b"".join(line + b"\r\n" for line in lines if not line.lower().startswith(_OF_ONE_REQUEST))


def _read_out(response: http.client.HTTPResponse, deadline: float) -> tuple[Answer, bool]:
    """Read an answer of the standard library's; tell with it whether its connection can take another request."""
    answer = _answer(response, deadline)
    if response.length and len(answer.body) < LONGEST_BODY:  # the library ends a body that broke off like any other
        answer = replace(answer, complete=False)
    return answer, answer.complete and len(answer.body) < LONGEST_BODY and not response.will_close


def _answer(response: urllib3.BaseHTTPResponse | http.client.HTTPResponse, deadline: float) -> Answer:
    """Read an answer's body as far as it is looked at; a connection with more to read is not kept."""
    parts: list[bytes] = []
    left, complete = LONGEST_BODY, True
    try:
        while left > 0 and (part := response.read1(left)):
            parts.append(part)
            left -= len(part)
        complete = time.monotonic() < deadline  # shut at its deadline, a body ends like any other
        if left <= 0:
            response.close()
    except (HTTPError, OSError, http.client.HTTPException):
        complete = False
        response.close()
    return Answer(
        status=response.status,
        body=b"".join(parts),
        complete=complete,
        retry_after=response.headers.get("Retry-After"),
        location=response.headers.get("Location"),
        allow=response.headers.get("Allow"),
        date=response.headers.get("Date"),
    )


def _is_without_tls(exc: BaseException, *, is_under_way: bool) -> bool:
    """Tell whether no TLS came about, for a wrong certificate or none; a broken connection is another thing.

    That the server misses a certificate of ours comes after the request, which it has not read then (RFC 8446,
    section 4.4.2.4).
    """
    found = _innermost(exc)
    if not isinstance(found, ssl.SSLError) or isinstance(found, ssl.SSLEOFError):
        return False
    return not is_under_way or "CERTIFICATE_REQUIRED" in (found.reason or "")


def _innermost(exc: BaseException) -> BaseException:
    """Return what the network said, without the layers around it."""
    while (within := exc.__cause__ or exc.__context__) is not None:
        exc = within
    return exc


def _reason(exc: BaseException) -> str:
    exc = _innermost(exc)
    if isinstance(exc, http.client.BadStatusLine) and not isinstance(exc, ConnectionError):
        return "an answer that is no HTTP"
    text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return text if isinstance(exc, socket.gaierror) else text[:1].lower() + text[1:]
