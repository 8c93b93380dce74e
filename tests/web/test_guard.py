"""Who may see what, and what a browser is told to refuse."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from bridge.errors import AddressTaken
from bridge.settings import BridgeSettings
from bridge.store.database import Store
from bridge.web import guard
from bridge.web.serve import run_web
from mqtt_client.errors import SettingsError
from tests.processes import free_port, python
from tests.web.conftest import PASSWORD, credentials

EVERYTHING = ["/", "/_dash-layout", "/_dash-dependencies", "/spark/1.svg", "/archives/x.csv", "/anything"]
AFAR = {"REMOTE_ADDR": "192.0.2.7"}


@pytest.mark.parametrize("path", [*EVERYTHING, "/readyz", "/metrics"])
def test_with_a_password_nothing_is_told_without_it(guarded: FlaskClient, path: str) -> None:
    answer = guarded.get(path, environ_base=AFAR)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert "kitchen" not in answer.text


def test_the_right_password_opens_the_page_and_a_wrong_one_does_not(guarded: FlaskClient) -> None:
    assert guarded.get("/", headers=credentials()).status_code == 200
    assert guarded.get("/", headers=credentials(PASSWORD + "!")).status_code == 401
    assert guarded.get("/", headers=credentials("")).status_code == 401
    assert guarded.get("/", headers={"Authorization": "Basic ???"}).status_code == 401
    assert guarded.get("/", headers={"Authorization": "Bearer x"}).status_code == 401


def test_who_guesses_is_not_listened_to_for_a_while_and_others_are(guarded: FlaskClient) -> None:
    for _ in range(guard.FAILURES_ALLOWED):
        guarded.get("/", headers=credentials("wrong"), environ_base=AFAR)

    assert guarded.get("/", headers=credentials(), environ_base=AFAR).status_code == 429
    assert guarded.get("/", headers=credentials(), environ_base={"REMOTE_ADDR": "192.0.2.8"}).status_code == 200


@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
def test_this_machine_asks_health_and_metrics_without_a_password_but_no_proxy_does(
    guarded: FlaskClient, path: str
) -> None:
    assert guarded.get(path).status_code in (200, 503)
    assert guarded.get(path, headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 401
    assert guarded.get(path, headers=credentials(), environ_base=AFAR).status_code in (200, 503)


def test_anybody_may_ask_whether_it_is_alive(guarded: FlaskClient) -> None:
    answer = guarded.get("/healthz", environ_base=AFAR)

    assert (answer.status_code, answer.text) == (200, "alive\n")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "192.0.2.7", "localhost.evil.example"])
def test_without_a_password_no_other_name_leads_to_the_page(client: FlaskClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 403
    assert client.get("/metrics", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:8080", "[::1]:8080"])
def test_without_a_password_this_machine_sees_the_page(client: FlaskClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_cannot_decide_with_the_readers_password(guarded: FlaskClient, headers: dict[str, str]) -> None:
    answer = guarded.post("/_dash-update-component", json={}, headers={**credentials(), **headers})

    assert answer.status_code == 403


def test_without_a_password_the_page_has_no_decisions_to_take(client: FlaskClient, guarded: FlaskClient) -> None:
    assert "decision.children" not in client.get("/_dash-dependencies").text
    assert "decision.children" in guarded.get("/_dash-dependencies", headers=credentials()).text


@pytest.mark.parametrize("path", ["/", "/_dash-layout", "/healthz", "/nowhere/at/all", "/archives/none.csv"])
def test_every_answer_carries_the_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self' 'sha256-" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert "http" not in policy


def test_the_document_loads_nothing_from_elsewhere(client: FlaskClient) -> None:
    document = client.get("/").text

    assert 'src="http' not in document
    assert 'href="http' not in document


def test_it_does_not_listen_beyond_loopback_without_a_password(
    bridge_settings: Callable[..., BridgeSettings], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="WEB_HOST"):
        bridge_settings(WEB_HOST="0.0.0.0")
    ended = subprocess.run(
        python("-m", "bridge", "run", "--only", "web"),
        env={**os.environ, "WEB_HOST": "0.0.0.0", "STORE_URL": f"sqlite:///{tmp_path}/b.db"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert "WEB_PASSWORD" in ended.stderr


def test_a_taken_port_is_one_line_that_names_the_setting(
    store: Store, bridge_settings: Callable[..., BridgeSettings]
) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(AddressTaken, match="WEB_PORT"):
        run_web(bridge_settings(WEB_PORT=port), store, threading.Event())
