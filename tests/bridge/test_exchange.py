"""A kept connection to the server: every form of answer is read as it is meant, and the next request fits on it."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

import pytest

from bridge.forward.answers import Answer, judge
from bridge.forward.transport import Connection, Server
from bridge.provision.certificates import Authority, new_authority, new_key

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO_TLS = b"\x17\x03\x03\x00\x20" + 32 * b"x"
"""What no key of the connection has made; it is sent around TLS."""


def _request(stream: BinaryIO) -> bytes:
    """Read a request; nothing when the client has gone."""
    head, length = b"", 0
    while (line := stream.readline()) not in (b"\r\n", b""):
        head += line
        if line.startswith(b"Content-Length:"):
            length = int(line[15:])
    return head + stream.read(length)


class Answerer:
    """Answers the requests on all its connections with these pieces of bytes, one list a request; then closes."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.answers: list[list[bytes]] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self._tls = tls
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/data"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while self.answers or not self.connections:
            connection, _ = self._listener.accept()
            self.connections += 1
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                try:
                    connection.do_handshake()
                except ssl.SSLError:
                    _outlast(connection)
                    return
            with connection, connection.makefile("rb") as stream, suppress(ConnectionError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while self.answers and (request := _request(stream)):
                    self.requests.append(request)
                    pieces = self.answers.pop(0)
                    for piece in pieces:
                        if piece is NO_TLS:
                            socket.socket.sendall(connection, piece)
                        else:
                            connection.sendall(piece)
                    if pieces[-1] == b"":
                        break

    def stop(self) -> None:
        """Wait for its end."""
        self._thread.join(10)
        self._listener.close()


def _outlast(connection: socket.socket) -> None:
    """Close after the other side: to close over what is unread resets the connection, and the alert may be lost."""
    with connection, suppress(ConnectionError):
        connection.settimeout(10)
        while socket.socket.recv(connection, 65_536):
            pass


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ssl.SSLContext]:
    """What a server of a private authority needs, with that authority in the environment."""
    folder, key, authority_key = tmp_path_factory.mktemp("tls"), new_key(), new_key()
    authority = new_authority(authority_key, "the test's")
    (folder / "ca.crt").write_bytes(authority)
    (folder / "server.pem").write_bytes(Authority(authority, authority_key).server(["127.0.0.1"], key) + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.crt"))
        yield context


@pytest.fixture(params=["http", "https"])
def answerer(request: pytest.FixtureRequest, tls: ssl.SSLContext) -> Iterator[Answerer]:
    server = Answerer(tls if request.param == "https" else None)
    yield server
    server.stop()


def posted(server: Answerer, *answers: list[bytes]) -> list[Answer]:
    """Post once for each answer, over one connection as long as it lasts."""
    server.answers += answers
    connection = Connection(Server(server.url, None, 5.0))
    found = [connection.post(f'{{"number":{number}}}', f"key-{number}") for number in range(len(answers))]
    connection.close()
    return found


def test_later_requests_say_what_the_first_one_said_but_for_key_and_body(answerer: Answerer) -> None:
    posted(answerer, [OK], [OK], [OK])

    first, second, third = (
        sorted(request.replace(b"-%d" % number, b"-N").replace(b":%d}" % number, b":N}").splitlines())
        for number, request in enumerate(answerer.requests)
    )
    assert first == second == third
    assert answerer.connections == 1


@pytest.mark.parametrize(
    ("pieces", "status", "body"),
    [
        ([OK], 200, b"ok"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], 204, b""),
        ([b"HTTP/1.1 204 \r\nDate: now\r\nContent-Length: 5\r\n\r\n"], 204, b""),
        ([OK[:-2], b"ok"], 200, b"ok"),
        ([OK[:20], OK[20:]], 200, b"ok"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"], 200, b"ok"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK], 200, b"ok"),
        ([b"HTTP/1.1 422 Unprocessable\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\nno"], 422, b"no"),
        ([b"HTTP/1.1 503 Busy\r\nContent-Length: 70000\r\n\r\n", b"x" * 70_000], 503, b"x" * 65_536),
    ],
)
def test_every_form_of_answer_is_read_and_the_next_request_is_answered(
    answerer: Answerer, pieces: list[bytes], status: int, body: bytes
) -> None:
    answers = posted(answerer, [OK], pieces, [OK])

    assert [(answer.status, answer.body) for answer in answers] == [(200, b"ok"), (status, body), (200, b"ok")]
    assert all(answer.complete for answer in answers)
    assert len(answerer.requests) == 3


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b""],
        [b"HTTP/1.0 200 OK\r\n\r\nok", b""],
        [b"HTTP/1.1 200 OK\r\n\r\nok", b""],
        [OK + b"what nobody asked for"],
    ],
)
def test_a_connection_that_ends_with_the_answer_is_not_used_again(answerer: Answerer, pieces: list[bytes]) -> None:
    answers = posted(answerer, [OK], pieces, [OK])

    assert [answer.body for answer in answers] == [b"ok"] * 3
    assert answerer.connections == 2


@pytest.mark.parametrize("pieces", [[OK[:-1], b""], [OK[:20], OK[20:-1], b""]])
def test_a_body_that_breaks_off_is_told_as_such(answerer: Answerer, pieces: list[bytes]) -> None:
    _, broken, after = posted(answerer, [OK], pieces, [OK])

    assert (broken.status, broken.body, broken.complete) == (200, b"o", False)
    assert after.complete


def test_interim_answers_are_passed_over_and_shift_no_later_answer(answerer: Answerer) -> None:
    hint, own = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", OK.replace(b"ok", b"%d.")

    answers = posted(answerer, [hint, own % 0], [hint + hint, own % 1], [own % 2])

    assert [(answer.status, answer.body) for answer in answers] == [(200, b"0."), (200, b"1."), (200, b"2.")]
    assert answerer.connections == 1


def test_a_connection_that_ends_without_an_answer_leaves_the_outcome_unknown(answerer: Answerer) -> None:
    _, none, after = posted(answerer, [OK], [b""], [OK])

    assert (none.status, none.sent) == (None, True)
    assert none.trouble == "remote end closed connection without response"
    assert after.status == 200


@pytest.mark.parametrize("answerer", ["https"], indirect=True)
@pytest.mark.parametrize("before", [[[OK]], []])
def test_tls_that_breaks_when_the_request_has_gone_leaves_the_outcome_unknown(
    answerer: Answerer, before: list[list[bytes]]
) -> None:
    *_, broken, after = posted(answerer, *before, [NO_TLS, b""], [OK])

    assert judge(broken, unknown_before=False, expect=None).unknown
    assert after.status == 200
    assert len(answerer.requests) == len(before) + 2


@pytest.mark.parametrize("answerer", ["https"], indirect=True)
def test_a_server_that_wants_a_certificate_of_ours_has_taken_nothing(
    answerer: Answerer, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "verify_mode", ssl.CERT_REQUIRED)

    (refused,) = posted(answerer, [OK])

    assert not refused.sent
    assert "certificate required" in refused.trouble


@pytest.mark.parametrize("answerer", ["https"], indirect=True)
def test_a_server_of_another_authority_has_taken_nothing(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")

    (refused,) = posted(answerer, [OK])

    assert not refused.sent


def test_what_the_server_says_beside_is_noted(answerer: Answerer) -> None:
    head = (
        b"HTTP/1.1 429 Slow\r\nretry-AFTER: 7\r\nLocation: /x\r\nAllow: GET\r\nDate: now\r\nContent-Length: 0\r\n\r\n"
    )

    _, answer = posted(answerer, [OK], [head])

    assert (answer.retry_after, answer.location, answer.allow, answer.date) == ("7", "/x", "GET", "now")
